//! Claiming: how runs come here that nobody holds: those that are due, and those whose instance has died.
//!
//! Once a second, sooner when a run was started without room or the last claim left some behind. What a claim's lost answer
//! leaves owned by this instance but unknown to it is found again, by looking twice at what it owns: what is not held at
//! either time, and did not change between, has nobody working on it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use service_kit::ids::{CompanyId, ExecutionId};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Lease, Shared,
    connection::{OwnConnection, Trouble},
    held::Place,
    run,
    store::claims,
};

/// How often runs are claimed.
const INTERVAL: Duration = Duration::from_secs(1);
/// How soon again when more is due than a claim looked at, and it brought nothing.
const SOON: Duration = Duration::from_millis(50);
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
        after: None,
        suspects: HashMap::new(),
        next_search,
    };
    claimer.work().await;
}

/// What a claim left behind.
#[derive(Clone, Copy)]
enum Left {
    /// All that was due has come.
    Nothing,
    /// There may be more.
    More,
    /// There is more, but not where it looked.
    Unseen,
}

struct Claimer {
    shared: Arc<Shared>,
    connection: OwnConnection,
    /// The company whose turn was last.
    after: Option<CompanyId>,
    /// Owned but not held when that was last looked at, with their epochs.
    suspects: HashMap<ExecutionId, i32>,
    next_search: Instant,
}

impl Claimer {
    async fn work(&mut self) {
        let soft = self.shared.lifecycle.soft();
        while !soft.is_cancelled() {
            let left = self.claim().await.unwrap_or_else(|error| {
                tracing::warn!(error = %error, "nothing could be claimed");
                Left::Nothing
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
            let pause = match left {
                Left::More if self.shared.held.room() > 0 => continue,
                Left::More | Left::Nothing => INTERVAL,
                Left::Unseen => SOON,
            };
            let shared = self.shared.clone();
            tokio::select! {
                () = sleep(pause) => {}
                () = shared.claim_now.notified() => {}
                () = shared.held.changed(), if matches!(left, Left::More) => {}
                () = soft.cancelled() => {}
            }
        }
    }

    /// Claims what there is room for.
    async fn claim(&mut self) -> Result<Left, Trouble> {
        let Some(lease) = self.lease() else {
            return Ok(Left::Nothing);
        };
        let room = self.shared.held.room().min(BATCH);
        let limit = if room == 0 {
            OVER
        } else {
            i64::try_from(room).unwrap_or(i64::MAX)
        };
        let after = self.after;
        let claim = self
            .connection
            .with(async |connection| claims::claim(connection, lease.instance, limit, room == 0, after).await)
            .await?;
        self.after = claim.after;
        let left = if room == 0 || claim.runs.len() == room || claim.more && !claim.runs.is_empty() {
            Left::More
        } else if claim.more {
            Left::Unseen
        } else {
            Left::Nothing
        };
        let taken_over = claim.runs.iter().filter(|run| run.takeovers > 0).count();
        if taken_over > 0 {
            tracing::info!(runs = taken_over, "runs taken over, or given back with a call cut");
        }
        for run in claim.runs {
            self.take(&lease, run);
        }
        Ok(left)
    }

    fn take(&self, lease: &Lease, claimed: claims::Claimed) {
        let (shared, lease) = (self.shared.clone(), lease.clone());
        let mut place = shared.held.enter_over(claimed.execution);
        if let Ok(place) = place.try_recv() {
            return take_up(shared, lease, claimed, place);
        }
        // Its last holder here winds down.
        let lifecycle = self.shared.lifecycle.clone();
        lifecycle.spawn("engine.take", async move {
            let lost = lease.lost.clone();
            if let Some(Ok(place)) = lost.run_until_cancelled(place).await {
                take_up(shared, lease, claimed, place);
            }
        });
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

fn take_up(shared: Arc<Shared>, lease: Lease, claimed: claims::Claimed, place: Place) {
    if claimed.commands_seq > claimed.commands_done {
        shared.held.hint(claimed.execution);
    }
    run::take_up(shared, lease, claimed, place);
}
