//! SQL of what has to be kept in order from time to time.

use sqlx::{PgConnection, Result};

/// Makes the partitions of the months to come.
pub(in crate::worker) async fn ensure_partitions(connection: &mut PgConnection) -> Result<i32> {
    sqlx::query_scalar!(r#"select execution.ensure_partitions(2) as "made!""#)
        .fetch_one(connection)
        .await
}

/// Forgets start keys and request ids that are older than a day; at most so many at once. True if there may be more.
pub(in crate::worker) async fn forget_keys(connection: &mut PgConnection) -> Result<bool> {
    const BATCH: i64 = 5_000;
    let starts = sqlx::query!(
        "delete from execution.start_keys where ctid = any(array(
             select ctid from execution.start_keys where created_at < now() - interval '24 hours' limit $1))",
        BATCH,
    )
    .execute(&mut *connection)
    .await?;
    let requests = sqlx::query!(
        "delete from execution.request_ids where ctid = any(array(
             select ctid from execution.request_ids where created_at < now() - interval '24 hours' limit $1))",
        BATCH,
    )
    .execute(connection)
    .await?;
    Ok(starts.rows_affected().max(requests.rows_affected()) >= BATCH.unsigned_abs())
}

/// Forgets the rates of companies that have not started anything for a while.
pub(in crate::worker) async fn forget_start_rates(connection: &mut PgConnection) -> Result<()> {
    sqlx::query!("delete from execution.start_rates where over_at < now() - interval '1 minute'")
        .execute(connection)
        .await?;
    Ok(())
}

/// Takes out instances whose lease ran out long ago and that hold nothing, and frees runs whose owner is not there at all.
pub(in crate::worker) async fn forget_instances(connection: &mut PgConnection) -> Result<()> {
    sqlx::query!(
        "delete from execution.instances i where lease_until < now() - interval '1 hour'
             and not exists (select from execution.runs r where r.owner = i.id)"
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "update execution.runs r set owner = null, run_at = now()
         where owner is not null and not exists (select from execution.instances i where i.id = r.owner)"
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes out commands that are done, and those that were left while their run ended; at most so many at once. True if there may
/// be more.
pub(in crate::worker) async fn forget_commands(connection: &mut PgConnection) -> Result<bool> {
    const BATCH: i64 = 5_000;
    let forgotten = sqlx::query!(
        "delete from execution.execution_commands where (execution_id, seq) in (
             select c.execution_id, c.seq from execution.execution_commands c
             left join execution.runs r on r.execution_id = c.execution_id
             where c.created_at < now() - interval '1 minute' and (r.execution_id is null or c.seq <= r.commands_done)
             limit $1)",
        BATCH,
    )
    .execute(connection)
    .await?;
    Ok(forgotten.rows_affected() >= BATCH.unsigned_abs())
}
