//! Events that the other service must learn of, written in the commit that causes them.
//!
//! Their positions come out in commit order, so that who follows them by a cursor misses none. For that, publishing holds
//! a lock until the commit: it is the last thing that a transaction does.

use serde::Serialize;
use service_kit::{
    error::{Error, Result},
    ids::CompanyId,
};
use sqlx::PgConnection;

mod store;

/// Adds an event of a company's, and answers its position.
pub async fn publish(tx: &mut PgConnection, company: CompanyId, kind: &str, payload: impl Serialize) -> Result<i64> {
    let payload = serde_json::to_value(payload).map_err(Error::internal)?;
    store::publish(tx, company, kind, &payload).await
}
