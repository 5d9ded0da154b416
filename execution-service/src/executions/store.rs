//! SQL of the executions and of the commands for those that run.

use serde_json::{Map, Value, json};
use service_kit::{
    error::{Error, Result},
    ids::{CompanyId, ExecutionId, StudioId, UserId, WorkflowId},
    page::Page,
};
use sqlx::{PgConnection, types::Json};
use time::OffsetDateTime;

use super::{Execution, Filter, Status, Summary};
use crate::engine::failure::{Failure, FailureClass};

struct SummaryRow {
    id: ExecutionId,
    company_id: CompanyId,
    studio_id: StudioId,
    workflow_id: WorkflowId,
    workflow_version: i32,
    status: String,
    stage: Option<String>,
    failure_class: Option<String>,
    failure_message: Option<String>,
    started_by: UserId,
    trace_context: String,
    created_at: OffsetDateTime,
    started_at: Option<OffsetDateTime>,
    finished_at: Option<OffsetDateTime>,
    updated_at: OffsetDateTime,
}

impl TryFrom<SummaryRow> for Summary {
    type Error = Error;

    fn try_from(row: SummaryRow) -> Result<Self> {
        Ok(Self {
            id: row.id,
            company: row.company_id,
            studio: row.studio_id,
            workflow: row.workflow_id,
            workflow_version: row.workflow_version,
            status: Status::parse(&row.status).ok_or_else(|| unknown("status", &row.status))?,
            current_stage: row.stage.unwrap_or_default(),
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
pub(super) async fn locate(connection: &mut PgConnection, id: ExecutionId) -> Result<Option<StudioId>> {
    let studio = sqlx::query_scalar!(
        r#"select studio_id as "studio_id!: StudioId" from execution.locate_execution($1)"#,
        id.as_uuid(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(studio)
}

pub(super) async fn get(tx: &mut PgConnection, id: ExecutionId) -> Result<Option<Execution>> {
    let row = sqlx::query!(
        r#"select e.id as "id!: ExecutionId", e.company_id as "company_id!: CompanyId",
               e.studio_id as "studio_id!: StudioId", e.workflow_id as "workflow_id!: WorkflowId",
               e.workflow_version as "workflow_version!", e.status as "status!", r.stage as "stage?",
               e.failure_class as "failure_class?", e.failure_message as "failure_message?",
               e.started_by as "started_by!: UserId", e.trace_context as "trace_context!", e.created_at as "created_at!",
               e.started_at as "started_at?", e.finished_at as "finished_at?",
               greatest(e.updated_at, r.updated_at) as "updated_at!",
               e.inputs as "inputs!: Json<Map<String, Value>>", e.outputs as "outputs?: Json<Map<String, Value>>"
           from execution.executions e left join execution.runs r on r.execution_id = e.id
           where e.id = $1"#,
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let summary = SummaryRow {
        id: row.id,
        company_id: row.company_id,
        studio_id: row.studio_id,
        workflow_id: row.workflow_id,
        workflow_version: row.workflow_version,
        status: row.status,
        stage: row.stage,
        failure_class: row.failure_class,
        failure_message: row.failure_message,
        started_by: row.started_by,
        trace_context: row.trace_context,
        created_at: row.created_at,
        started_at: row.started_at,
        finished_at: row.finished_at,
        updated_at: row.updated_at,
    };
    Ok(Some(Execution {
        summary: summary.try_into()?,
        inputs: row.inputs.0,
        outputs: row.outputs.map(|it| it.0).unwrap_or_default(),
    }))
}

/// Ids sort by the time of the start, so they bound the time too: an hour is more than clocks differ by.
pub(super) async fn list(tx: &mut PgConnection, filter: &Filter, page: &Page<ExecutionId>) -> Result<Vec<Summary>> {
    let statuses: Vec<_> = filter.statuses.iter().map(|it| it.as_str().to_owned()).collect();
    let rows = sqlx::query_as!(
        SummaryRow,
        r#"select e.id as "id!: ExecutionId", e.company_id as "company_id!: CompanyId",
               e.studio_id as "studio_id!: StudioId", e.workflow_id as "workflow_id!: WorkflowId",
               e.workflow_version as "workflow_version!", e.status as "status!", r.stage as "stage?",
               e.failure_class as "failure_class?", e.failure_message as "failure_message?",
               e.started_by as "started_by!: UserId", e.trace_context as "trace_context!", e.created_at as "created_at!",
               e.started_at as "started_at?", e.finished_at as "finished_at?",
               greatest(e.updated_at, r.updated_at) as "updated_at!"
           from execution.executions e left join execution.runs r on r.execution_id = e.id
           where e.company_id = (select execution.caller_company()) and e.studio_id = $1
               and (cardinality($2::text[]) = 0 or e.status = any($2))
               and ($3::uuid is null or e.workflow_id = $3)
               and ($4::timestamptz is null
                   or e.created_at >= $4 and e.id >= execution.uuid7_floor($4 - interval '1 hour'))
               and ($5::timestamptz is null
                   or e.created_at < $5 and e.id < execution.uuid7_floor($5 + interval '1 hour'))
               and ($6::uuid is null or e.id < $6)
           order by e.id desc
           limit $7"#,
        filter.studio.as_uuid(),
        &statuses,
        filter.workflow.map(WorkflowId::as_uuid),
        filter.from,
        filter.before,
        page.after.map(ExecutionId::as_uuid),
        page.limit(),
    )
    .fetch_all(tx)
    .await?;
    rows.into_iter().map(Summary::try_from).collect()
}

/// The place of a new command for a run.
pub(super) struct CommandPlace {
    company: CompanyId,
    studio: StudioId,
    seq: i64,
}

/// Gives a run that has not ended its next command's place, and makes it due.
pub(super) async fn next_command(tx: &mut PgConnection, id: ExecutionId) -> Result<Option<CommandPlace>> {
    let place = sqlx::query_as!(
        CommandPlace,
        r#"update execution.runs set commands_seq = commands_seq + 1, run_at = now() where execution_id = $1
           returning company_id as "company: CompanyId", studio_id as "studio: StudioId", commands_seq as seq"#,
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(place)
}

/// Leaves the command to stop.
pub(super) async fn insert_cancel(
    tx: &mut PgConnection,
    id: ExecutionId,
    place: CommandPlace,
    issued_by: UserId,
    reason: &str,
) -> Result<()> {
    sqlx::query!(
        "insert into execution.execution_commands (execution_id, seq, company_id, studio_id, kind, payload, issued_by)
         values ($1, $2, $3, $4, 'cancel', $5, $6)",
        id.as_uuid(),
        place.seq,
        place.company.as_uuid(),
        place.studio.as_uuid(),
        json!({ "reason": reason }),
        issued_by.as_uuid(),
    )
    .execute(tx)
    .await?;
    Ok(())
}
