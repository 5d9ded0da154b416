//! Letting go of attempts that nobody can want any more: their plan is deleted, or their owner has lost its studio.
//!
//! Whichever replica deletes a plan, the one that has it written looks at its rows twice a second and finds it gone, in one
//! statement for all that are written here; where both are one process it knows at once. So the call to the model is given up
//! within a second, and nothing has to reach anybody for that.

use std::{collections::HashSet, time::Duration};

use service_kit::{
    db,
    error::Error,
    ids::{StudioId, UserId},
};
use tokio::time::sleep;

use super::{engine_store, generating::Generator};
use crate::worker::Engine;

/// How often.
const INTERVAL: Duration = Duration::from_millis(500);

/// Looks until the service stops.
pub(super) async fn keep(generator: Generator) {
    let stopping = generator.stopping();
    let work = async {
        loop {
            sleep(INTERVAL).await;
            if let Err(error) = look(&generator).await {
                tracing::warn!(error = %error, "plans that are written could not be looked at");
            }
        }
    };
    let _stopped = stopping.run_until_cancelled(work).await;
}

async fn look(generator: &Generator) -> sqlx::Result<()> {
    // Before the rows are read: what begins later is not missed among them.
    let written = generator.live().written();
    let (false, Some(lease)) = (written.is_empty(), generator.engine().lease()) else {
        return Ok(());
    };
    let reserved = db::with(generator.engine().pool(), async |it| {
        engine_store::reserved(it, lease.instance).await
    });
    let reserved: HashSet<_> = reserved.await?.into_iter().collect();
    for (_, abandoned) in written.into_iter().filter(|(plan, _)| !reserved.contains(plan)) {
        abandoned.cancel();
    }
    Ok(())
}

/// Fires when a user does not reach a studio any more. While core-service does not answer nobody has lost anything.
pub(super) async fn out_of_reach(engine: &Engine, user: UserId, studio: StudioId) {
    loop {
        sleep(INTERVAL).await;
        // The question is larger than all else that an attempt waits with, and is mostly answered from memory.
        let reach = Box::pin(engine.reach(user, studio));
        if let Err(Error::NotFound { .. } | Error::PermissionDenied { .. }) = reach.await {
            return;
        }
    }
}
