//! A thousand chunks for each of many studios, by statements of the administrator's: by uploads it would take hours.
//!
//! What is in the tables is what processing would have put there. The words of a few thousand different texts are brought
//! to their stems once, and each chunk is one of the texts with its own studio.

use std::ops::Range;

use anyhow::Result;
use core_service::embeddings::stored;
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::{
    super::rig::{Rig, execute},
    quality,
};

pub(super) const CHUNKS_PER_STUDIO: usize = 1000;
const CHUNKS_PER_DOCUMENT: usize = 50;
const TEXTS: usize = 3000;
const TEXT_CHARS: usize = 1000;
/// Studios whose chunks one statement makes.
const STEP: usize = 10;

/// Different texts with their vectors.
pub(super) struct Texts {
    texts: Vec<String>,
    vectors: Vec<Vec<u8>>,
}

impl Texts {
    /// Sentences of the documents, as many as a chunk has.
    pub(super) async fn make() -> Result<Self> {
        let all = quality::DOCUMENTS.map(|(_, text)| text).join(". ");
        let sentences: Vec<&str> = all
            .split(['.', ';'])
            .map(str::trim)
            .filter(|it| it.len() > 20)
            .collect();
        let mut random = SmallRng::seed_from_u64(11);
        let mut texts = Vec::with_capacity(TEXTS);
        for _ in 0..TEXTS {
            let mut text = String::new();
            while text.len() < TEXT_CHARS {
                text.push_str(sentences[random.random_range(0..sentences.len())]);
                text.push_str(". ");
            }
            texts.push(text);
        }
        let vectors = quality::vectors(texts.clone()).await?;
        let vectors = vectors.iter().map(|it| stored(it).unwrap_or_default()).collect();
        Ok(Self { texts, vectors })
    }
}

/// Gives these studios their chunks.
pub(super) async fn settle(rig: &Rig, texts: &Texts, studios: Range<usize>) -> Result<()> {
    let mut admin = rig.admin().await?;
    // Made anew in one go: a million chunks would be put into it one by one.
    execute(
        &mut admin,
        "drop index core.chunks_search; alter table core.chunks disable trigger search;
         drop table if exists texts;
         create temp table texts (place int primary key, content text not null, words tsvector, vector bytea not null);",
    )
    .await?;
    for (place, (text, vector)) in (0_i32..).zip(texts.texts.iter().zip(&texts.vectors)) {
        sqlx::query("insert into texts (place, content, words, vector) values ($1, $2, setweight(to_tsvector('english', $2), 'B'), $3)")
            .bind(place)
            .bind(text)
            .bind(vector)
            .execute(&mut admin)
            .await?;
    }
    let mut from = studios.start;
    while from < studios.end {
        let to = (from + STEP).min(studios.end);
        execute(&mut admin, some(from, to)).await?;
        from = to;
    }
    execute(
        &mut admin,
        "alter table core.chunks enable trigger search;
         set maintenance_work_mem = '512MB';
         create index chunks_search on core.chunks using gin (search) with (fastupdate = off);",
    )
    .await?;
    execute(&mut admin, "vacuum analyze core.documents").await?;
    execute(&mut admin, "vacuum analyze core.chunks").await?;
    execute(&mut admin, "vacuum analyze core.chunk_vectors").await?;
    execute(&mut admin, "checkpoint").await
}

fn some(from: usize, to: usize) -> String {
    let documents = CHUNKS_PER_STUDIO / CHUNKS_PER_DOCUMENT;
    let model = quality::SPACE;
    let chosen = format!(
        "(select id, company_id, created_by, substring(name from '[0-9]+')::int as n from core.studios
          where name ~ '^Studio [0-9]+$' and substring(name from '[0-9]+')::int >= {from}
              and substring(name from '[0-9]+')::int < {to}) s"
    );
    let document = "md5('document ' || s.n || ' ' || d)::uuid";
    let chunk = "md5('chunk ' || s.n || ' ' || d || ' ' || c)::uuid";
    let text = format!("(s.n * 7919 + d * 6151 + c * 104729) % {TEXTS}");
    format!(
        "insert into core.documents (id, company_id, studio_id, title, mime_type, access_level, status, size_bytes, sha256,
             chunk_count, created_by)
         select {document}, s.company_id, s.id, 'Document ' || d, 'text/plain', 'studio', 'completed', 50000, '',
             {CHUNKS_PER_DOCUMENT}, s.created_by
         from {chosen}, generate_series(1, {documents}) d;
         insert into core.embeddings (document_id, company_id, model)
         select {document}, s.company_id, '{model}' from {chosen}, generate_series(1, {documents}) d;
         insert into core.chunks (id, company_id, document_id, index, content, token_count, search)
         select {chunk}, s.company_id, {document}, c, t.content, length(t.content) / 4,
             t.words || array_to_tsvector(array[E'\\x01' || s.id])
         from {chosen}, generate_series(1, {documents}) d, generate_series(0, {CHUNKS_PER_DOCUMENT} - 1) c
             join lateral (select * from texts where place = {text}) t on true
         order by s.n, d, c;
         insert into core.chunk_vectors (chunk_id, company_id, document_id, model, vector)
         select {chunk}, s.company_id, {document}, '{model}', t.vector
         from {chosen}, generate_series(1, {documents}) d, generate_series(0, {CHUNKS_PER_DOCUMENT} - 1) c
             join lateral (select * from texts where place = {text}) t on true
         order by s.n, d, c;"
    )
}
