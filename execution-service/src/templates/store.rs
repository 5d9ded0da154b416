//! SQL of the templates.

use std::collections::HashMap;

use service_kit::{
    error::{Error, Result, constraint},
    ids::{CompanyId, TemplateId, UserId, WorkflowId},
    page::Page,
};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{About, Area, Changes, Complexity, Cursor, Filter, Mark, Owner, Semver, Template};

struct Row {
    id: TemplateId,
    company_id: Option<CompanyId>,
    name: String,
    description: String,
    area: String,
    complexity: String,
    estimated_minutes: i32,
    tags: Vec<String>,
    active: bool,
    newest_version: String,
    created_by: Option<UserId>,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
    revision: i64,
}

impl TryFrom<Row> for Template {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let unknown = |what: &str, text: &str| Error::internal(format!("unknown {what}: {text}"));
        Ok(Self {
            id: row.id,
            company: row.company_id,
            about: About {
                name: row.name,
                description: row.description,
                area: Area::parse(&row.area).ok_or_else(|| unknown("area", &row.area))?,
                complexity: Complexity::parse(&row.complexity).ok_or_else(|| unknown("complexity", &row.complexity))?,
                estimated_minutes: row.estimated_minutes,
                tags: row.tags,
            },
            active: row.active,
            newest: Semver::parse(&row.newest_version).ok_or_else(|| unknown("version", &row.newest_version))?,
            created_by: row.created_by,
            created_at: row.created_at,
            updated_at: row.updated_at,
            revision: row.revision,
        })
    }
}

/// Whose a template is, before the caller's place there is known; `None` where there is no such template.
pub(super) async fn locate(connection: &mut PgConnection, id: TemplateId) -> sqlx::Result<Option<Option<CompanyId>>> {
    sqlx::query_scalar!(
        r#"select company_id as "company_id: CompanyId" from execution.locate_template($1)"#,
        id.as_uuid(),
    )
    .fetch_optional(connection)
    .await
}

/// Which of these workflows run templates.
pub(super) async fn locate_runs(
    connection: &mut PgConnection,
    workflows: &[WorkflowId],
) -> sqlx::Result<HashMap<WorkflowId, Mark>> {
    let ids: Vec<_> = workflows.iter().map(|it| it.as_uuid()).collect();
    let rows = sqlx::query!(
        r#"select workflow_id as "workflow_id!: WorkflowId", template_id as "template_id!: TemplateId",
               template_version as "template_version!"
           from execution.locate_template_runs($1)"#,
        &ids,
    )
    .fetch_all(connection)
    .await?;
    let mark = |template, version| Mark { template, version };
    let marks = rows
        .into_iter()
        .map(|row| (row.workflow_id, mark(row.template_id, row.template_version)));
    Ok(marks.collect())
}

pub(super) async fn insert(
    tx: &mut PgConnection,
    id: TemplateId,
    company: CompanyId,
    about: &About,
    version: Semver,
    created_by: UserId,
) -> Result<Template> {
    let row = sqlx::query_as!(
        Row,
        r#"insert into execution.templates
               (id, company_id, name, description, area, complexity, estimated_minutes, tags, newest_version, created_by)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
           returning id as "id: TemplateId", company_id as "company_id: CompanyId", name, description, area, complexity,
               estimated_minutes, tags, active, newest_version, created_by as "created_by: UserId", created_at, updated_at,
               revision"#,
        id.as_uuid(),
        company.as_uuid(),
        about.name,
        about.description,
        about.area.as_str(),
        about.complexity.as_str(),
        about.estimated_minutes,
        &about.tags,
        version.to_string(),
        created_by.as_uuid(),
    )
    .fetch_one(tx)
    .await
    .map_err(name_taken)?;
    row.try_into()
}

