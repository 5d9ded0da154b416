//! The version that a start is pinned to.
//!
//! Every start asks which version of its workflow is the newest and whether the workflow is still in use; that is asked
//! for many callers in one statement. What the version does never changes, and is read once.

use std::sync::Arc;

use service_kit::{
    db::TenantTx,
    error::{Error, Result},
    gather::{Bounds, Gatherer, Kind},
    ids::{StudioId, VersionId, WorkflowId},
    lifecycle::Lifecycle,
};
use sqlx::PgPool;

use super::{not_found, read, version_store};
use crate::{App, access::Access, engine::definition::Definition};

/// Asks for versions by workflow and number.
pub type Pins = Gatherer<(WorkflowId, i32), Pin>;

/// A version as an execution is pinned to it.
#[derive(Clone, Debug)]
pub struct Pinned {
    /// Its id.
    pub version: VersionId,
    /// The studio it belongs to.
    pub studio: StudioId,
    /// Its number.
    pub number: i32,
    /// What it does.
    pub definition: Arc<Definition>,
}

/// A workflow in use, and the version asked for.
#[derive(Debug)]
pub struct Pin {
    /// The workflow's studio.
    pub(super) studio: StudioId,
    /// The number of its newest version; 0 where there is none.
    pub(super) newest: i32,
    /// The version with its number, if there is such a one.
    pub(super) version: Option<(VersionId, i32)>,
}

/// Gathers what starts ask for.
pub fn gather_pins(pool: PgPool, lifecycle: Lifecycle) -> Pins {
    let kind = Kind {
        name: "workflows.pin",
        reads: true,
        statement: version_store::pins,
    };
    Gatherer::new(pool, lifecycle, kind, Bounds::default())
}

/// The version of a workflow to run, by its number; 0 is the newest.
///
/// # Errors
/// `NotFound` where there is no such workflow or version, `FailedPrecondition` where the workflow is deleted or has no version
/// at all.
pub async fn pin(app: &App, access: &Access, id: WorkflowId, number: i32) -> Result<Pinned> {
    let found = app.pins.call(&access.claims, (id, number)).await?;
    let Some(found) = found else {
        return Err(not_in_use(app, access, id).await);
    };
    let (version, number) = match found.version {
        Some(version) => version,
        None if found.newest == 0 => {
            return Err(Error::FailedPrecondition {
                reason: "NOT_PUBLISHED",
                message: "the workflow has no published version".into(),
            });
        }
        None => return Err(Error::not_found("version", format!("{id}/{number}"))),
    };
    Ok(Pinned {
        version,
        studio: found.studio,
        number,
        definition: definition(app, access, version).await?,
    })
}

/// Why a workflow that is not in use cannot be started.
async fn not_in_use(app: &App, access: &Access, id: WorkflowId) -> Error {
    let read = async {
        let mut tx = TenantTx::begin(&app.pool, "workflows.get", &access.claims).await?;
        read(&mut tx, id).await?.summary.require_in_use()
    };
    // One that was brought back since is as good as one that is not there yet.
    read.await.err().unwrap_or_else(|| not_found(id))
}

async fn definition(app: &App, access: &Access, version: VersionId) -> Result<Arc<Definition>> {
    if let Some(known) = app.engine.definition(version) {
        return Ok(known);
    }
    let mut tx = TenantTx::begin(&app.pool, "workflows.definition", &access.claims).await?;
    let read = version_store::get(&mut tx, version).await?;
    let read = read.ok_or_else(|| Error::not_found("version", version))?;
    Ok(Arc::new(read.definition))
}
