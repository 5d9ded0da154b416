//! SQL of the workflows.

use serde_json::{Map, Value};
use service_kit::{
    error::{Error, Result, constraint},
    ids::{CompanyId, StudioId, TemplateId, TemplateVersionId, UserId, WorkflowId},
};
use sqlx::{PgConnection, types::Json};
use time::OffsetDateTime;

use super::{Changes, Instance, New, Summary, Workflow};
use crate::{engine::definition::Definition, templates::Mark};

/// A row without the draft.
pub(super) struct SummaryRow {
    pub(super) id: WorkflowId,
    pub(super) company_id: CompanyId,
    pub(super) studio_id: StudioId,
    pub(super) owner_id: UserId,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) metadata: Json<Map<String, Value>>,
    pub(super) published_version: i32,
    pub(super) has_unpublished_changes: bool,
    pub(super) created_at: OffsetDateTime,
    pub(super) updated_at: OffsetDateTime,
    pub(super) deleted_at: Option<OffsetDateTime>,
    pub(super) revision: i64,
    pub(super) template_id: Option<TemplateId>,
    pub(super) template_version: Option<String>,
}

impl From<SummaryRow> for Summary {
    fn from(row: SummaryRow) -> Self {
        Self {
            id: row.id,
            company: row.company_id,
            studio: row.studio_id,
            owner: row.owner_id,
            name: row.name,
            description: row.description,
            metadata: row.metadata.0,
            published_version: row.published_version,
            has_unpublished_changes: row.has_unpublished_changes,
            created_at: row.created_at,
            updated_at: row.updated_at,
            deleted_at: row.deleted_at,
            revision: row.revision,
            template: row
                .template_id
                .zip(row.template_version)
                .map(|(template, version)| Mark { template, version }),
        }
    }
}

struct Row {
    id: WorkflowId,
    company_id: CompanyId,
    studio_id: StudioId,
    owner_id: UserId,
    name: String,
    description: String,
    metadata: Json<Map<String, Value>>,
    draft: Json<Definition>,
    published_version: i32,
    has_unpublished_changes: bool,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
    deleted_at: Option<OffsetDateTime>,
    revision: i64,
    template_id: Option<TemplateId>,
    template_version: Option<String>,
}

impl From<Row> for Workflow {
    fn from(row: Row) -> Self {
        let summary = SummaryRow {
            id: row.id,
            company_id: row.company_id,
            studio_id: row.studio_id,
            owner_id: row.owner_id,
            name: row.name,
            description: row.description,
            metadata: row.metadata,
            published_version: row.published_version,
            has_unpublished_changes: row.has_unpublished_changes,
            created_at: row.created_at,
            updated_at: row.updated_at,
            deleted_at: row.deleted_at,
            revision: row.revision,
            template_id: row.template_id,
            template_version: row.template_version,
        };
        Self {
            summary: summary.into(),
            draft: row.draft.0,
        }
    }
}

