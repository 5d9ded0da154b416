//! A company's objects held against its rows, once a day: objects without a row are removed, rows without an object are marked.
//!
//! Neither should ever be; both are what crashes of other software, restored backups and hands leave. A young object is passed
//! by: its row may be about to come. Nothing is marked where the store shows nothing at all, which is a store in the wrong place.

use std::{collections::HashSet, time::Duration};

use futures::StreamExt;
use service_kit::{
    db::WorkerTx,
    error::{Error, Result},
    ids::{CompanyId, UploadId},
};

use super::worker_store;
use crate::{
    App,
    jobs::{self, Lease},
    objects::Key,
};

/// How old an object without a row is when it is removed.
const GRACE: Duration = Duration::from_hours(2);

const BATCH: usize = 500;

/// Compares, mends and ends the job.
pub(crate) async fn work(app: &App, lease: Lease, company: CompanyId) -> Result<()> {
    let (seen, orphans) = remove_orphans(app, company).await?;
    let lost = mark_lost(app, company, seen).await?;
    let mut tx = WorkerTx::begin(&app.worker_pool, "files.swept").await?;
    if jobs::finish(&mut tx, lease).await? {
        tx.commit().await?;
    }
    if orphans + lost > 0 {
        tracing::warn!(orphans, lost, "objects and rows did not agree");
    }
    Ok(())
}

/// Removes objects that have no row, and says how many objects there are and how many were removed.
async fn remove_orphans(app: &App, company: CompanyId) -> Result<(u64, u64)> {
    let (mut seen, mut removed) = (0, 0);
    let mut listed = app.objects.of(company).chunks(BATCH);
    while let Some(batch) = listed.next().await {
        let mut old = Vec::new();
        for found in batch {
            let (key, meta) = found?;
            seen += 1;
            let age = app.clock.now().unix_timestamp() - meta.last_modified.timestamp();
            if age > i64::try_from(GRACE.as_secs()).map_err(Error::internal)? {
                // A name that is none of ours has no row.
                old.push((key.id(), key));
            }
        }
        let ids: Vec<UploadId> = old.iter().filter_map(|(id, _)| *id).collect();
        let mut tx = WorkerTx::begin(&app.worker_pool, "files.compare").await?;
        let known: HashSet<_> = worker_store::known(&mut tx, company, &ids).await?.into_iter().collect();
        tx.commit().await?;
        for (_, key) in old.iter().filter(|(id, _)| id.is_none_or(|it| !known.contains(&it))) {
            app.objects.remove(key, None).await?;
            removed += 1;
        }
    }
    Ok((seen, removed))
}

/// Marks what refers to objects that the store does not have, and unmarks what it has again.
async fn mark_lost(app: &App, company: CompanyId, seen: u64) -> Result<u64> {
    let (mut after, mut changed) = (None, 0);
    loop {
        let mut tx = WorkerTx::begin(&app.worker_pool, "files.expected").await?;
        let batch = worker_store::expected(&mut tx, company, after, 500).await?;
        tx.commit().await?;
        let Some(last) = batch.last() else { return Ok(changed) };
        if seen == 0 {
            return Err(Error::internal(
                "the store has none of a company's objects: is it the right one?",
            ));
        }
        after = Some(last.id);
        for object in batch {
            let key = Key::object(company, &object.sha256, object.id);
            let size = app.objects.size(&key).await?;
            let is_lost = size.is_none_or(|it| i64::try_from(it) != Ok(object.size_bytes));
            let mut tx = WorkerTx::begin(&app.worker_pool, "files.mark_lost").await?;
            changed += worker_store::set_lost(&mut tx, company, object.id, is_lost).await?;
            tx.commit().await?;
            if is_lost {
                tracing::error!(%key, "an object is missing");
            }
        }
    }
}
