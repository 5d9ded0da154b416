//! Search in the chunks of a studio's documents: by words, by vectors, or by both.
//!
//! Words are matched by the rules of each document's language; where they find too little, words that no document has are
//! taken for typos. Vectors are compared one by one, which is exact: here, and bounded by how many there may be, or where it has
//! pgvector by the database, which has an index for more. A query finds nothing that its caller may not read: the documents to look
//! in are those that the policies show. Equal data give equal answers in an equal order.

use std::collections::HashSet;

use service_kit::{
    auth::Caller,
    db::{Claims, TenantTx},
    error::{Error, Result},
    ids::{CompanyId, DocumentId, StudioId},
};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Chunk, MimeType, company_of, words};
use crate::App;

mod convert;
mod rank;
mod store;

use rank::Hit;

/// The most chunks whose vectors are compared with a query's where the database does not find the nearest.
const MOST_COMPARED: i64 = 50_000;
/// The most dimensions of vectors that the database finds.
const MOST_HALVED: usize = 4000;
/// How many of each list are joined at least.
const DEPTH: usize = 50;
/// Where words find fewer chunks than this, typos are looked for.
const TOO_FEW: usize = 3;
/// In the words of so many documents, the newest.
const SPELT_DOCUMENTS: usize = 500;

/// What stands in a passage, as the database cuts it, before and after a word found, and for `<` and `>`, which would be
/// taken for tags and left out. Control characters: no word has any, and the chunk's own are taken out first.
const MARK: char = '\u{1}';
const MARK_END: char = '\u{2}';
const LESS: char = '\u{3}';
const GREATER: char = '\u{4}';

/// What is looked for.
#[derive(Clone, Debug)]
pub struct Query {
    /// In this studio's documents,
    pub studio: StudioId,
    /// in those of them that pass this.
    pub filter: Filter,
    /// As people write it: words, "a phrase", -without, a or b.
    pub words: String,
    /// How the words count.
    pub matching: MatchMode,
    /// By what chunks are found.
    pub mode: Mode,
    /// What the words mean.
    pub vector: Option<QueryVector>,
    /// At most this many results.
    pub limit: usize,
}

/// Which documents are looked in: those that pass all of it. What is empty lets all pass.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// These.
    pub documents: Vec<DocumentId>,
    /// Of one of these types.
    pub mime_types: Vec<MimeType>,
    /// With all of these tags.
    pub tags: Vec<String>,
    /// Made at this time or later.
    pub created_from: Option<OffsetDateTime>,
    /// Made before this time.
    pub created_before: Option<OffsetDateTime>,
    /// Last changed at this time or later.
    pub updated_from: Option<OffsetDateTime>,
    /// Last changed before this time.
    pub updated_before: Option<OffsetDateTime>,
}

/// How the words of a query count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchMode {
    /// All must be there; the query's operators hold.
    All,
    /// Each counts, the rarer the more; what has more of them comes first.
    Any,
}

/// By what chunks are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By both, where there is a vector and not too much to compare it with; by words otherwise.
    Automatic,
    /// By words.
    Text,
    /// By the query's vector.
    Vector,
    /// By both.
    Fused,
}

/// A query as a vector.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryVector {
    /// Whose vectors it can be compared with.
    pub model: String,
    /// Its numbers.
    pub numbers: Vec<f32>,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The chunks, best first.
    pub found: Vec<Found>,
    /// The words that were looked for again, with typos corrected.
    pub corrected: Option<String>,
}

/// A chunk found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The chunk.
    pub chunk: Chunk,
    /// Its document's title.
    pub document_title: String,
    /// Larger is better.
    pub score: f64,
    /// Its best passages as HTML: the words found between `<mark>` and `</mark>`, the rest escaped.
    pub snippet: String,
}

/// The documents of one language that are looked in.
struct Reached {
    /// PostgreSQL's configuration for it.
    language: String,
    /// The newest first.
    documents: Vec<Uuid>,
    /// How many chunks they have.
    chunks: i64,
    /// Whether the database finds the nearest of their vectors.
    has_pgvector: bool,
}

