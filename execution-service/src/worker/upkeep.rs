//! What has to be kept in order from time to time: partitions to come, keys that ran out, instances that are gone.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{Shared, store::upkeep};

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
    let mut connection = shared.pool.acquire().await?;
    let made = upkeep::ensure_partitions(&mut connection).await?;
    if made > 0 {
        tracing::info!(made, "partitions made");
    }
    upkeep::forget_instances(&mut connection).await?;
    while upkeep::forget_keys(&mut connection).await? {}
    Ok(())
}
