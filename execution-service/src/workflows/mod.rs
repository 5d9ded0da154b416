//! Workflows of a studio: a draft that is edited, and immutable versions that are run.
//!
//! A draft may be wrong or incomplete; publishing makes a version of it only when nothing is wrong ([`problems`]).
//! Every member who reaches the studio edits its workflows. Deletion is soft: a deleted workflow is still read, with its
//! versions and executions, but not changed, published or started, and comes back within 30 days if its name is free; then it
//! is erased ([`erasure`]). Deleting what is deleted, and bringing back what is in use, change nothing and succeed. A draft
//! that something else is put over is kept as a snapshot, unless a version says the same.

use serde_json::{Map, Value};
use service_kit::{
    audit::About,
    auth::Caller,
    db::{self, TenantTx},
    error::{Error, Result},
    ids::{CompanyId, SnapshotId, StudioId, TemplateVersionId, UserId, WorkflowId},
    update,
};
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::{
    App,
    access::{Access, hidden_as},
    engine::definition::Definition,
    requests, snapshots,
    templates::Mark,
};

mod api;
mod comparing;
pub(crate) mod convert;
pub(crate) mod diff;
pub mod erasure;
mod erasure_store;
mod list_store;
mod listing;
mod pins;
mod private_store;
pub mod problems;
mod publishing;
mod rolling_back;
mod store;
mod version_store;

pub use api::Api;
pub use pins::{Pinned, Pins, gather_pins, pin};
pub use publishing::{Version, VersionSummary};
pub(crate) use publishing::{create_published, find_version, problems_of};

/// A workflow without its draft.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Its id.
    pub id: WorkflowId,
    /// The company it belongs to.
    pub company: CompanyId,
    /// The studio it belongs to.
    pub studio: StudioId,
    /// The user who made it.
    pub owner: UserId,
    /// Unique among the studio's workflows in use.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// The client's own.
    pub metadata: Map<String, Value>,
    /// The number of the newest version; 0 while there is none.
    pub published_version: i32,
    /// Whether the draft differs from the newest version.
    pub has_unpublished_changes: bool,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it last changed.
    pub updated_at: OffsetDateTime,
    /// When it was deleted softly.
    pub deleted_at: Option<OffsetDateTime>,
    /// Grows with every update.
    pub revision: i64,
    /// The template that it runs, if it does.
    pub template: Option<Mark>,
}

impl Summary {
    fn require_in_use(&self) -> Result<()> {
        if self.deleted_at.is_none() {
            return Ok(());
        }
        Err(Error::FailedPrecondition {
            reason: "WORKFLOW_DELETED",
            message: "the workflow is deleted; bring it back first".into(),
        })
    }
}

impl Summary {
    /// Refuses changes of one that runs a template: what it does is that template's version.
    fn require_own(&self) -> Result<()> {
        if self.template.is_none() {
            return Ok(());
        }
        Err(Error::FailedPrecondition {
            reason: "WORKFLOW_RUNS_TEMPLATE",
            message: "the workflow runs a template and does not change; copy the template to edit it".into(),
        })
    }
}

/// A workflow with its draft.
#[derive(Clone, Debug)]
pub struct Workflow {
    /// All but the draft.
    pub summary: Summary,
    /// What it will do once it is published.
    pub draft: Definition,
}

/// A new workflow.
#[derive(Clone, Debug)]
pub struct New {
    /// The studio it will belong to.
    pub studio: StudioId,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// The client's own.
    pub metadata: Map<String, Value>,
    /// Its first draft.
    pub draft: Definition,
}

/// A workflow that runs a version of a template.
#[derive(Debug)]
pub(crate) struct Instance<'a> {
    /// The company whose studio it is.
    pub company: CompanyId,
    /// The studio.
    pub studio: StudioId,
    /// Who runs it first.
    pub owner: UserId,
    /// The template, and the version in words.
    pub mark: &'a Mark,
    /// The version.
    pub version: TemplateVersionId,
    /// The model that takes the place of those it names; empty where they stay.
    pub model: &'a str,
    /// The template's name.
    pub name: &'a str,
    /// What the template is for.
    pub description: &'a str,
    /// What it does.
    pub definition: &'a Definition,
}

