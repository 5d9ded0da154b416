//! Cuts a document's text into the pieces that are searched and given to prompts.
//!
//! Pure: a text and its type in, pieces out, in time linear in the text. It comes bit by bit, and what is kept of it does not grow
//! with it; into which bits it was parted makes no difference. What always holds: pieces come in the order of
//! the text and their contents never overlap, which are never blank and at most [`BUDGET_TOKENS`] long, no content reaches
//! over a heading or a page's end, every visible character outside headings is in exactly one content, and every heading is
//! in the section of at least one piece. What a piece repeats of the one before it stands apart, and comes from the same
//! section: it makes the piece understood, and is not what it is found or cited for.

mod lines;
mod markdown;
mod outline;
mod pieces;
mod split;

use std::str::FromStr;

use lines::{Lines, Unit};
use markdown::Markdown;
use pieces::Pieces;

use super::MimeType;

/// The longest piece, in tokens.
pub const BUDGET_TOKENS: usize = 400;

/// How much of a text is looked at together, in bytes: a longer paragraph is cut as several.
const WINDOW_BYTES: usize = 64 << 10;

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
    let mut chunker = Chunker::new(mime_type, overlap);
    let mut pieces = chunker.push(text);
    pieces.extend(chunker.finish());
    pieces
}

/// Cuts a text that comes bit by bit.
pub struct Chunker {
    reader: Reader,
    pieces: Pieces,
    is_begun: bool,
}

/// By what a text is parted.
enum Reader {
    Lines(Lines),
    Markdown(Markdown),
    /// Pages of paragraphs.
    Pages(Lines),
}

impl Chunker {
    /// Begins a text of this type.
    pub fn new(mime_type: MimeType, overlap: Overlap) -> Self {
        Self::within(mime_type, BUDGET_TOKENS, overlap, WINDOW_BYTES)
    }

    fn within(mime_type: MimeType, budget_tokens: usize, overlap: Overlap, window: usize) -> Self {
        let mut pieces = Pieces::new(budget_tokens, overlap);
        let reader = match mime_type {
            MimeType::Plain => Reader::Lines(Lines::new(Unit::Paragraph, window)),
            MimeType::Csv => Reader::Lines(Lines::new(Unit::Line, window)),
            // Extracted texts are written as markdown.
            MimeType::Markdown | MimeType::Html | MimeType::Docx | MimeType::Xlsx => {
                Reader::Markdown(Markdown::new(window))
            }
            MimeType::Pdf => {
                pieces.turn_page();
                Reader::Pages(Lines::new(Unit::Paragraph, window))
            }
        };
        Self {
            reader,
            pieces,
            is_begun: false,
        }
    }

    /// Takes the next bit of the text, and gives the pieces that are complete by it.
    pub fn push(&mut self, text: &str) -> Vec<Piece> {
        let text = if self.is_begun {
            text
        } else {
            text.trim_start_matches(BYTE_ORDER_MARK)
        };
        self.is_begun |= !text.is_empty();
        match &mut self.reader {
            Reader::Lines(lines) => lines.push(text, &mut self.pieces),
            Reader::Markdown(markdown) => markdown.push(text, &mut self.pieces),
            Reader::Pages(lines) => {
                for (place, part) in text.split(PAGE_END).enumerate() {
                    if place > 0 {
                        lines.finish(&mut self.pieces);
                        self.pieces.turn_page();
                    }
                    lines.push(part, &mut self.pieces);
                }
            }
        }
        self.pieces.take()
    }

    /// Ends the text, and gives its last pieces.
    pub fn finish(mut self) -> Vec<Piece> {
        match &mut self.reader {
            Reader::Lines(lines) | Reader::Pages(lines) => lines.finish(&mut self.pieces),
            Reader::Markdown(markdown) => markdown.finish(&mut self.pieces),
        }
        self.pieces.close();
        self.pieces.take()
    }
}

/// Whether a character shows nothing.
pub(super) fn is_blank(character: char) -> bool {
    character.is_whitespace() || character == BYTE_ORDER_MARK
}

#[cfg(test)]
mod tests;
