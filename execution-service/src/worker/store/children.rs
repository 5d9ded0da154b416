//! SQL of executions within executions.

use serde_json::{Map, Value};
use service_kit::ids::{CompanyId, ExecutionId, StudioId, UserId, VersionId, WorkflowId};
use sqlx::{PgConnection, Result, types::Json};

use crate::{
    engine::failure::{Failure, FailureClass},
    worker::Wish,
};

/// The version that a child is pinned to.
#[derive(Debug)]
pub(in crate::worker) struct Pinned {
    pub version: VersionId,
    pub number: i32,
    pub studio: StudioId,
}

/// A version of a company's workflow in use, the newest where no number is given.
pub(in crate::worker) async fn pinned(
    connection: &mut PgConnection,
    company: CompanyId,
    workflow: WorkflowId,
    number: Option<i32>,
) -> Result<Option<Pinned>> {
    sqlx::query_as!(
        Pinned,
        r#"select v.id as "version: VersionId", v.number, w.studio_id as "studio: StudioId"
           from execution.workflows w
               join execution.workflow_versions v on v.company_id = w.company_id and v.workflow_id = w.id
                   and v.number = coalesce($3, w.published_version)
           where w.id = $2 and w.company_id = $1 and w.deleted_at is null"#,
        company.as_uuid(),
        workflow.as_uuid(),
        number,
    )
    .fetch_optional(connection)
    .await
}

/// How an execution ended.
#[derive(Debug)]
pub(in crate::worker) enum Ended {
    /// With the output of its last stage; with all of them where that is not one.
    Completed(Value),
    Failed(Failure),
    Cancelled,
}

/// How a child ended; none while it runs. One that is gone counts as cancelled.
pub(in crate::worker) async fn ended(
    connection: &mut PgConnection,
    parent: ExecutionId,
    child: ExecutionId,
) -> Result<Option<Ended>> {
    let row = sqlx::query!(
        r#"select status, outputs as "outputs: Json<Map<String, Value>>", failure_class, failure_message
           from execution.executions where id = $1 and parent_id = $2"#,
        child.as_uuid(),
        parent.as_uuid(),
    )
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else {
        return Ok(Some(Ended::Cancelled));
    };
    Ok(match row.status.as_str() {
        "completed" => Some(Ended::Completed(
            row.outputs.map_or(Value::Null, |outputs| only(outputs.0)),
        )),
        "failed" => {
            let class = row.failure_class.as_deref().and_then(FailureClass::parse);
            let message = row.failure_message.unwrap_or_default();
            Some(Ended::Failed(Failure::new(
                class.unwrap_or(FailureClass::ProviderError),
                message,
            )))
        }
        "cancelled" => Some(Ended::Cancelled),
        _ => None,
    })
}

/// An execution's outputs have one name, that of its last stage: what stands under it is what the parent's stage gives.
fn only(outputs: Map<String, Value>) -> Value {
    if outputs.len() == 1 {
        outputs.into_iter().next().map(|(_, output)| output).unwrap_or_default()
    } else {
        Value::Object(outputs)
    }
}

/// The children of an execution that have not ended.
pub(in crate::worker) async fn running(connection: &mut PgConnection, parent: ExecutionId) -> Result<Vec<ExecutionId>> {
    sqlx::query_scalar!(
        r#"select e.id as "id: ExecutionId" from execution.executions e
           where e.parent_id = $1 and e.finished_at is null"#,
        parent.as_uuid(),
    )
    .fetch_all(connection)
    .await
}

/// Leaves a command for runs, and gives those that are there to take it. In the order of their ids, so that two who tell the same
/// runs never wait for each other.
pub(in crate::worker) async fn command(
    connection: &mut PgConnection,
    runs: &[ExecutionId],
    by: UserId,
    wish: &Wish,
) -> Result<Vec<ExecutionId>> {
    let runs: Vec<_> = runs.iter().map(|it| it.as_uuid()).collect();
    let (kind, payload) = wish.row();
    sqlx::query_scalar!(
        r#"with run as materialized (
               select execution_id from execution.runs where execution_id = any($1) order by execution_id for update
           ), told as (
               update execution.runs r
               set commands_seq = r.commands_seq + 1, run_at = case when r.owner is null then now() else r.run_at end
               from run where r.execution_id = any(array[run.execution_id])
               returning r.execution_id, r.commands_seq, r.company_id, r.studio_id
           )
           insert into execution.execution_commands (execution_id, seq, company_id, studio_id, kind, payload, issued_by)
           select execution_id, commands_seq, company_id, studio_id, $2, $3, $4 from told
           returning execution_id as "execution_id: ExecutionId""#,
        &runs,
        kind,
        payload,
        by.as_uuid(),
    )
    .fetch_all(connection)
    .await
}

/// Runs whose parents have ended, or are gone, and which nobody has told to stop.
pub(in crate::worker) async fn left_behind(connection: &mut PgConnection) -> Result<Vec<(ExecutionId, UserId)>> {
    let rows = sqlx::query!(
        r#"select e.id as "id: ExecutionId", e.started_by as "started_by: UserId"
           from execution.executions e
               join execution.runs r on r.execution_id = e.id
               left join execution.executions p on p.id = e.parent_id
           where e.parent_id is not null and (p.id is null or p.finished_at < now() - interval '1 minute')
               and not exists (
                   select from execution.execution_commands c
                   where c.execution_id = e.id and c.kind = 'cancel' and c.seq > r.commands_done)
           limit 1000"#,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.started_by)).collect())
}
