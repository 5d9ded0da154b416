//! Key phrases: runs of content words between stop words and punctuation (RAKE: Rose et al., "Automatic keyword extraction
//! from individual documents", 2010), ranked by what their words weigh and how often the phrase stands in the text.
//! A phrase is given as it was first written, word for word.

use std::collections::HashMap;

use super::corpus::{Corpus, Line};
use super::words::{is_stop, stem, words};

/// The most words in a phrase.
const MAX_WORDS: usize = 3;

/// Words that carry content but name nothing: no phrase begins or ends with them.
const WEAK: [&str; 45] = [
    "able",
    "according",
    "available",
    "based",
    "better",
    "big",
    "bring",
    "brings",
    "called",
    "certain",
    "change",
    "changes",
    "different",
    "easy",
    "full",
    "general",
    "good",
    "great",
    "happens",
    "help",
    "helps",
    "important",
    "includes",
    "including",
    "known",
    "large",
    "long",
    "main",
    "needed",
    "new",
    "old",
    "part",
    "possible",
    "provides",
    "simple",
    "single",
    "small",
    "start",
    "starts",
    "thing",
    "things",
    "time",
    "times",
    "work",
    "works",
];

struct Phrase {
    text: String,
    count: u32,
    mass: f64,
    words: u32,
    at: usize,
}

/// Phrases of these lines, the most telling first, none that is part of a better one.
pub(super) fn phrases(corpus: &Corpus, lines: &[usize], count: usize) -> Vec<String> {
    let mut found: HashMap<String, Phrase> = HashMap::new();
    let mut at = 0;
    for line in lines.iter().filter_map(|&i| corpus.lines.get(i)) {
        for run in runs(line).iter().flat_map(|run| parts(run)) {
            let stems: Vec<String> = run.iter().map(|&(_, word)| stem(word)).collect();
            at += 1;
            let phrase = found.entry(stems.join(" ")).or_insert_with(|| {
                let text = text_of(&line.text, run).to_owned();
                let words = u32::try_from(run.len()).unwrap_or(u32::MAX);
                Phrase {
                    text,
                    count: 0,
                    mass: corpus.mass(&corpus.known(&stems)),
                    words,
                    at,
                }
            });
            phrase.count += 1;
        }
    }
    let mut ranked: Vec<(String, Phrase)> = found.into_iter().collect();
    ranked.sort_by(|(_, a), (_, b)| b.score().total_cmp(&a.score()).then(a.at.cmp(&b.at)));
    let mut kept: Vec<(String, String)> = Vec::new();
    for (stems, phrase) in ranked {
        if kept.len() == count {
            break;
        }
        if !kept
            .iter()
            .any(|(better, _)| contains_words(better, &stems) || contains_words(&stems, better))
        {
            kept.push((stems, phrase.text));
        }
    }
    kept.into_iter().map(|(_, text)| text).collect()
}

impl Phrase {
    fn score(&self) -> f64 {
        let length = f64::from(self.words).powf(0.6);
        let shape = match (self.words, self.count) {
            (1, _) => 0.4,
            (3.., 1) => 0.75,
            _ => 1.0,
        };
        self.mass / length * (1.0 + f64::from(self.count).ln()) * shape
    }
}

/// The runs of content words in a line that can be phrases.
fn runs(line: &Line) -> Vec<Vec<(usize, &str)>> {
    let mut runs: Vec<Vec<(usize, &str)>> = Vec::new();
    let mut run: Vec<(usize, &str)> = Vec::new();
    for (at, word) in words(&line.text).filter(|(at, _)| !is_code(&line.text, *at)) {
        let joined = run
            .last()
            .is_none_or(|&(before, last)| is_gap(&line.text[before + last.len()..at]));
        if !joined {
            keep(&mut runs, std::mem::take(&mut run));
        }
        if is_stop(word) || !word.chars().any(char::is_alphabetic) || is_possessive(word) {
            keep(&mut runs, std::mem::take(&mut run));
        } else {
            run.push((at, word));
        }
    }
    keep(&mut runs, run);
    runs
}

fn keep<'t>(runs: &mut Vec<Vec<(usize, &'t str)>>, run: Vec<(usize, &'t str)>) {
    if !run.is_empty() {
        runs.push(run);
    }
}

/// The parts of a run that do not begin or end with a weak word.
fn parts<'r, 't>(run: &'r [(usize, &'t str)]) -> impl Iterator<Item = &'r [(usize, &'t str)]> {
    let lengths = 1..=MAX_WORDS.min(run.len());
    let parts = lengths.flat_map(move |length| run.windows(length));
    parts.filter(|part| {
        part.first().is_some_and(|word| !is_weak(word.1)) && part.last().is_some_and(|word| !is_weak(word.1))
    })
}

fn is_weak(word: &str) -> bool {
    word.chars().count() < 3 || WEAK.binary_search(&word.to_lowercase().as_str()).is_ok()
}

fn is_possessive(word: &str) -> bool {
    word.ends_with("'s") || word.ends_with("\u{2019}s")
}

/// Whether the place is between backticks.
fn is_code(text: &str, at: usize) -> bool {
    text[..at].matches('`').count() % 2 == 1 && text[at..].contains('`')
}

/// Whether what stands between two words keeps them together.
fn is_gap(between: &str) -> bool {
    matches!(between, " " | "-" | "\u{2011}")
}

fn text_of<'t>(line: &'t str, run: &[(usize, &str)]) -> &'t str {
    match (run.first(), run.last()) {
        (Some(&(start, _)), Some(&(last, word))) => &line[start..last + word.len()],
        _ => "",
    }
}

fn contains_words(long: &str, short: &str) -> bool {
    format!(" {long} ").contains(&format!(" {short} "))
}

#[cfg(test)]
mod tests {
    use super::super::corpus::Passage;
    use super::*;

    const TEXT: &str = "The returns desk checks every parcel. A parcel without a return label waits at the returns desk. \
        Staff print the return label and book the refund. The refund goes out in five days. The return label is free.";

    fn of(text: &str, count: usize) -> Vec<String> {
        let corpus = Corpus::read(&[Passage {
            text: text.into(),
            ..Passage::default()
        }]);
        phrases(&corpus, &corpus.prose(), count)
    }

    #[test]
    fn weak_words_are_in_order_so_that_they_can_be_searched() {
        assert!(WEAK.is_sorted());
    }

    #[test]
    fn phrases_that_stand_often_come_first_and_none_is_part_of_another() {
        let found = of(TEXT, 4);
        assert_eq!(found[0], "return label");
        assert!(found.contains(&"returns desk".to_owned()), "{found:?}");
        assert!(
            !found.contains(&"label".to_owned()) && !found.contains(&"desk".to_owned()),
            "{found:?}"
        );
    }

    #[test]
    fn every_phrase_stands_in_the_text_word_for_word() {
        for phrase in of(TEXT, 20) {
            assert!(TEXT.contains(&phrase), "{phrase}");
        }
    }

    #[test]
    fn punctuation_and_markup_end_a_phrase() {
        let found = of("Use `make run`, **blue** pumps; valves (open). Blue valves open.", 10);
        assert!(
            found.iter().all(|phrase| !phrase.contains(['`', '*', ',', '('])),
            "{found:?}"
        );
    }
}
