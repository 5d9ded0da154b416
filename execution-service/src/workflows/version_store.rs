//! SQL of the workflows' versions, and of what publishing one looks up.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use service_kit::{
    error::Result,
    gather::{Answer, Owner},
    ids::{CompanyId, ConnectionId, StudioId, UserId, VersionId, WorkflowId},
    page::Page,
};
use sqlx::{PgConnection, types::Json};
use time::OffsetDateTime;

use super::{
    Instance, Summary, Version, VersionSummary,
    pins::Pin,
    problems::{KnownConnection, KnownModel},
    publishing::NewVersion,
};
use crate::{connections::Kind, engine::definition::Definition};

struct Row {
    id: VersionId,
    workflow_id: WorkflowId,
    number: i32,
    name: String,
    definition: Json<Definition>,
    published_by: UserId,
    rolled_back_from: Option<i32>,
    created_at: OffsetDateTime,
}

impl From<Row> for Version {
    fn from(row: Row) -> Self {
        let summary = VersionSummary {
            id: row.id,
            workflow: row.workflow_id,
            number: row.number,
            name: row.name,
            published_by: row.published_by,
            rolled_back_from: row.rolled_back_from,
            created_at: row.created_at,
        };
        Self {
            summary,
            definition: row.definition.0,
        }
    }
}

/// Makes a version of a locked workflow.
pub(super) async fn insert(
    tx: &mut PgConnection,
    workflow: &Summary,
    new: &NewVersion<'_>,
    published_by: UserId,
) -> Result<Version> {
    let row = sqlx::query_as!(
        Row,
        r#"insert into execution.workflow_versions
               (id, company_id, studio_id, workflow_id, number, name, definition, published_by, rolled_back_from)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
           returning id as "id: VersionId", workflow_id as "workflow_id: WorkflowId", number, name,
               definition as "definition: Json<Definition>", published_by as "published_by: UserId", rolled_back_from, created_at"#,
        new.id.as_uuid(),
        workflow.company.as_uuid(),
        workflow.studio.as_uuid(),
        workflow.id.as_uuid(),
        new.number,
        workflow.name,
        Json(new.definition) as _,
        published_by.as_uuid(),
        new.rolled_back_from,
    )
    .fetch_one(tx)
    .await?;
    Ok(row.into())
}

/// Makes the one version of a workflow that runs a template.
pub(super) async fn insert_first(tx: &mut PgConnection, workflow: WorkflowId, new: &Instance<'_>) -> Result<()> {
    sqlx::query!(
        "insert into execution.workflow_versions
             (id, company_id, studio_id, workflow_id, number, name, definition, published_by)
         values ($1, $2, $3, $4, 1, $5, $6, $7)",
        VersionId::generate().as_uuid(),
        new.company.as_uuid(),
        new.studio.as_uuid(),
        workflow.as_uuid(),
        new.name,
        Json(new.definition) as _,
        new.owner.as_uuid(),
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn get(tx: &mut PgConnection, id: VersionId) -> Result<Option<Version>> {
    let row = sqlx::query_as!(
        Row,
        r#"select id as "id: VersionId", workflow_id as "workflow_id: WorkflowId", number, name,
               definition as "definition: Json<Definition>", published_by as "published_by: UserId", rolled_back_from, created_at
           from execution.workflow_versions where id = $1"#,
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(Version::from))
}

/// A version by its number; 0 is the newest.
pub(super) async fn find(tx: &mut PgConnection, workflow: WorkflowId, number: i32) -> Result<Option<Version>> {
    let row = sqlx::query_as!(
        Row,
        r#"select id as "id: VersionId", workflow_id as "workflow_id: WorkflowId", number, name,
               definition as "definition: Json<Definition>", published_by as "published_by: UserId", rolled_back_from, created_at
           from execution.workflow_versions
           where company_id = (select execution.caller_company()) and workflow_id = $1 and ($2 = 0 or number = $2)
           order by number desc
           limit 1"#,
        workflow.as_uuid(),
        number,
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(Version::from))
}

/// Which versions of workflows in use are asked for, by number; see [`gather_pins`](super::pins::gather_pins).
pub(super) fn pins<'c>(
    connection: &'c mut PgConnection,
    claims: &'c [String],
    asked: &'c [(WorkflowId, i32)],
) -> BoxFuture<'c, sqlx::Result<Vec<Answer<Pin>>>> {
    Box::pin(async move {
        let (workflows, numbers): (Vec<_>, Vec<_>) = asked.iter().map(|(id, number)| (id.as_uuid(), *number)).unzip();
        let rows = sqlx::query!(
            r#"select item as "item!", company as "company!: CompanyId", studio_id as "studio_id!: StudioId",
                   published_version as "published_version!", version_id as "version_id?: VersionId", number
               from execution.gather_pins($1, $2, $3)"#,
            claims,
            &workflows,
            &numbers,
        )
        .fetch_all(connection)
        .await?;
        let answers = rows.into_iter().map(|row| Answer {
            item: row.item,
            owner: Owner::Company(row.company),
            row: Pin {
                studio: row.studio_id,
                newest: row.published_version,
                version: row.version_id.zip(row.number),
            },
        });
        Ok(answers.collect())
    })
}

