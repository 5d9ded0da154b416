//! SQL of the outbox.

use serde_json::Value;
use service_kit::{error::Result, ids::CompanyId};
use sqlx::PgConnection;

pub(super) async fn publish(tx: &mut PgConnection, company: CompanyId, kind: &str, payload: &Value) -> Result<i64> {
    let position = sqlx::query_scalar!(
        r#"select core.publish_event($1, $2, $3) as "position!""#,
        company.as_uuid(),
        kind,
        payload,
    )
    .fetch_one(tx)
    .await?;
    Ok(position)
}