/// Finds the chunks that fit best, best first.
pub async fn search(app: &App, caller: &Caller, query: &Query) -> Result<Answer> {
    let mut tx = TenantTx::begin(&app.pool, "documents.search", &Claims::user(caller.user)).await?;
    let company = company_of(&mut tx, query.studio).await?;
    let reached = store::reached(&mut tx, company, query).await?;
    let vector = comparable(query, &reached)?;
    let mut corrected = None;
    let by_words = if query.mode == Mode::Vector {
        Vec::new()
    } else {
        by_words(&mut tx, query, &reached, &mut corrected).await?
    };
    let mut hits = match vector {
        Some(vector) => {
            let nearest = nearest(&mut tx, company, &reached, vector, depth(query)).await?;
            if query.mode == Mode::Vector {
                nearest
            } else {
                rank::fuse([&by_words, &nearest])
            }
        }
        None => by_words,
    };
    hits.truncate(query.limit);
    let found = store::read(&mut tx, query, corrected.as_deref(), &hits).await?;
    Ok(Answer { found, corrected })
}

/// How many of each list are needed.
fn depth(query: &Query) -> usize {
    let least = if query.vector.is_some() { DEPTH } else { TOO_FEW };
    query.limit.max(least)
}

/// How many chunks documents have.
fn chunks(reached: &[Reached]) -> i64 {
    reached.iter().map(|it| it.chunks).sum()
}

/// Whether the database finds the vectors nearest to one.
fn is_found_there(reached: &[Reached], vector: &QueryVector) -> bool {
    vector.numbers.len() <= MOST_HALVED && reached.iter().any(|it| it.has_pgvector)
}

/// The vector to compare chunks' with, if they are to be compared.
fn comparable<'q>(query: &'q Query, reached: &[Reached]) -> Result<Option<&'q QueryVector>> {
    let chunks = chunks(reached);
    let is_found_there = query.vector.as_ref().is_some_and(|it| is_found_there(reached, it));
    let are_too_many = chunks > MOST_COMPARED && !is_found_there;
    match query.mode {
        Mode::Text => Ok(None),
        Mode::Automatic => Ok(query.vector.as_ref().filter(|_| !are_too_many)),
        Mode::Vector | Mode::Fused if are_too_many => Err(Error::FailedPrecondition {
            reason: "TOO_MANY_CHUNKS",
            message: format!(
                "vectors of at most {MOST_COMPARED} chunks can be compared, and the documents have {chunks}: search in fewer of them"
            ),
        }),
        Mode::Vector | Mode::Fused => Ok(query.vector.as_ref()),
    }
}

/// The chunks that the words find, and behind them those that the words without their typos find.
async fn by_words(
    tx: &mut TenantTx,
    query: &Query,
    reached: &[Reached],
    corrected: &mut Option<String>,
) -> Result<Vec<Hit>> {
    let mut hits = matching(tx, query, &query.words, reached).await?;
    if hits.len() < TOO_FEW.min(query.limit)
        && let Some(words) = spelt(tx, query, reached).await?
    {
        let known: HashSet<_> = hits.iter().map(|it| it.chunk).collect();
        let more = matching(tx, query, &words, reached).await?;
        hits.extend(more.into_iter().filter(|it| !known.contains(&it.chunk)));
        *corrected = Some(words);
    }
    Ok(hits)
}

/// The chunks that words find, best first.
async fn matching(tx: &mut TenantTx, query: &Query, words: &str, reached: &[Reached]) -> Result<Vec<Hit>> {
    let mut hits = Vec::new();
    for of_language in reached {
        hits.extend(store::matching(tx, query, words, of_language, depth(query)).await?);
    }
    rank::sort(&mut hits);
    hits.truncate(depth(query));
    Ok(hits)
}