/// The studio of a workflow, before the caller's place there is known. A private one is reached by what it belongs to alone.
pub(super) async fn locate(connection: &mut PgConnection, id: WorkflowId) -> sqlx::Result<Option<StudioId>> {
    let studio = sqlx::query_scalar!(
        r#"select studio_id as "studio_id!: StudioId" from execution.locate_workflow($1)
           where not execution.is_private($1)"#,
        id.as_uuid(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(studio)
}

pub(super) async fn insert(
    tx: &mut PgConnection,
    id: WorkflowId,
    company: CompanyId,
    owner: UserId,
    new: &New,
) -> Result<Workflow> {
    let row = sqlx::query_as!(
        Row,
        r#"insert into execution.workflows (id, company_id, studio_id, owner_id, name, description, metadata, draft)
           values ($1, $2, $3, $4, $5, $6, $7, $8)
           returning id as "id: WorkflowId", company_id as "company_id: CompanyId", studio_id as "studio_id: StudioId",
               owner_id as "owner_id: UserId", name, description, metadata as "metadata: Json<Map<String, Value>>",
               draft as "draft: Json<Definition>", published_version, has_unpublished_changes, created_at, updated_at,
               deleted_at, revision,
               template_id as "template_id: TemplateId", template_version"#,
        id.as_uuid(),
        company.as_uuid(),
        new.studio.as_uuid(),
        owner.as_uuid(),
        new.name,
        new.description,
        Json(&new.metadata) as _,
        Json(&new.draft) as _,
    )
    .fetch_one(tx)
    .await
    .map_err(name_taken)?;
    Ok(row.into())
}

/// Makes the workflow that runs a version of a template, published from the start; `None` where there is one, or somebody makes it
/// just now and has done so when this answers.
pub(super) async fn insert_instance(tx: &mut PgConnection, new: &Instance<'_>) -> Result<Option<WorkflowId>> {
    let made = sqlx::query_scalar!(
        r#"insert into execution.workflows (id, company_id, studio_id, owner_id, name, description, draft, published_version,
               has_unpublished_changes, template_id, template_version_id, template_version, template_model)
           values ($1, $2, $3, $4, $5, $6, $7, 1, false, $8, $9, $10, $11)
           on conflict (company_id, studio_id, template_version_id, template_model)
               where deleted_at is null and template_id is not null do nothing
           returning id as "id: WorkflowId""#,
        WorkflowId::generate().as_uuid(),
        new.company.as_uuid(),
        new.studio.as_uuid(),
        new.owner.as_uuid(),
        new.name,
        new.description,
        Json(new.definition) as _,
        new.mark.template.as_uuid(),
        new.version.as_uuid(),
        new.mark.version,
        new.model,
    )
    .fetch_optional(tx)
    .await?;
    Ok(made)
}

pub(super) async fn find_instance(
    tx: &mut PgConnection,
    studio: StudioId,
    version: TemplateVersionId,
    model: &str,
) -> Result<Option<WorkflowId>> {
    let found = sqlx::query_scalar!(
        r#"select id as "id: WorkflowId" from execution.workflows
           where company_id = (select execution.caller_company()) and studio_id = $1 and template_version_id = $2
               and template_model = $3 and template_id is not null and deleted_at is null"#,
        studio.as_uuid(),
        version.as_uuid(),
        model,
    )
    .fetch_optional(tx)
    .await?;
    Ok(found)
}

pub(super) async fn get(tx: &mut PgConnection, id: WorkflowId) -> Result<Option<Workflow>> {
    let row = sqlx::query_as!(
        Row,
        r#"select id as "id: WorkflowId", company_id as "company_id: CompanyId", studio_id as "studio_id: StudioId",
               owner_id as "owner_id: UserId", name, description, metadata as "metadata: Json<Map<String, Value>>",
               draft as "draft: Json<Definition>", published_version, has_unpublished_changes, created_at, updated_at,
               deleted_at, revision,
               template_id as "template_id: TemplateId", template_version
           from execution.workflows where id = $1"#,
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(Workflow::from))
}

/// Reads a workflow that nobody else changes until the transaction ends.
pub(super) async fn lock(tx: &mut PgConnection, id: WorkflowId) -> Result<Option<Workflow>> {
    let row = sqlx::query_as!(
        Row,
        r#"select id as "id: WorkflowId", company_id as "company_id: CompanyId", studio_id as "studio_id: StudioId",
               owner_id as "owner_id: UserId", name, description, metadata as "metadata: Json<Map<String, Value>>",
               draft as "draft: Json<Definition>", published_version, has_unpublished_changes, created_at, updated_at,
               deleted_at, revision,
               template_id as "template_id: TemplateId", template_version
           from execution.workflows where id = $1 for update"#,
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(Workflow::from))
}

/// Changes a locked workflow. The draft has unpublished changes where it differs from the newest version.
pub(super) async fn update(tx: &mut PgConnection, id: WorkflowId, changes: &Changes) -> Result<Workflow> {
    let row = sqlx::query_as!(
        Row,
        r#"update execution.workflows w set
               name = coalesce($2, name),
               description = coalesce($3, description),
               metadata = coalesce($4, metadata),
               draft = coalesce($5, draft),
               has_unpublished_changes = case when $5::jsonb is null then has_unpublished_changes
                   else not exists (
                       select from execution.workflow_versions v
                       where v.company_id = w.company_id and v.workflow_id = w.id and v.number = w.published_version
                           and v.definition = $5)
                   end
           where id = $1
           returning id as "id: WorkflowId", company_id as "company_id: CompanyId", studio_id as "studio_id: StudioId",
               owner_id as "owner_id: UserId", name, description, metadata as "metadata: Json<Map<String, Value>>",
               draft as "draft: Json<Definition>", published_version, has_unpublished_changes, created_at, updated_at,
               deleted_at, revision,
               template_id as "template_id: TemplateId", template_version"#,
        id.as_uuid(),
        changes.name,
        changes.description,
        changes.metadata.as_ref().map(Json) as _,
        changes.draft.as_ref().map(Json) as _,
    )
    .fetch_one(tx)
    .await
    .map_err(name_taken)?;
    Ok(row.into())
}

/// Deletes a locked workflow softly.
pub(super) async fn delete(tx: &mut PgConnection, id: WorkflowId) -> Result<Workflow> {
    let row = sqlx::query_as!(
        Row,
        r#"update execution.workflows set deleted_at = now() where id = $1
           returning id as "id: WorkflowId", company_id as "company_id: CompanyId", studio_id as "studio_id: StudioId",
               owner_id as "owner_id: UserId", name, description, metadata as "metadata: Json<Map<String, Value>>",
               draft as "draft: Json<Definition>", published_version, has_unpublished_changes, created_at, updated_at,
               deleted_at, revision,
               template_id as "template_id: TemplateId", template_version"#,
        id.as_uuid(),
    )
    .fetch_one(tx)
    .await?;
    Ok(row.into())
}

/// Brings a locked workflow back, unless it was deleted too long ago.
pub(super) async fn undelete(tx: &mut PgConnection, id: WorkflowId) -> Result<Option<Workflow>> {
    let row = sqlx::query_as!(
        Row,
        r#"update execution.workflows set deleted_at = null
           where id = $1 and deleted_at > now() - interval '30 days'
           returning id as "id: WorkflowId", company_id as "company_id: CompanyId", studio_id as "studio_id: StudioId",
               owner_id as "owner_id: UserId", name, description, metadata as "metadata: Json<Map<String, Value>>",
               draft as "draft: Json<Definition>", published_version, has_unpublished_changes, created_at, updated_at,
               deleted_at, revision,
               template_id as "template_id: TemplateId", template_version"#,
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await
    .map_err(name_taken)?;
    Ok(row.map(Workflow::from))
}

/// Notes that the locked workflow's draft is its newest version.
pub(super) async fn set_published(tx: &mut PgConnection, id: WorkflowId, number: i32) -> Result<()> {
    sqlx::query!(
        "update execution.workflows set published_version = $2, has_unpublished_changes = false where id = $1",
        id.as_uuid(),
        number,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Notes that the locked workflow's newest version does what an older one did. The draft follows, unless it has unpublished
/// changes, which stay; it has none where it says the same.
pub(super) async fn set_rolled_back(
    tx: &mut PgConnection,
    id: WorkflowId,
    number: i32,
    definition: &Definition,
) -> Result<Workflow> {
    let row = sqlx::query_as!(
        Row,
        r#"update execution.workflows set
               published_version = $2,
               draft = case when has_unpublished_changes then draft else $3 end,
               has_unpublished_changes = has_unpublished_changes and draft <> $3
           where id = $1
           returning id as "id: WorkflowId", company_id as "company_id: CompanyId", studio_id as "studio_id: StudioId",
               owner_id as "owner_id: UserId", name, description, metadata as "metadata: Json<Map<String, Value>>",
               draft as "draft: Json<Definition>", published_version, has_unpublished_changes, created_at, updated_at,
               deleted_at, revision,
               template_id as "template_id: TemplateId", template_version"#,
        id.as_uuid(),
        number,
        Json(definition) as _,
    )
    .fetch_one(tx)
    .await?;
    Ok(row.into())
}

fn name_taken(error: sqlx::Error) -> Error {
    match constraint(&error) {
        Some("workflows_name_per_studio") => Error::AlreadyExists {
            reason: "WORKFLOW_NAME_TAKEN",
            message: "the studio has another workflow in use with this name".into(),
        },
        Some("workflows_template_instance") => Error::AlreadyExists {
            reason: "TEMPLATE_RUNS_ANEW",
            message: "another workflow has run this version of the template since".into(),
        },
        _ => error.into(),
    }
}
