//! SQL of the snapshots.

use serde_json::{Map, Value};
use service_kit::{
    error::Result,
    ids::{CompanyId, SnapshotId, StudioId, UserId, WorkflowId},
    page::Page,
};
use sqlx::{PgConnection, types::Json};
use time::OffsetDateTime;

use super::{Changes, Content, Filter, New, Snapshot, Summary};
use crate::engine::definition::Definition;

struct Row {
    id: SnapshotId,
    company: CompanyId,
    studio: StudioId,
    workflow: Option<WorkflowId>,
    version: Option<i32>,
    name: String,
    description: String,
    keep_on_delete: bool,
    automatic: bool,
    workflow_name: String,
    workflow_description: String,
    metadata: Json<Map<String, Value>>,
    definition: Json<Definition>,
    created_by: Option<UserId>,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
    revision: i64,
}

impl From<Row> for Snapshot {
    fn from(row: Row) -> Self {
        let summary = Summary {
            id: row.id,
            company: row.company,
            studio: row.studio,
            workflow: row.workflow,
            version: row.version,
            name: row.name,
            description: row.description,
            keep_on_delete: row.keep_on_delete,
            automatic: row.automatic,
            created_by: row.created_by,
            created_at: row.created_at,
            updated_at: row.updated_at,
            revision: row.revision,
        };
        let content = Content {
            name: row.workflow_name,
            description: row.workflow_description,
            metadata: row.metadata.0,
            definition: row.definition.0,
        };
        Self { summary, content }
    }
}

