//! SQL of the executions and of the commands for those that run.

use futures::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Map, Value};
use service_kit::{
    error::{Error, Result},
    gather::{Answer, Owner},
    ids::{CompanyId, ExecutionId, StudioId, TemplateId, UserId, WorkflowId},
    page::Page,
};
use sqlx::{PgConnection, types::Json};
use time::OffsetDateTime;

use super::{Ask, Execution, Filter, Pause, Status, Summary};
use crate::engine::failure::{Failure, FailureClass};

/// An execution as it is read: alone, among those that others ask for, or in a list, which leaves inputs and outputs out.
pub struct Row {
    item: i32,
    id: ExecutionId,
    company_id: CompanyId,
    studio_id: StudioId,
    workflow_id: WorkflowId,
    workflow_version: i32,
    status: String,
    stage: Option<String>,
    waiting: Option<Json<Vec<Ask>>>,
    paused: Option<Json<PauseRow>>,
    failure_class: Option<String>,
    failure_message: Option<String>,
    started_by: UserId,
    trace_context: String,
    created_at: OffsetDateTime,
    started_at: Option<OffsetDateTime>,
    finished_at: Option<OffsetDateTime>,
    updated_at: OffsetDateTime,
    parent_id: Option<ExecutionId>,
    source_id: Option<ExecutionId>,
    depth: Option<i32>,
    inputs: Json<Map<String, Value>>,
    outputs: Option<Json<Map<String, Value>>>,
}

/// The entry that somebody asked to begin nothing new.
#[derive(Deserialize)]
struct PauseRow {
    by: Option<UserId>,
    #[serde(default)]
    reason: String,
    #[serde(with = "time::serde::rfc3339")]
    occurred_at: OffsetDateTime,
}

impl From<PauseRow> for Pause {
    fn from(row: PauseRow) -> Self {
        Self {
            by: row.by,
            reason: row.reason,
            at: row.occurred_at,
        }
    }
}

impl TryFrom<Row> for Summary {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            id: row.id,
            company: row.company_id,
            studio: row.studio_id,
            workflow: row.workflow_id,
            workflow_version: row.workflow_version,
            status: Status::parse(&row.status).ok_or_else(|| unknown("status", &row.status))?,
            current_stage: row.stage.unwrap_or_default(),
            waiting: row.waiting.map(|it| it.0).unwrap_or_default(),
            paused: row.paused.map(|it| it.0.into()),
            failure: row
                .failure_class
                .map(|it| failure(&it, row.failure_message))
                .transpose()?,
            started_by: row.started_by,
            trace_context: row.trace_context,
            created_at: row.created_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
            updated_at: row.updated_at,
            parent: row.parent_id,
            source: row.source_id,
            depth: row.depth.map_or(0, i32::unsigned_abs),
        })
    }
}

impl TryFrom<Row> for Execution {
    type Error = Error;

    fn try_from(mut row: Row) -> Result<Self> {
        let inputs = std::mem::take(&mut row.inputs.0);
        let outputs = row.outputs.take().map(|it| it.0).unwrap_or_default();
        Ok(Self {
            summary: row.try_into()?,
            inputs,
            outputs,
            remaining: None,
        })
    }
}

fn failure(class: &str, message: Option<String>) -> Result<Failure> {
    let class = FailureClass::parse(class).ok_or_else(|| unknown("failure class", class))?;
    Ok(Failure::new(class, message.unwrap_or_default()))
}

fn unknown(what: &str, text: &str) -> Error {
    Error::internal(format!("unknown {what}: {text}"))
}

