//! Flows of ActivePieces that stages start.
//!
//! What always holds: a start is sent by whoever made its row, which is there once for each try, and by nobody else, whatever
//! dies when; whether it was begun is looked up where nobody knows. A run that waits for a flow is given back: it has no task
//! and no connection. Its end comes by a call-back or by the watcher (`watch`), which looks at all of an instance's flows
//! together; either notes it in the row and leaves the run a command, in one commit. A run reads the row after it has taken its
//! last command and before it is given back, so no end is missed.

use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value, json};
use service_kit::{
    db,
    error::{Error, Result},
    ids::{CompanyId, ConnectionId, ExecutionId},
};
use time::OffsetDateTime;
use tokio::time::sleep;
use url::Url;

use super::{
    Engine, Note, Shared,
    scene::Ground,
    store::flows::{self as rows, FlowKey, Found, NewFlow},
};
use crate::{
    engine::{
        action::Call,
        definition::{Flow, FlowMode},
        failure::FailureClass,
        journal::AttemptFailure,
    },
    pieces::{Account, Failure, STUDIOS, Started, callback},
};

mod outcome;
mod schedule;
pub(super) mod watch;

pub(super) use outcome::{Meaning, Outcome};

/// How long to wait before asking again a database that did not answer.
const PAUSE: Duration = Duration::from_millis(250);
/// After how long a start is looked at whose sender does not say what came of it.
const SILENCE: Duration = Duration::from_secs(45);
/// How long a call-back is taken after its start is not waited for any more.
const CALLBACK_SLACK: Duration = Duration::from_mins(10);
/// How long a start that is waited for may take beyond the longest that an instance waits.
const MAX_SYNC: Duration = Duration::from_mins(5);

/// What came of a start.
pub(super) enum Begun {
    /// Its end is known already.
    Ended(Outcome),
    /// A run may come of it, and its end has to be waited for.
    Runs {
        /// Whether it is not known that it was taken.
        uncertain: bool,
    },
}

/// What a call-back came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CalledBack {
    /// It is noted.
    Noted,
    /// The start that it is about has ended already: nothing changed.
    Repeated,
    /// It is none: forged, expired, or about something that is not there.
    Unknown,
    /// It is about another start than the one it was made for.
    Mismatch,
}

/// Starts a flow unless its start was sent before; then says what is known of it.
pub(super) async fn start(
    ground: &Ground,
    call: &Call,
    flow: &Flow,
    timeout: Duration,
) -> Result<Begun, AttemptFailure> {
    let shared = &ground.shared;
    let key = FlowKey::of(call);
    let account = account_of(ground, flow).await?;
    let (now, until) = times(ground, timeout);
    let new = NewFlow {
        key: &key,
        company: ground.facts.company,
        studio: ground.facts.studio,
        started_by: ground.facts.started_by,
        connection: account.connection,
        flow: &flow.flow_id,
        calls_back: flow.calls_back && shared.public_url.get().is_some(),
        tags_run: flow.tags_run,
        look_at: now + SILENCE.max(waits(flow, timeout).unwrap_or_default()),
        until,
        now,
    };
    let made = patiently(ground, || {
        db::with(&shared.pool, async |it| rows::insert(it, &new).await)
    })
    .await;
    if !made {
        return Ok(again(ground, &key).await);
    }
    let body = body(ground, &key, &call.inputs, until);
    let sent = shared
        .pieces
        .start(&account, &flow.flow_id, &body, waits(flow, timeout))
        .await;
    let failure = sent.as_ref().err().filter(|it| it.kind.is_connections());
    fares(shared, ground.facts.company, account.connection, failure);
    match sent {
        Ok(Started::Answered { status, body }) => {
            let outcome = Outcome::Answered { status, body };
            let found = Found {
                key: &key,
                started_by: ground.facts.started_by,
                run: None,
                state: outcome.state(),
                cancel: None,
                outcome: &outcome,
                steps: None,
                look_at: None,
            };
            note(ground, &found).await;
            Ok(Begun::Ended(outcome))
        }
        Ok(sent) => {
            let taken = sent == Started::Taken;
            let now = ground.now();
            let look_at = now + schedule::first(new.calls_back && taken);
            patiently(ground, || {
                db::with(&shared.pool, async |it| rows::sent(it, &key, taken, look_at).await)
            })
            .await;
            shared.flows_changed.notify_one();
            Ok(Begun::Runs { uncertain: !taken })
        }
        Err(failure) => {
            patiently(ground, || {
                db::with(&shared.pool, async |it| rows::delete(it, &key).await)
            })
            .await;
            Err(failure.of_attempt())
        }
    }
}

