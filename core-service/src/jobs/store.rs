//! SQL of jobs. All but the insert is for the worker's role.

use std::time::Duration;

use serde_json::Value;
use service_kit::{
    error::Result,
    ids::{CompanyId, JobId},
};
use sqlx::PgConnection;

use super::{Lease, Task, worker::Job};

struct Row {
    id: JobId,
    company: CompanyId,
    kind: String,
    payload: Value,
    tries: i32,
    max_tries: i32,
    trace_context: Option<String>,
}

impl From<Row> for Job {
    fn from(row: Row) -> Self {
        Self {
            lease: Lease {
                job: row.id,
                number: row.tries,
            },
            company: row.company,
            task: Task::read(&row.kind, &row.payload),
            max_tries: row.max_tries,
            traceparent: row.trace_context.unwrap_or_default(),
        }
    }
}

pub(super) async fn insert(
    tx: &mut PgConnection,
    id: JobId,
    company: CompanyId,
    task: Task,
    traceparent: &str,
) -> Result<()> {
    sqlx::query!(
        "insert into core.jobs (id, company_id, kind, payload, trace_context) values ($1, $2, $3, $4, nullif($5, ''))",
        id.as_uuid(),
        company.as_uuid(),
        task.kind(),
        task.payload(),
        traceparent,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Leases at most `limit` due jobs, the longest due first, passing by those that others are at.
pub(super) async fn claim(tx: &mut PgConnection, limit: i64, lease: Duration) -> Result<Vec<Job>> {
    let rows = sqlx::query_as!(
        Row,
        r#"update core.jobs set tries = tries + 1, leased_until = now() + make_interval(secs => $2)
           where id = any (array(
               select id from core.jobs
               where failed_at is null and run_at <= now() and coalesce(leased_until <= now(), true) and kind = any ($3)
               order by run_at, id
               limit $1
               for update skip locked))
           returning id as "id: JobId", company_id as "company: CompanyId", kind, payload, tries, max_tries, trace_context"#,
        limit,
        lease.as_secs_f64(),
        &Task::KINDS.map(str::to_owned),
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(Job::from).collect())
}

pub(super) async fn delete(tx: &mut PgConnection, lease: Lease) -> Result<bool> {
    let done = sqlx::query!(
        "delete from core.jobs where id = $1 and tries = $2",
        lease.job.as_uuid(),
        lease.number,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Lengthens a lease. Says whether it still held.
pub(super) async fn renew(tx: &mut PgConnection, lease: Lease, length: Duration) -> Result<bool> {
    let done = sqlx::query!(
        "update core.jobs set leased_until = now() + make_interval(secs => $3) where id = $1 and tries = $2",
        lease.job.as_uuid(),
        lease.number,
        length.as_secs_f64(),
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Gives a job back, to be tried again after `delay`.
pub(super) async fn postpone(tx: &mut PgConnection, lease: Lease, delay: Duration, error: &str) -> Result<bool> {
    let done = sqlx::query!(
        "update core.jobs set run_at = now() + make_interval(secs => $3), leased_until = null, last_error = $4
         where id = $1 and tries = $2",
        lease.job.as_uuid(),
        lease.number,
        delay.as_secs_f64(),
        error,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Ends a job as failed.
pub(super) async fn fail(tx: &mut PgConnection, lease: Lease, error: &str) -> Result<bool> {
    let done = sqlx::query!(
        "update core.jobs set failed_at = now(), leased_until = null, last_error = $3 where id = $1 and tries = $2",
        lease.job.as_uuid(),
        lease.number,
        error,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Removes at most `limit` jobs that failed so long ago, and says how many they were.
pub(super) async fn remove_failed(tx: &mut PgConnection, age: Duration, limit: i64) -> Result<u64> {
    let done = sqlx::query!(
        "delete from core.jobs where id in (
             select id from core.jobs where failed_at < now() - make_interval(secs => $1) limit $2)",
        age.as_secs_f64(),
        limit,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}
