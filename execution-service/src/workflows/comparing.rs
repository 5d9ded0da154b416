//! What differs between two versions of a workflow, or between a version and its draft.

use service_kit::{auth::Caller, db::TenantTx, error::Result, ids::WorkflowId};

use super::{enter, find_version, read};
use crate::{App, engine::definition::Definition};

/// What to compare.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    pub(super) workflow: WorkflowId,
    /// The older version's number; 0 is the newest.
    pub(super) from: i32,
    /// The newer version's number, 0 for the newest; none is the draft.
    pub(super) to: Option<i32>,
}

/// Both sides of a comparison.
#[derive(Debug)]
pub(super) struct Sides {
    pub(super) old: Definition,
    pub(super) new: Definition,
    /// The older version's number.
    pub(super) from: i32,
    /// The newer version's number; none is the draft.
    pub(super) to: Option<i32>,
}

/// Reads what is to be compared, in one snapshot.
pub(super) async fn sides(app: &App, caller: &Caller, asked: &Question) -> Result<Sides> {
    let access = enter(app, caller, asked.workflow).await?;
    let mut tx = TenantTx::begin(&app.pool, "workflows.diff", &access.claims).await?;
    let old = find_version(&mut tx, asked.workflow, asked.from).await?;
    let (new, to) = match asked.to {
        None => (read(&mut tx, asked.workflow).await?.draft, None),
        Some(number) => {
            let version = find_version(&mut tx, asked.workflow, number).await?;
            (version.definition, Some(version.summary.number))
        }
    };
    Ok(Sides {
        old: old.definition,
        new,
        from: old.summary.number,
        to,
    })
}