/// What is known of a start that this process has not sent.
async fn again(ground: &Ground, key: &FlowKey) -> Begun {
    let shared = &ground.shared;
    let now = ground.now();
    let standing = patiently(ground, || {
        db::with(&shared.pool, async |it| {
            let standing = rows::standing(it, key).await?;
            if standing.as_ref().is_some_and(|it| it.outcome.is_none()) {
                rows::sent(it, key, false, now).await?;
            }
            Ok(standing)
        })
    })
    .await;
    shared.flows_changed.notify_one();
    match standing {
        Some(rows::Standing {
            outcome: Some(outcome), ..
        }) => Begun::Ended(outcome),
        Some(standing) => Begun::Runs {
            uncertain: !standing.taken,
        },
        None => Begun::Runs { uncertain: true },
    }
}

/// How a start ended; none while that is not known.
pub(super) async fn ended(ground: &Ground, call: &Call) -> Option<Outcome> {
    let key = FlowKey::of(call);
    let shared = &ground.shared;
    let standing = patiently(ground, || {
        db::with(&shared.pool, async |it| rows::standing(it, &key).await)
    })
    .await;
    match standing {
        Some(standing) => standing.outcome,
        // Whoever waits for what is not there would do so for ever.
        None => Some(Outcome::Lost),
    }
}

/// Has what an execution started stopped, as it has ended. Whoever is not told finds out by himself.
pub(super) async fn stop(ground: &Ground) {
    let (shared, execution) = (&ground.shared, ground.facts.execution);
    match db::with(&shared.pool, async |it| rows::stop(it, execution).await).await {
        Ok(true) => shared.flows_changed.notify_one(),
        Ok(false) => {}
        Err(error) => tracing::warn!(execution = %execution, error = %error, "flows could not be told to stop"),
    }
}

impl Engine {
    /// Says where others reach the gateway, where the configuration does not.
    pub fn reached_at(&self, gateway: Url) {
        // The configured one stands.
        drop(self.shared.public_url.set(gateway));
    }

    /// Takes what a flow posts to its call-back URL.
    ///
    /// # Errors
    /// `Unavailable` where the database does not answer.
    pub async fn called_back(&self, token: &str, body: &[u8]) -> Result<CalledBack> {
        let shared = &self.shared;
        let Some(claim) = callback::claim(&shared.keys, token, shared.clock.now()) else {
            return Ok(CalledBack::Unknown);
        };
        let execution = claim.execution;
        let open = db::with(&shared.pool, async |it| rows::open(it, execution).await).await?;
        let Some(open) = open.into_iter().find(|it| claim.is_of(&it.tag)) else {
            return Ok(CalledBack::Repeated);
        };
        let said = callback::read(body);
        if said.correlation_id.as_ref().is_some_and(|it| *it != open.tag) {
            return Ok(CalledBack::Mismatch);
        }
        let outcome = Outcome::CalledBack {
            result: said.result,
            failure: said.failure,
        };
        let found = Found {
            key: &open.key,
            started_by: open.started_by,
            run: None,
            state: outcome.state(),
            cancel: None,
            outcome: &outcome,
            steps: None,
            look_at: Some(shared.clock.now() + schedule::steps(0)),
        };
        if !note_in(shared, &found).await? {
            return Ok(CalledBack::Repeated);
        }
        tracing::info!(execution = %execution, stage = open.key.of.stage, "a flow called back");
        Ok(CalledBack::Noted)
    }
}

