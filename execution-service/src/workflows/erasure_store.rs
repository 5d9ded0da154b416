//! SQL of erasing workflows, as the engine's role.

use service_kit::ids::WorkflowId;
use sqlx::{PgConnection, Result};

/// How many entries of journals are deleted at once.
const ENTRIES: i64 = 5_000;

/// The next workflow that is due, by id; the policy shows no other.
pub(super) async fn next(connection: &mut PgConnection, after: Option<WorkflowId>) -> Result<Option<WorkflowId>> {
    sqlx::query_scalar!(
        r#"select id as "id: WorkflowId" from execution.workflows
           where deleted_at is not null and execution.is_erasable(deleted_at) and ($1::uuid is null or id > $1)
           order by id
           limit 1"#,
        after.map(WorkflowId::as_uuid),
    )
    .fetch_optional(connection)
    .await
}

/// Whether it is this transaction's turn: one erases at a time, or they would wait for each other's rows.
pub(super) async fn take_turn(tx: &mut PgConnection) -> Result<bool> {
    sqlx::query_scalar!(r#"select pg_try_advisory_xact_lock(hashtext('execution.erase')) as "taken!""#)
        .fetch_one(tx)
        .await
}

/// Asks the workflow's runs that have not ended to stop, each once. True if there are some.
pub(super) async fn cancel_runs(tx: &mut PgConnection, workflow: WorkflowId) -> Result<bool> {
    sqlx::query!(
        "with asked as (
             update execution.runs r set commands_seq = commands_seq + 1, run_at = now()
             from execution.workflows w
                 join execution.executions e on e.company_id = w.company_id and e.studio_id = w.studio_id
                     and e.status in ('pending', 'running', 'paused') and e.workflow_id = w.id
             where w.id = $1 and r.execution_id = e.id
                 and not exists (
                     select from execution.execution_commands c
                     where c.execution_id = r.execution_id and c.kind = 'cancel')
             returning r.execution_id, r.commands_seq, r.company_id, r.studio_id)
         insert into execution.execution_commands (execution_id, seq, company_id, studio_id, kind, payload, issued_by)
         select execution_id, commands_seq, company_id, studio_id, 'cancel',
             jsonb_build_object('reason', 'the workflow is erased'), '00000000-0000-0000-0000-000000000000'::uuid
         from asked",
        workflow.as_uuid(),
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query_scalar!(
        r#"select exists (
               select from execution.workflows w
                   join execution.executions e on e.company_id = w.company_id and e.studio_id = w.studio_id
                       and e.status in ('pending', 'running', 'paused') and e.workflow_id = w.id
               where w.id = $1) as "running!""#,
        workflow.as_uuid(),
    )
    .fetch_one(tx)
    .await
}

/// Deletes some executions after their journals. True if there may be more.
pub(super) async fn delete_executions(tx: &mut PgConnection, workflow: WorkflowId, batch: i64) -> Result<bool> {
    let executions = sqlx::query_scalar!(
        "select e.id
         from execution.workflows w
             join execution.executions e on e.company_id = w.company_id and e.workflow_id = w.id
         where w.id = $1
         order by e.id
         limit $2",
        workflow.as_uuid(),
        batch,
    )
    .fetch_all(&mut *tx)
    .await?;
    let entries = sqlx::query!(
        "delete from execution.journal j
         using (select execution_id, seq from execution.journal where execution_id = any($1) limit $2) due
         where j.execution_id = due.execution_id and j.seq = due.seq",
        &executions,
        ENTRIES,
    )
    .execute(&mut *tx)
    .await?;
    if entries.rows_affected() < ENTRIES.unsigned_abs() {
        sqlx::query!(
            "delete from execution.flow_runs where execution_id = any($1)",
            &executions
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!("delete from execution.executions where id = any($1)", &executions)
            .execute(tx)
            .await?;
    }
    Ok(!executions.is_empty())
}

/// Deletes some versions. True if there may be more.
pub(super) async fn delete_versions(tx: &mut PgConnection, workflow: WorkflowId, batch: i64) -> Result<bool> {
    let versions = sqlx::query!(
        "delete from execution.workflow_versions where id in (
             select v.id
             from execution.workflows w
                 join execution.workflow_versions v on v.company_id = w.company_id and v.workflow_id = w.id
             where w.id = $1
             limit $2)",
        workflow.as_uuid(),
        batch,
    )
    .execute(tx)
    .await?;
    Ok(versions.rows_affected() > 0)
}

/// Deletes the snapshots that go with their workflow.
pub(super) async fn delete_snapshots(tx: &mut PgConnection, workflow: WorkflowId) -> Result<()> {
    sqlx::query!(
        "delete from execution.snapshots s using execution.workflows w
         where w.id = $1 and s.company_id = w.company_id and s.workflow_id = w.id and not s.keep_on_delete",
        workflow.as_uuid(),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Deletes the workflow; the snapshots that stay belong to none then.
pub(super) async fn delete(tx: &mut PgConnection, workflow: WorkflowId) -> Result<()> {
    sqlx::query!("delete from execution.workflows where id = $1", workflow.as_uuid())
        .execute(tx)
        .await?;
    Ok(())
}
