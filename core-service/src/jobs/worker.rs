//! The worker: claims due jobs in a short transaction, does them outside any, and gives back what fails.
//!
//! It looks for work when it is woken, when a job ends, and otherwise once a second. On the soft token it takes no more and
//! finishes what it has; on the hard one it drops that, and the leases run out.

use std::{convert::Infallible, future, pin::pin, sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use service_kit::{
    db::WorkerTx,
    error::{Error, Result},
    ids::CompanyId,
    lifecycle::Lifecycle,
    telemetry,
};
use sqlx::PgConnection;
use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::{Dispatch, Instrument, field, instrument::WithSubscriber};

use super::{Lease, Task, expiry, store};
use crate::{
    App,
    documents::process,
    files::{scan, sweep, tidy},
};

/// How long the worker waits before it looks for work again.
const POLL: Duration = Duration::from_secs(1);

/// How many jobs it does at once.
const CONCURRENCY: usize = 2;

/// How long a job is its holder's, who lengthens that while he is at it.
const LEASE: Duration = Duration::from_mins(1);

/// How often he does: a few times a lease, so that one that fails does no harm.
const RENEWAL: Duration = Duration::from_secs(20);

/// How long the first failed try is put off; each further one four times as long.
const FIRST_DELAY: Duration = Duration::from_secs(2);

/// A job that this process holds.
pub(super) struct Job {
    pub(super) lease: Lease,
    pub(super) company: CompanyId,
    /// `None` where its payload cannot be read.
    pub(super) task: Option<Task>,
    pub(super) max_tries: i32,
    /// Of the span that enqueued it; empty where there was none.
    pub(super) traceparent: String,
}

/// Does jobs, and now and then removes what has expired.
pub struct Worker {
    app: Arc<App>,
}

impl Worker {
    /// A worker of this service.
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }

    /// Works until the lifecycle's tokens end it.
    pub async fn run(self, lifecycle: Lifecycle) {
        let (soft, hard) = (lifecycle.soft(), lifecycle.hard());
        tokio::select! {
            () = hard.cancelled() => {}
            _ = async { tokio::join!(self.work(&soft), expiry::run(&self.app, &soft), tidy::run(&self.app, &soft)) } => {}
        }
    }

    async fn work(&self, soft: &CancellationToken) {
        let mut running = FuturesUnordered::new();
        while !soft.is_cancelled() {
            let free = CONCURRENCY - running.len();
            if free > 0 {
                // The jobs under way go on meanwhile; the claim is never dropped, or its leases would be lost.
                let mut claim = pin!(self.claim(free));
                let jobs = loop {
                    tokio::select! {
                        jobs = &mut claim => break jobs,
                        Some(()) = running.next() => {}
                    }
                };
                running.extend(jobs.into_iter().map(|job| self.attend(job)));
            }
            let has_room = running.len() < CONCURRENCY;
            tokio::select! {
                () = soft.cancelled() => {}
                Some(()) = running.next() => {}
                () = self.app.job_signal.woken(), if has_room => {}
                () = time::sleep(POLL), if has_room => {}
            }
        }
        while running.next().await.is_some() {}
    }

    async fn claim(&self, most: usize) -> Vec<Job> {
        let claim = async {
            let mut tx = WorkerTx::begin(&self.app.worker_pool, "jobs.claim").await?;
            let jobs = store::claim(&mut tx, i64::try_from(most).unwrap_or(i64::MAX), LEASE).await?;
            tx.commit().await?;
            Ok::<_, Error>(jobs)
        };
        // A look a second would be a trace a second.
        let result = claim.with_subscriber(Dispatch::none()).await;
        result.unwrap_or_else(|error| {
            tracing::warn!(error = %error, "cannot look for jobs");
            Vec::new()
        })
    }

    async fn attend(&self, job: Job) {
        let span = tracing::info_span!(
            "job",
            otel.name = job.task.map_or("unknown", Task::kind),
            otel.kind = "consumer",
            job = %job.lease.job,
            company = %job.company,
            document = job.task.and_then(|it| match it {
                Task::ProcessDocument { document } => Some(field::display(document)),
                Task::ScanFile { .. } | Task::SweepObjects => None,
            }),
            attempt = job.lease.number,
        );
        let span = telemetry::span_with_parent(&job.traceparent, span);
        async {
            let Err(error) = self.attempt(&job).await else { return };
            let cause = cause(&error);
            tracing::warn!(error = cause, "job failed");
            if let Err(error) = self.give_back(&job, &cause).await {
                tracing::warn!(error = %error, "failed job not given back: its lease will run out");
            }
        }
        .instrument(span)
        .await;
    }

    async fn attempt(&self, job: &Job) -> Result<()> {
        if job.lease.number > job.max_tries {
            return Err(Error::internal("its holder was lost at the last try"));
        }
        let task = job.task.ok_or_else(|| Error::internal("its payload cannot be read"))?;
        let work = async {
            match task {
                Task::ProcessDocument { document } => process::process(&self.app, job.lease, document).await,
                Task::ScanFile { file, version } => scan::work(&self.app, job.lease, file, version).await,
                Task::SweepObjects => sweep::work(&self.app, job.lease, job.company).await,
            }
        };
        tokio::select! {
            done = time::timeout(longest(task), work) => done.unwrap_or(Err(Error::DeadlineExceeded)),
            never = self.hold(job.lease) => match never {},
        }
    }

    /// Lengthens a lease as long as this is not dropped. One that has run out ends nothing: what is done under it will see.
    async fn hold(&self, lease: Lease) -> Infallible {
        loop {
            time::sleep(RENEWAL).await;
            let renew = async {
                let mut tx = WorkerTx::begin(&self.app.worker_pool, "jobs.renew").await?;
                let is_held = store::renew(&mut tx, lease, LEASE).await?;
                tx.commit().await?;
                Ok::<_, Error>(is_held)
            };
            match renew.await {
                Ok(true) => {}
                Ok(false) => return future::pending().await,
                Err(error) => tracing::warn!(error = %error, "lease not lengthened"),
            }
        }
    }

    /// Has a failed job tried again later, or ends it. Where somebody else holds it by now, it is his.
    async fn give_back(&self, job: &Job, error: &str) -> Result<()> {
        let mut tx = WorkerTx::begin(&self.app.worker_pool, "jobs.give_back").await?;
        let is_last = job.task.is_none() || job.lease.number >= job.max_tries;
        let is_held = if is_last {
            store::fail(&mut tx, job.lease, error).await?
        } else {
            store::postpone(&mut tx, job.lease, delay(job.lease.number), error).await?
        };
        if is_held && let Some(task) = job.task {
            tell(&mut tx, job.lease, task, is_last).await?;
        }
        tx.commit().await
    }
}

