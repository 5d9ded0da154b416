//! Going back to an older version: as a new version that does the same, or in the draft alone.
//!
//! Versions never change, so nothing is lost by it: the numbers go on, and each version made so says of which older one. A
//! draft in progress is nobody's to throw away: publishing leaves it, and where it is replaced it is kept as a snapshot.

use service_kit::{
    audit::About,
    auth::Caller,
    db::TenantTx,
    error::Result,
    ids::{SnapshotId, VersionId, WorkflowId},
    update,
};

use super::{
    Version, Workflow, enter, find_version, lock,
    publishing::{NewVersion, check},
    read, replace_draft, store, version_store,
};
use crate::{App, requests};

/// What to go back to.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) workflow: WorkflowId,
    /// The version's number.
    pub(super) number: i32,
    /// Publish nothing.
    pub(super) draft_only: bool,
    pub(super) etag: String,
}

/// What was gone back to.
#[derive(Debug)]
pub(super) struct Done {
    /// The workflow as it is now.
    pub(super) workflow: Workflow,
    /// The version that is the newest now, where one was asked for.
    pub(super) version: Option<Version>,
    /// What keeps the draft that was replaced.
    pub(super) kept: Option<SnapshotId>,
}

/// Goes back to an older version.
pub(super) async fn roll_back(app: &App, caller: &Caller, wish: &Wish, key: Option<&requests::Key>) -> Result<Done> {
    let access = enter(app, caller, wish.workflow).await?;
    let mut tx = TenantTx::begin(&app.pool, "workflows.roll_back", &access.claims).await?;
    let workflow = lock(&mut tx, wish.workflow).await?;
    let done = if wish.draft_only {
        into_draft(&mut tx, caller, workflow, wish, key).await?
    } else {
        publish(&mut tx, caller, workflow, wish, key).await?
    };
    app.audit
        .record(
            &mut tx,
            About::company(access.company, "workflow", wish.workflow).with("version", wish.number),
        )
        .await?;
    tx.commit().await?;
    Ok(done)
}

async fn into_draft(
    tx: &mut TenantTx,
    caller: &Caller,
    workflow: Workflow,
    wish: &Wish,
    key: Option<&requests::Key>,
) -> Result<Done> {
    let (mut now, mut kept) = (workflow, None);
    if requests::claim(tx, key, wish.workflow).await?.is_none() {
        update::check_etag(&wish.etag, now.summary.revision)?;
        let older = find_version(tx, wish.workflow, wish.number).await?;
        let reason = format!("version {}", wish.number);
        (now, kept) = replace_draft(tx, now, &older.definition, caller.user, &reason).await?;
    }
    Ok(Done {
        workflow: now,
        version: None,
        kept,
    })
}

async fn publish(
    tx: &mut TenantTx,
    caller: &Caller,
    workflow: Workflow,
    wish: &Wish,
    key: Option<&requests::Key>,
) -> Result<Done> {
    let older = find_version(tx, wish.workflow, wish.number).await?;
    let newest = find_version(tx, wish.workflow, 0).await?;
    let is_newest = newest.definition == older.definition;
    let id = if is_newest {
        newest.summary.id
    } else {
        VersionId::generate()
    };
    let (now, version) = if let Some(first) = requests::claim(tx, key, id).await? {
        let version = version_store::get(tx, first).await?;
        (read(tx, wish.workflow).await?, version)
    } else {
        update::check_etag(&wish.etag, workflow.summary.revision)?;
        workflow.summary.require_in_use()?;
        workflow.summary.require_own()?;
        if is_newest {
            (workflow, Some(newest))
        } else {
            check(tx, &older.definition, "definition", Some(wish.workflow)).await??;
            let new = NewVersion {
                id,
                number: workflow.summary.published_version + 1,
                definition: &older.definition,
                rolled_back_from: Some(older.summary.number),
            };
            let version = version_store::insert(tx, &workflow.summary, &new, caller.user).await?;
            let now = store::set_rolled_back(tx, wish.workflow, new.number, new.definition).await?;
            (now, Some(version))
        }
    };
    Ok(Done {
        workflow: now,
        version,
        kept: None,
    })
}
