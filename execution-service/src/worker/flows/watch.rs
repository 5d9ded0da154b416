//! The watcher: looks at all starts that are due, of every connection together, and notes which have ended.
//!
//! Runs whose ids are known are asked for a hundred at a time. Others are found by their tag, or among the flow's runs since
//! they were sent, by the tag or by what their trigger was given; what was looked at and is another's is not looked at again.
//! A start is never sent from here. Every process watches; a row is taken by one of them, for a minute.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use moka::{policy::EvictionPolicy, sync::Cache};
use serde_json::Value;
use service_kit::{
    db,
    error::{Error, Result},
    ids::{CompanyId, ConnectionId},
};
use time::OffsetDateTime;
use tokio::time::sleep;

use super::{
    super::{
        Shared,
        store::flows::{self as rows, Due, Found, Looked},
    },
    Outcome, account, fares, note_in, schedule,
};
use crate::pieces::{Account, Detailed, Ended, Failure, FailureKind, Listed, Pieces, RunState, Runs};

/// The most starts that are taken at once.
const BATCH: i64 = 512;
/// The shortest time between two looks: what is due meanwhile is looked at together.
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest: what another process left behind is found after it.
const LONGEST: Duration = Duration::from_secs(15);
/// How many connections are looked at at once.
const CONNECTIONS: usize = 8;
/// How many runs are asked for by their ids at once.
const IDS: usize = 100;
/// How many pages of a flow's runs are looked through.
const PAGES: usize = 10;
/// Of so few starts of a flow each is asked for by its tag.
const FEW: usize = 3;
/// How many runs' steps are read for a connection in one look.
const DETAILS: usize = 10;
/// How long a run is looked for of which nobody knows whether it was begun: longer than a queue holds it up.
const SEARCH: Duration = Duration::from_mins(5);
/// How long ActivePieces may try again by itself what failed by its own fault.
const HELD: Duration = Duration::from_mins(10);
/// How often a run is looked at that is held so.
const HELD_LOOK: Duration = Duration::from_secs(20);
/// How soon it is looked at what became of asking to stop a run.
const CANCEL_LOOK: Duration = Duration::from_secs(2);
/// How far the clocks of the two may differ.
const SKEW: Duration = Duration::from_mins(2);
/// How long a run is not asked again that did not say whose it is.
const SILENT: Duration = Duration::from_secs(20);
/// How many runs of others are remembered.
const STRANGERS: u64 = 50_000;

/// What the watcher remembers.
pub(in crate::worker) struct Watcher {
    shared: Arc<Shared>,
    memory: Memory,
}

/// The runs that were looked at and need not be looked at again.
struct Memory {
    /// Those that are none of ours.
    strangers: Cache<String, ()>,
    /// Those that did not say a moment ago whose they are.
    silent: Cache<String, ()>,
}

/// What came of looking at a start.
enum Seen {
    /// It goes on; when it is looked at next.
    On(Looked),
    /// It ended so.
    Ended(Box<End>),
    /// The steps of a run whose end was known.
    Steps {
        state: String,
        run: String,
        steps: Vec<Value>,
    },
}

struct End {
    run: Option<String>,
    state: String,
    cancel: Option<&'static str>,
    outcome: Outcome,
    steps: Option<Vec<Value>>,
}

/// What is forgotten after a time, or when as much that is newer is known.
fn newest(lifetime: Duration) -> Cache<String, ()> {
    let cache = Cache::builder().max_capacity(STRANGERS).time_to_live(lifetime);
    cache.eviction_policy(EvictionPolicy::lru()).build()
}

/// Watches until the service stops.
pub(in crate::worker) async fn keep(shared: Arc<Shared>) {
    let soft = shared.lifecycle.soft();
    let watcher = Watcher {
        shared: shared.clone(),
        memory: Memory {
            strangers: newest(Duration::from_hours(1)),
            silent: newest(SILENT),
        },
    };
    let work = async {
        loop {
            let next = watcher.look().await.unwrap_or_else(|error| {
                tracing::warn!(error = %error, "flows could not be looked at");
                LONGEST
            });
            sleep(SHORTEST).await;
            tokio::select! {
                () = sleep(next.saturating_sub(SHORTEST)) => {}
                () = shared.flows_changed.notified() => {}
            }
        }
    };
    let _stopped = soft.run_until_cancelled(work).await;
}