/// What an update changes; `None` stays as it is.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// The new name.
    pub name: Option<String>,
    /// The new description.
    pub description: Option<String>,
    /// The client's own, anew.
    pub metadata: Option<Map<String, Value>>,
    /// The new draft.
    pub draft: Option<Definition>,
}

impl Changes {
    fn differ_from(&self, workflow: &Workflow) -> bool {
        fn differs<T: PartialEq>(change: Option<&T>, current: &T) -> bool {
            change.is_some_and(|it| it != current)
        }
        differs(self.name.as_ref(), &workflow.summary.name)
            || differs(self.description.as_ref(), &workflow.summary.description)
            || differs(self.metadata.as_ref(), &workflow.summary.metadata)
            || differs(self.draft.as_ref(), &workflow.draft)
    }
}

/// Makes a workflow with its first draft.
pub async fn create(app: &App, caller: &Caller, new: &New, key: Option<&requests::Key>) -> Result<Workflow> {
    let access = app.core.check_studio(caller.user, new.studio).await?;
    let id = WorkflowId::generate();
    let mut tx = TenantTx::begin(&app.pool, "workflows.create", &access.claims).await?;
    if let Some(first) = requests::claim(&mut tx, key, id).await? {
        return read(&mut tx, first).await;
    }
    let workflow = store::insert(&mut tx, id, access.company, caller.user, new).await?;
    app.audit
        .record(&mut tx, About::company(access.company, "workflow", id))
        .await?;
    tx.commit().await?;
    Ok(workflow)
}

/// Reads a workflow with its draft, also a deleted one.
pub async fn get(app: &App, caller: &Caller, id: WorkflowId) -> Result<Workflow> {
    let access = enter(app, caller, id).await?;
    let mut tx = TenantTx::begin(&app.pool, "workflows.get", &access.claims).await?;
    read(&mut tx, id).await
}

/// Changes a workflow that is in use; what stays the same makes no new revision.
pub async fn change(app: &App, caller: &Caller, id: WorkflowId, etag: &str, changes: &Changes) -> Result<Workflow> {
    let access = enter(app, caller, id).await?;
    let mut tx = TenantTx::begin(&app.pool, "workflows.change", &access.claims).await?;
    let found = lock(&mut tx, id).await?;
    update::check_etag(etag, found.summary.revision)?;
    found.summary.require_in_use()?;
    found.summary.require_own()?;
    if !changes.differ_from(&found) {
        return Ok(found);
    }
    let workflow = store::update(&mut tx, id, changes).await?;
    app.audit
        .record(&mut tx, About::company(access.company, "workflow", id))
        .await?;
    tx.commit().await?;
    Ok(workflow)
}

/// Deletes a workflow softly, for admins and its owner.
pub async fn delete(app: &App, caller: &Caller, id: WorkflowId, etag: &str) -> Result<Workflow> {
    let access = enter(app, caller, id).await?;
    let mut tx = TenantTx::begin(&app.pool, "workflows.delete", &access.claims).await?;
    let found = lock(&mut tx, id).await?;
    access.require_admin_unless(found.summary.owner == caller.user)?;
    update::check_etag(etag, found.summary.revision)?;
    if found.summary.deleted_at.is_some() {
        return Ok(found);
    }
    let workflow = store::delete(&mut tx, id).await?;
    app.audit
        .record(&mut tx, About::company(access.company, "workflow", id))
        .await?;
    tx.commit().await?;
    Ok(workflow)
}

/// Brings a softly deleted workflow back, for admins and its owner.
pub async fn undelete(app: &App, caller: &Caller, id: WorkflowId) -> Result<Workflow> {
    let access = enter(app, caller, id).await?;
    let mut tx = TenantTx::begin(&app.pool, "workflows.undelete", &access.claims).await?;
    let found = lock(&mut tx, id).await?;
    access.require_admin_unless(found.summary.owner == caller.user)?;
    if found.summary.deleted_at.is_none() {
        return Ok(found);
    }
    let Some(workflow) = store::undelete(&mut tx, id).await? else {
        return Err(Error::FailedPrecondition {
            reason: "WORKFLOW_RETENTION_OVER",
            message: "the workflow was deleted more than 30 days ago".into(),
        });
    };
    app.audit
        .record(&mut tx, About::company(access.company, "workflow", id))
        .await?;
    tx.commit().await?;
    Ok(workflow)
}

