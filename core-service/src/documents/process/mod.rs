//! Cutting documents, in the background.
//!
//! A document's text never changes, so doing it twice, or two at once, ends in the same chunks: the one that commits last
//! wins, and readers see the old chunks or the new ones, never both. No transaction is open while a text is cut.

use service_kit::{
    db::WorkerTx,
    error::{Error, Result},
    ids::DocumentId,
};
use sqlx::PgConnection;

use super::chunker::{self, Piece};
use crate::{
    App,
    jobs::{self, Lease},
};

mod store;

use store::Source;

/// Cuts a document, stores its chunks and ends its job. Where the document is gone, there is nothing to do; where the job
/// has another holder by now, nothing is stored.
pub(crate) async fn process(app: &App, lease: Lease, document: DocumentId) -> Result<()> {
    let mut tx = WorkerTx::begin(&app.worker_pool, "documents.process").await?;
    let source = store::begin(&mut tx, document).await?;
    tx.commit().await?;
    let pieces = match source {
        Some(source) => Some(cut(source).await?),
        None => None,
    };
    let mut tx = WorkerTx::begin(&app.worker_pool, "documents.replace_chunks").await?;
    if let Some(pieces) = &pieces
        && let Some(company) = store::lock(&mut tx, document).await?
    {
        store::replace_chunks(&mut tx, company, document, pieces).await?;
    }
    if !jobs::finish(&mut tx, lease).await? {
        tracing::warn!("the lease ran out: nothing is stored");
        return Ok(());
    }
    tx.commit().await?;
    tracing::info!(chunks = pieces.map(|it| it.len()), "document processed");
    Ok(())
}

/// Notes that a document waits for another try.
pub(crate) async fn wait(tx: &mut PgConnection, document: DocumentId) -> Result<()> {
    store::set_waiting(tx, document).await
}

/// Notes that there will be no further try.
pub(crate) async fn give_up(tx: &mut PgConnection, document: DocumentId) -> Result<()> {
    store::set_failed(
        tx,
        document,
        "The text could not be processed. Have it processed again, or ask for help.",
    )
    .await
}

/// Cuts a text on a thread of its own: a long one takes a good part of a second.
async fn cut(source: Source) -> Result<Vec<Piece>> {
    tokio::task::spawn_blocking(move || chunker::chunk(source.mime_type, &source.text))
        .await
        .map_err(Error::internal)
}
