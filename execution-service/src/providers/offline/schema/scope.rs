//! The part of the source that a value is looked for in, and what of it is given already.

use std::{collections::HashSet, ops::Range};

use super::super::source::Source;

/// Where to look.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    /// The lines, in [`super::super::corpus::Corpus::lines`].
    pub lines: Vec<usize>,
    /// Lines around them, for what they do not say themselves.
    pub near: Range<usize>,
    /// Where the lines are those of one item, not of the whole source.
    pub is_item: bool,
    /// The heading above them.
    pub heading: Option<usize>,
    /// Lines that are given already.
    pub taken: HashSet<usize>,
}

impl Scope {
    /// The whole source. What the prompt itself says already, such as a summary that an earlier stage made, is given.
    pub(super) fn whole(source: &Source) -> Self {
        let corpus = &source.corpus;
        let is_aside = |i: &usize| corpus.sections[corpus.lines[*i].section].aside;
        let (asides, lines): (Vec<usize>, Vec<usize>) = (0..corpus.lines.len()).partition(is_aside);
        let said: HashSet<&str> = asides.iter().map(|&i| corpus.lines[i].text.as_str()).collect();
        let taken = lines
            .iter()
            .copied()
            .filter(|&i| said.contains(corpus.lines[i].text.as_str()))
            .collect();
        Self {
            lines,
            near: 0..0,
            is_item: false,
            heading: None,
            taken,
        }
    }

    /// One line, and its section for the rest.
    pub(super) fn line(source: &Source, line: usize) -> Self {
        let section = source.corpus.lines[line].section;
        let near = source.corpus.sections[section].lines.clone();
        Self {
            lines: vec![line],
            near,
            is_item: true,
            heading: Some(section),
            taken: HashSet::new(),
        }
    }

    /// One section.
    pub(super) fn section(source: &Source, section: usize) -> Self {
        let lines = source.corpus.sections[section].lines.clone().collect();
        Self {
            lines,
            near: 0..0,
            is_item: true,
            heading: Some(section),
            taken: HashSet::new(),
        }
    }

    /// Its lines that are running text or items; where it has none, all of them.
    pub(super) fn prose(&self, source: &Source) -> Vec<usize> {
        let prose: Vec<usize> = self
            .lines
            .iter()
            .copied()
            .filter(|&i| source.corpus.lines[i].is_prose())
            .collect();
        if prose.is_empty() { self.lines.clone() } else { prose }
    }

    /// The lines with those not yet given first; the order is otherwise kept.
    pub(super) fn fresh_first(&self, lines: Vec<usize>) -> Vec<usize> {
        let (fresh, taken): (Vec<usize>, Vec<usize>) = lines.into_iter().partition(|line| !self.taken.contains(line));
        fresh.into_iter().chain(taken).collect()
    }
}
