//! The poll: what brings the commands of held runs to them. One statement a second for all of them, sooner for a hint.
//!
//! A poll brings a command again until it is done, so a wake-up that is lost costs a second and nothing else.

use std::{collections::HashMap, sync::Arc, time::Duration};

use service_kit::{db, ids::ExecutionId};
use tokio::time::sleep;

use super::{
    Shared,
    store::{self, MOST_COMMANDS},
};

/// How often.
const INTERVAL: Duration = Duration::from_secs(1);

/// Looks for commands until the service stops and no run is held.
pub(super) async fn keep(shared: Arc<Shared>) {
    let soft = shared.lifecycle.soft();
    let work = async {
        loop {
            shared.held.any().await;
            if let Err(error) = poll(&shared).await {
                tracing::warn!(error = %error, "commands could not be looked for");
            }
            tokio::select! {
                () = sleep(INTERVAL) => {}
                () = shared.poll_now.notified() => {}
            }
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

async fn poll(shared: &Shared) -> sqlx::Result<()> {
    let Some(instance) = shared.lease.borrow().as_ref().map(|lease| lease.instance) else {
        return Ok(());
    };
    let commands = db::with(&shared.pool, async |it| store::commands_of(it, instance).await).await?;
    let mut by_run: HashMap<ExecutionId, Vec<_>> = HashMap::new();
    for (execution, command) in commands {
        by_run.entry(execution).or_default().push(command);
    }
    for (execution, commands) in by_run {
        if commands.len() >= MOST_COMMANDS {
            shared.held.hint(execution);
        }
        shared.held.bring(execution, commands);
    }
    Ok(())
}

/// Looks at an execution's commands now: its run reads them, or its holder elsewhere is told; where nobody holds it, it is claimed.
pub(super) fn nudge(shared: &Shared, execution: ExecutionId) {
    if !shared.held.hint(execution) {
        shared.claim_now.notify_one();
        shared.hints.commanded(execution);
    }
}
