//! A lane: one connection, and the batches that go over it one after the other, until no call waits.

use std::sync::Arc;

use sqlx::{Postgres, pool::PoolConnection};
use tokio::sync::oneshot;

use super::{Answer, Call, Owner, Shared};
use crate::{
    db,
    error::{self, Error, Result},
    ids::CompanyId,
};

/// Batches after which a connection is given back, so that the pool can renew it however busy the lane is.
const BATCHES_PER_CONNECTION: u32 = 4096;

pub(super) struct Lane<A, R> {
    shared: Arc<Shared<A, R>>,
    /// Whether it is no longer counted.
    ended: bool,
}

impl<A: Send + Sync, R: Send> Lane<A, R> {
    pub(super) async fn run(mut self) {
        let mut held = None;
        let mut batches = 0;
        loop {
            // Behind the calls that are about to be made: what more of them go together, the less each of them costs.
            tokio::task::yield_now().await;
            let Some(batch) = self.next() else { break };
            if batches == BATCHES_PER_CONNECTION {
                (held, batches) = (None, 0);
            }
            batches += 1;
            self.serve(&mut held, batch).await;
        }
    }

    /// What waits; `None` ends the lane.
    fn next(&mut self) -> Option<Batch<A, R>> {
        let mut state = self.shared.state();
        let mut batch = Batch::default();
        while batch.len() < self.shared.bounds.batch
            && let Some(call) = state.waiting.pop_front()
        {
            batch.add(call);
        }
        if batch.len() == 0 {
            state.lanes -= 1;
            self.ended = true;
            return None;
        }
        Some(batch)
    }

    /// Answers every call of a batch, by halves where it fails.
    async fn serve(&self, held: &mut Option<PoolConnection<Postgres>>, batch: Batch<A, R>) {
        let mut parts = vec![batch];
        while let Some(mut batch) = parts.pop() {
            match self.ask(held, &batch).await {
                Ok(answers) => batch.answer(answers),
                Err(error) if error::unreachable(&error) => {
                    tracing::warn!(gathered = self.shared.kind.name, error = %error, "database unavailable");
                    batch.fail(error::database_unavailable);
                }
                Err(error) if batch.len() > 1 => {
                    tracing::debug!(gathered = self.shared.kind.name, calls = batch.len(), error = %error, "halving");
                    let second = batch.split_off(batch.len() / 2);
                    parts.extend([second.present(), batch.present()].into_iter().flatten());
                }
                Err(error) => batch.answer_each([Err(error.into())]),
            }
        }
    }

    /// Runs the statement. A read is asked again where its connection proves dead: after a restart of the server each idle
    /// one may. A write's connection is tried before, because what came of the write could not be told afterwards.
    async fn ask(
        &self,
        held: &mut Option<PoolConnection<Postgres>>,
        batch: &Batch<A, R>,
    ) -> sqlx::Result<Vec<Answer<R>>> {
        let Shared { pool, kind, .. } = &*self.shared;
        let mut perhaps_dead = if kind.reads { pool.size() } else { 0 };
        loop {
            let connection = match held {
                Some(connection) => connection,
                None if kind.reads => held.insert(db::acquire(pool).await?),
                None => held.insert(db::acquire_live(pool).await?),
            };
            let asked = self.shared.sessions.run(connection, async |connection| {
                (kind.statement)(connection, &batch.claims, &batch.args).await
            });
            match asked.await {
                Err(error) if error::lost(&error) => {
                    *held = None;
                    if perhaps_dead == 0 {
                        return Err(error);
                    }
                    perhaps_dead -= 1;
                }
                result => return result,
            }
        }
    }
}

impl<A, R> Lane<A, R> {
    /// A lane that is counted already.
    pub(super) fn new(shared: Arc<Shared<A, R>>) -> Self {
        Self { shared, ended: false }
    }
}

impl<A, R> Drop for Lane<A, R> {
    fn drop(&mut self) {
        // It panicked, or was never run.
        if !self.ended {
            self.shared.state().lanes -= 1;
        }
    }
}

/// Calls that go together, as the statement takes them.
struct Batch<A, R> {
    claims: Vec<String>,
    args: Vec<A>,
    callers: Vec<Caller<R>>,
}

struct Caller<R> {
    company: Option<CompanyId>,
    reply: oneshot::Sender<Result<Option<R>>>,
}

impl<A, R> Default for Batch<A, R> {
    fn default() -> Self {
        Self {
            claims: Vec::new(),
            args: Vec::new(),
            callers: Vec::new(),
        }
    }
}

impl<A, R> Batch<A, R> {
    fn len(&self) -> usize {
        self.callers.len()
    }

    /// Takes a call in, unless its caller has gone away.
    fn add(&mut self, call: Call<A, R>) {
        if call.reply.is_closed() {
            return;
        }
        self.claims.push(call.claims);
        self.args.push(call.args);
        self.callers.push(Caller {
            company: call.company,
            reply: call.reply,
        });
    }

