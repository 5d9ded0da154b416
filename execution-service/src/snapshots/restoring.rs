//! Restoring snapshots, and keeping the drafts that something else is put over.

use service_kit::{
    audit::About,
    auth::Caller,
    db::TenantTx,
    error::{Error, Result},
    ids::{SnapshotId, UserId, WorkflowId},
    update,
};
use sqlx::PgConnection;

use super::{New, content_of, enter, read, store};
use crate::{
    App,
    engine::definition::Definition,
    requests,
    workflows::{self, Workflow},
};

/// How many replaced drafts of a workflow are kept; the oldest go.
const KEPT_DRAFTS: i64 = 10;

/// Where a snapshot is restored to.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// A new workflow of this name.
    New(String),
    /// The draft of the workflow that it was taken of, if that still has this etag.
    OverDraft(String),
}

/// What a snapshot was restored to.
#[derive(Debug)]
pub(super) struct Restored {
    pub(super) workflow: Workflow,
    /// What keeps the draft that was replaced.
    pub(super) kept: Option<SnapshotId>,
}

/// Makes a workflow of a snapshot, or puts it over the draft of its workflow.
pub(super) async fn restore(
    app: &App,
    caller: &Caller,
    id: SnapshotId,
    target: &Target,
    key: Option<&requests::Key>,
) -> Result<Restored> {
    let access = enter(app, caller, id).await?;
    let mut tx = TenantTx::begin(&app.pool, "snapshots.restore", &access.claims).await?;
    let snapshot = read(&mut tx, id).await?;
    let (workflow, kept) = match target {
        Target::New(name) => {
            let made = WorkflowId::generate();
            if let Some(first) = requests::claim(&mut tx, key, made).await? {
                (workflows::read(&mut tx, first).await?, None)
            } else {
                let new = workflows::New {
                    studio: snapshot.summary.studio,
                    name: name.clone(),
                    description: snapshot.content.description,
                    metadata: snapshot.content.metadata,
                    draft: snapshot.content.definition,
                };
                let workflow = workflows::insert(&mut tx, made, access.company, caller.user, &new).await?;
                (workflow, None)
            }
        }
        Target::OverDraft(etag) => {
            let Some(of) = snapshot.summary.workflow else {
                return Err(Error::FailedPrecondition {
                    reason: "SNAPSHOT_WITHOUT_WORKFLOW",
                    message: "the snapshot belongs to no workflow; restore it as a new one".into(),
                });
            };
            let workflow = workflows::lock(&mut tx, of).await?;
            if requests::claim(&mut tx, key, of).await?.is_some() {
                (workflow, None)
            } else {
                update::check_etag(etag, workflow.summary.revision)?;
                let reason = format!("the snapshot {}", snapshot.summary.name);
                let draft = &snapshot.content.definition;
                workflows::replace_draft(&mut tx, workflow, draft, caller.user, &reason).await?
            }
        }
    };
    app.audit
        .record(&mut tx, About::company(access.company, "snapshot", id))
        .await?;
    tx.commit().await?;
    Ok(Restored { workflow, kept })
}

/// Keeps the draft of a locked workflow as an automatic snapshot, before something else is put over it; `reason` says what.
/// `None` where the newest version says the same, or there is nothing to keep.
pub(crate) async fn keep_draft(
    tx: &mut PgConnection,
    workflow: &Workflow,
    by: UserId,
    reason: &str,
) -> Result<Option<SnapshotId>> {
    if !workflow.summary.has_unpublished_changes || workflow.draft == Definition::default() {
        return Ok(None);
    }
    let id = SnapshotId::generate();
    let new = New {
        id,
        company: workflow.summary.company,
        studio: workflow.summary.studio,
        workflow: Some(workflow.summary.id),
        version: None,
        name: "Replaced draft",
        description: &format!("The draft before {reason} was put over it."),
        keep_on_delete: false,
        automatic: true,
        content: &content_of(workflow),
        created_by: by,
    };
    store::insert(tx, &new).await?;
    store::forget_automatic(tx, workflow.summary.id, KEPT_DRAFTS).await?;
    Ok(Some(id))
}
