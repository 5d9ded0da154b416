//! Full-text search over the chunks of a studio's documents.
//!
//! A query finds nothing that its caller may not read: the documents to look in are those that the policies show. Equal
//! data give equal answers in an equal order.

use service_kit::{
    auth::Caller,
    db::{Claims, TenantTx},
    error::Result,
    ids::{DocumentId, StudioId},
};

use super::{Chunk, company_of};
use crate::App;

mod store;

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
    /// in these of them, if any are given.
    pub documents: Vec<DocumentId>,
    /// As people write it: words, "a phrase", -without, a or b.
    pub words: String,
    /// How the words count.
    pub mode: MatchMode,
    /// At most this many results.
    pub limit: i32,
}

/// How the words of a query count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchMode {
    /// All must be there; the query's operators hold.
    All,
    /// Each counts; what has more of them comes first.
    Any,
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

/// Finds the chunks that fit best, best first.
pub async fn search(app: &App, caller: &Caller, query: &Query) -> Result<Vec<Found>> {
    let mut tx = TenantTx::begin(&app.pool, "documents.search", &Claims::user(caller.user)).await?;
    let company = company_of(&mut tx, query.studio).await?;
    store::search(&mut tx, company, query).await
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

    #[test]
    fn a_passage_has_no_markup_but_its_marks() {
        assert_eq!(
            html("a \u{3}\u{1}b\u{2}\u{4} & \"c\" 'd' </mark>"),
            "a &lt;<mark>b</mark>&gt; &amp; &quot;c&quot; &#39;d&#39; &lt;/mark&gt;"
        );
    }
}
