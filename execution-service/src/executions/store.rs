//! SQL of the executions and of the commands for those that run.

use futures::future::BoxFuture;
use serde_json::{Map, Value};
use service_kit::{
    error::{Error, Result},
    gather::{Answer, Owner},
    ids::{CompanyId, ExecutionId, StudioId, UserId, WorkflowId},
    page::Page,
};
use sqlx::{PgConnection, types::Json};
use time::OffsetDateTime;

use super::{Execution, Filter, Status, Summary, decide::Standing};
use crate::{
    engine::{
        failure::{Failure, FailureClass},
        journal::StageTry,
    },
    worker::Wish,
};

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
    waiting_stage: Option<String>,
    waiting_visit: Option<i32>,
    waiting_item: Option<i32>,
    waiting_attempt: Option<i32>,
    failure_class: Option<String>,
    failure_message: Option<String>,
    started_by: UserId,
    trace_context: String,
    created_at: OffsetDateTime,
    started_at: Option<OffsetDateTime>,
    finished_at: Option<OffsetDateTime>,
    updated_at: OffsetDateTime,
    inputs: Json<Map<String, Value>>,
    outputs: Option<Json<Map<String, Value>>>,
}

impl TryFrom<Row> for Summary {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let numbers = (row.waiting_visit, row.waiting_item, row.waiting_attempt);
        Ok(Self {
            id: row.id,
            company: row.company_id,
            studio: row.studio_id,
            workflow: row.workflow_id,
            workflow_version: row.workflow_version,
            status: Status::parse(&row.status).ok_or_else(|| unknown("status", &row.status))?,
            current_stage: row.stage.unwrap_or_default(),
            waiting_for: match (row.waiting_stage, numbers) {
                (Some(stage), (Some(visit), Some(item), Some(attempt))) => Some(StageTry {
                    stage,
                    visit: visit.unsigned_abs(),
                    item: item.unsigned_abs(),
                    attempt: attempt.unsigned_abs(),
                }),
                _ => None,
            },
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

impl TryFrom<Row> for Execution {
    type Error = Error;

    fn try_from(mut row: Row) -> Result<Self> {
        let inputs = std::mem::take(&mut row.inputs.0);
        let outputs = row.outputs.take().map(|it| it.0).unwrap_or_default();
        Ok(Self {
            summary: row.try_into()?,
            inputs,
            outputs,
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
               stage, waiting_stage, waiting_visit, waiting_item, waiting_attempt, failure_class,
               failure_message, started_by as "started_by!: UserId", trace_context as "trace_context!",
               created_at as "created_at!", started_at, finished_at, updated_at as "updated_at!",
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
                   (details).stage, (details).waiting_stage, (details).waiting_visit, (details).waiting_item, (details).waiting_attempt, (details).failure_class,
                   (details).failure_message, (details).started_by as "started_by!: UserId", (details).trace_context as "trace_context!",
                   (details).created_at as "created_at!", (details).started_at, (details).finished_at, (details).updated_at as "updated_at!",
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
               stage, waiting_stage, waiting_visit, waiting_item, waiting_attempt, failure_class,
               failure_message, started_by as "started_by!: UserId", trace_context as "trace_context!",
               created_at as "created_at!", started_at, finished_at, updated_at as "updated_at!",
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

/// Leaves a command.
pub(super) async fn insert_command(
    tx: &mut PgConnection,
    id: ExecutionId,
    place: CommandPlace,
    issued_by: UserId,
    wish: &Wish,
) -> Result<()> {
    let (kind, payload) = wish.row();
    sqlx::query!(
        "insert into execution.execution_commands (execution_id, seq, company_id, studio_id, kind, payload, issued_by)
         values ($1, $2, $3, $4, $5, $6, $7)",
        id.as_uuid(),
        place.seq,
        place.company.as_uuid(),
        place.studio.as_uuid(),
        kind,
        payload,
        issued_by.as_uuid(),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Where an attempt stands, if there is one: it waits as long as neither an entry nor a command that is on its way to become one
/// decides it. Means something only while the run's hot row is locked.
pub(super) async fn standing(tx: &mut PgConnection, id: ExecutionId, of: &StageTry) -> Result<Option<Standing>> {
    let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let waits = sqlx::query_scalar!(
        r#"select a.outcome = 'pending'
               and not exists (
                   select from execution.journal d
                   where d.execution_id = $1 and d.kind = 'decision' and d.stage = $2 and d.visit = $3 and d.item = $4
                       and d.attempt = $5)
               and not exists (
                   select from execution.execution_commands c join execution.runs r using (execution_id)
                   where c.execution_id = $1 and c.seq > r.commands_done and c.kind = 'decide'
                       and c.payload @> jsonb_build_object('stage', $2, 'visit', $3, 'item', $4, 'attempt', $5))
               as "waits!"
           from execution.journal a
           where a.execution_id = $1 and a.kind = 'attempt' and a.stage = $2 and a.visit = $3 and a.item = $4
               and a.attempt = $5"#,
        id.as_uuid(),
        of.stage,
        number(of.visit),
        number(of.item),
        number(of.attempt),
    )
    .fetch_optional(tx)
    .await?;
    Ok(waits.map(|waits| if waits { Standing::Waiting } else { Standing::Decided }))
}
