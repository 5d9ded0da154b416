//! What a studio's documents say about something.

use anyhow::Result;
use clap::Args as Arguments;
use studios_proto::core::{DocumentFilter, MatchMode, SearchChunksRequest, SearchMode, SearchResult};

use crate::{
    output::{Output, message_json},
    runs::Access,
};

/// What is looked for, and where.
#[derive(Debug, Arguments)]
pub struct Args {
    /// The studio's id.
    studio: String,
    /// Words, "a phrase", -without, a or b.
    query: String,
    /// Any word counts, more of them come first: for questions.
    #[arg(long)]
    any: bool,
    /// At most so many results.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(i32).range(1..=100))]
    limit: i32,
    /// Only in documents with this tag; of several, with all.
    #[arg(long = "tag")]
    tags: Vec<String>,
    /// Only in documents of this type, such as application/pdf; of several, of one.
    #[arg(long = "type")]
    mime_types: Vec<String>,
    /// Which gateway, and as whom.
    #[command(flatten)]
    access: Access,
}

/// Prints what is found, best first.
pub async fn run(args: &Args, output: Output) -> Result<()> {
    let remote = args.access.remote()?;
    let matching = if args.any { MatchMode::Any } else { MatchMode::All };
    let request = remote.request(SearchChunksRequest {
        studio_id: args.studio.clone(),
        query: args.query.clone(),
        limit: args.limit,
        match_mode: matching.into(),
        mode: SearchMode::Text.into(),
        filter: Some(DocumentFilter {
            tags: args.tags.clone(),
            mime_types: args.mime_types.clone(),
            ..DocumentFilter::default()
        }),
        ..SearchChunksRequest::default()
    });
    let found = remote.documents().search_chunks(request).await?.into_inner();
    let mut parts: Vec<_> = (1..).zip(&found.results).map(part).collect();
    if !found.corrected_query.is_empty() {
        parts.insert(0, format!("also looked for: {}", found.corrected_query));
    }
    if found.results.is_empty() {
        parts.push("nothing found".into());
    }
    output.result(parts.join("\n\n"), || message_json(&found));
    Ok(())
}

fn part((number, result): (u32, &SearchResult)) -> String {
    let chunk = result.chunk.as_ref();
    let section = chunk.map(|it| it.section.as_str()).filter(|it| !it.is_empty());
    let section = section.map(|it| format!(" — {it}")).unwrap_or_default();
    let page = chunk.map(|it| it.page).filter(|it| *it > 0);
    let page = page.map(|it| format!(", page {it}")).unwrap_or_default();
    format!(
        "[{number}] {}{section}{page}\n{}",
        result.document_title,
        plain(&result.snippet)
    )
}

/// A snippet's HTML as text, the words found between asterisks.
fn plain(snippet: &str) -> String {
    let marked = snippet.replace("<mark>", "*").replace("</mark>", "*");
    let text = marked.replace("&lt;", "<").replace("&gt;", ">");
    text.replace("&quot;", "\"").replace("&#39;", "'").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use studios_proto::core::Chunk;

    use super::*;

    #[test]
    fn a_result_is_numbered_and_says_where_it_is_from() {
        let mut result = SearchResult {
            chunk: Some(Chunk {
                section: "Fees > Ships".into(),
                page: 3,
                ..Chunk::default()
            }),
            document_title: "Rules".into(),
            snippet: "a <mark>fee</mark> of &lt;b&gt; &amp;lt; &quot;40&quot;".into(),
            score: 1.0,
        };
        assert_eq!(
            part((1, &result)),
            "[1] Rules — Fees > Ships, page 3\na *fee* of <b> &lt; \"40\""
        );
        result.chunk = Some(Chunk::default());
        assert_eq!(part((2, &result)), "[2] Rules\na *fee* of <b> &lt; \"40\"");
    }
}
