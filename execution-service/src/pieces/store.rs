//! SQL of what those who may see an execution know of its flows. The id of a run is in no column that this role reads.

use serde_json::Value;
use service_kit::{
    error::Result,
    ids::{ConnectionId, ExecutionId},
};
use sqlx::{PgConnection, types::Json};

use super::started::{Cancel, StartedRun};
use crate::engine::journal::StageTry;

/// The most runs that are listed.
const MOST: i64 = 1_000;

/// The runs of flows of an execution, in the order of their starts.
pub(super) async fn runs(tx: &mut PgConnection, execution: ExecutionId) -> Result<Vec<StartedRun>> {
    let rows = sqlx::query!(
        r#"select stage, visit, item, attempt, connection_id as "connection: ConnectionId", flow_id, taken, state, state_since,
                  look_at, cancel, steps as "steps: Json<Vec<Value>>", ended_at, created_at
           from execution.flow_runs where execution_id = $1
           order by created_at, stage, visit, item, attempt, round
           limit $2"#,
        execution.as_uuid(),
        MOST,
    )
    .fetch_all(tx)
    .await?;
    let number = |it: i32| u32::try_from(it).unwrap_or(0);
    let runs = rows.into_iter().map(|row| StartedRun {
        of: StageTry {
            stage: row.stage,
            visit: number(row.visit),
            item: number(row.item),
            attempt: number(row.attempt),
        },
        connection: row.connection,
        flow: row.flow_id,
        state: row.state,
        state_since: row.state_since,
        taken: row.taken,
        cancel: row.cancel.as_deref().and_then(Cancel::parse),
        steps: row.steps.map(|it| it.0).unwrap_or_default(),
        created_at: row.created_at,
        ended_at: row.ended_at,
        look_at: row.look_at,
    });
    Ok(runs.collect())
}
