//! SQL of searches.

use std::{collections::HashSet, ops::RangeInclusive};

use futures::TryStreamExt;
use service_kit::{
    error::Result,
    ids::{ChunkId, CompanyId, DocumentId},
};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    Chunk, Found, GREATER, LESS, MARK, MARK_END, MatchMode, Query, QueryVector, Reached, html,
    rank::{Hit, likeness},
};

/// The most words that typos are held against.
const MOST_WORDS: i64 = 200_000;

struct Row {
    id: ChunkId,
    document: DocumentId,
    index: i32,
    section: String,
    overlap: String,
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
                overlap: row.overlap,
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

/// The documents to look in, which the policies show and the filter lets pass.
pub(super) async fn reached(tx: &mut PgConnection, company: CompanyId, query: &Query) -> Result<Vec<Reached>> {
    let filter = &query.filter;
    let documents: Vec<Uuid> = filter.documents.iter().map(|id| id.as_uuid()).collect();
    let mime_types: Vec<&str> = filter.mime_types.iter().map(|it| it.name()).collect();
    let reached = sqlx::query_as!(
        Reached,
        r#"select language, array_agg(id order by id desc) as "documents!", sum(chunk_count) as "chunks!",
               core.uses_pgvector() as "has_pgvector!"
           from core.documents
           where company_id = $1 and studio_id = $2
               and (cardinality($3::uuid[]) = 0 or id = any ($3))
               and (cardinality($4::text[]) = 0 or mime_type = any ($4))
               and (cardinality($5::text[]) = 0 or tags @> $5)
               and ($6::timestamptz is null or created_at >= $6) and ($7::timestamptz is null or created_at < $7)
               and ($8::timestamptz is null or updated_at >= $8) and ($9::timestamptz is null or updated_at < $9)
           group by language
           order by language"#,
        company.as_uuid(),
        query.studio.as_uuid(),
        &documents,
        &mime_types as _,
        &filter.tags,
        filter.created_from,
        filter.created_before,
        filter.updated_from,
        filter.updated_before,
    )
    .fetch_all(tx)
    .await?;
    Ok(reached)
}

/// The best of the chunks that words find in documents of one language.
pub(super) async fn matching(
    tx: &mut PgConnection,
    query: &Query,
    words: &str,
    reached: &Reached,
    most: usize,
) -> Result<Vec<Hit>> {
    let hits = sqlx::query_as!(
        Hit,
        r#"with words as materialized (
               select case when $4 then tsvector_to_array(to_tsvector($2::text::regconfig, $3)) end as lexemes
           ), query as materialized (
               select lexemes, case when $4
                   then (select string_agg('''' || replace(replace(lexeme, '\', '\\'), '''', '''''') || '''', ' | ')
                         from unnest(lexemes) lexeme)::tsquery
                   else websearch_to_tsquery($2::text::regconfig, $3) end as wanted
               from words
           )
           select found.chunk_id as "chunk!: ChunkId", found.score as "score!"
           from query, core.match_chunks($1, $5, query.wanted, query.lexemes, $6) found"#,
        query.studio.as_uuid(),
        reached.language,
        bare(words),
        query.matching == MatchMode::Any,
        &reached.documents,
        i32::try_from(most).unwrap_or(i32::MAX),
    )
    .fetch_all(tx)
    .await?;
    Ok(hits)
}

/// The words of these lengths that documents have.
pub(super) async fn words(
    tx: &mut PgConnection,
    documents: &[Uuid],
    lengths: RangeInclusive<usize>,
) -> Result<HashSet<String>> {
    let length = |it: &usize| i32::try_from(*it).unwrap_or(i32::MAX);
    let words = sqlx::query_scalar!(
        r#"select distinct word as "word!"
           from core.document_words w, unnest(w.words) word
           where w.document_id = any ($1) and char_length(word) between $2 and $3
           limit $4"#,
        documents,
        length(lengths.start()),
        length(lengths.end()),
        MOST_WORDS,
    )
    .fetch_all(tx)
    .await?;
    Ok(words.into_iter().collect())
}

/// How near the vectors of the documents' chunks are to one of their model, where they point its way at all.
pub(super) async fn nearest(
    tx: &mut PgConnection,
    company: CompanyId,
    documents: &[Uuid],
    vector: &QueryVector,
) -> Result<Vec<Hit>> {
    let mut documents = sqlx::query!(
        r#"select chunk_ids as "chunks!: Vec<ChunkId>", vectors as "vectors!" from core.vectors_by_document($1, $2, $3)"#,
        company.as_uuid(),
        documents,
        vector.model,
    )
    .fetch(tx);
    let mut hits = Vec::new();
    while let Some(of_one) = documents.try_next().await? {
        let length = of_one.vectors.len() / of_one.chunks.len().max(1);
        let vectors = of_one.vectors.chunks_exact(length.max(1));
        let compared = of_one.chunks.into_iter().zip(vectors);
        hits.extend(compared.filter_map(|(chunk, stored)| hit(vector, chunk, stored)));
    }
    Ok(hits)
}

/// The same of those that the database finds nearest: more of them than are wanted, for it sees numbers of 16 bits.
pub(super) async fn nearest_there(
    tx: &mut PgConnection,
    company: CompanyId,
    documents: &[Uuid],
    vector: &QueryVector,
    chunks: i64,
    most: usize,
) -> Result<Vec<Hit>> {
    // As far as they go, whatever its length.
    let largest = vector.numbers.iter().fold(0.0_f32, |largest, it| largest.max(it.abs()));
    if largest <= 0.0 {
        return Ok(Vec::new());
    }
    let numbers: Vec<f32> = vector.numbers.iter().map(|it| it / largest).collect();
    let rows = sqlx::query!(
        r#"select chunk_id as "chunk!: ChunkId", vector as "vector!" from core.nearest_vectors($1, $2, $3, $4, $5, $6)"#,
        company.as_uuid(),
        documents,
        vector.model,
        &numbers,
        chunks,
        i32::try_from(2 * most).unwrap_or(i32::MAX),
    )
    .fetch_all(tx)
    .await?;
    Ok(rows
        .iter()
        .filter_map(|row| hit(vector, row.chunk, &row.vector))
        .collect())
}

/// A chunk whose vector points a vector's way.
fn hit(vector: &QueryVector, chunk: ChunkId, stored: &[u8]) -> Option<Hit> {
    let score = likeness(&vector.numbers, stored).filter(|it| *it > 0.0)?;
    Some(Hit { chunk, score })
}

/// Reads chunks that were found, in the order given, through the policies.
pub(super) async fn read(
    tx: &mut PgConnection,
    query: &Query,
    corrected: Option<&str>,
    hits: &[Hit],
) -> Result<Vec<Found>> {
    let ids: Vec<Uuid> = hits.iter().map(|it| it.chunk.as_uuid()).collect();
    let scores: Vec<f64> = hits.iter().map(|it| it.score).collect();
    // Words that were looked for in two ways are all marked.
    let words = match corrected {
        Some(corrected) => format!("{} {corrected}", bare(&query.words)),
        None => bare(&query.words),
    };
    let rows = sqlx::query_as!(
        Row,
        r#"select c.id as "id: ChunkId", c.document_id as "document: DocumentId", c.index, c.section, c.overlap, c.content,
                  c.token_count, c.page, d.title as document_title, hit.score as "score!",
                  ts_headline(d.language::regconfig, translate(c.content, $5, $6), coalesce(query.wanted, '''-'''::tsquery), $7) as "passages!"
           from unnest($1::uuid[], $2::float8[]) with ordinality as hit (id, score, place)
               join core.chunks c on c.id = hit.id
               join core.documents d on d.id = c.document_id,
               lateral (select case when $4
                   then (select string_agg('''' || replace(replace(lexeme, '\', '\\'), '''', '''''') || '''', ' | ')
                         from unnest(tsvector_to_array(to_tsvector(d.language::regconfig, $3))) lexeme)::tsquery
                   else websearch_to_tsquery(d.language::regconfig, $3) end as wanted) query
           order by hit.place"#,
        &ids,
        &scores,
        words,
        query.matching == MatchMode::Any || corrected.is_some(),
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

/// Words without angle brackets, which are no part of any in the index.
fn bare(words: &str) -> String {
    words.replace(['<', '>'], " ")
}
