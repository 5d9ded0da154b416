//! SQL of vectors, under the worker's role.

use service_kit::{
    error::Result,
    ids::{ChunkId, CompanyId, DocumentId},
};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{ChunkText, Made, Wanted};

/// A document whose chunks lack vectors of its company's model.
pub(super) struct Due {
    pub(super) document: DocumentId,
    pub(super) company: CompanyId,
    pub(super) model: String,
}

/// Leases the first due document for two minutes. The index gives those below and above the wanted model, and passes by all
/// that have it.
pub(super) async fn lease(tx: &mut PgConnection, wanted: &[Wanted]) -> Result<Option<Due>> {
    let companies: Vec<Uuid> = wanted.iter().map(|it| it.company.as_uuid()).collect();
    let models: Vec<&str> = wanted.iter().map(|it| it.model.as_str()).collect();
    let due = sqlx::query_as!(
        Due,
        r#"with picked as materialized (
               select due.document_id, w.model
               from unnest($1::uuid[], $2::text[]) with ordinality as w (company, model, place), lateral (
                   (select e.document_id from core.embeddings e
                    where e.company_id = w.company and e.model < w.model
                        and coalesce(e.leased_until <= now(), true) and e.refused_by is distinct from w.model
                    order by e.company_id, e.model, e.document_id limit 1)
                   union all
                   (select e.document_id from core.embeddings e
                    where e.company_id = w.company and e.model > w.model
                        and coalesce(e.leased_until <= now(), true) and e.refused_by is distinct from w.model
                    order by e.company_id, e.model, e.document_id limit 1)) due
               order by w.place
               limit 1
           )
           update core.embeddings e set leased_until = now() + interval '2 minutes'
           from picked
           where e.document_id = picked.document_id and coalesce(e.leased_until <= now(), true)
           returning e.document_id as "document: DocumentId", e.company_id as "company: CompanyId", picked.model as "model!""#,
        &companies,
        &models as _,
    )
    .fetch_optional(tx)
    .await?;
    Ok(due)
}

/// The first chunks of a document that have no vector of a model.
pub(super) async fn lacking(
    tx: &mut PgConnection,
    document: DocumentId,
    model: &str,
    limit: i64,
) -> Result<Vec<ChunkText>> {
    let chunks = sqlx::query_as!(
        ChunkText,
        r#"select c.id as "id: ChunkId", d.title, c.section, c.overlap, c.content
           from core.chunks c join core.documents d on d.id = c.document_id
           where c.document_id = $1
               and not exists (select from core.chunk_vectors v where v.chunk_id = c.id and v.model = $2)
           order by c.index
           limit $3"#,
        document.as_uuid(),
        model,
        limit,
    )
    .fetch_all(tx)
    .await?;
    Ok(chunks)
}

/// Holds a document's line until the end of the transaction, as who replaces its chunks does. Whether it is there.
pub(super) async fn lock(tx: &mut PgConnection, document: DocumentId) -> Result<bool> {
    let found = sqlx::query!(
        "select from core.embeddings where document_id = $1 for update",
        document.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(found.is_some())
}

/// Stores the vectors of chunks that are still there.
pub(super) async fn insert(tx: &mut PgConnection, made: &Made) -> Result<()> {
    let chunks: Vec<Uuid> = made.vectors.iter().map(|(chunk, _)| chunk.as_uuid()).collect();
    let vectors: Vec<&[u8]> = made.vectors.iter().map(|(_, vector)| vector.as_slice()).collect();
    sqlx::query!(
        "insert into core.chunk_vectors (chunk_id, company_id, document_id, model, vector)
         select c.id, c.company_id, c.document_id, $2, made.vector
         from unnest($3::uuid[], $4::bytea[]) as made (chunk, vector)
             join core.chunks c on c.id = made.chunk and c.document_id = $1
         on conflict (chunk_id) do update set model = excluded.model, vector = excluded.vector",
        made.document.as_uuid(),
        made.model,
        &chunks,
        &vectors as _,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Ends the lease; a document none of whose chunks lacks a vector of the model has them.
pub(super) async fn settle(tx: &mut PgConnection, document: DocumentId, model: &str) -> Result<()> {
    sqlx::query!(
        "update core.embeddings
         set leased_until = null,
             model = case when exists (
                 select from core.chunks c where c.document_id = $1
                     and not exists (select from core.chunk_vectors v where v.chunk_id = c.id and v.model = $2))
                 then model else $2 end
         where document_id = $1",
        document.as_uuid(),
        model,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Ends the lease of a document that the model refuses.
pub(super) async fn refuse(tx: &mut PgConnection, document: DocumentId, model: &str, refusal: &str) -> Result<()> {
    sqlx::query!(
        "update core.embeddings set leased_until = null, refused_by = $2, refusal = $3 where document_id = $1",
        document.as_uuid(),
        model,
        refusal,
    )
    .execute(tx)
    .await?;
    Ok(())
}
