//! Blocks of texts that have no marks: paragraphs, which blank lines part, or lines.

use super::{
    is_blank,
    outline::{Block, Kind},
    pieces::Pieces,
};

/// What is a block.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Lines up to a blank one, and that.
    Paragraph,
    /// A line.
    Line,
}

/// A text that comes bit by bit.
pub(super) struct Lines {
    unit: Unit,
    /// What a block has at most, in bytes: a longer one is several.
    window: usize,
    /// What belongs to no block yet.
    text: String,
    /// Where the line begins that is looked at next.
    line: usize,
    is_after_blank: bool,
}

impl Lines {
    pub(super) fn new(unit: Unit, window: usize) -> Self {
        Self {
            unit,
            window,
            text: String::new(),
            line: 0,
            is_after_blank: false,
        }
    }

    pub(super) fn push(&mut self, text: &str, pieces: &mut Pieces) {
        self.text.push_str(text);
        self.read(false, pieces);
    }

    /// Ends the text; another one may follow.
    pub(super) fn finish(&mut self, pieces: &mut Pieces) {
        self.read(true, pieces);
    }

    /// Takes the blocks whose ends are known. Where they end does not depend on how much of the text is there.
    fn read(&mut self, is_end: bool, pieces: &mut Pieces) {
        let mut start = 0;
        while self.line < self.text.len() {
            let rest = &self.text[self.line..];
            let (length, is_whole) = rest.find('\n').map_or((rest.len(), is_end), |at| (at + 1, true));
            let shows_nothing = rest[..length].chars().all(is_blank);
            let end = self.line + length;
            let cut = if self.is_after_blank && !shows_nothing {
                self.line
            } else if end - start > self.window {
                if self.line > start {
                    self.line
                } else {
                    self.within(start)
                }
            } else if !is_whole {
                break;
            } else if self.unit == Unit::Line {
                end
            } else {
                self.is_after_blank = shows_nothing;
                self.line = end;
                continue;
            };
            self.block(start, cut, pieces);
            start = cut;
            self.line = cut;
            self.is_after_blank = false;
        }
        if is_end {
            self.block(start, self.text.len(), pieces);
            start = self.text.len();
            self.is_after_blank = false;
        }
        self.text.drain(..start);
        self.line = self.text.len().min(self.line.saturating_sub(start));
    }

    /// Where a line that is longer than a block is cut.
    fn within(&self, start: usize) -> usize {
        let most = self
            .text
            .floor_char_boundary(start + self.window.max(char::MAX.len_utf8()));
        last_space(&self.text[start..most]).map_or(most, |at| start + at)
    }

    fn block(&self, start: usize, end: usize, pieces: &mut Pieces) {
        let kind = match self.unit {
            Unit::Paragraph => Kind::Prose,
            Unit::Line => Kind::Lines,
        };
        let block = Block {
            range: start..end,
            kind,
        };
        pieces.block(&self.text, &block);
    }
}

/// The place behind the last blank of a text.
pub(super) fn last_space(text: &str) -> Option<usize> {
    let at = text.rfind(char::is_whitespace)?;
    Some(text.ceil_char_boundary(at + 1))
}