/// What the caller may do where a workflow is; NOT_FOUND of the workflow where he may not see that place.
pub async fn enter(app: &App, caller: &Caller, id: WorkflowId) -> Result<Access> {
    let look_up = db::with(&app.pool, async |connection| store::locate(connection, id).await);
    let studio = app.places.workflows.find(id, look_up).await?;
    let studio = studio.ok_or_else(|| not_found(id))?;
    app.core
        .check_studio(caller.user, studio)
        .await
        .map_err(hidden_as("workflow", id))
}

/// A workflow of the transaction's studio.
pub(crate) async fn read(tx: &mut PgConnection, id: WorkflowId) -> Result<Workflow> {
    store::get(tx, id).await?.ok_or_else(|| not_found(id))
}

/// The workflow that runs a version of a template in the transaction's studio, made where there is none; of all who come at once
/// one makes it.
pub(crate) async fn instance(tx: &mut PgConnection, new: &Instance<'_>) -> Result<WorkflowId> {
    if let Some(made) = store::insert_instance(tx, new).await? {
        version_store::insert_first(tx, made, new).await?;
        return Ok(made);
    }
    let found = find_instance(tx, new.studio, new.version, new.model).await?;
    found.ok_or_else(|| Error::Aborted {
        reason: "CONFLICT",
        message: "the workflow that runs the template was deleted; try again".into(),
    })
}

/// The workflow in use that runs a version of a template in the transaction's studio.
pub(crate) async fn find_instance(
    tx: &mut PgConnection,
    studio: StudioId,
    version: TemplateVersionId,
    model: &str,
) -> Result<Option<WorkflowId>> {
    store::find_instance(tx, studio, version, model).await
}

/// Makes the private workflow of something of a user's that has this id, without a version.
pub(crate) async fn insert_private(
    tx: &mut PgConnection,
    id: WorkflowId,
    company: CompanyId,
    studio: StudioId,
    owner: UserId,
) -> Result<()> {
    private_store::insert(tx, id, company, studio, owner).await
}

/// The number of the version of a private workflow that does this, made where there is none; what it belongs to is locked.
pub(crate) async fn private_version(
    tx: &mut PgConnection,
    id: WorkflowId,
    definition: &Definition,
    by: UserId,
) -> Result<i32> {
    private_store::version(tx, id, definition, by).await
}

/// Gives a private workflow up: it is erased with all that it ran, beginning at once.
pub(crate) async fn give_up_private(tx: &mut PgConnection, id: WorkflowId) -> Result<()> {
    private_store::give_up(tx, id).await
}

/// The workflow as it is and, held until the end of the transaction, stays.
pub(crate) async fn lock(tx: &mut PgConnection, id: WorkflowId) -> Result<Workflow> {
    store::lock(tx, id).await?.ok_or_else(|| not_found(id))
}

/// Makes a workflow in the transaction's studio.
pub(crate) async fn insert(
    tx: &mut PgConnection,
    id: WorkflowId,
    company: CompanyId,
    owner: UserId,
    new: &New,
) -> Result<Workflow> {
    store::insert(tx, id, company, owner, new).await
}

/// Puts another draft over a locked workflow's. The one before is kept as an automatic snapshot, which is returned, unless the
/// newest version says the same.
pub(crate) async fn replace_draft(
    tx: &mut PgConnection,
    found: Workflow,
    draft: &Definition,
    by: UserId,
    reason: &str,
) -> Result<(Workflow, Option<SnapshotId>)> {
    found.summary.require_in_use()?;
    found.summary.require_own()?;
    if found.draft == *draft {
        return Ok((found, None));
    }
    let kept = snapshots::keep_draft(tx, &found, by, reason).await?;
    let changes = Changes {
        draft: Some(draft.clone()),
        ..Changes::default()
    };
    let workflow = store::update(tx, found.summary.id, &changes).await?;
    Ok((workflow, kept))
}

fn not_found(id: WorkflowId) -> Error {
    Error::not_found("workflow", id)
}