/// The query's words with those that no document has replaced by what they were meant to be.
async fn spelt(tx: &mut TenantTx, query: &Query, reached: &[Reached]) -> Result<Option<String>> {
    let lengths: Vec<usize> = words::candidates(&query.words).map(|it| it.chars().count()).collect();
    let (Some(shortest), Some(longest)) = (lengths.iter().min(), lengths.iter().max()) else {
        return Ok(None);
    };
    let mut documents: Vec<Uuid> = reached.iter().flat_map(|it| it.documents.iter().copied()).collect();
    documents.sort_unstable_by(|one, other| other.cmp(one));
    documents.truncate(SPELT_DOCUMENTS);
    let lengths = shortest.saturating_sub(words::SLIPS)..=longest + words::SLIPS;
    let known = store::words(tx, &documents, lengths).await?;
    let given = query.words.clone();
    tokio::task::spawn_blocking(move || words::corrected(&given, &known))
        .await
        .map_err(Error::internal)
}

/// The chunks whose vectors are nearest to a query's, nearest first; none that points away from it.
async fn nearest(
    tx: &mut TenantTx,
    company: CompanyId,
    reached: &[Reached],
    vector: &QueryVector,
    most: usize,
) -> Result<Vec<Hit>> {
    let documents: Vec<Uuid> = reached.iter().flat_map(|it| it.documents.iter().copied()).collect();
    let mut hits = if is_found_there(reached, vector) {
        store::nearest_there(tx, company, &documents, vector, chunks(reached), most).await?
    } else {
        store::nearest(tx, company, &documents, vector).await?
    };
    rank::sort(&mut hits);
    hits.truncate(most);
    Ok(hits)
}

/// Passages with these characters in them, as HTML.
fn html(passages: &str) -> String {
    let mut html = String::with_capacity(passages.len() + 32);
    for character in passages.chars() {
        match character {
            MARK => html.push_str("<mark>"),
            MARK_END => html.push_str("</mark>"),
            '&' => html.push_str("&amp;"),
            '<' | LESS => html.push_str("&lt;"),
            '>' | GREATER => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(mode: Mode) -> Query {
        Query {
            studio: StudioId::generate(),
            filter: Filter::default(),
            words: "a".into(),
            matching: MatchMode::All,
            mode,
            vector: Some(QueryVector {
                model: "m".into(),
                numbers: vec![1.0],
            }),
            limit: 10,
        }
    }

    fn reached(chunks: i64, has_pgvector: bool) -> [Reached; 1] {
        [Reached {
            language: "english".into(),
            documents: Vec::new(),
            chunks,
            has_pgvector,
        }]
    }

    #[test]
    fn a_passage_has_no_markup_but_its_marks() {
        assert_eq!(
            html("a \u{3}\u{1}b\u{2}\u{4} & \"c\" 'd' </mark>"),
            "a &lt;<mark>b</mark>&gt; &amp; &quot;c&quot; &#39;d&#39; &lt;/mark&gt;"
        );
    }

    #[test]
    fn vectors_are_compared_up_to_the_stated_limit_and_automatic_goes_on_without_them() {
        let (few, many) = (reached(MOST_COMPARED, false), reached(MOST_COMPARED + 1, false));
        assert!(comparable(&query(Mode::Automatic), &few).unwrap().is_some());
        assert!(comparable(&query(Mode::Automatic), &many).unwrap().is_none());
        assert!(comparable(&query(Mode::Text), &few).unwrap().is_none());
        for mode in [Mode::Vector, Mode::Fused] {
            assert!(comparable(&query(mode), &few).unwrap().is_some());
            let refused = comparable(&query(mode), &many).unwrap_err();
            assert!(matches!(
                refused,
                Error::FailedPrecondition {
                    reason: "TOO_MANY_CHUNKS",
                    ..
                }
            ));
        }
    }

    #[test]
    fn vectors_that_the_database_finds_have_no_limit() {
        let many = reached(MOST_COMPARED + 1, true);
        for mode in [Mode::Automatic, Mode::Vector, Mode::Fused] {
            assert!(comparable(&query(mode), &many).unwrap().is_some());
        }
        let mut long = query(Mode::Automatic);
        long.vector.as_mut().unwrap().numbers = vec![1.0; MOST_HALVED + 1];
        assert!(comparable(&long, &many).unwrap().is_none());
    }
}
