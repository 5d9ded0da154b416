//! SQL of who holds a run.

use service_kit::{error::Result, ids::ExecutionId};
use sqlx::PgConnection;

/// The address of the replica that holds a run which the caller may see, if one does.
pub(crate) async fn holder(tx: &mut PgConnection, id: ExecutionId) -> Result<Option<String>> {
    let address = sqlx::query_scalar!(
        "select i.address from execution.runs r join execution.instances i on i.id = r.owner
         where r.execution_id = $1 and i.lease_until > now()",
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(address)
}
