//! SQL of documents for the worker, under its role.

use service_kit::{
    error::Result,
    ids::{ChunkId, CompanyId, DocumentId},
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::documents::{MimeType, chunker::Piece};

/// What is cut.
pub(super) struct Source {
    pub(super) mime_type: MimeType,
    pub(super) text: String,
}

/// Notes that a document is being processed, and reads its text; `None` where it is gone.
pub(super) async fn begin(tx: &mut PgConnection, document: DocumentId) -> Result<Option<Source>> {
    let source = sqlx::query_as!(
        Source,
        r#"update core.documents d set status = 'processing', failure_reason = ''
           from core.document_texts t
           where d.id = $1 and t.document_id = d.id
           returning d.mime_type as "mime_type: MimeType", t.text"#,
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

/// Puts new chunks in the place of the old ones. A document that waits to be processed again goes on waiting.
pub(super) async fn replace_chunks(
    tx: &mut PgConnection,
    company: CompanyId,
    document: DocumentId,
    pieces: &[Piece],
) -> Result<()> {
    let ids: Vec<Uuid> = pieces.iter().map(|_| ChunkId::generate().as_uuid()).collect();
    let sections: Vec<&str> = pieces.iter().map(|piece| piece.section.as_str()).collect();
    let contents: Vec<&str> = pieces.iter().map(|piece| piece.content.as_str()).collect();
    let token_counts: Vec<i32> = pieces.iter().map(|piece| piece.token_count).collect();
    sqlx::query!("delete from core.chunks where document_id = $1", document.as_uuid())
        .execute(&mut *tx)
        .await?;
    sqlx::query!(
        "insert into core.chunks (id, company_id, document_id, index, section, content, token_count)
         select id, $1, $2, place - 1, section, content, token_count
         from unnest($3::uuid[], $4::text[], $5::text[], $6::int[])
             with ordinality as piece (id, section, content, token_count, place)",
        company.as_uuid(),
        document.as_uuid(),
        &ids,
        &sections as _,
        &contents as _,
        &token_counts,
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

pub(super) async fn set_waiting(tx: &mut PgConnection, document: DocumentId) -> Result<()> {
    sqlx::query!(
        "update core.documents set status = 'pending' where id = $1 and status = 'processing'",
        document.as_uuid(),
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn set_failed(tx: &mut PgConnection, document: DocumentId, reason: &str) -> Result<()> {
    sqlx::query!(
        "update core.documents set status = 'failed', failure_reason = $2 where id = $1 and status = 'processing'",
        document.as_uuid(),
        reason,
    )
    .execute(tx)
    .await?;
    Ok(())
}
