//! SQL of the starts that a company may make, in its own transactions.

use std::time::Duration;

use service_kit::error::Result;
use sqlx::PgConnection;

use super::lease::{Grant, Plan};
use crate::worker::StartKey;

/// Takes at most so many starts of the transaction's company.
pub(super) async fn take(tx: &mut PgConnection, plan: &Plan, wanted: u32) -> Result<Grant> {
    let row = sqlx::query!(
        r#"select granted as "granted!", wait_us as "wait_us!" from execution.take_starts($1, $2, $3)"#,
        i32::try_from(wanted).unwrap_or(i32::MAX),
        plan.per_second,
        plan.burst,
    )
    .fetch_one(tx)
    .await?;
    Ok(Grant {
        starts: row.granted.unsigned_abs(),
        wait: Duration::from_micros(row.wait_us.unsigned_abs()),
    })
}

/// Whether the transaction's caller has made a start with this key, and it is remembered.
pub(super) async fn was_made(tx: &mut PgConnection, key: &StartKey) -> Result<bool> {
    let was_made = sqlx::query_scalar!(
        r#"select exists (
               select from execution.start_keys
               where company_id = (select execution.caller_company()) and caller_id = (select execution.caller_id())
                 and method = $1 and key = $2 and created_at > now() - interval '24 hours') as "was_made!""#,
        key.method,
        key.key,
    )
    .fetch_one(tx)
    .await?;
    Ok(was_made)
}
