//! Claiming: how runs come here that nobody holds: those that are due, and those whose instance has died.
//!
//! Once a second, sooner when a run was started without room or the last claim left some behind. What a claim's lost answer
//! leaves owned by this instance but unknown to it is found again, by looking twice at what it owns: what is not held at
//! either time, and did not change between, has nobody working on it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use service_kit::ids::ExecutionId;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Lease, Shared,
    connection::{OwnConnection, Trouble},
    run,
    store::claims,
};

/// How often runs are claimed.
const INTERVAL: Duration = Duration::from_secs(1);
/// The most that are claimed at once.
const BATCH: usize = 64;
/// The most runs with commands that are claimed at once when there is no room.
const OVER: i64 = 16;
/// How often forgotten runs are looked for.
const SEARCH: Duration = Duration::from_secs(5);

/// Claims until the service stops. A claim under way is waited for, so that what it brings is given back; `over` fires when
/// none can follow.
pub(super) async fn keep(shared: Arc<Shared>, over: CancellationToken) {
    let _over = over.drop_guard();
    let connection = OwnConnection::new(shared.pool.clone());
    let next_search = Instant::now() + SEARCH;
    let mut claimer = Claimer {
        shared,
        connection,
        suspects: HashMap::new(),
        next_search,
    };
    claimer.work().await;
}

struct Claimer {
    shared: Arc<Shared>,
    connection: OwnConnection,
    /// Owned but not held when that was last looked at, with their epochs.
    suspects: HashMap<ExecutionId, i32>,
    next_search: Instant,
}

impl Claimer {
    async fn work(&mut self) {
        let soft = self.shared.lifecycle.soft();
        while !soft.is_cancelled() {
            let left_behind = self.claim().await.unwrap_or_else(|error| {
                tracing::warn!(error = %error, "nothing could be claimed");
                false
            });
            if soft.is_cancelled() {
                return;
            }
            if Instant::now() >= self.next_search {
                self.next_search = Instant::now() + SEARCH;
                if let Err(error) = self.search().await {
                    tracing::warn!(error = %error, "forgotten runs could not be looked for");
                }
            }
            if left_behind && self.shared.held.room() > 0 {
                continue;
            }
            let shared = self.shared.clone();
            tokio::select! {
                () = sleep(INTERVAL) => {}
                () = shared.claim_now.notified() => {}
                () = shared.held.changed(), if left_behind => {}
                () = soft.cancelled() => {}
            }
        }
    }

    /// Claims what there is room for. True if there may be more.
    async fn claim(&mut self) -> Result<bool, Trouble> {
        let Some(lease) = self.lease() else { return Ok(false) };
        let room = self.shared.held.room().min(BATCH);
        let limit = if room == 0 {
            OVER
        } else {
            i64::try_from(room).unwrap_or(i64::MAX)
        };
        let claimed = self
            .connection
            .with(async |connection| claims::claim(connection, lease.instance, limit, room == 0).await)
            .await?;
        let left_behind = room == 0 || claimed.len() == room;
        let taken_over = claimed.iter().filter(|run| run.takeovers > 0).count();
        if taken_over > 0 {
            tracing::info!(runs = taken_over, "runs taken over, or given back with a call cut");
        }
        for run in claimed {
            self.take(&lease, run);
        }
        Ok(left_behind)
    }

    fn take(&self, lease: &Lease, claimed: claims::Claimed) {
        // None while its last holder here winds down; then it is found by the search.
        let Some(place) = self.shared.held.enter_over(claimed.execution) else {
            return;
        };
        if claimed.commands_seq > claimed.commands_done {
            self.shared.held.announce(claimed.execution, claimed.commands_seq);
        }
        run::take_up(self.shared.clone(), lease.clone(), claimed, place);
    }

    /// Takes up what this instance owns and nobody works on.
    async fn search(&mut self) -> Result<(), Trouble> {
        let Some(lease) = self.lease() else { return Ok(()) };
        let owned = self
            .connection
            .with(async |connection| claims::owned(connection, lease.instance).await)
            .await?;
        let unheld: HashMap<_, _> = owned
            .into_iter()
            .filter(|(execution, _)| !self.shared.held.contains(*execution))
            .collect();
        let forgotten: Vec<_> = unheld
            .iter()
            .filter(|(execution, epoch)| self.suspects.get(execution) == Some(epoch))
            .map(|(execution, _)| *execution)
            .collect();
        self.suspects = unheld;
        if forgotten.is_empty() {
            return Ok(());
        }
        tracing::warn!(runs = forgotten.len(), "forgotten runs found");
        let reclaimed = self
            .connection
            .with(async |connection| claims::reclaim(connection, lease.instance, &forgotten).await)
            .await?;
        for run in reclaimed {
            self.take(&lease, run);
        }
        Ok(())
    }

    fn lease(&self) -> Option<Lease> {
        self.shared.lease.borrow().clone()
    }
}
