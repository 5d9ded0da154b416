//! Which lines say most: centroid ranking, and a choice that does not repeat itself.
//!
//! A line scores by the weight of its terms (the centroid method of Radev et al., "Centroid-based summarization of multiple
//! documents", 2004), by its place, by what it shares with its heading and with what was asked, and less where it reads badly
//! alone. The choice is by maximal marginal relevance (Carbonell and Goldstein, 1998). No clock, no chance: the same
//! text gives the same order.

use super::corpus::{Corpus, Line, LineKind, shared};
use super::words::words;

/// How much relevance counts against novelty in [`choose`].
const RELEVANCE: f64 = 0.72;

/// Words that point to a sentence before: what begins with them reads badly alone.
const POINTING: [&str; 30] = [
    "also",
    "and",
    "besides",
    "both",
    "but",
    "each",
    "either",
    "former",
    "furthermore",
    "hence",
    "however",
    "it",
    "latter",
    "moreover",
    "neither",
    "nevertheless",
    "nor",
    "or",
    "otherwise",
    "so",
    "such",
    "that",
    "their",
    "then",
    "therefore",
    "these",
    "they",
    "this",
    "those",
    "thus",
];

/// Second words that make a beginning with "the" point back.
const POINTING_AFTER_THE: [&str; 8] = ["first", "former", "latter", "other", "others", "rest", "same", "second"];

/// A score for each line of the corpus, 0 to about 2.6; 0 where it has no terms. `focus` are ids of the terms asked about.
pub(super) fn scores(corpus: &Corpus, focus: &[u32]) -> Vec<f64> {
    let densities: Vec<f64> = corpus.lines.iter().map(|line| density(corpus, line)).collect();
    let highest = densities.iter().copied().fold(0.0, f64::max);
    if highest <= 0.0 {
        return densities;
    }
    let focus_mass = corpus.mass(focus);
    let headings: Vec<Vec<u32>> = corpus
        .sections
        .iter()
        .map(|section| corpus.known(super::words::terms(&section.heading)))
        .collect();
    let score = |(line, density): (&Line, &f64)| {
        let heading = &headings[line.section];
        let asked = if focus_mass > 0.0 {
            corpus.mass(&shared(&line.terms, focus).collect::<Vec<_>>()) / focus_mass
        } else {
            0.0
        };
        let headed = if heading.is_empty() {
            0.0
        } else {
            overlap(heading, &line.terms)
        };
        (density / highest + 0.3 * lead(corpus, line) + 0.12 * headed) * readability(line) + 1.2 * asked
    };
    corpus.lines.iter().zip(&densities).map(score).collect()
}

/// Up to `count` of the candidates, the most telling first, none that repeats another.
pub(super) fn choose(corpus: &Corpus, scores: &[f64], candidates: &[usize], count: usize) -> Vec<usize> {
    let mut left: Vec<(usize, f64)> = candidates.iter().map(|&i| (i, 0.0)).collect();
    let mut chosen = Vec::new();
    while chosen.len() < count {
        let value = |&(i, likeness): &(usize, f64)| RELEVANCE * scores[i] - (1.0 - RELEVANCE) * 2.0 * likeness;
        let best = left
            .iter()
            .enumerate()
            .max_by(|(ai, a), (bi, b)| value(a).total_cmp(&value(b)).then(bi.cmp(ai)));
        let Some((at, &(line, likeness))) = best else { break };
        left.remove(at);
        // More than half the same words: it says the same.
        if likeness > 0.5 {
            continue;
        }
        for (other, likeness) in &mut left {
            *likeness = likeness.max(corpus.likeness(&corpus.lines[line], &corpus.lines[*other]));
        }
        chosen.push(line);
    }
    chosen
}

/// The weight of a line's terms, long lines held back.
fn density(corpus: &Corpus, line: &Line) -> f64 {
    if line.terms.is_empty() {
        return 0.0;
    }
    let count = f64::from(u32::try_from(line.terms.len()).unwrap_or(u32::MAX));
    corpus.mass(&line.terms) / count.max(6.0).powf(0.6)
}

/// First lines of a text, of a section and of a block say what follows: 0 to 1.
fn lead(corpus: &Corpus, line: &Line) -> f64 {
    let section = &corpus.sections[line.section];
    let block_of_first = corpus.lines[section.lines.clone()]
        .iter()
        .find(|line| line.is_prose())
        .map(|line| line.block);
    let first_of_block: f64 = if line.place == 0 { 1.0 } else { 0.0 };
    let first_block: f64 = if block_of_first == Some(line.block) { 1.0 } else { 0.0 };
    let first_section: f64 = if line.section <= 1 { 1.0 } else { 0.0 };
    match line.kind {
        LineKind::Sentence => 0.3 * first_of_block + 0.35 * first_block + 0.35 * first_section * first_block,
        LineKind::Item => 0.15 * first_of_block,
        LineKind::Row | LineKind::Heading(_) => 0.0,
    }
}

