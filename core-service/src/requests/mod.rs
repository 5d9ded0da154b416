//! The idempotency keys of core-service: those of the transaction's caller, in `core.request_ids`.

mod store;

pub use service_kit::requests::Key;
use service_kit::{db::WorkerTx, error::Result};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

/// Takes a key, if there is one, for what is about to be made. Answers what was made the first time, if it was taken before.
pub async fn claim<T>(tx: &mut PgConnection, key: Option<&Key>, resource: T) -> Result<Option<T>>
where
    T: From<Uuid> + Into<Uuid>,
{
    let Some(key) = key else { return Ok(None) };
    store::forget_expired(tx, key).await?;
    if store::insert(tx, key, resource.into()).await? {
        return Ok(None);
    }
    let first = store::find(tx, key).await?;
    key.replay(first).map(Some)
}

/// What was made under a key, if there is one and it was taken before.
pub async fn made<T: From<Uuid>>(tx: &mut PgConnection, key: Option<&Key>) -> Result<Option<T>> {
    let Some(key) = key else { return Ok(None) };
    store::forget_expired(tx, key).await?;
    let first = store::find(tx, key).await?;
    first.map(|first| key.replay(Some(first))).transpose()
}

/// Removes at most `limit` keys that have run out, and says how many they were.
pub async fn remove_expired(worker_pool: &PgPool, limit: i64) -> Result<u64> {
    let mut tx = WorkerTx::begin(worker_pool, "requests.remove_expired").await?;
    let removed = store::remove_expired(&mut tx, limit).await?;
    tx.commit().await?;
    Ok(removed)
}
