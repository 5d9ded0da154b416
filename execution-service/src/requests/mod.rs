//! Idempotency of creates: the same request_id of the same caller and method names, for 24 hours, what it made the first time.
//!
//! The key's row and the thing it names are written in one transaction, so a key never names what is not there because
//! its creation failed. Another request under a used key is refused. The company and the caller of a key are those of
//! the transaction's claims.

use service_kit::{
    error::{Error, Result, Violations},
    ids::RequestId,
    update,
};
use sqlx::PgConnection;
use uuid::Uuid;

mod store;

/// A create's idempotency key.
#[derive(Clone, Debug)]
pub struct Key {
    method: &'static str,
    id: RequestId,
    body_hash: [u8; 32],
}

impl Key {
    /// The key of a request, if it has one: `request_id` is its field of that name, `method` the RPC.
    pub fn read(
        violations: &mut Violations,
        method: &'static str,
        request_id: &str,
        request: &impl prost::Message,
    ) -> Option<Self> {
        let id = update::request_id(violations, "request_id", request_id)?;
        Some(Self {
            method,
            id,
            body_hash: update::body_hash(request),
        })
    }
}

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
    let Some(first) = store::find(tx, key).await? else {
        return Err(Error::Aborted {
            reason: "REQUEST_ID_EXPIRED",
            message: "the request_id expired just now; ask again".into(),
        });
    };
    if first.body_hash != key.body_hash {
        return Err(Error::invalid("request_id", "was used for another request"));
    }
    Ok(Some(first.resource.into()))
}
