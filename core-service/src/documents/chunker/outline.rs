//! The outline of markdown: its headings and the blocks between them, as places in the text.
//!
//! Only headings at the top level count; one inside a quotation, a list or a code block is part of that block. Blocks are known
//! by where they begin: what no event tells of, such as a link's definition, belongs to the block before it.

use std::ops::Range;

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// A longer heading is a paragraph that happens to be underlined, and stays in the body, as one without a title does.
const TITLE_CHARS: usize = 200;

/// What a text is made of: headings and blocks, one after the other without a gap.
#[derive(Debug)]
pub(super) enum Item {
    Heading(Heading),
    Block(Block),
}

/// A heading.
#[derive(Debug)]
pub(super) struct Heading {
    pub(super) range: Range<usize>,
    pub(super) level: usize,
    pub(super) title: String,
}

/// A paragraph, list, table, code block …, with the blank lines behind it.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) range: Range<usize>,
    pub(super) kind: Kind,
}

/// Where a block that is too long is best cut.
#[derive(Debug)]
pub(super) enum Kind {
    /// Between sentences.
    Prose,
    /// Between lines.
    Lines,
    /// Between its items, which begin here.
    Items(Vec<usize>),
}

/// The outline of a text, and how many lines at the last block's beginning say what kind of block it is.
pub(super) fn read(text: &str) -> (Vec<Item>, usize) {
    let mut outline = Outline::default();
    let mut depth = 0_usize;
    let mut title: Option<String> = None;
    for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES | metadata()).into_offset_iter() {
        match event {
            Event::Start(tag) => {
                if depth == 0 {
                    outline.marks = marks(&tag);
                    match block_kind(&tag) {
                        Some(kind) => outline.begin_block(text, range.start, kind),
                        None => title = Some(String::new()),
                    }
                } else if depth == 1 && tag == Tag::Item {
                    outline.begin_item(text, range.start);
                }
                depth += 1;
            }
            Event::End(tag) => {
                depth -= 1;
                if depth == 0
                    && let (TagEnd::Heading(level), Some(title)) = (tag, title.take())
                {
                    outline.heading(text, range, level as usize, &title);
                }
            }
            Event::Text(words) | Event::Code(words) => {
                if let Some(title) = &mut title {
                    title.push_str(&words);
                }
            }
            Event::SoftBreak | Event::HardBreak => {
                if let Some(title) = &mut title {
                    title.push(' ');
                }
            }
            _ if depth == 0 => {
                outline.marks = 0;
                outline.begin_block(text, range.start, Kind::Lines);
            }
            _ => {}
        }
    }
    outline.end_body(text.len());
    (outline.items, outline.marks)
}

fn metadata() -> Options {
    Options::ENABLE_YAML_STYLE_METADATA_BLOCKS | Options::ENABLE_PLUSES_DELIMITED_METADATA_BLOCKS
}

/// How a block is cut; `None` for a heading, which is none.
fn block_kind(tag: &Tag<'_>) -> Option<Kind> {
    match tag {
        Tag::Heading { .. } => None,
        Tag::Paragraph => Some(Kind::Prose),
        Tag::List(_) => Some(Kind::Items(Vec::new())),
        _ => Some(Kind::Lines),
    }
}

/// The number of a block's first lines without which the others would be another kind of block.
fn marks(tag: &Tag<'_>) -> usize {
    match tag {
        Tag::CodeBlock(CodeBlockKind::Fenced(_)) | Tag::HtmlBlock | Tag::MetadataBlock(_) => 1,
        Tag::Table(_) => 2,
        _ => 0,
    }
}

#[derive(Default)]
struct Outline {
    items: Vec<Item>,
    /// Where what stands behind the last heading begins.
    body_start: usize,
    /// Where the blocks begin behind that.
    starts: Vec<(usize, Kind)>,
    marks: usize,
}

impl Outline {
    fn begin_block(&mut self, text: &str, start: usize, kind: Kind) {
        self.starts.push((line_start(text, start), kind));
    }

    fn begin_item(&mut self, text: &str, start: usize) {
        if let Some((_, Kind::Items(items))) = self.starts.last_mut() {
            items.push(line_start(text, start));
        }
    }

    fn heading(&mut self, text: &str, range: Range<usize>, level: usize, title: &str) {
        let title = title.split_whitespace().collect::<Vec<_>>().join(" ");
        if title.chars().all(super::is_blank) || title.chars().count() > TITLE_CHARS {
            self.begin_block(text, range.start, Kind::Prose);
            return;
        }
        self.end_body(range.start);
        self.body_start = range.end;
        self.items.push(Item::Heading(Heading { range, level, title }));
    }

    fn end_body(&mut self, end: usize) {
        let mut start = self.body_start;
        let mut kind = Kind::Lines;
        for (next_start, next_kind) in self.starts.drain(..) {
            let next_start = next_start.max(start);
            if start < next_start {
                let range = start..next_start;
                self.items.push(Item::Block(Block { range, kind }));
            }
            (start, kind) = (next_start, next_kind);
        }
        if start < end {
            let range = start..end;
            self.items.push(Item::Block(Block { range, kind }));
        }
    }
}

/// The place where the indentation before `at` begins, if nothing else stands before it in its line; else `at`.
pub(super) fn line_start(text: &str, at: usize) -> usize {
    let before = &text[..at];
    let start = before.trim_end_matches([' ', '\t']).len();
    if start == 0 || before[..start].ends_with(['\n', '\r']) {
        start
    } else {
        at
    }
}
