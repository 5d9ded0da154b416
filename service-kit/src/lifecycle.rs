//! How a process stops: softly first, then hard.
//!
//! The soft token says: take no new work, end streams, finish what is under way. The hard one says: stop now. Every task
//! is spawned here, so that it is waited for and its panic is seen: a panic is logged and stops the process softly,
//! because a service without one of its tasks only looks alive.

use std::{any::Any, future::Future, panic::AssertUnwindSafe, process, time::Duration};

use futures::FutureExt;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long tasks have after the hard token.
const LAST_GRACE: Duration = Duration::from_secs(1);

/// The tokens and tasks of a process, or of one service in it.
#[derive(Debug, Clone, Default)]
pub struct Lifecycle {
    soft: CancellationToken,
    hard: CancellationToken,
    tasks: TaskTracker,
}

impl Lifecycle {
    /// Nothing runs and nothing is to stop.
    pub fn new() -> Self {
        Self::default()
    }

    /// Fires when no new work is to be taken and streams are to end.
    pub fn soft(&self) -> CancellationToken {
        self.soft.clone()
    }

    /// Fires when everything is to stop at once.
    pub fn hard(&self) -> CancellationToken {
        self.hard.clone()
    }

    /// Runs a future as a task, outside of the caller's span. It has to end by itself when a token fires.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let soft = self.soft.clone();
        // Not an async block, which would hold the future twice: as it was given and as it is awaited.
        let task = AssertUnwindSafe(future).catch_unwind().map(move |ended| {
            ended.unwrap_or_else(|panic| {
                tracing::error!(task = name, panic = panic_text(&*panic), "a task panicked: stopping");
                soft.cancel();
                std::panic::resume_unwind(panic)
            })
        });
        self.tasks.spawn(task)
    }

    /// Stops softly, waits so long for the tasks, then stops hard.
    pub async fn shut_down(&self, grace: Duration) {
        self.soft.cancel();
        self.tasks.close();
        if timeout(grace, self.tasks.wait()).await.is_ok() {
            self.hard.cancel();
            return;
        }
        tracing::warn!(tasks = self.tasks.len(), grace_ms = grace.as_millis(), "stopping hard");
        self.hard.cancel();
        if timeout(LAST_GRACE, self.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = self.tasks.len(), "leaving tasks behind");
        }
    }

    /// Lets SIGTERM and SIGINT stop the process: the first one softly, the second one at once.
    ///
    /// # Errors
    /// The operating system refuses a signal handler.
    pub fn install_signals(&self) -> std::io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let soft = self.soft.clone();
        // Not a tracked task: it lives until the process ends, and so would never let it end.
        #[expect(clippy::disallowed_methods, reason = "this is the lifecycle")]
        tokio::spawn(async move {
            let mut next = async || {
                tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                }
            };
            let first = next().await;
            tracing::info!(signal = first, "stopping");
            soft.cancel();
            let second = next().await;
            tracing::warn!(signal = second, "aborting");
            process::exit(130);
        });
        Ok(())
    }
}

/// What a panic said, if it said it in words.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_stops_the_process_softly_and_is_seen_by_who_waits() {
        let lifecycle = Lifecycle::new();
        let task = lifecycle.spawn("doomed", async { panic!("boom") });
        lifecycle.soft().cancelled().await;
        assert!(task.await.unwrap_err().is_panic());
        assert!(!lifecycle.hard().is_cancelled());
    }

    #[tokio::test]
    async fn shutting_down_waits_for_tasks_that_heed_the_soft_token() {
        let lifecycle = Lifecycle::new();
        let (soft, hard) = (lifecycle.soft(), lifecycle.hard());
        let task = lifecycle.spawn("worker", async move {
            soft.cancelled().await;
            tokio::task::yield_now().await;
            hard.is_cancelled()
        });
        lifecycle.shut_down(Duration::from_mins(1)).await;
        assert!(!task.await.unwrap(), "it had the time to finish");
        assert!(lifecycle.hard().is_cancelled());
    }

    #[tokio::test]
    async fn a_task_that_ignores_the_soft_token_gets_the_hard_one() {
        let lifecycle = Lifecycle::new();
        let hard = lifecycle.hard();
        let task = lifecycle.spawn("worker", async move { hard.cancelled().await });
        lifecycle.shut_down(Duration::from_millis(20)).await;
        task.await.unwrap();
    }
}