impl Watcher {
    /// Looks at what is due; answers after how long to look again.
    async fn look(&self) -> Result<Duration> {
        let pool = &self.shared.pool;
        let due = db::with(pool, async |it| rows::due(it, BATCH).await).await?;
        let is_full = i64::try_from(due.len()).is_ok_and(|it| it == BATCH);
        let mut by_connection: HashMap<(CompanyId, ConnectionId), Vec<Due>> = HashMap::new();
        for due in due {
            by_connection
                .entry((due.company, due.connection))
                .or_default()
                .push(due);
        }
        stream::iter(by_connection)
            .for_each_concurrent(CONNECTIONS, |((company, connection), due)| {
                self.connection(company, connection, due)
            })
            .await;
        if is_full {
            return Ok(Duration::ZERO);
        }
        let next = db::with(pool, rows::next_due).await?;
        let next = next.map_or(LONGEST, |it| {
            Duration::try_from_secs_f64(it.max(0.0)).unwrap_or(LONGEST)
        });
        Ok(next.min(LONGEST))
    }

    async fn connection(&self, company: CompanyId, connection: ConnectionId, due: Vec<Due>) {
        let account = match account(&self.shared, company, connection).await {
            Ok(account) => account,
            Err(error) => {
                // They are looked at again by themselves.
                return tracing::warn!(connection = %connection, error = %error, "a connection could not be read");
            }
        };
        let now = self.shared.clock.now();
        let looked = match &account {
            Some(account) => {
                let look = Look {
                    pieces: &self.shared.pieces,
                    memory: &self.memory,
                    account,
                    now,
                };
                let (looked, failure) = look.all(due).await;
                fares(&self.shared, company, connection, failure.as_ref());
                looked
            }
            None => due.into_iter().map(disconnected).collect(),
        };
        if let Err(error) = self.note(looked).await {
            tracing::warn!(connection = %connection, error = %error, "what flows came to could not be noted");
        }
    }

    async fn note(&self, looked: Vec<(Due, Seen)>) -> Result<(), Error> {
        let pool = &self.shared.pool;
        let (mut open, mut over) = (Vec::new(), Vec::new());
        for (due, seen) in looked {
            match seen {
                Seen::On(looked) if due.has_ended => over.push(looked),
                Seen::On(looked) => open.push(looked),
                Seen::Steps { state, run, steps } => {
                    db::with(pool, async |it| rows::stepped(it, &due.key, &run, &state, &steps).await).await?;
                }
                Seen::Ended(end) => {
                    let found = Found {
                        key: &due.key,
                        started_by: due.started_by,
                        run: end.run.as_deref(),
                        state: &end.state,
                        cancel: end.cancel,
                        outcome: &end.outcome,
                        steps: end.steps.as_deref(),
                        look_at: None,
                    };
                    note_in(&self.shared, &found).await?;
                }
            }
        }
        for (looked, had_ended) in [(open, false), (over, true)] {
            if !looked.is_empty() {
                db::with(pool, async |it| rows::looked(it, &looked, had_ended).await).await?;
            }
        }
        Ok(())
    }
}

fn disconnected(due: Due) -> (Due, Seen) {
    let seen = if due.has_ended {
        Seen::On(on(&due, None))
    } else {
        Seen::Ended(Box::new(End {
            run: None,
            state: due
                .state
                .clone()
                .unwrap_or_else(|| Outcome::Disconnected.state().to_owned()),
            cancel: None,
            outcome: Outcome::Disconnected,
            steps: None,
        }))
    };
    (due, seen)
}

/// A look at the starts of one connection.
struct Look<'a> {
    pieces: &'a Pieces,
    memory: &'a Memory,
    account: &'a Account,
    now: OffsetDateTime,
}

/// A run of ours as a look found it.
#[derive(Clone)]
struct Sight {
    run: String,
    state: RunState,
    /// With its steps, where they were read to find it.
    detailed: Option<Box<Detailed>>,
}

