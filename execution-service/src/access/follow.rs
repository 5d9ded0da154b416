//! Follows the events that change core-service's answers, and tells the cache of them.
//!
//! The stream is opened again whenever it ends or falls silent, after the last position that was heard. Until then the cache
//! gives nothing out: calls ask core-service, or fail if it is not there.

use std::time::Duration;

use service_kit::{
    client,
    error::{Error, Result},
    status,
};
use studios_proto::core::FollowEventsRequest;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{CoreClient, convert};

/// How long the stream may take to open, and be silent then. Heartbeats come five times a second.
const SILENCE: Duration = Duration::from_secs(2);

/// How long after a stream the next one is opened: at first, and at most after many in vain.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Follows until the token fires.
pub(super) async fn run(core: CoreClient, stopping: CancellationToken) {
    let mut tries = 0;
    while let Some(error) = stopping.run_until_cancelled(listen(&core, &mut tries)).await {
        tries += 1;
        if tries == 1 {
            tracing::warn!(error = %error, "access events lost");
        }
        stopping.run_until_cancelled(sleep(pause(tries))).await;
    }
}

/// Follows until the stream ends, for the reason that this tells.
async fn listen(core: &CoreClient, tries: &mut u32) -> Error {
    let listened: Result<()> = async {
        let request = FollowEventsRequest {
            after: core.cache.heard(),
        };
        let call = client::call(Some(&core.identity), None, request, SILENCE);
        let mut access = core.access.clone();
        let answer = in_time(access.follow_events(call)).await?;
        let mut stream = answer.into_inner();
        while let Some(message) = in_time(stream.message()).await? {
            if let Some(session) = convert::ended_session(&message)? {
                core.revocations.add(session);
            }
            let (news, position) = convert::news(&message)?;
            core.cache.hear(news, position);
            if std::mem::take(tries) > 0 {
                tracing::info!(position, "access events followed again");
            }
        }
        Ok(())
    }
    .await;
    listened.err().unwrap_or(Error::Cancelled)
}

async fn in_time<T>(work: impl Future<Output = Result<T, tonic::Status>>) -> Result<T> {
    match timeout(SILENCE, work).await {
        Ok(answered) => answered.map_err(status::from_status),
        Err(_) => Err(Error::DeadlineExceeded),
    }
}

/// Half of it is chance, so that replicas do not come back all at once.
fn pause(tries: u32) -> Duration {
    let longest = FIRST_PAUSE.saturating_mul(1 << tries.min(10)).min(LONGEST_PAUSE);
    longest.mul_f64(rand::random_range(0.5..1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound() {
        for (tries, longest_ms) in [(1, 100), (2, 200), (5, 1000), (u32::MAX, 1000)] {
            let pause = pause(tries).as_millis();
            assert!((longest_ms / 2..=longest_ms).contains(&pause), "{tries}: {pause}");
        }
    }
}