/// Notes an end, and has its run look at it. False if it was known already.
async fn note_in(shared: &Shared, found: &Found<'_>) -> Result<bool, sqlx::Error> {
    let mut tx = shared.pool.begin().await?;
    let is_new = rows::ended(&mut tx, found).await?;
    tx.commit().await?;
    if is_new {
        super::poll::nudge(shared, found.key.execution);
        shared.flows_changed.notify_one();
    }
    Ok(is_new)
}

async fn note(ground: &Ground, found: &Found<'_>) {
    patiently(ground, || note_in(&ground.shared, found)).await;
}

/// What a start is sent: the inputs, and what the flow calls back by.
fn body(ground: &Ground, key: &FlowKey, inputs: &Map<String, Value>, until: OffsetDateTime) -> Value {
    let shared = &ground.shared;
    let tag = key.tag();
    let mut ours = json!({
        "execution_id": key.execution,
        "stage": key.of.stage,
        "correlation_id": tag,
    });
    if let Some(gateway) = shared.public_url.get() {
        let url = callback::url(gateway, &shared.keys, key.execution, &tag, until + CALLBACK_SLACK);
        ours["callback_url"] = url.into();
    }
    let mut body = inputs.clone();
    body.insert(STUDIOS.into(), ours);
    Value::Object(body)
}

/// How long a start is waited for, where it is.
fn waits(flow: &Flow, timeout: Duration) -> Option<Duration> {
    (flow.mode == FlowMode::Synchronous).then(|| timeout.min(MAX_SYNC))
}

fn times(ground: &Ground, timeout: Duration) -> (OffsetDateTime, OffsetDateTime) {
    let now = ground.now();
    (
        now,
        now.saturating_add(timeout.try_into().unwrap_or(time::Duration::MAX)),
    )
}

/// The connection that a stage names.
async fn account_of(ground: &Ground, flow: &Flow) -> Result<Account, AttemptFailure> {
    let gone = |message: &str| AttemptFailure::lasting(FailureClass::ProviderError, "connection", message);
    let Ok(id) = flow.connection_id.parse() else {
        return Err(gone("the stage names no connection"));
    };
    loop {
        match account(&ground.shared, ground.facts.company, id).await {
            Ok(Some(account)) => return Ok(account),
            Ok(None) => {
                return Err(gone(
                    "the stage's connection is not there any more, or is none to ActivePieces",
                ));
            }
            Err(error) if matches!(*error, Error::Unavailable { .. }) => sleep(PAUSE).await,
            Err(error) => {
                tracing::error!(execution = %ground.facts.execution, error = %error, "a connection could not be read");
                return Err(gone("the stage's connection cannot be used"));
            }
        }
    }
}

/// A company's connection to ActivePieces; none where it is not there, disabled, or of another kind.
async fn account(shared: &Shared, company: CompanyId, id: ConnectionId) -> Result<Option<Account>, Arc<Error>> {
    let open = shared.connections.find(company, id).await?;
    Ok(open.filter(|it| it.enabled).and_then(|it| Account::of(&it)))
}

/// Notes how an instance fares.
fn fares(shared: &Shared, company: CompanyId, connection: ConnectionId, failure: Option<&Failure>) {
    shared.connections.note(Note {
        company,
        connection,
        failure: failure.map(|it| {
            let failure = it.clone().of_attempt();
            (failure.class.as_str().to_owned(), failure.reason, failure.message)
        }),
    });
}

/// Asks again while the database is away.
async fn patiently<T, F>(ground: &Ground, ask: impl Fn() -> F) -> T
where
    F: Future<Output = sqlx::Result<T>>,
{
    let execution: ExecutionId = ground.facts.execution;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => {
                tracing::warn!(execution = %execution, error = %error, "a flow's row could not be reached");
                sleep(PAUSE).await;
            }
        }
    }
}
