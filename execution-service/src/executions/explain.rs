//! Why an execution is where it is: what it waits for, since when, and who or what can change that.
//!
//! All of it is looked up and nothing is guessed: who holds the run stands in its hot row, what it waits for follows from its
//! journal, and what was asked of it and not taken yet from its commands. Nothing is said of other companies but whether any
//! instance has room.

use service_kit::{
    auth::Caller,
    db::TenantTx,
    error::Result,
    ids::{ExecutionId, UserId},
};
use time::OffsetDateTime;

use super::{
    Status, enter,
    explain_store::{self, Hot},
    journal_store, not_found, read_in, waiting,
};
use crate::{
    App,
    engine::{
        action::Action,
        definition::{Approvers, Rank},
        failure::Failure,
        journal::{AttemptFailure, Entry, StageTry},
        state::{Given, State},
        waiting::{About, Person, Waiting},
    },
    pieces::started,
};

/// How many runs before it are counted at most.
const MOST_AHEAD: i64 = 1_000;

/// Why an execution is where it is.
#[derive(Clone, Debug)]
pub(super) struct Explanation {
    /// Where it stands.
    pub status: Status,
    /// Why, the reason that matters most first.
    pub reasons: Vec<Reason>,
}

/// A reason.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reason {
    /// It has ended.
    Ended(Option<OffsetDateTime>),
    /// No instance has room; so many live.
    Room { instances: i64 },
    /// Others are due before it.
    Turn { since: Option<OffsetDateTime>, ahead: i64 },
    /// An instance runs it; what it has begun, where it is known.
    Running { instance: i32, since: OffsetDateTime },
    /// Its instance does not answer any more.
    TakeOver { instance: i32 },
    /// A failure, after which it is tried again.
    Backoff {
        of: StageTry,
        until: OffsetDateTime,
        failure: Option<Failure>,
    },
    /// People.
    People(Box<People>),
    /// A signal.
    Signal {
        of: StageTry,
        name: String,
        until: Option<OffsetDateTime>,
    },
    /// A time.
    Time { of: StageTry, until: OffsetDateTime },
    /// Another execution, and where that stands as far as the caller may know.
    Child {
        of: StageTry,
        execution: ExecutionId,
        status: Option<Status>,
    },
    /// A flow of ActivePieces, and what is known of its run.
    Flow {
        of: StageTry,
        flow: String,
        state: Option<String>,
        since: OffsetDateTime,
        until: OffsetDateTime,
    },
    /// That somebody lets it go on.
    Paused {
        by: Option<UserId>,
        reason: String,
        since: OffsetDateTime,
    },
    /// So many commands that were not taken yet.
    Commands(i64),
    /// It was taken over so often since it last came on.
    TakenOver(i16),
    /// It could not be continued so often, and is looked at again then.
    PutAside { times: i16, until: Option<OffsetDateTime> },
}

/// What people have to decide, and who they are.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct People {
    pub of: StageTry,
    pub about: About,
    /// Those who may by name.
    pub users: Vec<UserId>,
    /// The least rank of those who may beside them.
    pub rank: Option<Rank>,
    pub required: usize,
    pub approved: usize,
    pub since: OffsetDateTime,
    /// When something happens by itself.
    pub until: Option<OffsetDateTime>,
    /// When nobody is waited for any more.
    pub expires_at: Option<OffsetDateTime>,
    pub escalated: bool,
    pub may_decide: bool,
}

/// Tells why an execution is where it is.
pub(super) async fn explain(app: &App, caller: &Caller, id: ExecutionId) -> Result<Explanation> {
    let access = enter(app, caller, id).await?;
    let mut tx = TenantTx::begin(&app.pool, "executions.explain", &access.claims).await?;
    let execution = read_in(&mut tx, &access, id).await?;
    let summary = execution.summary;
    let hot = explain_store::hot(&mut tx, id).await?;
    let Some(hot) = hot else {
        // It may have ended between the two.
        let ended = read_in(&mut tx, &access, id).await?.summary;
        return Ok(Explanation {
            status: ended.status,
            reasons: vec![Reason::Ended(ended.finished_at)],
        });
    };
    let pinned = journal_store::pinned(&mut tx, id).await?.ok_or_else(|| not_found(id))?;
    let journal = journal_store::entries(&mut tx, id, 0, i64::MAX).await?;
    let ahead = explain_store::ahead(&mut tx, id, MOST_AHEAD).await?;
    let flows = started::open(&mut tx, id).await?;
    drop(tx);
    let person = Person {
        id: caller.user,
        rank: waiting::rank(access.role),
        started_run: caller.user == summary.started_by,
    };
    let folded = app.aside.run(move || {
        // Without its version nobody knows what it waits for.
        let waits = pinned.definition.map_or_else(Vec::new, |definition| {
            let given = Given {
                definition: &definition,
                inputs: &pinned.inputs,
            };
            waits(given, &journal, person, hot.now)
        });
        (held(&hot, ahead, last_at(&journal), !waits.is_empty()), waits)
    });
    let (held, mut waits) = folded.await;
    for reason in &mut waits {
        if let Reason::Flow { of, flow, state, .. } = reason
            && let Some(run) = flows.iter().find(|it| it.of == *of)
        {
            flow.clone_from(&run.flow);
            state.clone_from(&run.state);
        }
        if let Reason::Child { execution, status, .. } = reason {
            // What the caller does not reach is not told of.
            *status = super::get(app, caller, *execution)
                .await
                .ok()
                .map(|it| it.summary.status);
        }
    }
    waits.extend(held);
    Ok(Explanation {
        status: summary.status,
        reasons: waits,
    })
}

