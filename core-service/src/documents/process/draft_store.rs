//! SQL of drafts: what is written down of a document while it is processed.

use service_kit::{
    error::{Error, Result},
    ids::{ChunkId, CompanyId, DocumentId, JobId},
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::documents::{chunker::Piece, parts::Parts};

/// How many chunks are put in place by one statement: they go into the index one by one.
const CHUNKS_AT_ONCE: i32 = 1_000;

/// A draft of one try.
pub(super) struct Draft {
    id: Uuid,
    pub(super) company: CompanyId,
}

/// Begins a draft, in the place of what an earlier try has left.
pub(super) async fn begin(
    tx: &mut PgConnection,
    company: CompanyId,
    document: DocumentId,
    job: JobId,
) -> Result<Draft> {
    remove(tx, job).await?;
    let id = Uuid::now_v7();
    sqlx::query!(
        "insert into core.drafts (id, company_id, document_id, job_id) values ($1, $2, $3, $4)",
        id,
        company.as_uuid(),
        document.as_uuid(),
        job.as_uuid(),
    )
    .execute(tx)
    .await?;
    Ok(Draft { id, company })
}

/// Removes what the tries of a job have left.
pub(super) async fn remove(tx: &mut PgConnection, job: JobId) -> Result<()> {
    sqlx::query!("delete from core.drafts where job_id = $1", job.as_uuid())
        .execute(tx)
        .await?;
    Ok(())
}

pub(super) async fn insert_text(tx: &mut PgConnection, draft: &Draft, parts: &Parts<'_>) -> Result<()> {
    sqlx::query!(
        "insert into core.draft_texts (draft_id, company_id, start_byte, text)
         select $1, $2, start_byte, text from unnest($3::bigint[], $4::text[]) as part (start_byte, text)",
        draft.id,
        draft.company.as_uuid(),
        &parts.starts,
        &parts.texts as _,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Adds chunks behind the first ones.
pub(super) async fn insert_chunks(tx: &mut PgConnection, draft: &Draft, first: i32, pieces: &[Piece]) -> Result<()> {
    let ids: Vec<Uuid> = pieces.iter().map(|_| ChunkId::generate().as_uuid()).collect();
    let sections: Vec<&str> = pieces.iter().map(|piece| piece.section.as_str()).collect();
    let overlaps: Vec<&str> = pieces.iter().map(|piece| piece.overlap.as_str()).collect();
    let contents: Vec<&str> = pieces.iter().map(|piece| piece.content.as_str()).collect();
    let pages: Vec<Option<i32>> = pieces.iter().map(|piece| piece.page).collect();
    let token_counts: Vec<i32> = pieces.iter().map(|piece| piece.token_count).collect();
    sqlx::query!(
        "insert into core.draft_chunks (draft_id, company_id, index, id, section, overlap, content, token_count, page)
         select $1, $2, $3 + place - 1, id, section, overlap, content, token_count, page
         from unnest($4::uuid[], $5::text[], $6::text[], $7::text[], $8::int[], $9::int[])
             with ordinality as piece (id, section, overlap, content, token_count, page, place)",
        draft.id,
        draft.company.as_uuid(),
        i64::from(first),
        &ids,
        &sections as _,
        &overlaps as _,
        &contents as _,
        &token_counts,
        &pages as _,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Puts a draft's text in the place of the document's.
pub(super) async fn publish_text(tx: &mut PgConnection, document: DocumentId, draft: &Draft) -> Result<()> {
    sqlx::query!(
        "delete from core.document_texts where company_id = $1 and document_id = $2",
        draft.company.as_uuid(),
        document.as_uuid(),
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "insert into core.document_texts (document_id, company_id, start_byte, text)
         select $3, company_id, start_byte, text from core.draft_texts where company_id = $1 and draft_id = $2",
        draft.company.as_uuid(),
        draft.id,
        document.as_uuid(),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Makes a draft's chunks the document's.
pub(super) async fn publish_chunks(
    tx: &mut PgConnection,
    document: DocumentId,
    draft: &Draft,
    chunks: i32,
) -> Result<()> {
    let mut first = 0;
    while first < chunks {
        let end = first.saturating_add(CHUNKS_AT_ONCE).min(chunks);
        let done = sqlx::query!(
            "insert into core.chunks (id, company_id, document_id, index, section, overlap, content, token_count, page)
             select id, company_id, $3, index, section, overlap, content, token_count, page
             from core.draft_chunks
             where company_id = $1 and draft_id = $2 and index >= $4 and index < $5
             order by index",
            draft.company.as_uuid(),
            draft.id,
            document.as_uuid(),
            first,
            end,
        )
        .execute(&mut *tx)
        .await?;
        if i32::try_from(done.rows_affected()) != Ok(end - first) {
            return Err(Error::internal("the draft of a document is incomplete"));
        }
        first = end;
    }
    Ok(())
}