    fn split_off(&mut self, at: usize) -> Self {
        Self {
            claims: self.claims.split_off(at),
            args: self.args.split_off(at),
            callers: self.callers.split_off(at),
        }
    }

    /// What of it is still waited for; `None` where that is nothing.
    fn present(self) -> Option<Self> {
        let mut present = Self::default();
        for ((claims, args), Caller { company, reply }) in self.claims.into_iter().zip(self.args).zip(self.callers) {
            present.add(Call {
                company,
                claims,
                args,
                reply,
            });
        }
        (present.len() > 0).then_some(present)
    }

    fn answer(self, answers: Vec<Answer<R>>) {
        let companies: Vec<_> = self.callers.iter().map(|it| it.company).collect();
        let results = sort_out(&self.claims, &companies, answers);
        self.answer_each(results);
    }

    fn fail(self, error: fn() -> Error) {
        self.answer_each(std::iter::repeat_with(|| Err(error())));
    }

    fn answer_each(self, results: impl IntoIterator<Item = Result<Option<R>>>) {
        for (caller, result) in self.callers.into_iter().zip(results) {
            // Fails where the caller has gone away.
            _ = caller.reply.send(result);
        }
    }
}

/// What each call is answered with: its row, if that is its caller's and the only one.
fn sort_out<R>(claims: &[String], companies: &[Option<CompanyId>], answers: Vec<Answer<R>>) -> Vec<Result<Option<R>>> {
    let mut results: Vec<_> = claims.iter().map(|_| Ok(None)).collect();
    for answer in answers {
        let place = usize::try_from(answer.item).ok().and_then(|it| it.checked_sub(1));
        let Some(place) = place.filter(|it| *it < claims.len()) else {
            let stray = || Err(Error::internal(format!("a gathered row is of item {}", answer.item)));
            return claims.iter().map(|_| stray()).collect();
        };
        let is_his = match &answer.owner {
            Owner::Claims(seen) => *seen == claims[place],
            Owner::Company(company) => companies[place] == Some(*company),
        };
        results[place] = match results[place] {
            Ok(None) if is_his => Ok(Some(answer.row)),
            Ok(_) if is_his => Err(Error::internal("a gathered item has several rows")),
            _ => Err(Error::internal(format!(
                "a gathered row for {} is of {:?}",
                claims[place], answer.owner
            ))),
        };
    }
    results
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(of: &[&str]) -> Vec<String> {
        of.iter().map(ToString::to_string).collect()
    }

    fn answer(item: i32, claims: &str) -> Answer<i32> {
        Answer {
            item,
            owner: Owner::Claims(claims.into()),
            row: item,
        }
    }

    fn rows(results: Vec<Result<Option<i32>>>) -> Vec<Result<Option<i32>, ()>> {
        results.into_iter().map(|it| it.map_err(|_| ())).collect()
    }

    #[test]
    fn rows_go_to_their_items_in_whatever_order_they_come() {
        let answers = vec![answer(3, "c"), answer(1, "a")];
        let results = sort_out(&claims(&["a", "b", "c"]), &[None; 3], answers);
        assert_eq!(rows(results), [Ok(Some(1)), Ok(None), Ok(Some(3))]);
    }

    #[test]
    fn a_row_found_under_other_claims_reaches_nobody() {
        let sorted = |answers| rows(sort_out(&claims(&["a", "b"]), &[None; 2], answers));
        assert_eq!(sorted(vec![answer(1, "b"), answer(2, "a")]), [Err(()), Err(())]);
        assert_eq!(sorted(vec![answer(1, "")]), [Err(()), Ok(None)]);
        for both in [[answer(1, "a"), answer(1, "b")], [answer(1, "b"), answer(1, "a")]] {
            assert_eq!(sorted(both.into()), [Err(()), Ok(None)]);
        }
    }

    #[test]
    fn a_row_of_another_company_than_the_claims_name_reaches_nobody() {
        let (ours, theirs) = (CompanyId::generate(), CompanyId::generate());
        let sorted = |named, company| {
            let owner = Owner::Company(company);
            rows(sort_out(
                &claims(&["a"]),
                &[named],
                vec![Answer { item: 1, owner, row: 1 }],
            ))
        };
        assert_eq!(sorted(Some(ours), ours), [Ok(Some(1))]);
        assert_eq!(sorted(Some(ours), theirs), [Err(())]);
        assert_eq!(sorted(None, ours), [Err(())]);
    }

    #[test]
    fn a_row_of_no_item_and_a_second_row_are_defects() {
        for stray in [i32::MIN, 0, 2] {
            let answers = vec![answer(1, "a"), answer(stray, "a")];
            assert_eq!(rows(sort_out(&claims(&["a"]), &[None], answers)), [Err(())], "{stray}");
        }
        let twice = vec![answer(1, "a"), answer(1, "a")];
        assert_eq!(rows(sort_out(&claims(&["a"]), &[None], twice)), [Err(())]);
    }
}
