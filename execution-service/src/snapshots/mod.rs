//! Snapshots: a workflow with its stages as somebody kept it, to be compared, restored, and carried elsewhere as a file.
//!
//! What a snapshot holds never changes. It belongs to the studio: whoever reaches that reads and restores it; who made it, and
//! admins, change and delete it. A user may have so many in all his companies together; the row that counts them is locked
//! from looking whether there is room until the snapshot is made, so that none slips in between. A snapshot outlives its
//! workflow if it is to be kept, and its maker's account always: it stays with the company and names nobody then.

use serde::Serialize;
use serde_json::{Map, Value};
use service_kit::{
    audit::About,
    auth::Caller,
    db::{self, TenantTx},
    error::{Error, Result, Violation},
    ids::{CompanyId, SnapshotId, StudioId, UserId, WorkflowId},
    page::Page,
    update,
};
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::{
    App,
    access::{Access, hidden_as},
    engine::definition::Definition,
    requests, workflows,
};

mod api;
mod convert;
mod file;
mod restoring;
mod store;

pub use api::Api;
pub(crate) use restoring::keep_draft;

/// A workflow in a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    /// The workflow's name then.
    pub name: String,
    /// What it was for.
    pub description: String,
    /// The client's own.
    pub metadata: Map<String, Value>,
    /// What it did.
    pub definition: Definition,
}

/// A snapshot without what it holds.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Its id.
    pub id: SnapshotId,
    /// The company it belongs to.
    pub company: CompanyId,
    /// The studio it belongs to.
    pub studio: StudioId,
    /// The workflow it was taken of, as long as that is there.
    pub workflow: Option<WorkflowId>,
    /// The number of the version it was taken of; none is the draft.
    pub version: Option<i32>,
    /// For people.
    pub name: String,
    /// For people.
    pub description: String,
    /// Whether it stays when its workflow is erased.
    pub keep_on_delete: bool,
    /// Whether it keeps a draft that something else was put over; such a one counts for nobody.
    pub automatic: bool,
    /// Who made it, as long as he has an account.
    pub created_by: Option<UserId>,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it last changed.
    pub updated_at: OffsetDateTime,
    /// Grows with every update.
    pub revision: i64,
}

/// A snapshot.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// All but what it holds.
    pub summary: Summary,
    /// What it holds.
    pub content: Content,
}

/// A snapshot to be taken.
#[derive(Clone, Debug)]
struct Wish {
    workflow: WorkflowId,
    /// The version's number; 0 is the draft.
    version: i32,
    name: String,
    description: String,
    keep_on_delete: bool,
}

/// A snapshot to be stored.
struct New<'a> {
    id: SnapshotId,
    company: CompanyId,
    studio: StudioId,
    workflow: Option<WorkflowId>,
    version: Option<i32>,
    name: &'a str,
    description: &'a str,
    keep_on_delete: bool,
    automatic: bool,
    content: &'a Content,
    created_by: UserId,
}

/// What an update changes; `None` stays as it is.
#[derive(Clone, Debug, Default)]
struct Changes {
    name: Option<String>,
    description: Option<String>,
    keep_on_delete: Option<bool>,
}

impl Changes {
    fn differ_from(&self, snapshot: &Summary) -> bool {
        let is_other = |change: &Option<String>, current: &String| change.as_ref().is_some_and(|it| it != current);
        is_other(&self.name, &snapshot.name)
            || is_other(&self.description, &snapshot.description)
            || self.keep_on_delete.is_some_and(|it| it != snapshot.keep_on_delete)
    }
}

/// Which snapshots to list.
#[derive(Clone, Debug, Serialize)]
struct Filter {
    /// The studio; the workflow's where none is given.
    studio: Option<StudioId>,
    workflow: Option<WorkflowId>,
    /// Only the caller's.
    own: bool,
    show_automatic: bool,
}

/// A part of a list, and the caller's room.
struct Listed {
    snapshots: Vec<Summary>,
    used: i32,
    allowed: i32,
}

