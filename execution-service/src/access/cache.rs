//! The answers in front of core-service: one asked for and given out again, one call where many ask the same at once.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use service_kit::error::Result;
use tokio::{sync::watch, time::Instant};

use super::{
    Access,
    answers::{Answer, Answers, News, Question},
};

/// What core-service answered lately, and the calls that are under way.
#[derive(Debug, Default)]
pub(super) struct Cache {
    answers: RwLock<Answers>,
    /// Those who wait for the answer to a question are told when the call ends; nobody ever sends.
    calls: Mutex<HashMap<Question, watch::Receiver<()>>>,
}

impl Cache {
    /// The answer to a question, asked for where it is not known.
    ///
    /// What is not known to be true is not shared either: whoever waited for another's call and finds no answer kept asks
    /// himself, because that call may have been answered before something changed that he knows of. So refusals are never
    /// another's.
    pub(super) async fn answer(&self, question: Question, ask: impl Future<Output = Result<Answer>>) -> Result<Access> {
        let is_live = {
            let (answers, now) = (self.read(), Instant::now());
            if let Some(access) = answers.get(&question, now) {
                return Ok(access.clone());
            }
            answers.are_live(now)
        };
        let _call = if is_live {
            match self.join(question) {
                Turn::Call(call) => Some(call),
                Turn::Wait(mut ended) => {
                    // It has ended when the sender is gone.
                    let _ = ended.changed().await;
                    if let Some(access) = self.read().get(&question, Instant::now()) {
                        return Ok(access.clone());
                    }
                    None
                }
            }
        } else {
            None
        };
        let answer = ask.await?;
        let access = answer.access.clone();
        self.write().keep(question, answer, Instant::now());
        Ok(access)
    }

    /// Takes in what was heard of the outbox.
    pub(super) fn hear(&self, news: News, position: i64) {
        self.write().hear(news, position, Instant::now());
    }

    /// The position to follow the outbox from.
    pub(super) fn heard(&self) -> Option<i64> {
        self.read().heard()
    }

    fn join(&self, question: Question) -> Turn<'_> {
        match self.calls().entry(question) {
            Entry::Occupied(call) => Turn::Wait(call.get().clone()),
            Entry::Vacant(none) => {
                let (sender, receiver) = watch::channel(());
                none.insert(receiver);
                Turn::Call(Call {
                    cache: self,
                    question,
                    _ended: sender,
                })
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Answers> {
        self.answers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Answers> {
        self.answers.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<Question, watch::Receiver<()>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Turn<'c> {
    Call(Call<'c>),
    Wait(watch::Receiver<()>),
}

/// A call that others wait for until it is dropped, be it answered or given up.
struct Call<'c> {
    cache: &'c Cache,
    question: Question,
    _ended: watch::Sender<()>,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.cache.calls().remove(&self.question);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        future::{pending, ready},
        time::Duration,
    };

    use futures::future::join_all;
    use service_kit::{
        db::Claims,
        error::Error,
        ids::{CompanyId, UserId},
    };
    use tokio::{sync::Notify, task::yield_now, time};

    use super::*;
    use crate::access::{Allowance, Role, answers::Place};

    fn asked() -> (Question, Answer) {
        let (user, company) = (UserId::generate(), CompanyId::generate());
        let question = Question {
            user,
            place: Place::Company(company),
        };
        let access = Access {
            claims: Claims::user(user),
            company,
            role: Role::Member,
            max_snapshots: 50,
            allowance: Allowance::default(),
        };
        (question, Answer { access, position: 7 })
    }

    fn followed() -> Cache {
        let cache = Cache::default();
        cache.hear(News::Heartbeat, 7);
        cache
    }

    /// Asks, counting the calls, each of which is answered when it is let go.
    async fn ask(calls: &Cell<u32>, go: &Notify, answer: Result<Answer>) -> Result<Answer> {
        calls.set(calls.get() + 1);
        go.notified().await;
        answer
    }

    #[tokio::test]
    async fn many_who_ask_the_same_at_once_make_one_call() {
        let (cache, calls, go) = (followed(), Cell::new(0), Notify::new());
        let (question, answer) = asked();
        let all = join_all((0..100).map(|_| cache.answer(question, ask(&calls, &go, Ok(answer.clone())))));
        let let_go = async {
            yield_now().await;
            go.notify_waiters();
        };
        let (answers, ()) = tokio::join!(all, let_go);
        assert!(answers.iter().all(Result::is_ok));
        assert_eq!(calls.get(), 1);
        assert!(cache.calls().is_empty());
        cache.answer(question, pending()).await.unwrap();
    }

    #[tokio::test]
    async fn a_refusal_is_neither_kept_nor_shared() {
        let (cache, calls, go) = (followed(), Cell::new(0), Notify::new());
        let (question, answer) = asked();
        let refused = || ask(&calls, &go, Err(Error::not_found("company", "x")));
        let all = join_all((0..3).map(|_| cache.answer(question, refused())));
        let let_go = async {
            for _ in 0..3 {
                yield_now().await;
                go.notify_waiters();
            }
        };
        let (answers, ()) = tokio::join!(all, let_go);
        assert!(answers.iter().all(|it| matches!(it, Err(Error::NotFound { .. }))));
        assert_eq!(calls.get(), 3);
        cache.answer(question, ready(Ok(answer))).await.unwrap();
    }

    #[tokio::test]
    async fn a_call_that_is_given_up_holds_nobody_up() {
        let cache = followed();
        let (question, answer) = asked();
        let given_up = time::timeout(Duration::from_millis(20), cache.answer(question, pending()));
        let second = cache.answer(question, ready(Ok(answer)));
        let (given_up, second) = tokio::join!(given_up, second);
        assert!(given_up.is_err() && second.is_ok());
    }

    #[tokio::test]
    async fn whoever_waited_for_an_answer_that_is_out_of_date_asks_himself() {
        let (cache, go) = (followed(), Notify::new());
        let (question, old) = asked();
        let new = Answer {
            position: 8,
            ..old.clone()
        };
        let calls = Cell::new(0);
        let leader = cache.answer(question, ask(&calls, &go, Ok(old.clone())));
        let waiter = cache.answer(question, async {
            calls.set(calls.get() + 1);
            Ok(new)
        });
        let change = async {
            yield_now().await;
            cache.hear(News::Event(old.access.company), 8);
            go.notify_waiters();
        };
        let (leader, waiter, ()) = tokio::join!(leader, waiter, change);
        assert!(leader.is_ok() && waiter.is_ok());
        assert_eq!(calls.get(), 2);
    }

    #[tokio::test]
    async fn without_heartbeats_everybody_asks_core_service() {
        let (cache, calls) = (Cache::default(), Cell::new(0));
        cache.hear(News::Reset, 7);
        let (question, answer) = asked();
        let ask = || async {
            calls.set(calls.get() + 1);
            Ok(answer.clone())
        };
        cache.answer(question, ask()).await.unwrap();
        cache.answer(question, ask()).await.unwrap();
        assert_eq!(calls.get(), 2);
        cache.hear(News::Heartbeat, 9);
        cache.answer(question, ask()).await.unwrap();
        assert_eq!(calls.get(), 2, "what was kept is good from now on");
    }
}
