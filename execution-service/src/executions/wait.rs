//! Waiting for an execution to rest, without watching it.
//!
//! Of a run that this process holds it is known when it ends; one that another process runs, or nobody, is looked at again
//! and again. Who waits is bound by his deadline and lets go when the process stops.

use std::time::Duration;

use service_kit::{auth::Caller, error::Result, ids::ExecutionId};
use tokio::time::{Instant, sleep_until};

use super::{Execution, Status, enter, read};
use crate::App;

/// How long is waited where nobody says.
pub(super) const USUAL: Duration = Duration::from_secs(30);
/// The longest that is waited: less than what any call may take.
pub(super) const LONGEST: Duration = Duration::from_secs(50);
/// How often a run is looked at that is not held here.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// The execution once it rests, or as it is when the time is over.
pub(super) async fn wait(app: &App, caller: &Caller, id: ExecutionId, at_most: Duration) -> Result<Execution> {
    let deadline = Instant::now() + at_most;
    let mut access = enter(app, caller, id).await?;
    // Listened to before the first look: what happens between the two is not missed.
    let mut holding = app.engine.live().holding(id);
    let stopping = app.lifecycle.soft();
    loop {
        tokio::select! {
            () = holding.over() => {}
            () = sleep_until(deadline) => {}
            () = stopping.cancelled() => {}
        }
        let execution = read(app, &access, id).await?;
        if rests(execution.summary.status) || Instant::now() >= deadline || stopping.is_cancelled() {
            return Ok(execution);
        }
        // Nobody here holds it.
        tokio::select! {
            () = holding.begins() => {}
            () = sleep_until((Instant::now() + POLL_INTERVAL).min(deadline)) => {}
        }
        access = enter(app, caller, id).await?;
    }
}

fn rests(status: Status) -> bool {
    match status {
        Status::Pending | Status::Running => false,
        Status::Completed | Status::Failed | Status::Paused | Status::Cancelled => true,
    }
}
