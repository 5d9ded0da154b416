//! The idempotency keys of execution-service: those of the transaction's company and caller, in `execution.request_ids`.

mod store;

use service_kit::error::Result;
pub use service_kit::requests::Key;
use sqlx::PgConnection;
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

/// Gives back the keys that were taken for what has come to nothing.
pub(crate) async fn release<T: Into<Uuid>>(tx: &mut PgConnection, resource: T) -> Result<()> {
    store::release(tx, resource.into()).await
}