pub(super) async fn get(tx: &mut PgConnection, id: TemplateId) -> Result<Option<Template>> {
    let row = sqlx::query_as!(
        Row,
        r#"select id as "id: TemplateId", company_id as "company_id: CompanyId", name, description, area, complexity,
               estimated_minutes, tags, active, newest_version, created_by as "created_by: UserId", created_at, updated_at,
               revision
           from execution.templates where id = $1 and deleted_at is null"#,
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    row.map(Template::try_from).transpose()
}

/// Reads a template that nobody else changes until the transaction ends.
pub(super) async fn lock(tx: &mut PgConnection, id: TemplateId) -> Result<Option<Template>> {
    let row = sqlx::query_as!(
        Row,
        r#"select id as "id: TemplateId", company_id as "company_id: CompanyId", name, description, area, complexity,
               estimated_minutes, tags, active, newest_version, created_by as "created_by: UserId", created_at, updated_at,
               revision
           from execution.templates where id = $1 and deleted_at is null for update"#,
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    row.map(Template::try_from).transpose()
}

pub(super) async fn list(tx: &mut PgConnection, filter: &Filter, page: &Page<Cursor>) -> Result<Vec<Template>> {
    let after = page.after.as_ref();
    let rows = sqlx::query_as!(
        Row,
        r#"select id as "id: TemplateId", company_id as "company_id: CompanyId", name, description, area, complexity,
               estimated_minutes, tags, active, newest_version, created_by as "created_by: UserId", created_at, updated_at,
               revision
           from execution.templates
           where (company_id is null or company_id = (select execution.caller_company())) and deleted_at is null
               and ($1::text is null
                   or execution.template_words(name, description, tags) @@ to_tsquery('english', $1))
               and ($2::text is null or area = $2)
               and ($3::text is null or complexity = $3)
               and ($4::text is null or $4 = any(tags))
               and ($5::boolean is null or (company_id is null) = $5)
               and ($6 or active)
               and ($7::uuid is null or case $8::text
                   when 'name' then (name, id) > ($9, $7)
                   when 'name desc' then (name, id) < ($9, $7)
                   when 'update_time' then (updated_at, id) > ($10, $7)
                   when 'update_time desc' then (updated_at, id) < ($10, $7)
                   when 'create_time desc' then id < $7
                   else id > $7 end)
           order by case when $8 = 'name' then name end, case when $8 = 'name desc' then name end desc,
               case when $8 = 'update_time' then updated_at end, case when $8 = 'update_time desc' then updated_at end desc,
               case when $8 in ('name desc', 'update_time desc', 'create_time desc') then id end desc, id
           limit $11"#,
        filter.words,
        filter.area.map(Area::as_str),
        filter.complexity.map(Complexity::as_str),
        filter.tag,
        filter.owner.map(|it| it == Owner::Platform),
        filter.show_inactive,
        after.map(|it| it.id.as_uuid()),
        filter.order.as_str(),
        after.map(|it| it.name.as_str()),
        after.map(|it| it.updated_at),
        page.limit(),
    )
    .fetch_all(tx)
    .await?;
    rows.into_iter().map(Template::try_from).collect()
}

/// Changes a locked template.
pub(super) async fn update(tx: &mut PgConnection, id: TemplateId, changes: &Changes) -> Result<Template> {
    let row = sqlx::query_as!(
        Row,
        r#"update execution.templates set
               name = coalesce($2, name),
               description = coalesce($3, description),
               area = coalesce($4, area),
               complexity = coalesce($5, complexity),
               estimated_minutes = coalesce($6, estimated_minutes),
               tags = coalesce($7, tags),
               active = coalesce($8, active)
           where id = $1
           returning id as "id: TemplateId", company_id as "company_id: CompanyId", name, description, area, complexity,
               estimated_minutes, tags, active, newest_version, created_by as "created_by: UserId", created_at, updated_at,
               revision"#,
        id.as_uuid(),
        changes.name,
        changes.description,
        changes.area.map(Area::as_str),
        changes.complexity.map(Complexity::as_str),
        changes.estimated_minutes,
        changes.tags.as_deref() as _,
        changes.active,
    )
    .fetch_one(tx)
    .await
    .map_err(name_taken)?;
    row.try_into()
}

/// Notes a locked template's newest version.
pub(super) async fn set_newest(tx: &mut PgConnection, id: TemplateId, version: Semver) -> Result<()> {
    sqlx::query!(
        "update execution.templates set newest_version = $2 where id = $1",
        id.as_uuid(),
        version.to_string(),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Deletes a locked template softly.
pub(super) async fn delete(tx: &mut PgConnection, id: TemplateId) -> Result<()> {
    sqlx::query!(
        "update execution.templates set deleted_at = now(), active = false where id = $1",
        id.as_uuid(),
    )
    .execute(tx)
    .await?;
    Ok(())
}

fn name_taken(error: sqlx::Error) -> Error {
    match constraint(&error) {
        Some("templates_name_per_owner") => Error::AlreadyExists {
            reason: "TEMPLATE_NAME_TAKEN",
            message: "the company has another template with this name".into(),
        },
        _ => error.into(),
    }
}
