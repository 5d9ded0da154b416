//! Packs the parts of a text into pieces, one after the other: whole ones as long as they fit.

use super::{CHARS_PER_TOKEN, Overlap, Piece, outline::Block, split};

/// The pieces of a text, as far as it has been read.
pub(super) struct Pieces {
    /// The longest piece, in characters.
    budget: usize,
    overlap: Overlap,
    section: String,
    /// The section's own title, which is its one piece where it has no text and no section below carries it in its path.
    title: Option<String>,
    is_begun: bool,
    page: Option<i32>,
    open: Option<Open>,
    /// What is blank behind the open piece: it becomes part of it where more of the text does.
    gap: String,
    /// What the last piece had, for the next one to repeat; empty where that begins a section.
    before: String,
    done: Vec<Piece>,
}

/// A piece that may still get longer.
struct Open {
    content: String,
    /// By how many characters.
    room: usize,
}

impl Pieces {
    pub(super) fn new(budget_tokens: usize, overlap: Overlap) -> Self {
        Self {
            budget: budget_tokens * CHARS_PER_TOKEN,
            overlap,
            section: String::new(),
            title: None,
            is_begun: false,
            page: None,
            open: None,
            gap: String::new(),
            before: String::new(),
            done: Vec::new(),
        }
    }

    /// Takes a block of the text, which follows on the one before it.
    pub(super) fn block(&mut self, text: &str, block: &Block) {
        let mut parts = Vec::new();
        split::cut_block(text, block, self.budget, &mut parts);
        let mut at = block.range.start;
        for part in parts {
            self.space(&text[at..part.start]);
            self.part(&text[part.clone()]);
            at = part.end;
        }
        self.space(&text[at..block.range.end]);
    }

    /// Begins the section of a heading.
    pub(super) fn begin_section(&mut self, path: String, title: String) {
        self.section = path;
        self.title = Some(title);
        self.is_begun = false;
        self.before.clear();
    }

    /// Ends the section. Whether one below it follows.
    pub(super) fn end_section(&mut self, is_in_next: bool) {
        self.close();
        let title = self.title.take();
        if let Some(title) = title.filter(|_| !self.is_begun && !is_in_next) {
            self.add(title);
        }
    }

    /// Begins the next page, or the first one. Sentences go on over its end, so what a piece repeats may stand on the page before.
    pub(super) fn turn_page(&mut self) {
        self.close();
        self.page = Some(self.page.unwrap_or(0).saturating_add(1));
    }

    /// The pieces that are complete since the last time.
    pub(super) fn take(&mut self) -> Vec<Piece> {
        std::mem::take(&mut self.done)
    }

    /// Ends the open piece.
    pub(super) fn close(&mut self) {
        self.gap.clear();
        if let Some(open) = self.open.take() {
            self.add(open.content);
        }
    }

    fn space(&mut self, blank: &str) {
        let Some(open) = &self.open else { return };
        self.gap.push_str(blank);
        // However much more of it there is, nothing fits behind it.
        if self.gap.chars().count() >= open.room {
            self.close();
        }
    }

    fn part(&mut self, part: &str) {
        let needed = part.chars().count();
        let gap = self.gap.chars().count();
        match &mut self.open {
            Some(open) if gap + needed <= open.room => {
                open.content.push_str(&self.gap);
                open.content.push_str(part);
                open.room -= gap + needed;
                self.gap.clear();
            }
            _ => {
                self.close();
                self.open = Some(Open {
                    content: part.to_owned(),
                    room: self.budget.saturating_sub(needed),
                });
            }
        }
    }

    fn add(&mut self, content: String) {
        let characters = content.chars().count();
        self.done.push(Piece {
            section: self.section.clone(),
            overlap: split::tail(&self.before, self.overlap.chars()).to_owned(),
            token_count: i32::try_from(characters.div_ceil(CHARS_PER_TOKEN)).unwrap_or(i32::MAX),
            page: self.page,
            content: content.clone(),
        });
        self.before = content;
        self.is_begun = true;
    }
}
