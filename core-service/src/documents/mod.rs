//! Documents: texts of a studio, cut into the chunks that searches find and workflows retrieve.
//!
//! A document is made with its text, or the file to extract it from ([`extract`]), and a job in one commit; the worker does the
//! rest in the background (`process`).
//! Its status is pending exactly while a job for it waits, so that asking twice enqueues once. What belongs to a deleted
//! studio is not found; a private document is its maker's alone. Both hold for chunks and searches too.

use serde_json::{Map, Value};
use service_kit::{
    audit::About,
    auth::Caller,
    db::{Claims, TenantTx},
    error::{Error, Result},
    ids::{ChunkId, CompanyId, DocumentId, FileId, StudioId, UserId},
    page::Page,
};
use time::OffsetDateTime;
use tracing::{Span, field::display};

use crate::{
    App,
    companies::memberships,
    jobs::{self, Task},
};

pub mod api;
mod change;
pub mod chunker;
mod convert;
mod create;
pub mod extract;
pub mod language;
mod parts;
pub(crate) mod process;
pub mod search;
mod store;
mod words;

pub use language::Language;

/// A text with its processing state.
#[derive(Clone, Debug)]
pub struct Document {
    /// Its id.
    pub id: DocumentId,
    /// The company it belongs to.
    pub company: CompanyId,
    /// The studio it belongs to.
    pub studio: StudioId,
    /// For people.
    pub title: String,
    /// What kind of text it is.
    pub mime_type: MimeType,
    /// Who reaches it.
    pub access_level: AccessLevel,
    /// How far its processing is.
    pub status: ProcessingStatus,
    /// Why processing failed, for people; empty otherwise.
    pub failure_reason: String,
    /// The file it was made from, unless that was erased.
    pub file: Option<FileId>,
    /// Which version of it.
    pub file_version: Option<i32>,
    /// Length of the text in bytes; what is reserved for it until it is extracted.
    pub size_bytes: i64,
    /// SHA-256 of the text; empty until it is extracted.
    pub sha256: Vec<u8>,
    /// Whether characters that cannot be stored were taken out of the text.
    pub text_cleaned: bool,
    /// How many chunks it has.
    pub chunk_count: i32,
    /// What it is written in.
    pub language: Language,
    /// Whether its language was told, and not found out.
    pub is_language_told: bool,
    /// Names to find it under.
    pub tags: Vec<String>,
    /// Free JSON of the client's.
    pub metadata: Map<String, Value>,
    /// Who made it.
    pub created_by: UserId,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it last changed.
    pub updated_at: OffsetDateTime,
    /// Grows with every change.
    pub revision: i64,
}

/// The kinds of content that text is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "text")]
pub enum MimeType {
    /// Paragraphs.
    #[sqlx(rename = "text/plain")]
    Plain,
    /// CommonMark with tables.
    #[sqlx(rename = "text/markdown")]
    Markdown,
    /// A page of the web.
    #[sqlx(rename = "text/html")]
    Html,
    /// Rows of values.
    #[sqlx(rename = "text/csv")]
    Csv,
    /// Pages.
    #[sqlx(rename = "application/pdf")]
    Pdf,
    /// Office Open XML's texts.
    #[sqlx(rename = "application/vnd.openxmlformats-officedocument.wordprocessingml.document")]
    Docx,
    /// Office Open XML's spreadsheets.
    #[sqlx(rename = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet")]
    Xlsx,
}

impl MimeType {
    const ALL: [Self; 7] = [
        Self::Plain,
        Self::Markdown,
        Self::Html,
        Self::Csv,
        Self::Pdf,
        Self::Docx,
        Self::Xlsx,
    ];

    /// The media type.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "text/plain",
            Self::Markdown => "text/markdown",
            Self::Html => "text/html",
            Self::Csv => "text/csv",
            Self::Pdf => "application/pdf",
            Self::Docx => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            Self::Xlsx => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        }
    }

    /// The kind of this name, if text is taken from it.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }
}

/// Who reaches a document or a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum AccessLevel {
    /// Its maker alone.
    Private,
    /// Who reaches its studio.
    Studio,
    /// All approved members of the company.
    Company,
}

/// How far a document's processing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum ProcessingStatus {
    /// A job waits for the worker.
    Pending,
    /// The worker is at it.
    Processing,
    /// Its chunks are those of its text.
    Completed,
    /// Given up.
    Failed,
}

/// A piece of a document, as it is stored.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Its id; processing the document anew makes new ones.
    pub id: ChunkId,
    /// The document it is a piece of.
    pub document: DocumentId,
    /// Its place in the document, from 0.
    pub index: i32,
    /// The headings above it, joined by ` > `.
    pub section: String,
    /// What the chunk before it ends with; no part of its text.
    pub overlap: String,
    /// Its text.
    pub content: String,
    /// An estimate of its length in tokens.
    pub token_count: i32,
    /// The page it stands on, from 1, where the document has pages.
    pub page: Option<i32>,
}

