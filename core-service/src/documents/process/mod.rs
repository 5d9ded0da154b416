//! Extracting and cutting documents, in the background.
//!
//! What a document is made from never changes, so doing it twice, or two at once, ends in the same chunks: the one that commits
//! last wins, and readers see the old chunks or the new ones, never both. The text goes by in blocks, and what becomes of each is
//! written down at once, in a transaction of its own, as a draft; a complete draft takes the document's place in one more. So
//! nothing here grows with a text, and no transaction is open while one is extracted or cut. A file that has no text to take ends
//! its document as failed at once: trying again would not help.

use service_kit::{
    db::WorkerTx,
    error::{Error, Result},
    ids::DocumentId,
};
use sqlx::PgConnection;

use super::{
    chunker::Piece,
    create,
    extract::{Extraction, Refusal},
    parts,
};
use crate::{
    App,
    jobs::{self, Lease},
    objects::Key,
};

mod draft_store;
mod intake;
mod store;

use draft_store::Draft;
use intake::{Bit, Intake, Whole};
use store::Source;

/// What came of a source.
struct Done {
    draft: Draft,
    /// How many chunks were written.
    chunks: i32,
    whole: Whole,
    /// Whether the text was written as well: it was there already where no file is.
    is_extracted: bool,
    is_language_told: bool,
}

/// Why there is no text, as people are told.
struct Refused {
    refusal: Refusal,
    /// How many bytes it might have had.
    most: i64,
}

impl Refused {
    fn told(&self) -> String {
        match self.refusal {
            Refusal::TooLong => format!("{} That is at most {} bytes here.", self.refusal, self.most),
            refusal => refusal.to_string(),
        }
    }
}

/// Takes a document's text, cuts it, stores its chunks and ends its job. Where the document is gone, there is nothing to do;
/// where the job has another holder by now, nothing is stored.
pub(crate) async fn process(app: &App, lease: Lease, document: DocumentId) -> Result<()> {
    let mut tx = WorkerTx::begin(&app.worker_pool, "documents.process").await?;
    let begun = match store::begin(&mut tx, document).await? {
        Some(source) => {
            let draft = draft_store::begin(&mut tx, source.company, document, lease.job()).await?;
            Some((source, draft))
        }
        None => None,
    };
    tx.commit().await?;
    let done = match begun {
        Some((source, draft)) => Some(work(app, document, source, draft).await?),
        None => None,
    };
    let mut tx = WorkerTx::begin(&app.worker_pool, "documents.replace_chunks").await?;
    let is_there = store::lock(&mut tx, document).await?.is_some();
    match &done {
        Some(Ok(done)) if is_there => publish(&mut tx, document, done).await?,
        Some(Err(refused)) if is_there => store::set_failed(&mut tx, document, &refused.told()).await?,
        _ => {}
    }
    // The draft goes with the job.
    if !jobs::finish(&mut tx, lease).await? {
        tracing::warn!("the lease ran out: nothing is stored");
        return Ok(());
    }
    tx.commit().await?;
    match done {
        Some(Err(refused)) => tracing::info!(refusal = ?refused.refusal, "document has no text to take"),
        Some(Ok(done)) => tracing::info!(chunks = done.chunks, "document processed"),
        None => {}
    }
    Ok(())
}

/// Puts a complete draft in the place of what the document had.
async fn publish(tx: &mut PgConnection, document: DocumentId, done: &Done) -> Result<()> {
    let company = done.draft.company;
    if done.is_extracted {
        draft_store::publish_text(tx, document, &done.draft).await?;
        store::set_text(tx, document, &done.whole).await?;
    }
    let language = (!done.is_language_told).then_some(done.whole.language);
    store::remove_chunks(tx, company, document, language).await?;
    draft_store::publish_chunks(tx, document, &done.draft, done.chunks).await?;
    store::complete(tx, company, document, &done.whole.words, done.chunks).await
}

