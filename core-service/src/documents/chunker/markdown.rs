//! Markdown that comes bit by bit: read in windows, each of which ends at a line.
//!
//! A block is over once another one begins, and nothing that follows changes it: all but a window's last block is cut, and that
//! one is read again with what follows. One that fills a window is cut as far as it is there, and what goes on of it is read
//! behind the lines that say what it is. What is in force from one end of a text to the other, the definitions of links and a
//! block of metadata, is found within a window alone.

use std::borrow::Cow;

use super::{
    lines::last_space,
    outline::{self, Block, Heading, Item, Kind},
    pieces::Pieces,
};

/// How many windows are there at a time.
const WINDOWS: usize = 4;
/// More at a block's beginning is not read again.
const OPENING_BYTES: usize = 1024;
/// So many headings any text may have,
const HEADINGS: usize = 10_000;
/// and one more for so many bytes of it. Those beyond are text, for each heading would make a piece of its own.
const BYTES_A_HEADING: usize = 1024;

/// A text that comes bit by bit.
pub(super) struct Markdown {
    /// In bytes. A block that is longer may be cut anywhere.
    window: usize,
    /// What belongs to no block yet.
    text: String,
    /// The first lines of the block in whose midst that begins.
    opening: String,
    /// How many bytes and headings there were before it.
    bytes: usize,
    headings: usize,
    level: usize,
    /// The headings above what comes, with their levels.
    above: Vec<(usize, String)>,
}

impl Markdown {
    pub(super) fn new(window: usize) -> Self {
        Self {
            window,
            text: String::new(),
            opening: String::new(),
            bytes: 0,
            headings: 0,
            level: 0,
            above: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, mut text: &str, pieces: &mut Pieces) {
        loop {
            let room = (WINDOWS * self.window).saturating_sub(self.text.len());
            let (now, then) = text.split_at(text.floor_char_boundary(room));
            self.text.push_str(now);
            if then.is_empty() {
                return;
            }
            text = then;
            // By what is there then, however it came.
            self.read(false, pieces);
        }
    }

    pub(super) fn finish(&mut self, pieces: &mut Pieces) {
        self.read(true, pieces);
        pieces.end_section(false);
    }

    fn read(&mut self, is_end: bool, pieces: &mut Pieces) {
        let text = std::mem::take(&mut self.text);
        let end = if is_end { text.len() } else { self.end(&text) };
        let before = self.opening.len();
        let source = match before {
            0 => Cow::Borrowed(&text[..end]),
            _ => Cow::Owned([&self.opening, &text[..end]].concat()),
        };
        let (mut items, marks) = outline::read(&source);
        // A heading is over with its line.
        let last = match items.pop() {
            Some(Item::Block(block)) if !is_end => Some(block),
            last => {
                items.extend(last);
                None
            }
        };
        for item in items {
            self.item(&source, before, item, pieces);
        }
        let kept = match last {
            Some(block) if block.range.len() < self.window => {
                if block.range.start >= before {
                    self.opening.clear();
                }
                block.range.start.max(before) - before
            }
            Some(block) => {
                self.opening = opening(&source[block.range.clone()], marks);
                self.item(&source, before, Item::Block(block), pieces);
                end
            }
            None => {
                self.opening.clear();
                end
            }
        };
        drop(source);
        self.bytes += kept;
        self.text = text;
        self.text.drain(..kept);
    }

    /// Behind the last line that is there in full, unless that leaves more than a window.
    fn end(&self, text: &str) -> usize {
        let least = text.floor_char_boundary(text.len().saturating_sub(self.window));
        let late = &text[least..];
        // The line's end may have a second half.
        let whole = late.strip_suffix('\r').unwrap_or(late);
        let line = whole.rfind(['\n', '\r']).map(|at| at + 1);
        line.or_else(|| last_space(late)).map_or(text.len(), |at| least + at)
    }

    /// Takes an item of the source, of which so much has been read before.
    fn item(&mut self, source: &str, before: usize, item: Item, pieces: &mut Pieces) {
        let mut block = match item {
            Item::Heading(it) if self.headings < HEADINGS + (self.bytes + it.range.start) / BYTES_A_HEADING => {
                self.heading(it, pieces);
                return;
            }
            Item::Heading(Heading { range, .. }) => Block {
                range,
                kind: Kind::Prose,
            },
            Item::Block(block) => block,
        };
        block.range.start = block.range.start.max(before);
        if block.range.start < block.range.end {
            pieces.block(source, &block);
        }
    }

    fn heading(&mut self, heading: Heading, pieces: &mut Pieces) {
        let Heading { level, title, .. } = heading;
        pieces.end_section(level > self.level);
        self.headings += 1;
        self.level = level;
        while self.above.last().is_some_and(|(above, _)| *above >= level) {
            self.above.pop();
        }
        self.above.push((level, title.clone()));
        let titles: Vec<&str> = self.above.iter().map(|(_, title)| title.as_str()).collect();
        pieces.begin_section(titles.join(" > "), title);
    }
}

/// A block's first lines, if they are short.
fn opening(block: &str, lines: usize) -> String {
    let lines: String = block.split_inclusive('\n').take(lines).collect();
    if lines.len() <= OPENING_BYTES && lines.ends_with('\n') {
        lines
    } else {
        String::new()
    }
}