pub(super) async fn list(tx: &mut PgConnection, workflow: WorkflowId, page: &Page<i32>) -> Result<Vec<VersionSummary>> {
    let versions = sqlx::query_as!(
        VersionSummary,
        r#"select id as "id: VersionId", workflow_id as "workflow: WorkflowId", number, name,
               published_by as "published_by: UserId", rolled_back_from, created_at
           from execution.workflow_versions
           where company_id = (select execution.caller_company()) and workflow_id = $1
               and ($2::int is null or number < $2)
           order by number desc
           limit $3"#,
        workflow.as_uuid(),
        page.after,
        page.limit(),
    )
    .fetch_all(tx)
    .await?;
    Ok(versions)
}

/// Those of these workflows that the company has in use, and the numbers of their newest versions; 0 where there is none.
pub(super) async fn callable(tx: &mut PgConnection, workflows: &[WorkflowId]) -> Result<BTreeMap<WorkflowId, i32>> {
    let workflows: Vec<_> = workflows.iter().map(|it| it.as_uuid()).collect();
    let rows = sqlx::query!(
        r#"select id as "id!: WorkflowId", published_version as "published_version!"
           from execution.callable_workflows($1)"#,
        &workflows,
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.published_version)).collect())
}

/// The models with these names that the company may use, its own before the platform's.
pub(super) async fn models(tx: &mut PgConnection, names: &[String]) -> Result<BTreeMap<String, KnownModel>> {
    let rows = sqlx::query!(
        "select distinct on (name) name, provider, enabled from execution.models
         where name = any($1) order by name, company_id nulls last",
        names,
    )
    .fetch_all(tx)
    .await?;
    let known = rows.into_iter().map(|row| {
        (
            row.name,
            KnownModel {
                provider: row.provider,
                enabled: row.enabled,
            },
        )
    });
    Ok(known.collect())
}

/// Which of these connections the company has.
pub(super) async fn connections(
    tx: &mut PgConnection,
    ids: &[ConnectionId],
) -> Result<BTreeMap<ConnectionId, KnownConnection>> {
    let ids: Vec<_> = ids.iter().map(|it| it.as_uuid()).collect();
    let rows = sqlx::query!(
        r#"select id as "id: ConnectionId", kind, enabled from execution.connections where id = any($1)"#,
        &ids,
    )
    .fetch_all(tx)
    .await?;
    let known = rows.into_iter().filter_map(|row| {
        let kind = Kind::read(&row.kind)?;
        Some((
            row.id,
            KnownConnection {
                kind,
                enabled: row.enabled,
            },
        ))
    });
    Ok(known.collect())
}
