//! How attempts come here that nobody makes: those that found no room, and those whose process is gone.
//!
//! Every other second, sooner when one was reserved without room. A claim's lost answer leaves attempts owned by this instance but
//! unknown to it: they are older than any attempt may be, and are claimed again.

use std::time::Duration;

use service_kit::db;
use tokio::time::sleep;

use super::{
    engine_store,
    generating::{Generator, Room},
};

/// How often attempts are claimed.
const INTERVAL: Duration = Duration::from_secs(2);
/// The most that are claimed at once.
const BATCH: usize = 64;

/// Claims until the service stops.
pub(super) async fn keep(generator: Generator) {
    let stopping = generator.stopping();
    let work = async {
        loop {
            let is_more = claim(&generator).await.unwrap_or_else(|error| {
                tracing::warn!(error = %error, "no plans could be claimed");
                false
            });
            if is_more {
                continue;
            }
            tokio::select! {
                () = sleep(INTERVAL) => {}
                () = generator.nudged() => {}
            }
        }
    };
    let _stopped = stopping.run_until_cancelled(work).await;
}

/// Claims what there is room for; whether there may be more.
async fn claim(generator: &Generator) -> sqlx::Result<bool> {
    let mut rooms: Vec<_> = (0..generator.rooms().min(BATCH))
        .map_while(|_| generator.room())
        .collect();
    let Some(instance) = rooms.first().map(Room::instance) else {
        return Ok(false);
    };
    // The lease may have been lost between two of them.
    rooms.retain(|it| it.instance() == instance);
    let held = generator.live().all();
    let limit = i64::try_from(rooms.len()).unwrap_or(i64::MAX);
    let claimed = db::with(generator.engine().pool(), async |it| {
        engine_store::claim(it, instance, &held, limit).await
    });
    let claimed = claimed.await?;
    let is_full = claimed.len() == rooms.len();
    let taken_over = claimed.iter().filter(|it| it.takeovers > 0).count();
    if taken_over > 0 {
        tracing::info!(plans = taken_over, "attempts at plans taken over, or given back");
    }
    for (run, room) in claimed.into_iter().zip(rooms) {
        generator.begin(run, room);
    }
    Ok(is_full)
}
