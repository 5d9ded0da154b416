//! What has to be kept in order from time to time: partitions to come, what ran out or is done, instances that are gone,
//! workflows that were deleted long ago.

use std::{sync::Arc, time::Duration};

use service_kit::db;
use tokio::time::sleep;

use super::{
    Shared, children,
    store::{flows, upkeep},
};
use crate::{plans, workflows::erasure};

/// How often. Every instance does it; doing it twice does no harm.
const INTERVAL: Duration = Duration::from_mins(10);
/// How long to wait after a failure.
const PAUSE: Duration = Duration::from_secs(30);

/// Keeps order until the service stops.
pub(super) async fn keep(shared: Arc<Shared>) {
    let soft = shared.lifecycle.soft();
    let work = async {
        loop {
            let pause = match tidy(&shared).await {
                Ok(()) => INTERVAL,
                Err(error) => {
                    tracing::warn!(error = %error, "upkeep failed");
                    PAUSE
                }
            };
            sleep(pause).await;
        }
    };
    let _stopped = soft.run_until_cancelled(work).await;
}

async fn tidy(shared: &Shared) -> sqlx::Result<()> {
    let pool = &shared.pool;
    let made = db::with(pool, upkeep::ensure_partitions).await?;
    if made > 0 {
        tracing::info!(made, "partitions made");
    }
    db::with(pool, upkeep::forget_instances).await?;
    while db::with(pool, upkeep::forget_commands).await? {}
    while db::with(pool, upkeep::forget_keys).await? {}
    while db::with(pool, flows::forget_outcomes).await? {}
    while db::with(pool, plans::forget_attempts).await? {}
    children::stop_left_behind(shared).await?;
    db::with(pool, upkeep::forget_start_rates).await?;
    erasure::erase(pool).await
}