/// What follows from how the run is held.
fn held(hot: &Hot, ahead: i64, last_at: OffsetDateTime, waits: bool) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if hot.commands > 0 {
        reasons.push(Reason::Commands(hot.commands));
    }
    match (hot.owner, hot.owner_lives) {
        (Some(instance), Some(true)) => reasons.push(Reason::Running {
            instance,
            since: last_at,
        }),
        (Some(instance), _) => reasons.push(Reason::TakeOver { instance }),
        (None, _) if hot.asides > 0 => reasons.push(Reason::PutAside {
            times: hot.asides,
            until: hot.run_at,
        }),
        (None, _) if hot.commands == 0 && (waits || hot.run_at.is_none_or(|it| it > hot.now)) => {}
        (None, _) if hot.room == 0 => reasons.push(Reason::Room {
            instances: hot.instances,
        }),
        (None, _) => reasons.push(Reason::Turn {
            since: hot.run_at,
            ahead,
        }),
    }
    if hot.takeovers > 0 {
        reasons.push(Reason::TakenOver(hot.takeovers));
    }
    reasons
}

/// What follows from the journal.
fn waits(given: Given<'_>, journal: &[Entry], person: Person, now: OffsetDateTime) -> Vec<Reason> {
    let state = State::after(given, journal);
    let actions = state.actions(given).into_iter();
    let mut reasons: Vec<Reason> = actions
        .filter_map(|action| wait(action, journal, person, now))
        .collect();
    if state.is_paused() {
        // What it waits for beside that, it waits for later.
        reasons.extend(state.waiting().map(|waiting| people(waiting, person)));
    }
    reasons
}

fn wait(action: Action, journal: &[Entry], person: Person, now: OffsetDateTime) -> Option<Reason> {
    let backoff = |of: StageTry, not_before: Option<OffsetDateTime>| {
        let until = not_before.filter(|it| *it > now)?;
        let failure = failure_before(&of, journal).map(AttemptFailure::failure);
        Some(Reason::Backoff { of, until, failure })
    };
    match action {
        Action::Call(call) | Action::Intend(call) | Action::LookUp(call) => backoff(call.key.of_try(), call.not_before),
        Action::StartChild(child) => backoff(child.key.of_try(), child.not_before),
        Action::AwaitChild { of, execution } => Some(Reason::Child {
            of,
            execution,
            status: None,
        }),
        Action::AwaitRun { call, since, until } => Some(Reason::Flow {
            of: call.key.of_try(),
            flow: String::new(),
            state: None,
            since,
            until,
        }),
        Action::AwaitPerson(waiting) => Some(people(&waiting, person)),
        Action::AwaitSignal { of, name, alarm } => Some(Reason::Signal {
            of,
            name,
            until: alarm.map(|it| it.at),
        }),
        Action::AwaitTime { of, alarm } => Some(Reason::Time { of, until: alarm.at }),
        Action::AwaitResume { by, reason, since } => Some(Reason::Paused { by, reason, since }),
        Action::Record(_) | Action::Complete { .. } | Action::Fail(_) => None,
    }
}

fn people(waiting: &Waiting, person: Person) -> Reason {
    let policy = &waiting.policy;
    let asked = [
        Some(&policy.approvers),
        waiting.escalated.then_some(&policy.escalate_to),
    ];
    let asked = || asked.iter().flatten();
    let mut users: Vec<UserId> = asked().flat_map(|it| it.users.iter().copied()).collect();
    for (by, to) in &waiting.delegations {
        users.retain(|it| it != by);
        users.push(*to);
    }
    users.retain(|it| waiting.approvals.iter().all(|approved| approved.by != *it));
    users.sort_unstable();
    users.dedup();
    let least = |approvers: &&Approvers| {
        if approvers.is_anyone() {
            Some(Rank::Member)
        } else {
            approvers.role
        }
    };
    Reason::People(Box::new(People {
        of: waiting.of.clone(),
        about: waiting.about,
        users,
        rank: asked().filter_map(least).min(),
        required: policy.needed(),
        approved: waiting.approvals.len(),
        since: waiting.since,
        until: waiting.alarm().map(|it| it.at),
        expires_at: policy.expires_after.map(|after| {
            waiting
                .since
                .saturating_add(after.try_into().unwrap_or(time::Duration::MAX))
        }),
        escalated: waiting.escalated,
        may_decide: waiting.may_decide(person).is_ok(),
    }))
}

/// Why the try before this one failed.
fn failure_before<'j>(of: &StageTry, journal: &'j [Entry]) -> Option<&'j AttemptFailure> {
    let before = StageTry {
        attempt: of.attempt.checked_sub(1)?,
        ..of.clone()
    };
    let mut attempts = journal.iter().rev().filter_map(|it| it.payload.attempt());
    attempts.find(|it| it.is(&before))?.failure.as_ref()
}

fn last_at(journal: &[Entry]) -> OffsetDateTime {
    journal.last().map_or(OffsetDateTime::UNIX_EPOCH, |it| it.occurred_at)
}
