//! The source with everything that is found in it: scores, facts and pairs, each worked out once.

use std::cell::OnceCell;

use super::corpus::{Corpus, Section, shared};
use super::facts::{Fact, FactKind, Pair, facts, pairs};
use super::rank::{choose, scores};
use super::words::terms;

/// A source that answers are taken from.
pub(super) struct Source {
    /// Its text.
    pub corpus: Corpus,
    /// The score of each line.
    pub scores: Vec<f64>,
    /// Whether its passages are known to the asker by their numbers.
    pub is_numbered: bool,
    facts: OnceCell<Vec<Fact>>,
    pairs: OnceCell<Vec<Pair>>,
}

impl Source {
    /// The source for what these instructions ask.
    pub(super) fn new(corpus: Corpus, instructions: &str) -> Self {
        let focus = focus(&corpus, instructions);
        let scores = scores(&corpus, &focus);
        Self {
            corpus,
            scores,
            is_numbered: false,
            facts: OnceCell::new(),
            pairs: OnceCell::new(),
        }
    }

    /// Every fact.
    pub(super) fn facts(&self) -> &[Fact] {
        self.facts.get_or_init(|| facts(&self.corpus))
    }

    /// Every pair.
    pub(super) fn pairs(&self) -> &[Pair] {
        self.pairs.get_or_init(|| pairs(&self.corpus))
    }

    /// Up to `count` of these lines, the best first, those with more of the terms asked about before others.
    pub(super) fn best(&self, lines: &[usize], asked: &[u32], count: usize) -> Vec<usize> {
        let mass = self.corpus.mass(asked);
        if mass <= 0.0 {
            return choose(&self.corpus, &self.scores, lines, count);
        }
        let mut scores = self.scores.clone();
        for &i in lines {
            let common: f64 = shared(&self.corpus.lines[i].terms, asked)
                .map(|term| self.corpus.weight(term))
                .sum();
            scores[i] += common / mass;
        }
        choose(&self.corpus, &scores, lines, count)
    }

    /// Those of the lines that hold a term asked about, or stand under a heading that does.
    pub(super) fn about(&self, lines: &[usize], asked: &[u32]) -> Vec<usize> {
        let sections: Vec<bool> = self
            .corpus
            .sections
            .iter()
            .map(|section| self.is_headed(section, asked))
            .collect();
        let is_about = |i: &usize| {
            let line = &self.corpus.lines[*i];
            sections[line.section] || shared(&line.terms, asked).next().is_some()
        };
        lines.iter().copied().filter(is_about).collect()
    }

    /// Those of the lines that hold a fact of this kind.
    pub(super) fn with_fact(&self, lines: Vec<usize>, kind: FactKind) -> Vec<usize> {
        let has = |line: &usize| self.facts().iter().any(|fact| fact.line == *line && fact.kind == kind);
        lines.into_iter().filter(has).collect()
    }

    /// The section that has all of these terms in its heading; one of the prompt's own texts before others.
    pub(super) fn section(&self, names: &[String]) -> Option<&Section> {
        if names.is_empty() {
            return None;
        }
        let has_all = |section: &&Section| {
            let heading = terms(last_heading(&section.heading));
            !section.lines.is_empty() && names.iter().all(|name| heading.contains(name))
        };
        let mut found: Vec<&Section> = self.corpus.sections.iter().filter(has_all).collect();
        found.sort_by_key(|section| !section.aside);
        found.first().copied()
    }

    fn is_headed(&self, section: &Section, asked: &[u32]) -> bool {
        let heading = self.corpus.known(terms(last_heading(&section.heading)));
        shared(&heading, asked).next().is_some()
    }
}

/// The lowest heading of a path such as `Guide > Returns`.
pub(super) fn last_heading(path: &str) -> &str {
    path.rsplit(" > ").next().unwrap_or(path).trim()
}

/// What the instructions ask about: those of their terms that the text knows, but does not use everywhere.
fn focus(corpus: &Corpus, instructions: &str) -> Vec<u32> {
    const GENERIC: [&str; 30] = [
        "answer",
        "brief",
        "bullet",
        "document",
        "extract",
        "form",
        "format",
        "heading",
        "important",
        "json",
        "key",
        "list",
        "main",
        "markdown",
        "paragraph",
        "phrase",
        "point",
        "provide",
        "question",
        "return",
        "section",
        "sentence",
        "source",
        "stage",
        "summarise",
        "summarize",
        "summary",
        "text",
        "word",
        "write",
    ];
    let known = corpus.known(
        terms(instructions)
            .into_iter()
            .filter(|term| GENERIC.binary_search(&term.as_str()).is_err()),
    );
    let spread = |term: u32| {
        corpus
            .lines
            .iter()
            .filter(|line| line.terms.binary_search(&term).is_ok())
            .count()
    };
    known
        .into_iter()
        .filter(|&term| spread(term) * 3 <= corpus.lines.len() + 2)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::corpus::Passage;
    use super::*;

    fn source(text: &str, instructions: &str) -> Source {
        Source::new(
            Corpus::read(&[Passage {
                text: text.into(),
                ..Passage::default()
            }]),
            instructions,
        )
    }

    const TEXT: &str = "# Desk\n\nThe desk takes parcels back. Staff check each parcel.\n\n## Fees\n\nA late parcel costs five euros. Members pay nothing.";

    #[test]
    fn a_section_is_found_by_the_words_of_its_heading() {
        let source = source(TEXT, "");
        assert_eq!(
            source.section(&["fee".into()]).map(|s| s.heading.as_str()),
            Some("Fees")
        );
        assert!(source.section(&["late".into(), "fee".into()]).is_none());
        assert!(source.section(&[]).is_none());
    }

    #[test]
    fn lines_about_a_topic_hold_it_or_stand_under_it() {
        let source = source(TEXT, "");
        let about = source.about(&source.corpus.prose(), &source.corpus.known(["fee"]));
        assert_eq!(about.len(), 2);
    }

    #[test]
    fn instructions_move_what_they_name_to_the_front() {
        let asked = source(TEXT, "Summarise what the text says about members.");
        let best = asked.best(&asked.corpus.prose(), &[], 1);
        assert_eq!(asked.corpus.lines[best[0]].text, "Members pay nothing.");
    }

    #[test]
    fn the_last_heading_of_a_path_is_its_own() {
        assert_eq!(last_heading("Guide > Returns"), "Returns");
        assert_eq!(last_heading("Returns"), "Returns");
    }
}
