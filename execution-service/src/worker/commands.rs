//! Commands: what others ask of a run that is held here. Whoever asks leaves a row; the holder turns it into an entry.
//!
//! One poll a second looks for all held runs, a nudge sooner for one. A poll repeats itself until the command is done, so a
//! wake-up that is lost costs a second and nothing else.

use std::{sync::Arc, time::Duration};

use service_kit::ids::{ExecutionId, UserId};
use sqlx::PgPool;
use tokio::{sync::watch, time::sleep};

use super::{Shared, store};

/// How often the commands of all held runs are looked for.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long to wait before asking again a database that did not answer.
const PAUSE: Duration = Duration::from_millis(250);

/// Looks for commands until the service stops and no run is held.
pub(super) async fn poll(shared: Arc<Shared>) {
    let soft = shared.lifecycle.soft();
    let work = async {
        loop {
            shared.held.any().await;
            if let Err(error) = announce(&shared).await {
                tracing::warn!(error = %error, "commands could not be looked for");
            }
            sleep(INTERVAL).await;
        }
    };
    let drained = async {
        soft.cancelled().await;
        shared.held.none().await;
    };
    tokio::select! {
        () = drained => {}
        () = work => {}
    }
}

async fn announce(shared: &Shared) -> sqlx::Result<()> {
    let Some(instance) = shared.lease.borrow().as_ref().map(|lease| lease.instance) else {
        return Ok(());
    };
    let commanded = store::commanded(&mut *shared.pool.acquire().await?, instance).await?;
    for (execution, commands_seq) in commanded {
        shared.held.announce(execution, commands_seq);
    }
    Ok(())
}

/// Looks at an execution's commands now: its run reads them, or, where nobody holds it, it is claimed.
pub(super) fn nudge(shared: &Shared, execution: ExecutionId) {
    if !shared.held.announce(execution, 0) {
        shared.claim_now.notify_one();
    }
}

/// A wish to stop.
#[derive(Debug)]
pub(super) struct Cancel {
    pub by: UserId,
    pub reason: String,
}

/// A held run's commands.
#[derive(Debug)]
pub(super) struct Commands {
    pool: PgPool,
    execution: ExecutionId,
    announced: watch::Receiver<i64>,
    /// Those up to here were read.
    pub seen: i64,
}

impl Commands {
    pub(super) fn new(pool: PgPool, execution: ExecutionId, announced: watch::Receiver<i64>, seen: i64) -> Self {
        Self {
            pool,
            execution,
            announced,
            seen,
        }
    }

    /// A wish to stop, if one has been announced.
    pub(super) async fn cancel_announced(&mut self) -> Option<Cancel> {
        if !self.announced.has_changed().unwrap_or(false) {
            return None;
        }
        self.announced.mark_unchanged();
        self.read().await
    }

    /// Waits for a wish to stop. Can be given up and waited for again.
    pub(super) async fn cancel(&mut self) -> Cancel {
        loop {
            if self.announced.changed().await.is_err() {
                // The run's place is gone, and with it the run.
                std::future::pending::<()>().await;
            }
            // Announced anew if reading is given up half-way.
            self.announced.mark_changed();
            let cancel = self.read().await;
            self.announced.mark_unchanged();
            if let Some(cancel) = cancel {
                return cancel;
            }
        }
    }

    async fn read(&mut self) -> Option<Cancel> {
        loop {
            match self.unseen().await {
                Ok(commands) => {
                    let mut cancel = None;
                    for command in commands {
                        self.seen = command.seq;
                        if command.kind == "cancel" && cancel.is_none() {
                            let reason = command.payload.get("reason").and_then(|reason| reason.as_str());
                            cancel = Some(Cancel {
                                by: command.issued_by,
                                reason: reason.unwrap_or_default().to_owned(),
                            });
                        }
                    }
                    return cancel;
                }
                Err(error) => {
                    tracing::warn!(error = %error, "commands could not be read");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    async fn unseen(&self) -> sqlx::Result<Vec<store::Command>> {
        store::commands(&mut *self.pool.acquire().await?, self.execution, self.seen).await
    }
}
