//! The source text as it is worked on: passages taken apart into lines (sentences, items, rows, headings) under their
//! sections, with the weight of every term.
//!
//! Bounded: at most [`MAX_LINES`] lines are considered; of a longer text the first lines of its blocks, as far as they
//! go, before the others. Every line's text stands in its passage word for word (whitespace folded).

mod read;

use std::collections::HashMap;
use std::ops::Range;

use super::words::terms;
use read::Reader;

/// The most lines that are considered.
pub(super) const MAX_LINES: usize = 2_000;
/// The most bytes of a text that are read.
pub(super) const MAX_BYTES: usize = 1 << 20;

/// A piece of source text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Passage {
    /// The document's title; may be empty.
    pub title: String,
    /// The heading or label above it; may be empty.
    pub section: String,
    /// The text, as it was given.
    pub text: String,
    /// Whether it only answers to its label: it is text of the prompt beside sources.
    pub aside: bool,
}

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineKind {
    /// A sentence of running text.
    Sentence,
    /// A sentence of a list's item.
    Item,
    /// A table's row.
    Row,
    /// A heading.
    Heading(u8),
}

/// One line of the source.
#[derive(Debug)]
pub(super) struct Line {
    /// The text, word for word.
    pub text: String,
    /// What it is.
    pub kind: LineKind,
    /// The place of the passage that brought it, from 0.
    pub passage: usize,
    /// Its section, in [`Corpus::sections`].
    pub section: usize,
    /// Its block: lines of one block stand next to each other in the source.
    pub block: usize,
    /// Its place in the block.
    pub place: usize,
    /// Where it begins in the block's text, in bytes.
    pub start: usize,
    /// Its distinct terms, sorted.
    pub terms: Vec<u32>,
}

impl Line {
    /// Whether it is running text or an item of a list.
    pub(super) const fn is_prose(&self) -> bool {
        matches!(self.kind, LineKind::Sentence | LineKind::Item)
    }
}

/// Lines under one heading.
#[derive(Debug)]
pub(super) struct Section {
    /// The document's title.
    pub title: String,
    /// The heading; empty where there is none.
    pub heading: String,
    /// Its lines, in [`Corpus::lines`].
    pub lines: Range<usize>,
    /// See [`Passage::aside`].
    pub aside: bool,
}

/// The whole source.
#[derive(Debug, Default)]
pub(super) struct Corpus {
    /// The lines in their order.
    pub lines: Vec<Line>,
    /// The sections in their order.
    pub sections: Vec<Section>,
    /// How many lines there were before the bound.
    pub found: usize,
    ids: HashMap<String, u32>,
    weights: Vec<f64>,
}

impl Corpus {
    /// Takes passages apart.
    pub(super) fn read(passages: &[Passage]) -> Self {
        let mut reader = Reader::default();
        let mut left = MAX_BYTES;
        for passage in passages {
            let text = &passage.text[..passage.text.floor_char_boundary(left)];
            left -= text.len();
            reader.passage(passage, text);
        }
        let mut corpus = reader.finish();
        corpus.found = corpus.lines.len();
        corpus.keep_first();
        corpus.count_terms();
        corpus
    }

    /// The ids of those of the terms that occur, sorted.
    pub(super) fn known<S: AsRef<str>>(&self, terms: impl IntoIterator<Item = S>) -> Vec<u32> {
        let mut known: Vec<u32> = terms
            .into_iter()
            .filter_map(|term| self.ids.get(term.as_ref()).copied())
            .collect();
        known.sort_unstable();
        known.dedup();
        known
    }

    /// How much a term says about this text.
    pub(super) fn weight(&self, term: u32) -> f64 {
        self.weights.get(term as usize).copied().unwrap_or_default()
    }

    /// The summed weight of terms.
    pub(super) fn mass(&self, terms: &[u32]) -> f64 {
        terms.iter().map(|&term| self.weight(term)).sum()
    }

    /// How alike two lines are: the weight of what they share over that of what they hold, 0 to 1.
    pub(super) fn likeness(&self, a: &Line, b: &Line) -> f64 {
        let shared: f64 = shared(&a.terms, &b.terms).map(|term| self.weight(term)).sum();
        let all = self.mass(&a.terms) + self.mass(&b.terms) - shared;
        if all > 0.0 { shared / all } else { 0.0 }
    }

