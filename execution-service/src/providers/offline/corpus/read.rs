//! Passages taken apart into sections and lines.

use std::collections::HashSet;

use super::super::markdown::{Block, BlockKind, blocks};
use super::super::sentences::sentences;
use super::super::words::folded;
use super::{Corpus, Line, LineKind, Passage, Section};

/// Collects lines and sections.
#[derive(Default)]
pub(super) struct Reader {
    lines: Vec<Line>,
    sections: Vec<Section>,
    seen: HashSet<String>,
    blocks: usize,
    passages: usize,
}

impl Reader {
    /// Takes a passage apart; `text` is as much of it as is read.
    pub(super) fn passage(&mut self, passage: &Passage, text: &str) {
        let heading = folded(&passage.section);
        let goes_on = self.sections.last().is_some_and(|last| {
            !heading.is_empty() && last.heading == heading && last.title == passage.title && last.aside == passage.aside
        });
        if !goes_on {
            self.section(passage, heading);
        }
        for block in blocks(text) {
            self.block(passage, block);
        }
        self.passages += 1;
    }

    fn block(&mut self, passage: &Passage, block: Block) {
        self.blocks += 1;
        match block.kind {
            BlockKind::Heading(level) => {
                let known = self
                    .sections
                    .last()
                    .is_some_and(|last| last.heading.ends_with(block.text.as_str()));
                if !known {
                    self.section(passage, block.text.clone());
                }
                self.line(block.text, LineKind::Heading(level), 0, 0);
            }
            BlockKind::Row => self.line(block.text, LineKind::Row, 0, 0),
            BlockKind::Paragraph | BlockKind::Item => {
                let kind = if block.kind == BlockKind::Item {
                    LineKind::Item
                } else {
                    LineKind::Sentence
                };
                let mut end = 0;
                for (place, sentence) in sentences(&block.text).into_iter().enumerate() {
                    let start = end + block.text[end..].find(sentence).unwrap_or_default();
                    end = start + sentence.len();
                    self.line(sentence.to_owned(), kind, place, start);
                }
            }
        }
    }

    fn section(&mut self, passage: &Passage, heading: String) {
        let at = self.lines.len();
        self.sections.push(Section {
            title: folded(&passage.title),
            heading,
            lines: at..at,
            aside: passage.aside,
        });
    }

    /// Overlapping chunks of a document bring a line twice; it counts once.
    fn line(&mut self, text: String, kind: LineKind, place: usize, start: usize) {
        let section = self.sections.len() - 1;
        let is_chunk = !self.sections[section].aside && !self.sections[section].title.is_empty();
        if is_chunk && !self.seen.insert(text.clone()) {
            return;
        }
        self.lines.push(Line {
            text,
            kind,
            passage: self.passages,
            section,
            block: self.blocks,
            place,
            start,
            terms: Vec::new(),
        });
        self.sections[section].lines.end = self.lines.len();
    }

    /// What was read; its terms are not counted yet.
    pub(super) fn finish(self) -> Corpus {
        Corpus {
            lines: self.lines,
            sections: self.sections,
            ..Corpus::default()
        }
    }
}