/// What is read of a document's text.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// The document.
    pub id: DocumentId,
    /// From this byte on,
    pub from: i64,
    /// at most so many bytes.
    pub most: i64,
}

/// Some of a document's text.
#[derive(Clone, Debug)]
pub struct TextRange {
    /// What was asked for of it.
    pub text: String,
    /// Where it ends in the text, in bytes.
    pub end: i64,
    /// The whole text's length in bytes.
    pub length: i64,
}

/// Which documents are listed.
#[derive(Clone, Copy, Debug)]
pub struct Listing {
    /// Those of this studio,
    pub studio: StudioId,
    /// in this state, if given,
    pub status: Option<ProcessingStatus>,
    /// made from this file, if given,
    pub file: Option<FileId>,
    /// and from this version of one, if given.
    pub file_version: Option<i32>,
}

/// Reads a document.
pub async fn get(app: &App, caller: &Caller, id: DocumentId) -> Result<Document> {
    let mut tx = TenantTx::begin(&app.pool, "documents.get", &Claims::user(caller.user)).await?;
    reached(&mut tx, id).await
}

/// Reads a document's text from one of its bytes on, at most so many.
pub async fn text(app: &App, caller: &Caller, reading: Reading) -> Result<TextRange> {
    let Reading { id, from, most } = reading;
    let mut tx = TenantTx::begin(&app.pool, "documents.text", &Claims::user(caller.user)).await?;
    let length = store::text_length(&mut tx, id).await?.ok_or_else(|| not_found(id))?;
    let from = from.min(length);
    let to = from.saturating_add(most).min(length);
    let (text, end) = parts::range(store::text_parts(&mut tx, id, from, to).await?, from, to);
    Ok(TextRange { text, end, length })
}

/// Reads a page of a studio's documents, newest first, and one row more if there is one.
pub async fn list(app: &App, caller: &Caller, listing: Listing, page: &Page<DocumentId>) -> Result<Vec<Document>> {
    let mut tx = TenantTx::begin(&app.pool, "documents.list", &Claims::user(caller.user)).await?;
    let company = company_of(&mut tx, listing.studio).await?;
    store::list(&mut tx, company, listing, page.after, page.limit()).await
}

/// Reads a page of a document's chunks in their order, and one row more if there is one.
pub async fn chunks(app: &App, caller: &Caller, id: DocumentId, page: &Page<i32>) -> Result<Vec<Chunk>> {
    let mut tx = TenantTx::begin(&app.pool, "documents.chunks", &Claims::user(caller.user)).await?;
    reached(&mut tx, id).await?;
    store::chunks(&mut tx, id, page.after, page.limit()).await
}

/// Removes a document with its text and chunks; its maker and the company's admins may.
pub async fn delete(app: &App, caller: &Caller, id: DocumentId) -> Result<()> {
    let mut tx = TenantTx::begin(&app.pool, "documents.delete", &Claims::user(caller.user)).await?;
    store::lock(&mut tx, id).await?;
    let document = reached(&mut tx, id).await?;
    let place = memberships::place(&mut tx, document.company).await?;
    place.require_admin_unless(document.created_by == caller.user)?;
    store::delete(&mut tx, id).await?;
    app.audit
        .record(&mut tx, About::company(document.company, "document", id))
        .await?;
    tx.commit().await
}

/// Has a document cut anew. Its chunks serve until they are replaced; a document that waits for its cutting anyway stays
/// as it is.
pub async fn reprocess(app: &App, caller: &Caller, id: DocumentId) -> Result<Document> {
    let mut tx = TenantTx::begin(&app.pool, "documents.reprocess", &Claims::user(caller.user)).await?;
    store::lock(&mut tx, id).await?;
    let document = reached(&mut tx, id).await?;
    if document.status == ProcessingStatus::Pending {
        return Ok(document);
    }
    store::set_pending(&mut tx, id).await?;
    jobs::enqueue(&mut tx, document.company, Task::ProcessDocument { document: id }).await?;
    let document = reached(&mut tx, id).await?;
    app.audit
        .record(&mut tx, About::company(document.company, "document", id))
        .await?;
    tx.commit().await?;
    app.job_signal.wake();
    Ok(document)
}

/// A document that the caller reaches.
async fn reached(tx: &mut TenantTx, id: DocumentId) -> Result<Document> {
    let document = store::find(tx, id).await?.ok_or_else(|| not_found(id))?;
    tell(document.studio, document.company);
    Ok(document)
}

/// The company of a studio that the caller reaches.
async fn company_of(tx: &mut TenantTx, studio: StudioId) -> Result<CompanyId> {
    let company = store::company_of(tx, studio).await?;
    let company = company.ok_or_else(|| Error::not_found("studio", studio))?;
    tell(studio, company);
    Ok(company)
}

/// Names whose data a call is about in its logs and trace.
fn tell(studio: StudioId, company: CompanyId) {
    let span = Span::current();
    span.record("studio", display(studio))
        .record("company", display(company));
}

fn not_found(id: DocumentId) -> Error {
    Error::not_found("document", id)
}