/// The studio of an execution, before the caller's place there is known.
pub(super) async fn locate(connection: &mut PgConnection, id: ExecutionId) -> sqlx::Result<Option<StudioId>> {
    let studio = sqlx::query_scalar!(
        r#"select studio_id as "studio_id!: StudioId" from execution.locate_execution($1)"#,
        id.as_uuid(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(studio)
}

pub(super) async fn get(tx: &mut PgConnection, id: ExecutionId) -> Result<Option<Execution>> {
    let row = sqlx::query_as!(
        Row,
        r#"select 1 as "item!", id as "id!: ExecutionId", company_id as "company_id!: CompanyId", studio_id as "studio_id!: StudioId",
               workflow_id as "workflow_id!: WorkflowId", workflow_version as "workflow_version!", status as "status!",
               stage, waiting as "waiting: Json<Vec<Ask>>", paused as "paused: Json<PauseRow>", failure_class,
               failure_message, started_by as "started_by!: UserId", trace_context as "trace_context!",
               created_at as "created_at!", started_at, finished_at, updated_at as "updated_at!",
               parent_id as "parent_id: ExecutionId", source_id as "source_id: ExecutionId", depth,
               inputs as "inputs!: Json<Map<String, Value>>", outputs as "outputs: Json<Map<String, Value>>"
           from execution.execution_details where id = $1"#,
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    row.map(Execution::try_from).transpose()
}

/// Executions that many callers ask for; see [`gather`](super::gather).
pub(super) fn gathered<'c>(
    connection: &'c mut PgConnection,
    claims: &'c [String],
    ids: &'c [ExecutionId],
) -> BoxFuture<'c, sqlx::Result<Vec<Answer<Row>>>> {
    Box::pin(async move {
        let ids: Vec<_> = ids.iter().map(|id| id.as_uuid()).collect();
        let rows = sqlx::query_as!(
            Row,
            r#"select item as "item!", (details).id as "id!: ExecutionId", (details).company_id as "company_id!: CompanyId", (details).studio_id as "studio_id!: StudioId",
                   (details).workflow_id as "workflow_id!: WorkflowId", (details).workflow_version as "workflow_version!", (details).status as "status!",
                   (details).stage, (details).waiting as "waiting: Json<Vec<Ask>>", (details).paused as "paused: Json<PauseRow>", (details).failure_class,
                   (details).failure_message, (details).started_by as "started_by!: UserId", (details).trace_context as "trace_context!",
                   (details).created_at as "created_at!", (details).started_at, (details).finished_at, (details).updated_at as "updated_at!",
                   (details).parent_id as "parent_id: ExecutionId", (details).source_id as "source_id: ExecutionId", (details).depth,
                   (details).inputs as "inputs!: Json<Map<String, Value>>", (details).outputs as "outputs: Json<Map<String, Value>>"
               from execution.gather_executions($1, $2)"#,
            claims,
            &ids,
        )
        .fetch_all(connection)
        .await?;
        let answers = rows.into_iter().map(|row| Answer {
            item: row.item,
            owner: Owner::Company(row.company_id),
            row,
        });
        Ok(answers.collect())
    })
}

/// Ids sort by the time of the start, so they bound the time too: an hour is more than clocks differ by.
pub(super) async fn list(tx: &mut PgConnection, filter: &Filter, page: &Page<ExecutionId>) -> Result<Vec<Summary>> {
    let statuses: Vec<_> = filter.statuses.iter().map(|it| it.as_str().to_owned()).collect();
    let rows = sqlx::query_as!(
        Row,
        r#"select 0 as "item!", id as "id!: ExecutionId", company_id as "company_id!: CompanyId", studio_id as "studio_id!: StudioId",
               workflow_id as "workflow_id!: WorkflowId", workflow_version as "workflow_version!", status as "status!",
               stage, waiting as "waiting: Json<Vec<Ask>>", paused as "paused: Json<PauseRow>", failure_class,
               failure_message, started_by as "started_by!: UserId", trace_context as "trace_context!",
               created_at as "created_at!", started_at, finished_at, updated_at as "updated_at!",
               parent_id as "parent_id: ExecutionId", source_id as "source_id: ExecutionId", depth,
               '{}'::jsonb as "inputs!: Json<Map<String, Value>>", null::jsonb as "outputs: Json<Map<String, Value>>"
           from execution.execution_details e
           where e.company_id = (select execution.caller_company()) and e.studio_id = $1
               and (cardinality($2::text[]) = 0 or e.status = any($2))
               and ($3::uuid is null or e.workflow_id = $3)
               and ($4::timestamptz is null
                   or e.created_at >= $4 and e.id >= execution.uuid7_floor($4 - interval '1 hour'))
               and ($5::timestamptz is null
                   or e.created_at < $5 and e.id < execution.uuid7_floor($5 + interval '1 hour'))
               and ($6::uuid is null or e.id < $6)
               and ($8::uuid is null or e.workflow_id in (
                   select w.id from execution.workflows w
                   where w.company_id = e.company_id and w.studio_id = $1 and w.template_id = $8))
           order by e.id desc
           limit $7"#,
        filter.studio.as_uuid(),
        &statuses,
        filter.workflow.map(WorkflowId::as_uuid),
        filter.from,
        filter.before,
        page.after.map(ExecutionId::as_uuid),
        page.limit(),
        filter.template.map(TemplateId::as_uuid),
    )
    .fetch_all(tx)
    .await?;
    rows.into_iter().map(Summary::try_from).collect()
}
