//! Deciding an attempt whose output waits for a person.
//!
//! A decision is a command like any other; the holder of the run makes it an entry. Of several people at the same time one
//! decides: the run's hot row is locked before it is looked whether the attempt still waits, in the journal and among the
//! commands that are on their way there. So a decision that was answered well is the one that counts.

use service_kit::{
    auth::Caller,
    db::TenantTx,
    error::{Error, Result},
    ids::ExecutionId,
};

use super::{Execution, ended, enter, not_found, store};
use crate::{
    App,
    engine::journal::{Ruling, StageTry},
    requests,
    worker::Wish,
};

/// What is decided.
#[derive(Clone, Debug)]
pub(super) struct Decide {
    /// The execution.
    pub execution: ExecutionId,
    /// The attempt.
    pub of: StageTry,
    /// Whether its output is used.
    pub decision: Ruling,
    /// Why; may be empty.
    pub notes: String,
    /// Makes a repeated request answer well without deciding again.
    pub key: Option<requests::Key>,
}

/// Where an attempt stands that somebody decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It waits for that.
    Waiting,
    /// It does not, or not any more.
    Decided,
}

/// Decides an attempt that waits; it is durable when this answers, and the run goes on by itself.
pub(super) async fn decide(app: &App, caller: &Caller, decide: &Decide) -> Result<Execution> {
    let id = decide.execution;
    let access = enter(app, caller, id).await?;
    let mut tx = TenantTx::begin(&app.pool, "executions.decide", &access.claims).await?;
    if requests::claim(&mut tx, decide.key.as_ref(), id).await?.is_some() {
        return store::get(&mut tx, id).await?.ok_or_else(|| not_found(id));
    }
    let Some(place) = store::next_command(&mut tx, id).await? else {
        return Err(ended(&mut tx, id).await);
    };
    match store::standing(&mut tx, id, &decide.of).await? {
        Some(Standing::Waiting) => {}
        Some(Standing::Decided) => {
            return Err(Error::FailedPrecondition {
                reason: "ATTEMPT_DECIDED",
                message: "the attempt does not wait for a decision, or not any more".into(),
            });
        }
        None => return Err(Error::not_found("attempt", &decide.of)),
    }
    let wish = Wish::Decide {
        of: decide.of.clone(),
        decision: decide.decision,
        notes: decide.notes.clone(),
    };
    store::insert_command(&mut tx, id, place, caller.user, &wish).await?;
    let execution = store::get(&mut tx, id).await?.ok_or_else(|| not_found(id))?;
    tx.commit().await?;
    app.engine.nudge(id);
    Ok(execution)
}
