//! SQL of documents for the worker, under its role.

use service_kit::{
    error::Result,
    ids::{CompanyId, DocumentId, ObjectId},
};
use sqlx::PgConnection;

use super::Whole;
use crate::documents::{Language, MimeType};

/// What is processed.
pub(super) struct Source {
    pub(super) company: CompanyId,
    pub(super) mime_type: MimeType,
    /// Whether its maker said what it is written in.
    pub(super) language_told: bool,
    /// Whether it has a text already.
    pub(super) has_text: bool,
    /// The file's content.
    pub(super) object: Option<ObjectId>,
    pub(super) sha256: Option<Vec<u8>>,
    pub(super) size_bytes: Option<i64>,
}

/// Notes that a document is being processed, and reads where its text comes from; `None` where it is gone.
pub(super) async fn begin(tx: &mut PgConnection, document: DocumentId) -> Result<Option<Source>> {
    let source = sqlx::query_as!(
        Source,
        r#"with begun as (
               update core.documents set status = 'processing', failure_reason = '' where id = $1
               returning id, company_id, mime_type, language_told, file_id, file_version
           )
           select d.company_id as "company: CompanyId", d.mime_type as "mime_type: MimeType", d.language_told,
                  exists (select from core.document_texts t where t.document_id = d.id) as "has_text!",
                  v.object_id as "object?: ObjectId", v.sha256 as "sha256?", v.size_bytes as "size_bytes?"
           from begun d
               left join core.file_versions v on v.company_id = d.company_id and v.file_id = d.file_id
                   and v.number = d.file_version and v.state = 'ready'"#,
        document.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(source)
}

/// Holds a document's row until the end of the transaction: who replaces its chunks goes one after the other. `None` where
/// it is gone.
pub(super) async fn lock(tx: &mut PgConnection, document: DocumentId) -> Result<Option<CompanyId>> {
    let company = sqlx::query_scalar!(
        r#"select company_id as "company: CompanyId" from core.documents where id = $1 for update"#,
        document.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(company)
}

/// The part of a document's text behind its first so many bytes.
pub(super) async fn part(tx: &mut PgConnection, document: DocumentId, after: i64) -> Result<Option<String>> {
    let part = sqlx::query_scalar!(
        "select text from core.document_texts where document_id = $1 and start_byte >= $2 order by start_byte limit 1",
        document.as_uuid(),
        after,
    )
    .fetch_optional(tx)
    .await?;
    Ok(part)
}

/// Notes what the text is like that was extracted; what was reserved for it and is not needed is given back.
pub(super) async fn set_text(tx: &mut PgConnection, document: DocumentId, whole: &Whole) -> Result<()> {
    sqlx::query!(
        "update core.documents set size_bytes = $2, sha256 = $3, text_cleaned = $4 where id = $1",
        document.as_uuid(),
        whole.measure.size_bytes,
        &whole.sha256,
        whole.measure.is_cleaned,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Removes the chunks and their vectors, and notes the language that was found out: by its rules the new ones go into the index.
pub(super) async fn remove_chunks(
    tx: &mut PgConnection,
    company: CompanyId,
    document: DocumentId,
    language: Option<Language>,
) -> Result<()> {
    // First, so that vectors of the old chunks are stored before this or find them gone.
    sqlx::query!(
        "insert into core.embeddings (document_id, company_id) values ($1, $2)
         on conflict (document_id) do update set model = '', leased_until = null, refused_by = null, refusal = ''",
        document.as_uuid(),
        company.as_uuid(),
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "delete from core.chunk_vectors where company_id = $1 and document_id = $2",
        company.as_uuid(),
        document.as_uuid(),
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!("delete from core.chunks where document_id = $1", document.as_uuid())
        .execute(&mut *tx)
        .await?;
    sqlx::query!(
        "update core.documents set language = case when language_told then language else coalesce($2, language) end where id = $1",
        document.as_uuid(),
        language.map(Language::configuration),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Notes that the chunks are there. A document that waits to be processed again goes on waiting.
pub(super) async fn complete(
    tx: &mut PgConnection,
    company: CompanyId,
    document: DocumentId,
    words: &[String],
    chunks: i32,
) -> Result<()> {
    sqlx::query!(
        "insert into core.document_words (document_id, company_id, words) values ($1, $2, $3)
         on conflict (document_id) do update set words = excluded.words",
        document.as_uuid(),
        company.as_uuid(),
        words,
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "update core.documents
         set chunk_count = $2, failure_reason = '', status = case status when 'pending' then status else 'completed' end
         where id = $1",
        document.as_uuid(),
        chunks,
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn set_waiting(tx: &mut PgConnection, document: DocumentId) -> Result<()> {
    sqlx::query!(
        "update core.documents set status = 'pending' where id = $1 and status = 'processing'",
        document.as_uuid(),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Notes why a document failed. Of the storage it keeps what its text has, if it has one from before.
pub(super) async fn set_failed(tx: &mut PgConnection, document: DocumentId, reason: &str) -> Result<()> {
    sqlx::query!(
        "update core.documents d
         set status = 'failed', failure_reason = $2,
             size_bytes = coalesce((select sum(octet_length(t.text)) from core.document_texts t where t.document_id = d.id), 0)
         where id = $1 and status = 'processing'",
        document.as_uuid(),
        reason,
    )
    .execute(tx)
    .await?;
    Ok(())
}
