//! SQL of the idempotency keys.

use service_kit::{
    error::Result,
    requests::{First, Key},
};
use sqlx::PgConnection;
use uuid::Uuid;

pub(super) async fn forget_expired(tx: &mut PgConnection, key: &Key) -> Result<()> {
    sqlx::query!(
        "delete from execution.request_ids
         where company_id = (select execution.caller_company()) and caller_id = (select execution.caller_id())
           and method = $1 and request_id = $2 and created_at < now() - interval '24 hours'",
        key.method,
        key.id.as_uuid(),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Says whether the key was free; waits for a transaction that is about to take it.
pub(super) async fn insert(tx: &mut PgConnection, key: &Key, resource: Uuid) -> Result<bool> {
    let done = sqlx::query!(
        "insert into execution.request_ids (company_id, caller_id, method, request_id, body_hash, resource_id)
         values (execution.caller_company(), execution.caller_id(), $1, $2, $3, $4)
         on conflict do nothing",
        key.method,
        key.id.as_uuid(),
        &key.body_hash[..],
        resource,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn find(tx: &mut PgConnection, key: &Key) -> Result<Option<First>> {
    let first = sqlx::query_as!(
        First,
        "select body_hash, resource_id as resource from execution.request_ids
         where company_id = (select execution.caller_company()) and caller_id = (select execution.caller_id())
           and method = $1 and request_id = $2",
        key.method,
        key.id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(first)
}

pub(super) async fn release(tx: &mut PgConnection, resource: Uuid) -> Result<()> {
    sqlx::query!(
        "delete from execution.request_ids
         where company_id = (select execution.caller_company()) and caller_id = (select execution.caller_id())
           and resource_id = $1",
        resource,
    )
    .execute(tx)
    .await?;
    Ok(())
}
