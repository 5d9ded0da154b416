//! Erasing workflows that were deleted long ago: with their versions, executions, journals, and the snapshots that are not kept.
//!
//! It is upkeep of the engine's, in small transactions, one instance at a time. What to erase is found anew each time, so
//! whatever stops it, it goes on the next time. A run that has not ended is cancelled first, and its workflow waits for its
//! end: nothing is taken from a run that goes on. Policies let the engine delete nothing that is not due.

use service_kit::{db, ids::WorkflowId};
use sqlx::{Connection, PgConnection, PgPool, Result};

use super::erasure_store as store;

/// How many executions or versions one transaction deletes.
const BATCH: i64 = 100;

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// There is more to do.
    More,
    /// There is nothing that can be done now.
    Done,
}

/// Erases what is due.
///
/// # Errors
/// The database's; what was erased until then is.
pub async fn erase(pool: &PgPool) -> Result<()> {
    let mut after = None;
    while let Some(workflow) = db::with(pool, async |it| store::next(it, after).await).await? {
        while db::with(pool, async |it| step(it, workflow).await).await? == Step::More {}
        after = Some(workflow);
    }
    Ok(())
}

/// Deletes a batch of what belongs to the workflow; the workflow itself when nothing else is left.
async fn step(connection: &mut PgConnection, workflow: WorkflowId) -> Result<Step> {
    let mut tx = connection.begin().await?;
    if !store::take_turn(&mut tx).await? {
        return Ok(Step::Done);
    }
    let step = if store::cancel_runs(&mut tx, workflow).await? {
        Step::Done
    } else if store::delete_executions(&mut tx, workflow, BATCH).await?
        || store::delete_versions(&mut tx, workflow, BATCH).await?
    {
        Step::More
    } else {
        store::delete_snapshots(&mut tx, workflow).await?;
        store::delete(&mut tx, workflow).await?;
        tracing::info!(%workflow, "a workflow was erased");
        Step::Done
    };
    tx.commit().await?;
    Ok(step)
}
