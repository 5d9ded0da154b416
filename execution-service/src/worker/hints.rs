//! Hints between instances: that a run another one holds has a command, and that something is due which has no room here.
//!
//! They make things happen sooner and are never needed: whoever misses one finds the same by its polls within a second, as it is
//! where a pooler passes no notifications on. What is to be said while one notification is under way is said by the next, and a
//! notification is sent only where somebody is there to hear it.

use std::{
    collections::HashSet,
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use service_kit::{db, ids::ExecutionId};
use sqlx::{
    PgPool,
    postgres::{PgListener, PgPoolOptions},
};
use tokio::{sync::Notify, time::sleep};

use super::{Shared, store::hints};

/// How far two notifications of an instance are apart at least.
const GAP: Duration = Duration::from_millis(50);
/// How long to wait before listening again after a failure.
const PAUSE: Duration = Duration::from_secs(5);
/// The most runs that are named before one is left to the polls.
const MOST: usize = 1_024;

/// What is to be said to the others.
#[derive(Debug, Default)]
pub(super) struct Hints {
    pending: Mutex<Pending>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Pending {
    commanded: HashSet<ExecutionId>,
    due: bool,
}

impl Hints {
    /// A run that is not held here has a command.
    pub(super) fn commanded(&self, execution: ExecutionId) {
        self.add(|pending| {
            if pending.commanded.len() < MOST {
                pending.commanded.insert(execution);
            }
        });
    }

    /// Something is due that has no room here.
    pub(super) fn due(&self) {
        self.add(|pending| pending.due = true);
    }

    fn add(&self, change: impl FnOnce(&mut Pending)) {
        change(&mut self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_one();
    }

    fn take(&self) -> Pending {
        mem::take(&mut self.pending.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Sends hints until the service stops.
pub(super) async fn send(shared: Arc<Shared>) {
    let soft = shared.lifecycle.soft();
    let work = async {
        loop {
            shared.hints.wake.notified().await;
            send_now(&shared).await;
            sleep(GAP).await;
        }
    };
    let _stopped = soft.run_until_cancelled(work).await;
}

/// Sends what is to be said.
pub(super) async fn send_now(shared: &Shared) {
    let Pending { commanded, due } = shared.hints.take();
    let Some(instance) = shared.lease.borrow().as_ref().map(|lease| lease.instance) else {
        return;
    };
    let commanded: Vec<_> = commanded.into_iter().collect();
    let sent = db::with(&shared.pool, async |it| {
        hints::send(it, instance, &commanded, due).await
    });
    if let Err(error) = sent.await {
        tracing::debug!(error = %error, "a hint could not be sent");
    }
}

/// Does what the others' hints say, until the service stops.
pub(super) async fn listen(shared: Arc<Shared>) {
    // A connection of its own, as it is kept.
    let options = shared.pool.connect_options().as_ref().clone();
    let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(options);
    let soft = shared.lifecycle.soft();
    let work = async {
        loop {
            if let Err(error) = listen_until_lost(&shared, &pool).await {
                tracing::debug!(error = %error, "no hints are heard");
            }
            sleep(PAUSE).await;
        }
    };
    let _stopped = soft.run_until_cancelled(work).await;
}

async fn listen_until_lost(shared: &Shared, pool: &PgPool) -> sqlx::Result<()> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(hints::CHANNEL).await?;
    while let Some(hint) = listener.try_recv().await? {
        let instance = shared.lease.borrow().as_ref().map(|lease| lease.instance.to_string());
        for name in hint.payload().split(' ') {
            if name == hints::DUE {
                shared.claim_now.notify_one();
            } else if Some(name) == instance.as_deref() {
                shared.poll_now.notify_one();
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_often_before_it_is_sent_is_sent_once() {
        let hints = Hints::default();
        let execution = ExecutionId::generate();
        for _ in 0..3 {
            hints.commanded(execution);
            hints.due();
        }
        let pending = hints.take();
        assert_eq!((pending.commanded.len(), pending.due), (1, true));
        let pending = hints.take();
        assert_eq!((pending.commanded.len(), pending.due), (0, false));
    }
}
