//! What time takes away: uploads that were not finished, files whose retention is over, and then their objects.
//!
//! A row that goes leaves a removal of its name in the same commit, so that no crash leaves an object behind: the store is asked
//! until it has done it. Every replica does this; done twice, nothing happens the second time.

use std::time::Duration;

use service_kit::{
    db::WorkerTx,
    error::{Error, Result},
};
use tokio::time;
use tokio_util::sync::CancellationToken;

use super::{RETENTION, worker_store};
use crate::{App, objects::Key};

const EVERY: Duration = Duration::from_secs(10);

/// How many of a kind are taken at a time.
const BATCH: i64 = 100;

/// Tidies until the token fires.
pub async fn run(app: &App, soft: &CancellationToken) {
    while !soft.is_cancelled() {
        if let Err(error) = tidy(app).await {
            tracing::warn!(error = %error, "cannot remove what has expired of files");
        }
        tokio::select! {
            () = soft.cancelled() => {}
            () = app.files.untidy.notified() => {}
            () = time::sleep(EVERY) => {}
        }
    }
}

async fn tidy(app: &App) -> Result<()> {
    let mut tx = WorkerTx::begin(&app.worker_pool, "files.expire").await?;
    let uploads = worker_store::expire_uploads(&mut tx, BATCH).await?;
    let files = worker_store::erase(&mut tx, RETENTION, BATCH).await?;
    for company in worker_store::due_sweeps(&mut tx, BATCH).await? {
        worker_store::enqueue_sweep(&mut tx, company).await?;
    }
    tx.commit().await?;
    if uploads + files > 0 {
        tracing::info!(uploads, files, "expired files removed");
    }
    remove(app).await
}

/// Removes from the store what nothing refers to. What it does not remove now is tried again the next time.
async fn remove(app: &App) -> Result<()> {
    let mut after = 0;
    loop {
        let mut tx = WorkerTx::begin(&app.worker_pool, "files.removals").await?;
        let removals = worker_store::removals(&mut tx, after, BATCH).await?;
        tx.commit().await?;
        let Some(last) = removals.last() else { return Ok(()) };
        after = last.id;
        let mut done = Vec::new();
        let mut failure: Option<Error> = None;
        for removal in &removals {
            let key = Key::kept(&removal.key)?;
            match app.objects.remove(&key, removal.multipart.as_deref()).await {
                Ok(()) => done.push(removal.id),
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        let mut tx = WorkerTx::begin(&app.worker_pool, "files.forget_removals").await?;
        worker_store::forget_removals(&mut tx, &done).await?;
        tx.commit().await?;
        if let Some(error) = failure {
            return Err(error);
        }
    }
}
