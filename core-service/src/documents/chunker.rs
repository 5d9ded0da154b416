//! Cuts a document's text into the pieces that are searched and given to prompts.
//!
//! Pure: a text and its type in, pieces out, in time linear in the text. What always holds: pieces come in the order of
//! the text and their contents never overlap, which are never blank and at most [`BUDGET_TOKENS`] long, no content reaches
//! over a heading or a page's end, every visible character outside headings is in exactly one content, and every heading is
//! in the section of at least one piece. What a piece repeats of the one before it stands apart, and comes from the same
//! section: it makes the piece understood, and is not what it is found or cited for.

mod outline;
mod split;

use std::str::FromStr;

use outline::Section;

use super::MimeType;

/// The longest piece, in tokens.
pub const BUDGET_TOKENS: usize = 400;

/// A text with more headings than this is cut as if it had none: each of them would make a piece of its own.
const HEADINGS_LIMIT: usize = 10_000;

/// Some editors put it first.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// How many characters count as a token, on average over languages and models.
const CHARS_PER_TOKEN: usize = 4;

/// What parts the pages of a text.
pub(super) const PAGE_END: char = '\u{c}';

/// How much of the piece before a piece repeats at most, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlap(u16);

impl Overlap {
    /// More would be half of the piece.
    const MOST: u16 = 200;
    /// None at all.
    pub const NONE: Self = Self(0);

    fn chars(self) -> usize {
        usize::from(self.0) * CHARS_PER_TOKEN
    }
}

impl Default for Overlap {
    /// One or two sentences.
    fn default() -> Self {
        Self(40)
    }
}

/// The text is no number of tokens that pieces may have in common.
#[derive(Debug, thiserror::Error)]
#[error("must be a number from 0 to 200")]
pub struct NoOverlap;

impl FromStr for Overlap {
    type Err = NoOverlap;

    fn from_str(text: &str) -> Result<Self, NoOverlap> {
        let tokens = text.parse().ok().filter(|it| *it <= Self::MOST);
        tokens.map(Self).ok_or(NoOverlap)
    }
}

/// A piece of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The headings above it, outermost first, joined by ` > `; empty where there is none.
    pub section: String,
    /// The end of the piece before it, in the same section; empty where it begins one.
    pub overlap: String,
    /// Its text as it stands in the document, without blank lines around it.
    pub content: String,
    /// An estimate of the content's length in tokens.
    pub token_count: i32,
    /// The page it stands on, from 1, where the text has pages.
    pub page: Option<i32>,
}

/// Cuts a text. A text without a visible character has no pieces.
pub fn chunk(mime_type: MimeType, text: &str, overlap: Overlap) -> Vec<Piece> {
    chunk_within(mime_type, text, BUDGET_TOKENS, overlap)
}

fn chunk_within(mime_type: MimeType, text: &str, budget_tokens: usize, overlap: Overlap) -> Vec<Piece> {
    let text = text.trim_start_matches(BYTE_ORDER_MARK);
    let sections = match mime_type {
        MimeType::Plain => None,
        MimeType::Csv => Some(vec![outline::lines(text)]),
        // Extracted texts are written as markdown.
        MimeType::Markdown | MimeType::Html | MimeType::Docx | MimeType::Xlsx => {
            outline::markdown(text, HEADINGS_LIMIT)
        }
        MimeType::Pdf => return pages(text, budget_tokens, overlap),
    };
    let sections = sections.unwrap_or_else(|| vec![outline::plain(text)]);
    sections
        .iter()
        .flat_map(|section| pieces(text, section, budget_tokens, overlap))
        .collect()
}

/// Sentences go on over the pages' ends, so what a piece repeats may stand on the page before.
fn pages(text: &str, budget_tokens: usize, overlap: Overlap) -> Vec<Piece> {
    let on_page = |(number, page): (i32, &str)| {
        let mut pieces = pieces(page, &outline::plain(page), budget_tokens, Overlap::NONE);
        for piece in &mut pieces {
            piece.page = Some(number);
        }
        pieces
    };
    let mut pieces: Vec<Piece> = (1..).zip(text.split(PAGE_END)).flat_map(on_page).collect();
    repeat(&mut pieces, overlap);
    pieces
}

/// Gives each piece the end of the one before it.
fn repeat(pieces: &mut [Piece], overlap: Overlap) {
    for place in 1..pieces.len() {
        let end = split::tail(&pieces[place - 1].content, overlap.chars());
        pieces[place].overlap = String::from(end);
    }
}

fn pieces(text: &str, section: &Section, budget_tokens: usize, overlap: Overlap) -> Vec<Piece> {
    let piece = |content: &str| Piece {
        section: section.path.clone(),
        overlap: String::new(),
        content: content.to_owned(),
        token_count: i32::try_from(content.chars().count().div_ceil(CHARS_PER_TOKEN)).unwrap_or(i32::MAX),
        page: None,
    };
    let ranges = split::pack(text, &section.blocks, budget_tokens * CHARS_PER_TOKEN);
    let mut pieces: Vec<Piece> = match &section.title_alone {
        Some(title) if ranges.is_empty() => vec![piece(title)],
        _ => ranges.into_iter().map(|range| piece(&text[range])).collect(),
    };
    repeat(&mut pieces, overlap);
    pieces
}

/// Whether a character shows nothing.
pub(super) fn is_blank(character: char) -> bool {
    character.is_whitespace() || character == BYTE_ORDER_MARK
}

#[cfg(test)]
mod tests;
