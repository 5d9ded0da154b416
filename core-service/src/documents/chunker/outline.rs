//! The outline of a text: its sections and the blocks in them, as places in the text.
//!
//! Only headings at the top level make sections; one inside a quotation, a list or a code block is part of that block.

use std::ops::Range;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// A longer heading is a paragraph that happens to be underlined, and stays in the body, as one without a title does.
const TITLE_CHARS: usize = 200;

/// What stands between two headings.
#[derive(Debug, Default)]
pub(super) struct Section {
    /// The titles of the headings above, outermost first, joined by ` > `.
    pub(super) path: String,
    /// The section's own title, where no section below carries it in its path.
    pub(super) title_alone: Option<String>,
    /// The section's blocks, one after the other without a gap.
    pub(super) blocks: Vec<Block>,
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

/// The one section of a text without headings; its paragraphs are parted by blank lines.
pub(super) fn plain(text: &str) -> Section {
    let mut blocks = Vec::new();
    let mut start = 0;
    let mut after_blank = false;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let blank = line.chars().all(super::is_blank);
        if after_blank && !blank {
            blocks.push(Block {
                range: start..at,
                kind: Kind::Prose,
            });
            start = at;
        }
        after_blank = blank;
        at += line.len();
    }
    blocks.push(Block {
        range: start..at,
        kind: Kind::Prose,
    });
    Section {
        blocks,
        ..Section::default()
    }
}

/// The one section of a text whose lines are rows.
pub(super) fn lines(text: &str) -> Section {
    Section {
        blocks: vec![Block {
            range: 0..text.len(),
            kind: Kind::Lines,
        }],
        ..Section::default()
    }
}

/// The sections of a markdown text, in order; the first one stands before any heading. `None` where there are more
/// headings than the limit.
pub(super) fn markdown(text: &str, headings_limit: usize) -> Option<Vec<Section>> {
    let mut outline = Outline::default();
    let mut depth = 0_usize;
    let mut title: Option<String> = None;
    for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES | metadata()).into_offset_iter() {
        match event {
            Event::Start(tag) => {
                if depth == 0 {
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
                    if outline.done.len() > headings_limit {
                        return None;
                    }
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
            _ if depth == 0 => outline.begin_block(text, range.start, Kind::Lines),
            _ => {}
        }
    }
    outline.end_section(text.len(), None);
    Some(outline.done)
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

/// The sections found so far. Blocks are known by where they begin: what no event tells of, such as a link's
/// definition, belongs to the block before it.
#[derive(Default)]
struct Outline {
    done: Vec<Section>,
    current: Section,
    level: usize,
    /// Where the current section's body begins.
    body_start: usize,
    /// Where the current section's blocks begin.
    starts: Vec<(usize, Kind)>,
    /// The headings above what comes, with their levels.
    above: Vec<(usize, String)>,
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
        self.end_section(range.start, Some(level));
        while self.above.last().is_some_and(|(above, _)| *above >= level) {
            self.above.pop();
        }
        self.above.push((level, title.clone()));
        let titles = self.above.iter().map(|(_, title)| title.as_str());
        self.current.path = titles.collect::<Vec<_>>().join(" > ");
        self.current.title_alone = Some(title);
        self.level = level;
        self.body_start = range.end;
    }

    /// Ends the current section at `end`, where a heading of level `next` begins or the text ends.
    fn end_section(&mut self, end: usize, next: Option<usize>) {
        let mut section = std::mem::take(&mut self.current);
        if next.is_some_and(|next| next > self.level) {
            section.title_alone = None;
        }
        let mut start = self.body_start;
        let mut kind = Kind::Lines;
        for (next_start, next_kind) in self.starts.drain(..) {
            section.blocks.push(Block {
                range: start..next_start.max(start),
                kind,
            });
            (start, kind) = (next_start.max(start), next_kind);
        }
        section.blocks.push(Block {
            range: start..end.max(start),
            kind,
        });
        self.done.push(section);
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