/// How long a try may take: a long text is read for minutes, and goes into the index for as long.
const fn longest(task: Task) -> Duration {
    match task {
        Task::ProcessDocument { .. } => Duration::from_mins(20),
        Task::ScanFile { .. } | Task::SweepObjects => Duration::from_secs(50),
    }
}

/// Tells what a job was for that it waits for another try, or that there is none.
async fn tell(tx: &mut PgConnection, lease: Lease, task: Task, is_last: bool) -> Result<()> {
    match task {
        Task::ProcessDocument { document } if is_last => process::give_up(tx, lease, document).await,
        Task::ProcessDocument { document } => process::wait(tx, document).await,
        Task::ScanFile { file, version } if is_last => scan::give_up(tx, file, version).await,
        Task::ScanFile { .. } | Task::SweepObjects => Ok(()),
    }
}

/// What went wrong, for operators.
fn cause(error: &Error) -> String {
    match error {
        Error::Internal(source) => source.to_string(),
        other => other.to_string(),
    }
}

/// How long after a failed try the next one is made.
fn delay(number: i32) -> Duration {
    FIRST_DELAY * 4_u32.pow(u32::try_from(number - 1).unwrap_or(0).min(4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_are_put_off_longer_and_longer_up_to_a_bound() {
        let delays = [1, 2, 3, 4, 5, 6, i32::MAX].map(|number| delay(number).as_secs());
        assert_eq!(delays, [2, 8, 32, 128, 512, 512, 512]);
    }
}