/// What is compared with a snapshot.
#[derive(Clone, Copy, Debug)]
enum Other {
    Snapshot(SnapshotId),
    DraftOf(WorkflowId),
}

/// Takes a snapshot of a workflow's draft or of one of its versions.
async fn create(app: &App, caller: &Caller, wish: &Wish, key: Option<&requests::Key>) -> Result<Snapshot> {
    let access = workflows::enter(app, caller, wish.workflow).await?;
    let id = SnapshotId::generate();
    let mut tx = TenantTx::begin(&app.pool, "snapshots.create", &access.claims).await?;
    if let Some(first) = requests::claim(&mut tx, key, id).await? {
        return read(&mut tx, first).await;
    }
    let workflow = workflows::read(&mut tx, wish.workflow).await?;
    let mut content = content_of(&workflow);
    if wish.version > 0 {
        let version = workflows::find_version(&mut tx, wish.workflow, wish.version).await?;
        content.name = version.summary.name;
        content.definition = version.definition;
    }
    require_room(&mut tx, &access).await?;
    let new = New {
        id,
        company: workflow.summary.company,
        studio: workflow.summary.studio,
        workflow: Some(wish.workflow),
        version: Some(wish.version).filter(|it| *it > 0),
        name: &wish.name,
        description: &wish.description,
        keep_on_delete: wish.keep_on_delete,
        automatic: false,
        content: &content,
        created_by: caller.user,
    };
    let summary = store::insert(&mut tx, &new).await?;
    app.audit
        .record(&mut tx, About::company(access.company, "snapshot", id))
        .await?;
    tx.commit().await?;
    Ok(Snapshot { summary, content })
}

/// Makes a snapshot of what a file holds, and says what would keep it from being published here.
async fn import(
    app: &App,
    caller: &Caller,
    studio: StudioId,
    file: &file::File,
    key: Option<&requests::Key>,
) -> Result<(Snapshot, Vec<Violation>)> {
    const DEFINITION: &str = "content.workflow.definition";
    let access = app.core.check_studio(caller.user, studio).await?;
    let id = SnapshotId::generate();
    let mut tx = TenantTx::begin(&app.pool, "snapshots.import", &access.claims).await?;
    let warnings = workflows::problems_of(&mut tx, &file.content.definition, DEFINITION).await?;
    if let Some(first) = requests::claim(&mut tx, key, id).await? {
        return Ok((read(&mut tx, first).await?, warnings));
    }
    require_room(&mut tx, &access).await?;
    let new = New {
        id,
        company: access.company,
        studio,
        workflow: None,
        version: None,
        name: &file.name,
        description: &file.description,
        keep_on_delete: false,
        automatic: false,
        content: &file.content,
        created_by: caller.user,
    };
    let summary = store::insert(&mut tx, &new).await?;
    app.audit
        .record(&mut tx, About::company(access.company, "snapshot", id))
        .await?;
    tx.commit().await?;
    let content = file.content.clone();
    Ok((Snapshot { summary, content }, warnings))
}

/// Reads a snapshot.
async fn get(app: &App, caller: &Caller, id: SnapshotId) -> Result<Snapshot> {
    let access = enter(app, caller, id).await?;
    let mut tx = TenantTx::begin(&app.pool, "snapshots.get", &access.claims).await?;
    read(&mut tx, id).await
}

/// Lists the snapshots of a studio or workflow, newest first.
async fn list(app: &App, caller: &Caller, filter: &Filter, page: &Page<SnapshotId>) -> Result<Listed> {
    let access = match (filter.studio, filter.workflow) {
        (Some(studio), _) => app.core.check_studio(caller.user, studio).await?,
        (None, Some(workflow)) => workflows::enter(app, caller, workflow).await?,
        (None, None) => return Err(Error::invalid("studio_id", "must be given where no workflow_id is")),
    };
    let mut tx = TenantTx::begin(&app.pool, "snapshots.list", &access.claims).await?;
    let made_by = filter.own.then_some(caller.user);
    Ok(Listed {
        snapshots: store::list(&mut tx, filter, made_by, page).await?,
        used: store::count(&mut tx).await?,
        allowed: access.max_snapshots,
    })
}