/// The studio of a snapshot, before the caller's place there is known.
pub(super) async fn locate(connection: &mut PgConnection, id: SnapshotId) -> sqlx::Result<Option<StudioId>> {
    let studio = sqlx::query_scalar!(
        r#"select studio_id as "studio_id!: StudioId" from execution.locate_snapshot($1)"#,
        id.as_uuid(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(studio)
}

/// How many snapshots the caller has made.
pub(super) async fn count(tx: &mut PgConnection) -> Result<i32> {
    let used = sqlx::query_scalar!(
        "select used from execution.snapshot_counts where user_id = (select execution.caller_id())"
    )
    .fetch_optional(tx)
    .await?;
    Ok(used.unwrap_or_default())
}

/// The same, and he makes none elsewhere until the transaction ends.
pub(super) async fn lock_count(tx: &mut PgConnection) -> Result<i32> {
    let used = sqlx::query_scalar!(r#"select execution.lock_snapshot_count() as "used!""#)
        .fetch_one(tx)
        .await?;
    Ok(used)
}

pub(super) async fn insert(tx: &mut PgConnection, new: &New<'_>) -> Result<Summary> {
    let summary = sqlx::query_as!(
        Summary,
        r#"insert into execution.snapshots (id, company_id, studio_id, workflow_id, version, name, description, keep_on_delete,
               automatic, workflow_name, workflow_description, metadata, definition, created_by)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
           returning id as "id: SnapshotId", company_id as "company: CompanyId", studio_id as "studio: StudioId",
               workflow_id as "workflow: WorkflowId", version, name, description, keep_on_delete, automatic,
               created_by as "created_by: UserId", created_at, updated_at, revision"#,
        new.id.as_uuid(),
        new.company.as_uuid(),
        new.studio.as_uuid(),
        new.workflow.map(WorkflowId::as_uuid),
        new.version,
        new.name,
        new.description,
        new.keep_on_delete,
        new.automatic,
        new.content.name,
        new.content.description,
        Json(&new.content.metadata) as _,
        Json(&new.content.definition) as _,
        new.created_by.as_uuid(),
    )
    .fetch_one(tx)
    .await?;
    Ok(summary)
}

pub(super) async fn get(tx: &mut PgConnection, id: SnapshotId) -> Result<Option<Snapshot>> {
    let row = sqlx::query_as!(
        Row,
        r#"select id as "id: SnapshotId", company_id as "company: CompanyId", studio_id as "studio: StudioId",
               workflow_id as "workflow: WorkflowId", version, name, description, keep_on_delete, automatic, workflow_name,
               workflow_description, metadata as "metadata: Json<Map<String, Value>>",
               definition as "definition: Json<Definition>", created_by as "created_by: UserId", created_at, updated_at,
               revision
           from execution.snapshots where id = $1"#,
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(Snapshot::from))
}

/// Reads a snapshot that nobody else changes until the transaction ends.
pub(super) async fn lock(tx: &mut PgConnection, id: SnapshotId) -> Result<Option<Snapshot>> {
    let row = sqlx::query_as!(
        Row,
        r#"select id as "id: SnapshotId", company_id as "company: CompanyId", studio_id as "studio: StudioId",
               workflow_id as "workflow: WorkflowId", version, name, description, keep_on_delete, automatic, workflow_name,
               workflow_description, metadata as "metadata: Json<Map<String, Value>>",
               definition as "definition: Json<Definition>", created_by as "created_by: UserId", created_at, updated_at,
               revision
           from execution.snapshots where id = $1 for update"#,
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(Snapshot::from))
}

pub(super) async fn list(
    tx: &mut PgConnection,
    filter: &Filter,
    made_by: Option<UserId>,
    page: &Page<SnapshotId>,
) -> Result<Vec<Summary>> {
    let snapshots = sqlx::query_as!(
        Summary,
        r#"select id as "id: SnapshotId", company_id as "company: CompanyId", studio_id as "studio: StudioId",
               workflow_id as "workflow: WorkflowId", version, name, description, keep_on_delete, automatic,
               created_by as "created_by: UserId", created_at, updated_at, revision
           from execution.snapshots
           where company_id = (select execution.caller_company()) and studio_id = (select execution.caller_studio())
               and ($1::uuid is null or workflow_id = $1)
               and ($2::uuid is null or created_by = $2)
               and ($3 or not automatic)
               and ($4::uuid is null or id < $4)
           order by id desc
           limit $5"#,
        filter.workflow.map(WorkflowId::as_uuid),
        made_by.map(UserId::as_uuid),
        filter.show_automatic,
        page.after.map(SnapshotId::as_uuid),
        page.limit(),
    )
    .fetch_all(tx)
    .await?;
    Ok(snapshots)
}

/// Changes a locked snapshot.
pub(super) async fn update(tx: &mut PgConnection, id: SnapshotId, changes: &Changes) -> Result<Summary> {
    let summary = sqlx::query_as!(
        Summary,
        r#"update execution.snapshots set
               name = coalesce($2, name),
               description = coalesce($3, description),
               keep_on_delete = coalesce($4, keep_on_delete)
           where id = $1
           returning id as "id: SnapshotId", company_id as "company: CompanyId", studio_id as "studio: StudioId",
               workflow_id as "workflow: WorkflowId", version, name, description, keep_on_delete, automatic,
               created_by as "created_by: UserId", created_at, updated_at, revision"#,
        id.as_uuid(),
        changes.name,
        changes.description,
        changes.keep_on_delete,
    )
    .fetch_one(tx)
    .await?;
    Ok(summary)
}

pub(super) async fn delete(tx: &mut PgConnection, id: SnapshotId) -> Result<()> {
    sqlx::query!("delete from execution.snapshots where id = $1", id.as_uuid())
        .execute(tx)
        .await?;
    Ok(())
}

/// Deletes all but the newest automatic snapshots of a locked workflow.
pub(super) async fn forget_automatic(tx: &mut PgConnection, workflow: WorkflowId, kept: i64) -> Result<()> {
    sqlx::query!(
        "delete from execution.snapshots where id in (
             select id from execution.snapshots
             where company_id = (select execution.caller_company()) and workflow_id = $1 and automatic
             order by id desc
             offset $2)",
        workflow.as_uuid(),
        kept,
    )
    .execute(tx)
    .await?;
    Ok(())
}
