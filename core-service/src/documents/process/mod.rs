//! Extracting and cutting documents, in the background.
//!
//! What a document is made from never changes, so doing it twice, or two at once, ends in the same chunks: the one that commits
//! last wins, and readers see the old chunks or the new ones, never both. No transaction is open while a text is extracted or
//! cut. A file that has no text to take ends its document as failed at once: trying again would not help.

use service_kit::{
    db::WorkerTx,
    error::{Error, Result},
    ids::{CompanyId, DocumentId},
};
use sqlx::PgConnection;

use super::{
    Language, MimeType,
    chunker::{self, Overlap, Piece},
    create::Text,
    extract::{self, Refusal},
    words,
};
use crate::{
    App,
    jobs::{self, Lease},
    objects::Key,
};

mod store;

use store::Source;

/// What came of a source.
struct Done {
    company: CompanyId,
    /// The text, where it was extracted.
    text: Option<Text>,
    prepared: Prepared,
}

/// A text as it is searched.
struct Prepared {
    pieces: Vec<Piece>,
    words: Vec<String>,
    /// Guessed, unless it was told.
    language: Option<Language>,
}

/// Takes a document's text, cuts it, stores its chunks and ends its job. Where the document is gone, there is nothing to do;
/// where the job has another holder by now, nothing is stored.
pub(crate) async fn process(app: &App, lease: Lease, document: DocumentId) -> Result<()> {
    let mut tx = WorkerTx::begin(&app.worker_pool, "documents.process").await?;
    let source = store::begin(&mut tx, document).await?;
    tx.commit().await?;
    let done = match source {
        Some(source) => Some(work(app, source).await?),
        None => None,
    };
    let mut tx = WorkerTx::begin(&app.worker_pool, "documents.replace_chunks").await?;
    let is_there = store::lock(&mut tx, document).await?.is_some();
    match &done {
        Some(Ok(done)) if is_there => {
            if let Some(text) = &done.text {
                store::store_text(&mut tx, done.company, document, text).await?;
            }
            store::replace_chunks(&mut tx, done.company, document, &done.prepared).await?;
        }
        Some(Err(refusal)) if is_there => store::set_failed(&mut tx, document, &refusal.to_string()).await?,
        _ => {}
    }
    if !jobs::finish(&mut tx, lease).await? {
        tracing::warn!("the lease ran out: nothing is stored");
        return Ok(());
    }
    tx.commit().await?;
    match done {
        Some(Err(refusal)) => tracing::info!(refusal = ?refusal, "document has no text to take"),
        Some(Ok(done)) => tracing::info!(chunks = done.prepared.pieces.len(), "document processed"),
        None => {}
    }
    Ok(())
}

async fn work(app: &App, source: Source) -> Result<Result<Done, Refusal>> {
    let Source {
        company,
        mime_type,
        language_told,
        ..
    } = source;
    let (content, extracted) = match (source.object, source.sha256, source.size_bytes, source.text) {
        (Some(object), Some(sha256), Some(size_bytes), _) => {
            let key = Key::object(company, &sha256, object);
            let range = 0..u64::try_from(size_bytes).map_err(Error::internal)?;
            let Some(bytes) = app.objects.read(&key, range).await? else {
                return Ok(Err(Refusal::Gone));
            };
            match extract::run(&app.extractor, mime_type, bytes).await? {
                Ok(text) => (text.content.clone(), Some(text)),
                Err(refusal) => return Ok(Err(refusal)),
            }
        }
        (.., Some(text)) => (text, None),
        _ => return Ok(Err(Refusal::Gone)),
    };
    Ok(Ok(Done {
        company,
        text: extracted,
        prepared: prepare(mime_type, content, language_told, app.chunk_overlap).await?,
    }))
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
async fn prepare(mime_type: MimeType, text: String, language_told: bool, overlap: Overlap) -> Result<Prepared> {
    let work = move || Prepared {
        pieces: chunker::chunk(mime_type, &text, overlap),
        words: words::words(&text),
        language: (!language_told).then(|| Language::guess(&text)),
    };
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)
}