/// Writes the draft of a source.
async fn work(app: &App, document: DocumentId, source: Source, draft: Draft) -> Result<Result<Done, Refused>> {
    let most = create::most_bytes(source.size_bytes.unwrap_or_default(), app.max_document_bytes);
    let refused = |refusal| Ok(Err(Refused { refusal, most }));
    let mut text = match &source {
        Source {
            object: Some(object),
            sha256: Some(sha256),
            size_bytes: Some(size_bytes),
            ..
        } => {
            let key = Key::object(source.company, sha256, *object);
            let size_bytes = u64::try_from(*size_bytes).map_err(Error::internal)?;
            let Some(bytes) = app.objects.read(&key, 0..size_bytes).await? else {
                return refused(Refusal::Gone);
            };
            let most = most.unsigned_abs();
            let extraction = Extraction::begin(&app.extractor, source.mime_type, most, size_bytes, bytes)?;
            Text::Extracted(Box::new(extraction))
        }
        Source { has_text: true, .. } => Text::Stored { document, read: 0 },
        _ => return refused(Refusal::Gone),
    };
    let is_extracted = matches!(text, Text::Extracted(_));
    let mut writer = Writer {
        app,
        draft,
        chunks: 0,
        bytes: is_extracted.then_some(0),
    };
    let mut intake = Intake::new(source.mime_type, app.chunk_overlap);
    loop {
        match text.next(app).await? {
            Ok(Some(block)) => {
                let bit;
                (intake, bit) = apart(move || {
                    let bit = intake.push(block);
                    (intake, bit)
                })
                .await?;
                writer.write(&bit).await?;
            }
            Ok(None) => break,
            Err(refusal) => return refused(refusal),
        }
    }
    let whole = apart(move || intake.finish()).await?;
    if !whole.measure.is_shown {
        return refused(Refusal::Empty);
    }
    writer.write_pieces(&whole.pieces).await?;
    Ok(Ok(Done {
        draft: writer.draft,
        chunks: writer.chunks,
        whole,
        is_extracted,
        is_language_told: source.language_told,
    }))
}

/// Where a text comes from.
enum Text {
    Extracted(Box<Extraction>),
    /// It is the document's already, of which so many bytes are read.
    Stored {
        document: DocumentId,
        read: i64,
    },
}

impl Text {
    async fn next(&mut self, app: &App) -> Result<Result<Option<String>, Refusal>> {
        match self {
            Self::Extracted(extraction) => extraction.next().await,
            Self::Stored { document, read } => {
                let mut tx = WorkerTx::begin(&app.worker_pool, "documents.read_part").await?;
                let part = store::part(&mut tx, *document, *read).await?;
                tx.commit().await?;
                *read += part.as_ref().map_or(0, |it| parts::length(it));
                Ok(Ok(part))
            }
        }
    }
}

/// Writes a draft down.
struct Writer<'a> {
    app: &'a App,
    draft: Draft,
    chunks: i32,
    /// How much of the text is written, where it is to be.
    bytes: Option<i64>,
}

impl Writer<'_> {
    async fn write(&mut self, bit: &Bit) -> Result<()> {
        if let Some(bytes) = &mut self.bytes {
            let mut tx = WorkerTx::begin(&self.app.worker_pool, "documents.draft_text").await?;
            let parts = parts::of(&bit.text, *bytes);
            draft_store::insert_text(&mut tx, &self.draft, &parts).await?;
            tx.commit().await?;
            *bytes += parts::length(&bit.text);
        }
        self.write_pieces(&bit.pieces).await
    }

    async fn write_pieces(&mut self, pieces: &[Piece]) -> Result<()> {
        if pieces.is_empty() {
            return Ok(());
        }
        let mut tx = WorkerTx::begin(&self.app.worker_pool, "documents.draft_chunks").await?;
        draft_store::insert_chunks(&mut tx, &self.draft, self.chunks, pieces).await?;
        tx.commit().await?;
        self.chunks = i32::try_from(pieces.len())
            .ok()
            .and_then(|more| self.chunks.checked_add(more))
            .ok_or_else(|| Error::internal("a document has more chunks than can be counted"))?;
        Ok(())
    }
}

/// Notes that a document waits for another try.
pub(crate) async fn wait(tx: &mut PgConnection, document: DocumentId) -> Result<()> {
    store::set_waiting(tx, document).await
}

/// Notes that there will be no further try.
pub(crate) async fn give_up(tx: &mut PgConnection, lease: Lease, document: DocumentId) -> Result<()> {
    draft_store::remove(tx, lease.job()).await?;
    store::set_failed(
        tx,
        document,
        "The text could not be processed. Have it processed again, or ask for help.",
    )
    .await
}

/// Cuts on a thread of its own: a block takes a good part of a tenth of a second.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)
}