    /// Lines that follow each other in one block, as they stand in the source; `None` where they do not.
    pub(super) fn joined(&self, lines: &[usize]) -> Option<String> {
        let mut text = String::new();
        let mut before: Option<&Line> = None;
        for &i in lines {
            let line = self.lines.get(i)?;
            if let Some(before) = before {
                let follows = line.block == before.block && line.place == before.place + 1;
                let gap = line
                    .start
                    .checked_sub(before.start + before.text.len())
                    .filter(|_| follows)?;
                text.push_str(&" ".repeat(gap));
            }
            text.push_str(&line.text);
            before = Some(line);
        }
        Some(text)
    }

    /// Places of the lines that answers are made of: running text and items, or, where there is none, anything.
    pub(super) fn prose(&self) -> Vec<usize> {
        let main = |i: &usize| !self.sections[self.lines[*i].section].aside;
        let prose: Vec<usize> = (0..self.lines.len())
            .filter(|i| self.lines[*i].is_prose())
            .filter(main)
            .collect();
        if prose.is_empty() {
            (0..self.lines.len()).filter(main).collect()
        } else {
            prose
        }
    }

    /// The document's title: that of the first source, else the first heading of the highest level.
    pub(super) fn title(&self) -> Option<&str> {
        let given = self
            .sections
            .iter()
            .find(|section| !section.aside && !section.title.is_empty());
        given.map(|section| section.title.as_str()).or_else(|| {
            let level = |line: &&Line| match line.kind {
                LineKind::Heading(level) => level,
                _ => u8::MAX,
            };
            let headings = self
                .lines
                .iter()
                .filter(|line| matches!(line.kind, LineKind::Heading(_)));
            headings.min_by_key(level).map(|line| line.text.as_str())
        })
    }

    fn keep_first(&mut self) {
        if self.lines.len() <= MAX_LINES {
            return;
        }
        let mut order: Vec<usize> = (0..self.lines.len()).collect();
        order.sort_by_key(|&i| (self.lines[i].place > 0, i));
        let mut kept = vec![false; self.lines.len()];
        for &i in &order[..MAX_LINES] {
            kept[i] = true;
        }
        let before: Vec<usize> = std::iter::once(0)
            .chain(kept.iter().scan(0, |count, &kept| {
                *count += usize::from(kept);
                Some(*count)
            }))
            .collect();
        for section in &mut self.sections {
            section.lines = before[section.lines.start]..before[section.lines.end];
        }
        let mut kept = kept.into_iter();
        self.lines.retain(|_| kept.next().unwrap_or(false));
    }

    fn count_terms(&mut self) {
        let mut occurrences: Vec<u32> = Vec::new();
        let mut lines_with: Vec<u32> = Vec::new();
        let mut in_heading: Vec<bool> = Vec::new();
        for line in &mut self.lines {
            let mut ids = Vec::new();
            for term in terms(&line.text) {
                let next = u32::try_from(self.ids.len()).unwrap_or(u32::MAX);
                let id = *self.ids.entry(term).or_insert(next);
                if id == next {
                    occurrences.push(0);
                    lines_with.push(0);
                    in_heading.push(false);
                }
                occurrences[id as usize] += 1;
                in_heading[id as usize] |= matches!(line.kind, LineKind::Heading(_));
                ids.push(id);
            }
            ids.sort_unstable();
            ids.dedup();
            for &id in &ids {
                lines_with[id as usize] += 1;
            }
            line.terms = ids;
        }
        let all = f64::from(u32::try_from(self.lines.len()).unwrap_or(u32::MAX));
        let singles = if self.lines.len() > 12 { 0.3 } else { 1.0 };
        let counts = occurrences.iter().zip(lines_with).zip(in_heading);
        self.weights = counts
            .map(|((&occurrences, lines_with), in_heading)| {
                let rarity = (1.0 + all / f64::from(lines_with.max(1))).ln();
                let single = if occurrences == 1 { singles } else { 1.0 };
                let heading = if in_heading { 1.3 } else { 1.0 };
                f64::from(occurrences).sqrt() * rarity * single * heading
            })
            .collect();
    }
}