impl Look<'_> {
    /// What became of them, and why they could not be asked for, if so.
    async fn all(&self, due: Vec<Due>) -> (Vec<(Due, Seen)>, Option<Failure>) {
        let mut details = DETAILS;
        let sights = self.sights(&due, &mut details).await;
        let failure = sights.as_ref().err().cloned();
        if let Some(failure) = &failure {
            tracing::warn!(
                connection = %self.account.connection, reason = failure.kind.reason(), flows = due.len(),
                "ActivePieces could not be asked how flows stand"
            );
        }
        let sights = sights.unwrap_or_default();
        let mut looked = Vec::with_capacity(due.len());
        for (place, due) in due.into_iter().enumerate() {
            let seen = match sights.get(&place) {
                Some(sight) => self.sighted(&due, sight, &mut details).await,
                None => self.unsighted(&due, failure.as_ref()),
            };
            looked.push((due, seen));
        }
        (looked, failure)
    }

    /// By the starts' places, their runs as far as they are found.
    async fn sights(&self, due: &[Due], details: &mut usize) -> Result<HashMap<usize, Sight>, Failure> {
        let mut sights = HashMap::new();
        let known: Vec<usize> = (0..due.len()).filter(|it| due[*it].run.is_some()).collect();
        for some in known.chunks(IDS) {
            let ids: Vec<String> = some.iter().filter_map(|it| due[*it].run.clone()).collect();
            let wanted = Runs {
                ids: &ids,
                ..Runs::default()
            };
            let found = self.pieces.runs(self.account, &wanted, 2).await?;
            for place in some {
                let run = due[*place].run.as_ref();
                if let Some(found) = found.iter().find(|it| Some(&it.id) == run) {
                    sights.insert(*place, sight(found));
                }
            }
        }
        let mut by_flow: HashMap<&str, Vec<usize>> = HashMap::new();
        for place in (0..due.len()).filter(|it| due[*it].run.is_none()) {
            by_flow.entry(&due[place].flow).or_default().push(place);
        }
        for (flow, mut places) in by_flow {
            if places.len() <= FEW && due[places[0]].tags_run {
                for place in std::mem::take(&mut places) {
                    match self.by_tag(flow, &due[place].tag).await? {
                        Some(found) => drop(sights.insert(place, found)),
                        None => places.push(place),
                    }
                }
            }
            if !places.is_empty() {
                self.among(flow, due, &places, details, &mut sights).await?;
            }
        }
        Ok(sights)
    }

    async fn by_tag(&self, flow: &str, tag: &str) -> Result<Option<Sight>, Failure> {
        let wanted = Runs {
            flow: Some(flow),
            tag: Some(tag),
            ..Runs::default()
        };
        let found = self.pieces.runs(self.account, &wanted, 1).await?;
        // Not every version looks at the tag.
        Ok(found.iter().find(|it| is_tagged(it, tag)).map(sight))
    }

    /// Finds starts among a flow's runs since the first of them was sent.
    async fn among(
        &self,
        flow: &str,
        due: &[Due],
        places: &[usize],
        details: &mut usize,
        sights: &mut HashMap<usize, Sight>,
    ) -> Result<(), Failure> {
        let since = places.iter().map(|it| due[*it].created_at).min();
        let wanted = Runs {
            flow: Some(flow),
            since: since.map(|it| it - SKEW),
            ..Runs::default()
        };
        let found = self.pieces.runs(self.account, &wanted, PAGES).await?;
        let mut open: HashMap<&str, usize> = places.iter().map(|it| (&*due[*it].tag, *it)).collect();
        let mut others = Vec::new();
        for run in &found {
            let tagged = run.tags.iter().flatten().find_map(|tag| open.remove(tag.as_str()));
            match tagged {
                Some(place) => drop(sights.insert(place, sight(run))),
                None if run.flow_id.as_deref().is_none_or(|it| it == flow) => others.push(run),
                None => {}
            }
        }
        // The oldest first: a run that has just begun does not say yet what it was given.
        for run in others.into_iter().rev() {
            if open.is_empty() || *details == 0 {
                break;
            }
            if self.memory.strangers.contains_key(&run.id) || self.memory.silent.contains_key(&run.id) {
                continue;
            }
            *details -= 1;
            let detailed = match self.pieces.run(self.account, &run.id).await {
                Ok(detailed) => detailed,
                Err(failure) if failure.kind == FailureKind::NotFound => continue,
                Err(failure) => return Err(failure),
            };
            match detailed.correlation_id().and_then(|it| open.remove(it)) {
                Some(place) => {
                    let sight = Sight {
                        run: run.id.clone(),
                        state: detailed.state(),
                        detailed: Some(Box::new(detailed)),
                    };
                    sights.insert(place, sight);
                }
                None if detailed.says_its_input() => self.memory.strangers.insert(run.id.clone(), ()),
                None => self.memory.silent.insert(run.id.clone(), ()),
            }
        }
        Ok(())
    }

    /// What a start's run that was found means.
    async fn sighted(&self, due: &Due, sight: &Sight, details: &mut usize) -> Seen {
        let state = &sight.state;
        let mut looked = Looked {
            run: Some(sight.run.clone()),
            state: Some(state.as_str().to_owned()),
            ..on(due, Some(schedule::next(&due.tag, due.looks, due.calls_back, self.now)))
        };
        let is_held_over = *state == RunState::InternalError && self.is_held_over(due);
        if state.is_final() || is_held_over {
            if let Some(detailed) = &sight.detailed {
                return ended(due, sight.run.clone(), (**detailed).clone().kept());
            }
            if *details == 0 {
                looked.look_at = Some(self.now + Duration::from_secs(1));
                return Seen::On(looked);
            }
            *details -= 1;
            return match self.pieces.run(self.account, &sight.run).await {
                // It may have gone on meanwhile.
                Ok(detailed) if detailed.state().is_final() || is_held_over => {
                    ended(due, sight.run.clone(), detailed.kept())
                }
                Err(failure) if failure.kind == FailureKind::NotFound => {
                    let kept = Ended {
                        state: state.as_str().to_owned(),
                        ..Default::default()
                    };
                    ended(due, sight.run.clone(), kept)
                }
                Ok(_) | Err(_) => Seen::On(looked),
            };
        }
        if due.has_ended {
            looked.look_at =
                schedule::looks_for_steps(due.looks + 1).then(|| self.now + schedule::steps(due.looks + 1));
            return Seen::On(looked);
        }
        if due.until <= self.now {
            let cancel = self.cancel(state, &sight.run).await;
            return Seen::Ended(Box::new(End {
                run: Some(sight.run.clone()),
                state: state.as_str().to_owned(),
                cancel: Some(cancel),
                outcome: Outcome::Late {
                    state: state.as_str().to_owned(),
                },
                steps: None,
            }));
        }
        if !due.is_wanted {
            let cancel = self.cancel(state, &sight.run).await;
            looked.cancel = Some(cancel.to_owned());
            if cancel == "asked" {
                looked.look_at = Some(self.now + CANCEL_LOOK);
            }
        } else if *state == RunState::InternalError {
            looked.look_at = Some(self.now + HELD_LOOK);
        }
        looked.look_at = looked.look_at.map(|it| it.min(due.until));
        Seen::On(looked)
    }

    /// What it means that a start's run was not found, or could not be looked for.
    fn unsighted(&self, due: &Due, failure: Option<&Failure>) -> Seen {
        if due.has_ended {
            let more = schedule::looks_for_steps(due.looks + 1).then(|| self.now + schedule::steps(due.looks + 1));
            return Seen::On(on(due, more));
        }
        let given_up = if due.taken || due.run.is_some() || failure.is_some() {
            due.until
        } else {
            due.until.min(due.created_at + SEARCH)
        };
        if given_up > self.now {
            let next = schedule::next(&due.tag, due.looks, due.calls_back && due.taken, self.now);
            return Seen::On(on(due, Some(next.min(given_up))));
        }
        let outcome = match (&due.run, &due.state) {
            (Some(_), Some(state)) => Outcome::Late { state: state.clone() },
            _ => Outcome::Lost,
        };
        Seen::Ended(Box::new(End {
            run: None,
            state: outcome.state().to_owned(),
            cancel: None,
            outcome,
            steps: None,
        }))
    }

    fn is_held_over(&self, due: &Due) -> bool {
        let since = due
            .state_since
            .filter(|_| due.state.as_deref() == Some(RunState::InternalError.as_str()));
        since.is_some_and(|it| it + HELD <= self.now)
    }

    /// Asks to stop a run where that can do anything.
    async fn cancel(&self, state: &RunState, run: &str) -> &'static str {
        if !state.can_be_cancelled() {
            return "not_possible";
        }
        match self.pieces.cancel(self.account, &[run.to_owned()]).await {
            Ok(()) => "asked",
            // A queued one may be locked by its worker.
            Err(_) => "not_possible",
        }
    }
}

/// A start that goes on as it was known.
fn on(due: &Due, look_at: Option<OffsetDateTime>) -> Looked {
    Looked {
        key: due.key.clone(),
        run: None,
        state: None,
        cancel: None,
        look_at,
    }
}

fn ended(due: &Due, run: String, kept: Ended) -> Seen {
    let Ended {
        state,
        result,
        steps,
        message,
    } = kept;
    if due.has_ended {
        return Seen::Steps { state, run, steps };
    }
    let was_asked = !due.is_wanted || due.cancel.is_some();
    let cancel = (was_asked && RunState::parse(&state) == RunState::Canceled).then_some("done");
    Seen::Ended(Box::new(End {
        run: Some(run),
        cancel,
        outcome: Outcome::Ended {
            state: state.clone(),
            result,
            steps: steps.clone(),
            message,
        },
        state,
        steps: Some(steps),
    }))
}

fn sight(run: &Listed) -> Sight {
    Sight {
        run: run.id.clone(),
        state: run.state(),
        detailed: None,
    }
}

fn is_tagged(run: &Listed, tag: &str) -> bool {
    run.tags.iter().flatten().any(|it| it == tag)
}