/// Changes a snapshot, for admins and who made it; what stays the same makes no new revision.
async fn change(app: &App, caller: &Caller, id: SnapshotId, etag: &str, changes: &Changes) -> Result<Snapshot> {
    let access = enter(app, caller, id).await?;
    let mut tx = TenantTx::begin(&app.pool, "snapshots.change", &access.claims).await?;
    let found = lock_own(&mut tx, caller, &access, id, etag).await?;
    if !changes.differ_from(&found.summary) {
        return Ok(found);
    }
    let summary = store::update(&mut tx, id, changes).await?;
    app.audit
        .record(&mut tx, About::company(access.company, "snapshot", id))
        .await?;
    tx.commit().await?;
    Ok(Snapshot {
        summary,
        content: found.content,
    })
}

/// Deletes a snapshot for good, for admins and who made it.
async fn delete(app: &App, caller: &Caller, id: SnapshotId, etag: &str) -> Result<()> {
    let access = enter(app, caller, id).await?;
    let mut tx = TenantTx::begin(&app.pool, "snapshots.delete", &access.claims).await?;
    lock_own(&mut tx, caller, &access, id, etag).await?;
    store::delete(&mut tx, id).await?;
    app.audit
        .record(&mut tx, About::company(access.company, "snapshot", id))
        .await?;
    tx.commit().await
}

/// Reads a snapshot and what is to be compared with it, each as the caller reaches it.
async fn sides(app: &App, caller: &Caller, from: SnapshotId, to: Other) -> Result<(Content, Content)> {
    let old = get(app, caller, from).await?.content;
    let new = match to {
        Other::Snapshot(id) => get(app, caller, id).await?.content,
        Other::DraftOf(workflow) => content_of(&workflows::get(app, caller, workflow).await?),
    };
    Ok((old, new))
}

/// What the caller may do where a snapshot is; NOT_FOUND of the snapshot where he may not see that place.
async fn enter(app: &App, caller: &Caller, id: SnapshotId) -> Result<Access> {
    let studio = db::with(&app.pool, async |connection| store::locate(connection, id).await).await?;
    let studio = studio.ok_or_else(|| not_found(id))?;
    app.core
        .check_studio(caller.user, studio)
        .await
        .map_err(hidden_as("snapshot", id))
}

async fn read(tx: &mut PgConnection, id: SnapshotId) -> Result<Snapshot> {
    store::get(tx, id).await?.ok_or_else(|| not_found(id))
}

/// The snapshot, which nobody else changes until the transaction ends and the caller may change.
async fn lock_own(
    tx: &mut PgConnection,
    caller: &Caller,
    access: &Access,
    id: SnapshotId,
    etag: &str,
) -> Result<Snapshot> {
    let found = store::lock(tx, id).await?.ok_or_else(|| not_found(id))?;
    access.require_admin_unless(found.summary.created_by == Some(caller.user))?;
    update::check_etag(etag, found.summary.revision)?;
    Ok(found)
}

/// Refuses where the caller has as many snapshots as he may. Until the transaction ends nobody makes one for him elsewhere.
async fn require_room(tx: &mut PgConnection, access: &Access) -> Result<()> {
    let used = store::lock_count(tx).await?;
    let allowed = access.max_snapshots;
    if used < allowed {
        return Ok(());
    }
    Err(Error::ResourceExhausted {
        reason: "SNAPSHOT_QUOTA_EXCEEDED",
        message: format!("0 of the user's {allowed} snapshots are left ({used} are used); delete one first"),
        retry_after: None,
    })
}

/// A workflow's draft as a snapshot holds it.
fn content_of(workflow: &workflows::Workflow) -> Content {
    Content {
        name: workflow.summary.name.clone(),
        description: workflow.summary.description.clone(),
        metadata: workflow.summary.metadata.clone(),
        definition: workflow.draft.clone(),
    }
}

fn not_found(id: SnapshotId) -> Error {
    Error::not_found("snapshot", id)
}