/// What two sorted lists share.
pub(super) fn shared<'a>(a: &'a [u32], b: &'a [u32]) -> impl Iterator<Item = u32> + 'a {
    let mut rest = b;
    a.iter().copied().filter(move |term| {
        let skip = rest.partition_point(|other| other < term);
        rest = &rest[skip..];
        rest.first() == Some(term)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passage(title: &str, section: &str, text: &str) -> Passage {
        Passage {
            title: title.into(),
            section: section.into(),
            text: text.into(),
            aside: false,
        }
    }

    #[test]
    fn chunks_of_one_section_are_one_section_and_repeated_lines_count_once() {
        let corpus = Corpus::read(&[
            passage(
                "Guide",
                "Guide > Returns",
                "## Returns\n\nGoods come back. The fee is 5 EUR.",
            ),
            passage("Guide", "Guide > Returns", "The fee is 5 EUR. Nobody pays twice."),
            passage("Guide", "Guide > Repairs", "Repairs take a week."),
        ]);
        let texts: Vec<&str> = corpus.lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "Returns",
                "Goods come back.",
                "The fee is 5 EUR.",
                "Nobody pays twice.",
                "Repairs take a week."
            ]
        );
        let sections: Vec<_> = corpus
            .sections
            .iter()
            .map(|s| (s.heading.as_str(), s.lines.clone()))
            .collect();
        assert_eq!(sections, [("Guide > Returns", 0..4), ("Guide > Repairs", 4..5)]);
        assert_eq!(corpus.title(), Some("Guide"));
    }

    #[test]
    fn headings_begin_sections_and_the_highest_is_the_title() {
        let corpus = Corpus::read(&[passage("", "", "Before.\n\n## Part\n\nText.\n\n# Whole\n\nMore text.")]);
        assert_eq!(corpus.title(), Some("Whole"));
        assert_eq!(
            corpus.sections.iter().map(|s| s.heading.as_str()).collect::<Vec<_>>(),
            ["", "Part", "Whole"]
        );
    }

    #[test]
    fn a_term_that_many_lines_hold_weighs_more_than_one_that_stands_once() {
        let text = "Pumps need oil. Pumps need rest. Pumps stop. Valves open.";
        let corpus = Corpus::read(&[passage("", "", text)]);
        let [pump, valve] = ["pump", "valve"].map(|term| corpus.known([term])[0]);
        assert!(corpus.weight(pump) > corpus.weight(valve) * 0.9);
        assert!(corpus.known(["nothing"]).is_empty());
    }

    #[test]
    fn lines_over_the_bound_are_dropped_from_within_blocks_first() {
        let text = "A lead stands here. A tail follows it.\n\n".repeat(MAX_LINES);
        let corpus = Corpus::read(&[passage("", "", &text)]);
        assert_eq!((corpus.lines.len(), corpus.found), (MAX_LINES, 2 * MAX_LINES));
        assert!(corpus.lines.iter().all(|line| line.place == 0));
        assert_eq!(corpus.sections[0].lines, 0..MAX_LINES);
    }

    #[test]
    fn lines_of_one_block_are_joined_as_they_stood() {
        let corpus = Corpus::read(&[passage(
            "",
            "",
            "Pumps run. Pumps stop. Valves open.\n\nNew block.\n\n泵停。阀开。",
        )]);
        assert_eq!(
            corpus.joined(&[0, 1, 2]).as_deref(),
            Some("Pumps run. Pumps stop. Valves open.")
        );
        assert_eq!(corpus.joined(&[4, 5]).as_deref(), Some("泵停。阀开。"));
        assert_eq!(corpus.joined(&[0, 2]), None);
        assert_eq!(corpus.joined(&[2, 3]), None);
    }

    #[test]
    fn what_sorted_lists_share_is_found() {
        assert_eq!(shared(&[1, 3, 5, 9], &[2, 3, 9, 10]).collect::<Vec<_>>(), [3, 9]);
    }
}
