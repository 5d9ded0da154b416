//! Hears of the sessions that end in other replicas, so that their tokens are refused in this one too.

use std::{sync::Arc, time::Duration};

use service_kit::error::Error;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    App,
    outbox::{Event, Follower, Told},
};

/// How long after following failed it is begun again.
const PAUSE: Duration = Duration::from_millis(250);

/// Hears of them until the token fires.
pub async fn hear_of_ended_sessions(app: Arc<App>, stopping: CancellationToken) {
    let mut is_well = true;
    while let Some(error) = stopping.run_until_cancelled(follow(&app, &mut is_well)).await {
        if std::mem::take(&mut is_well) && !stopping.is_cancelled() {
            tracing::warn!(error = %error, "ends of sessions not heard of");
        }
        stopping.run_until_cancelled(sleep(PAUSE)).await;
    }
}

/// Follows until that fails, for the reason that this tells. Who begins anew is told of those that ended lately.
async fn follow(app: &App, is_well: &mut bool) -> Error {
    let mut follower = match Follower::open(&app.outbox, None).await {
        Ok(follower) => follower,
        Err(error) => return error,
    };
    loop {
        match follower.next().await {
            Ok(Told::Event(published)) => {
                if let Some(Event::SessionEnded { session }) = published.event {
                    app.revocations.add(session);
                }
            }
            Ok(Told::Heartbeat(_) | Told::Reset(_)) => {
                if !std::mem::replace(is_well, true) {
                    tracing::info!("ends of sessions heard of again");
                }
            }
            Err(error) => return error,
        }
    }
}
