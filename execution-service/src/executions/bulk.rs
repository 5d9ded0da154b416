//! The same for many executions: a page of them at a time, each by itself, and of each what was done or why it could not be.
//!
//! A page that meets a limit, or something that is not there right now, ends before the execution that met it: whoever asks again
//! with its token goes on there. Asking the same twice does nothing twice: what is cancelled or paused already says so, and a retry
//! has a key of its own for each execution.

use futures::{StreamExt, stream};
use serde::Serialize;
use service_kit::{
    auth::Caller,
    db::{self, TenantTx},
    error::{Error, Result},
    ids::{ExecutionId, RequestId, StudioId},
    page::Page,
};
use sha2::{Digest, Sha256};

use super::{Filter, Status, again, control, control::Fits, enter, standing::Read, store};
use crate::{App, access::Access, worker::StartKey};

/// The most executions of a page.
pub(super) const LARGEST_PAGE: i32 = 200;
/// How many are asked at a time; retries are started one after the other.
const AT_ONCE: usize = 8;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Act {
    /// They stop.
    Cancel,
    /// They begin nothing new.
    Pause,
    /// They go on.
    Resume,
    /// New ones go on from where they failed or were cancelled.
    Retry,
}

impl Act {
    /// The statuses of what it can be done to.
    pub(super) fn statuses(self) -> Vec<Status> {
        match self {
            Self::Cancel => vec![Status::Pending, Status::Running, Status::Paused],
            Self::Pause => vec![Status::Pending, Status::Running],
            Self::Resume => vec![Status::Paused],
            Self::Retry => vec![Status::Failed, Status::Cancelled],
        }
    }
}

/// What is done to which.
#[derive(Clone, Debug)]
pub(super) struct Control {
    /// Which.
    pub filter: Filter,
    /// What.
    pub act: Act,
    /// Why; may be empty.
    pub reason: String,
    /// Names the retries.
    pub request: Option<RequestId>,
    /// Whether nothing is done in earnest.
    pub dry: bool,
}

/// What became of one.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    /// The execution.
    pub execution: ExecutionId,
    /// The new one, if there is one; or why it was not done.
    pub done: std::result::Result<Option<ExecutionId>, Refusal>,
}

/// Why something was not done to an execution.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    /// Stable.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// Does it to a page, and says after which one to go on, if more may follow.
///
/// # Errors
/// Where nothing could be done because of a limit, or because something is not there.
pub(super) async fn control(
    app: &App,
    caller: &Caller,
    control: &Control,
    page: &Page<ExecutionId>,
) -> Result<(Vec<Outcome>, Option<ExecutionId>)> {
    let access = app.core.check_studio(caller.user, control.filter.studio).await?;
    let mut tx = TenantTx::begin(&app.pool, "executions.control", &access.claims).await?;
    let rows = store::list(&mut tx, &control.filter, page).await?;
    drop(tx);
    let size = usize::try_from(page.size).unwrap_or(usize::MAX);
    let more = rows.len() > size;
    let ids: Vec<ExecutionId> = rows.into_iter().take(size).map(|it| it.id).collect();
    let at_once = if control.act == Act::Retry { 1 } else { AT_ONCE };
    let mut done = stream::iter(ids)
        .map(|id| async move { (id, one(app, caller, control, id).await) })
        .buffered(at_once);
    let mut outcomes = Vec::new();
    while let Some((execution, done)) = done.next().await {
        let done = match done {
            Ok(new) => Ok(new),
            Err(error) => match refusal(error) {
                Ok(refusal) => Err(refusal),
                Err(error) if outcomes.is_empty() => return Err(error),
                Err(_) => {
                    let last = outcomes.last().map(|it: &Outcome| it.execution);
                    return Ok((outcomes, last));
                }
            },
        };
        outcomes.push(Outcome { execution, done });
    }
    let last = outcomes.last().map(|it| it.execution).filter(|_| more);
    Ok((outcomes, last))
}

/// Does it to one; answers with the new execution where there is one.
async fn one(app: &App, caller: &Caller, control: &Control, id: ExecutionId) -> Result<Option<ExecutionId>> {
    let again = again::Again {
        source: id,
        from: again::From::Failed,
        version: None,
        key: control.request.map(|request| key(control.filter.studio, request, id)),
    };
    if control.dry {
        let access = enter(app, caller, id).await?;
        let could = db::retry("executions.control", || could(app, &access, control.act, &again));
        return could.await.map(|()| None);
    }
    let reason = &control.reason;
    let done = match control.act {
        Act::Cancel => db::retry("executions.cancel", || control::cancel(app, caller, id, reason)).await,
        Act::Pause => db::retry("executions.pause", || control::pause(app, caller, id, reason)).await,
        Act::Resume => db::retry("executions.resume", || control::resume(app, caller, id)).await,
        Act::Retry => {
            let new = db::retry("executions.again", || again::begin(app, caller, &again)).await?;
            return Ok(Some(new.summary.id));
        }
    };
    done.map(|_| None)
}

/// Whether it could be done, and why not.
async fn could(app: &App, access: &Access, act: Act, again: &again::Again) -> Result<()> {
    let fits: Fits = match act {
        Act::Retry => return again::rehearse(app, access, again).await,
        Act::Cancel => std::sync::Arc::new(|_| Ok(())),
        Act::Pause => std::sync::Arc::new(control::can_pause),
        Act::Resume => std::sync::Arc::new(control::can_resume),
    };
    let mut tx = TenantTx::begin(&app.pool, "executions.could", &access.claims).await?;
    let read = Read::of(&mut tx, again.source).await?;
    drop(tx);
    app.aside.run(move || fits(&read.fold()?)).await
}

/// The key that a retry of one execution has: the same for the same request, whatever page it came in.
fn key(studio: StudioId, request: RequestId, id: ExecutionId) -> StartKey {
    let mut digest = Sha256::new();
    digest.update(studio.as_uuid().as_bytes());
    digest.update(id.as_uuid().as_bytes());
    StartKey {
        method: "/studios.execution.v1.ExecutionService/ControlExecutions",
        key: format!("{request}/{id}"),
        body_hash: digest.finalize().into(),
    }
}

/// The refusal of one alone.
///
/// # Errors
/// What concerns those after it too.
fn refusal(error: Error) -> Result<Refusal> {
    let message = error.to_string();
    match error {
        Error::FailedPrecondition { reason, .. }
        | Error::PermissionDenied { reason, .. }
        | Error::Aborted { reason, .. }
        | Error::AlreadyExists { reason, .. } => Ok(Refusal { reason, message }),
        Error::ResourceExhausted { reason, .. } if reason == "TOO_MANY_COMMANDS" => Ok(Refusal { reason, message }),
        Error::NotFound { .. } => Ok(Refusal {
            reason: "NOT_FOUND",
            message,
        }),
        Error::Invalid(_) => Ok(Refusal {
            reason: "INVALID_INPUT",
            message,
        }),
        other => Err(other),
    }
}
