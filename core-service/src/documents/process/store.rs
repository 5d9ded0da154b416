//! SQL of documents for the worker, under its role.

use service_kit::{
    error::Result,
    ids::{ChunkId, CompanyId, DocumentId, ObjectId},
};
use sqlx::PgConnection;
use uuid::Uuid;

use super::Prepared;
use crate::documents::{Language, MimeType, create::Text};

/// What is processed.
pub(super) struct Source {
    pub(super) company: CompanyId,
    pub(super) mime_type: MimeType,
    /// Whether its maker said what it is written in.
    pub(super) language_told: bool,
    /// The text, where there is no file to take it from.
    pub(super) text: Option<String>,
    /// The file's content.
    pub(super) object: Option<ObjectId>,
    pub(super) sha256: Option<Vec<u8>>,
    pub(super) size_bytes: Option<i64>,
}

/// Notes that a document is being processed, and reads its text or where that comes from; `None` where it is gone.
pub(super) async fn begin(tx: &mut PgConnection, document: DocumentId) -> Result<Option<Source>> {
    let source = sqlx::query_as!(
        Source,
        r#"with begun as (
               update core.documents set status = 'processing', failure_reason = '' where id = $1
               returning id, company_id, mime_type, language_told, file_id, file_version
           )
           select d.company_id as "company: CompanyId", d.mime_type as "mime_type: MimeType", d.language_told,
                  case when v.object_id is null then t.text end as "text?",
                  v.object_id as "object?: ObjectId", v.sha256 as "sha256?", v.size_bytes as "size_bytes?"
           from begun d
               left join core.document_texts t on t.document_id = d.id
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

/// Puts new chunks in the place of the old ones, whose vectors go with them. A document that waits to be processed again goes
/// on waiting.
pub(super) async fn replace_chunks(
    tx: &mut PgConnection,
    company: CompanyId,
    document: DocumentId,
    prepared: &Prepared,
) -> Result<()> {
    let Prepared {
        pieces,
        words,
        language,
    } = prepared;
    let ids: Vec<Uuid> = pieces.iter().map(|_| ChunkId::generate().as_uuid()).collect();
    let sections: Vec<&str> = pieces.iter().map(|piece| piece.section.as_str()).collect();
    let overlaps: Vec<&str> = pieces.iter().map(|piece| piece.overlap.as_str()).collect();
    let contents: Vec<&str> = pieces.iter().map(|piece| piece.content.as_str()).collect();
    let pages: Vec<Option<i32>> = pieces.iter().map(|piece| piece.page).collect();
    let token_counts: Vec<i32> = pieces.iter().map(|piece| piece.token_count).collect();
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
    // By its rules the new ones go into the index.
    sqlx::query!(
        "update core.documents set language = case when language_told then language else coalesce($2, language) end where id = $1",
        document.as_uuid(),
        language.map(Language::configuration),
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "insert into core.chunks (id, company_id, document_id, index, section, overlap, content, token_count, page)
         select id, $1, $2, place - 1, section, overlap, content, token_count, page
         from unnest($3::uuid[], $4::text[], $5::text[], $6::text[], $7::int[], $8::int[])
             with ordinality as piece (id, section, overlap, content, token_count, page, place)",
        company.as_uuid(),
        document.as_uuid(),
        &ids,
        &sections as _,
        &overlaps as _,
        &contents as _,
        &token_counts,
        &pages as _,
    )
    .execute(&mut *tx)
    .await?;
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
         set chunk_count = cardinality($2::uuid[]), failure_reason = '',
             status = case status when 'pending' then status else 'completed' end
         where id = $1",
        document.as_uuid(),
        &ids,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Stores the text that was extracted; what was reserved for it and is not needed is given back.
pub(super) async fn store_text(
    tx: &mut PgConnection,
    company: CompanyId,
    document: DocumentId,
    text: &Text,
) -> Result<()> {
    sqlx::query!(
        "insert into core.document_texts (document_id, company_id, text) values ($1, $2, $3)
         on conflict (document_id) do update set text = excluded.text",
        document.as_uuid(),
        company.as_uuid(),
        text.content,
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "update core.documents set size_bytes = $2, sha256 = $3, text_cleaned = $4 where id = $1",
        document.as_uuid(),
        text.size_bytes(),
        &text.sha256(),
        text.cleaned,
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
             size_bytes = coalesce((select octet_length(t.text) from core.document_texts t where t.document_id = d.id), 0)
         where id = $1 and status = 'processing'",
        document.as_uuid(),
        reason,
    )
    .execute(tx)
    .await?;
    Ok(())
}
