//! SQL of plans.

use service_kit::error::Result;
use sqlx::PgConnection;

use super::Plan;

pub(super) async fn list(tx: &mut PgConnection) -> Result<Vec<Plan>> {
    let plans = sqlx::query_as!(
        Plan,
        "select code, display_name, executions_per_month, concurrent_executions, storage_bytes, tokens_per_month,
                cost_micros_per_month, members, studios
         from core.plans order by rank",
    )
    .fetch_all(tx)
    .await?;
    Ok(plans)
}