fn overlap(asked: &[u32], terms: &[u32]) -> f64 {
    let ratio = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    ratio(shared(asked, terms).count()) / ratio(asked.len())
}

/// How well a line reads without its neighbours, 0 to 1.
fn readability(line: &Line) -> f64 {
    let text = line.text.as_str();
    let start: Vec<String> = words(text).take(2).map(|(_, word)| word.to_lowercase()).collect();
    let count = words(text).count();
    let length = match count {
        0 => 0.0,
        1..=3 => 0.3,
        4..=6 => 0.7,
        7..=35 => 1.0,
        36..=60 => 0.75,
        _ => 0.45,
    };
    let ends = text.trim_end_matches(['"', '\'', ')', '*', '_', '`', '\u{201d}', '\u{2019}']);
    let ending = match ends.chars().next_back() {
        Some('.' | '!' | '\u{3002}' | '\u{2026}') => 1.0,
        Some('?') => 0.6,
        Some(':') => 0.3,
        _ if line.kind == LineKind::Sentence => 0.4,
        _ => 0.6,
    };
    let is_pointing = match start.as_slice() {
        [the, word, ..] if the == "the" => POINTING_AFTER_THE.binary_search(&word.as_str()).is_ok(),
        [first, ..] => POINTING.binary_search(&first.as_str()).is_ok(),
        [] => false,
    };
    let pointing = if is_pointing { 0.7 } else { 1.0 };
    let run_in = if text.starts_with("**") && text.ends_with("**") {
        0.3
    } else {
        1.0
    };
    let letters = text.chars().filter(|c| c.is_alphabetic() || *c == ' ').count();
    let marks = if letters * 10 < text.chars().count() * 7 {
        0.5
    } else {
        1.0
    };
    let links = if text.contains("](") || text.contains("://") {
        0.65
    } else {
        1.0
    };
    let code = if text.matches('`').count() > 4 { 0.7 } else { 1.0 };
    length * ending * pointing * run_in * marks * links * code
}

#[cfg(test)]
mod tests {
    use super::super::corpus::Passage;
    use super::*;

    fn corpus(text: &str) -> Corpus {
        Corpus::read(&[Passage {
            text: text.into(),
            ..Passage::default()
        }])
    }

    fn best<'c>(corpus: &'c Corpus, focus: &[u32], count: usize) -> Vec<&'c str> {
        let order = choose(corpus, &scores(corpus, focus), &corpus.prose(), count);
        order.into_iter().map(|i| corpus.lines[i].text.as_str()).collect()
    }

    const RETURNS: &str = "The returns desk accepts goods for thirty days after delivery. It is open on weekdays. \
        Goods that are returned must be unused and in their packaging. Goods that were returned must be unused and in the packaging. \
        The desk refunds the price of returned goods within five working days. Coffee is free.";

    #[test]
    fn pointing_words_are_in_order_so_that_they_can_be_searched() {
        assert!(POINTING.is_sorted() && POINTING_AFTER_THE.is_sorted());
    }

    #[test]
    fn what_the_text_is_about_comes_first_and_asides_do_not() {
        let corpus = corpus(RETURNS);
        let chosen = best(&corpus, &[], 3);
        assert_eq!(
            chosen[0],
            "The returns desk accepts goods for thirty days after delivery."
        );
        assert!(
            !chosen.contains(&"Coffee is free.") && !chosen.contains(&"It is open on weekdays."),
            "{chosen:?}"
        );
    }

    #[test]
    fn a_choice_does_not_say_the_same_twice() {
        let corpus = corpus(RETURNS);
        let chosen = best(&corpus, &[], 6);
        assert_eq!(
            chosen.iter().filter(|text| text.contains("packaging")).count(),
            1,
            "{chosen:?}"
        );
    }

    #[test]
    fn what_is_asked_about_comes_first() {
        let corpus = corpus(RETURNS);
        let focus = corpus.known(["coffee"]);
        assert_eq!(best(&corpus, &focus, 1), ["Coffee is free."]);
    }

    #[test]
    fn a_line_that_reads_badly_alone_is_held_back() {
        let corpus = corpus(
            "Therefore the pump stops at night for the valve.\n\nThe pump stops at night for the valve, always.\n\nSee [pump](valve.md) night:",
        );
        let scores = scores(&corpus, &[]);
        assert!(scores[1] > scores[0] && scores[0] > scores[2], "{scores:?}");
    }
}
