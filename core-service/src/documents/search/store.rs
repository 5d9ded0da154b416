//! SQL of searches.

use service_kit::{
    error::Result,
    ids::{ChunkId, CompanyId, DocumentId},
};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Chunk, Found, GREATER, LESS, MARK, MARK_END, MatchMode, Query, html};

struct Row {
    id: ChunkId,
    document: DocumentId,
    index: i32,
    section: String,
    content: String,
    token_count: i32,
    page: Option<i32>,
    document_title: String,
    score: f64,
    passages: String,
}

impl From<Row> for Found {
    fn from(row: Row) -> Self {
        Self {
            chunk: Chunk {
                id: row.id,
                document: row.document,
                index: row.index,
                section: row.section,
                content: row.content,
                token_count: row.token_count,
                page: row.page,
            },
            document_title: row.document_title,
            score: row.score,
            snippet: html(&row.passages),
        }
    }
}

/// The best chunks of the documents that the policies show; their rows are read through the policies again.
pub(super) async fn search(tx: &mut PgConnection, company: CompanyId, query: &Query) -> Result<Vec<Found>> {
    let documents: Vec<Uuid> = query.documents.iter().map(|id| id.as_uuid()).collect();
    let rows = sqlx::query_as!(
        Row,
        r#"with words as materialized (
               select case when $4 then tsvector_to_array(to_tsvector('english', $3)) end as lexemes
           ), query as materialized (
               select lexemes, case when $4
                   then (select string_agg('''' || replace(replace(lexeme, '\', '\\'), '''', '''''') || '''', ' | ')
                         from unnest(lexemes) lexeme)::tsquery
                   else websearch_to_tsquery('english', $3) end as wanted
               from words
           ), reached as materialized (
               select array_agg(id) as documents from core.documents
               where company_id = $1 and studio_id = $2 and (cardinality($5::uuid[]) = 0 or id = any ($5))
           )
           select c.id as "id: ChunkId", c.document_id as "document: DocumentId", c.index, c.section, c.content,
                  c.token_count, c.page, d.title as document_title, found.score as "score!",
                  ts_headline('english', translate(c.content, $7, $8), query.wanted, $9) as "passages!"
           from query, reached, core.rank_chunks(reached.documents, query.wanted, query.lexemes, $6) found
               join core.chunks c on c.id = found.chunk_id
               join core.documents d on d.id = c.document_id
           order by found.score desc, c.document_id, c.index"#,
        company.as_uuid(),
        query.studio.as_uuid(),
        query.words.replace(['<', '>'], " "),
        query.mode == MatchMode::Any,
        &documents,
        query.limit,
        String::from_iter(['<', '>', LESS, GREATER, MARK, MARK_END]),
        String::from_iter([LESS, GREATER]),
        format!(
            "StartSel={MARK}, StopSel={MARK_END}, MaxFragments=2, MinWords=12, MaxWords=30, FragmentDelimiter=\" … \""
        ),
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(Found::from).collect())
}
