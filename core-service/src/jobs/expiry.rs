//! Removes what has expired, now and then and a little at a time: request ids, sessions with their tokens, rates, events,
//! mails, notifications, archives, failed jobs.

use std::time::Duration;

use service_kit::{db::WorkerTx, error::Result};
use tokio::time;
use tokio_util::sync::CancellationToken;

use super::store;
use crate::{App, auth, mails, notifications, outbox, privacy, requests};

const EVERY: Duration = Duration::from_mins(10);

/// How long a failed job is kept.
const FAILED_JOB: Duration = Duration::from_hours(30 * 24);

/// How many rows one transaction removes.
const BATCH: u64 = 1000;

/// Removes until the token fires.
pub(super) async fn run(app: &App, soft: &CancellationToken) {
    while soft.run_until_cancelled(time::sleep(EVERY)).await.is_some() {
        let mut is_more_left = true;
        while is_more_left && !soft.is_cancelled() {
            is_more_left = remove(app).await.unwrap_or_else(|error| {
                tracing::warn!(error = %error, "cannot remove what has expired");
                false
            });
        }
    }
}

/// Removes a batch of each kind, and says whether there may be more.
async fn remove(app: &App) -> Result<bool> {
    let limit = i64::try_from(BATCH).unwrap_or(i64::MAX);
    let requests = requests::remove_expired(&app.worker_pool, limit).await?;
    let sessions = auth::remove_expired(&app.worker_pool, app.clock.now(), limit).await?;
    let events = outbox::trim(&app.worker_pool, limit).await?;
    let rates = auth::remove_expired_rates(&app.worker_pool, limit).await?;
    let mails = mails::remove_expired(&app.worker_pool, app.mail.retention, limit).await?;
    let archives = privacy::remove_expired(app, limit).await?;
    let notifications = notifications::remove_expired(&app.worker_pool, limit).await?;
    let mut tx = WorkerTx::begin(&app.worker_pool, "jobs.remove_failed").await?;
    let jobs = store::remove_failed(&mut tx, FAILED_JOB, limit).await?;
    tx.commit().await?;
    let most = requests
        .max(sessions)
        .max(rates)
        .max(events)
        .max(mails)
        .max(notifications)
        .max(archives)
        .max(jobs);
    if most > 0 {
        tracing::info!(
            requests,
            sessions,
            rates,
            events,
            mails,
            notifications,
            jobs,
            "expired rows removed"
        );
    }
    Ok(most == BATCH)
}
