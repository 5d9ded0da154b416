//! The words of documents as they are written, and which of them a word that none has was meant to be.
//!
//! Likeness is that of trigrams, as PostgreSQL's pg_trgm counts it: the sequences of three letters that two words have in common,
//! of all that they have. It is computed here, so that no extension has to be there.

use std::collections::{BTreeSet, HashSet};

use unicode_segmentation::UnicodeSegmentation as _;

/// The lengths of words that are kept, in characters. Shorter ones are like too many others.
pub(super) const LENGTHS: std::ops::RangeInclusive<usize> = 4..=32;
/// The most words that are kept of a document.
const MOST_WORDS: usize = 20_000;
/// How like a word must be, as pg_trgm has it.
const LIKE: f32 = 0.3;
/// How much longer or shorter than a word its typo may be.
pub(super) const SLIPS: usize = 2;

/// The different words of a text in lower case: the first so many.
#[derive(Default)]
pub(super) struct Words(BTreeSet<String>);

impl Words {
    /// Adds those of the next part of it.
    pub(super) fn add(&mut self, text: &str) {
        for word in candidates(text) {
            if self.0.len() == MOST_WORDS {
                return;
            }
            self.0.insert(word);
        }
    }

    /// All of them, in order.
    pub(super) fn sorted(self) -> Vec<String> {
        self.0.into_iter().collect()
    }
}

/// The words of a query that may be typos.
pub(super) fn candidates(text: &str) -> impl Iterator<Item = String> {
    text.unicode_words()
        .filter(|word| word.chars().all(char::is_alphabetic) && LENGTHS.contains(&word.chars().count()))
        .map(str::to_lowercase)
}

/// A query with each word that is none of the known ones replaced by the one that is most like it. `None` where no word has
/// one.
pub(super) fn corrected(query: &str, known: &HashSet<String>) -> Option<String> {
    let mut is_corrected = false;
    let mut parts: Vec<String> = Vec::new();
    for part in query.split_word_bounds() {
        let meant = candidates(part).next().filter(|it| !known.contains(it));
        let meant = meant.and_then(|it| most_like(&it, known));
        is_corrected |= meant.is_some();
        parts.push(meant.unwrap_or(part).to_owned());
    }
    is_corrected.then(|| parts.concat())
}

/// The known word that is most like one; of those that are equally like it, the first in order.
fn most_like<'k>(word: &str, known: &'k HashSet<String>) -> Option<&'k str> {
    let wanted = trigrams(word);
    let length = word.chars().count();
    let near = known.iter().filter(|it| it.chars().count().abs_diff(length) <= SLIPS);
    let rated = near.map(|it| (likeness(&wanted, &trigrams(it)), it.as_str()));
    let best = rated.max_by(|(one, a), (other, b)| one.total_cmp(other).then_with(|| b.cmp(a)));
    best.filter(|(likeness, _)| *likeness >= LIKE).map(|(_, it)| it)
}

/// A word's sequences of three letters, two blanks before it and one behind it counting as letters.
fn trigrams(word: &str) -> Vec<[char; 3]> {
    let letters: Vec<char> = [' ', ' '].into_iter().chain(word.chars()).chain([' ']).collect();
    let mut all: Vec<[char; 3]> = letters.windows(3).map(|it| [it[0], it[1], it[2]]).collect();
    all.sort_unstable();
    all.dedup();
    all
}

#[expect(clippy::cast_precision_loss, reason = "no word has so many letters")]
fn likeness(one: &[[char; 3]], other: &[[char; 3]]) -> f32 {
    let common = one.iter().filter(|it| other.binary_search(it).is_ok()).count();
    common as f32 / (one.len() + other.len() - common) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let mut words = Words::default();
        words.add(text);
        words.sorted()
    }

    fn known(words: &[&str]) -> HashSet<String> {
        words.iter().map(|it| (*it).to_owned()).collect()
    }

    #[test]
    fn words_are_kept_once_in_lower_case_without_numbers_and_short_ones() {
        assert_eq!(
            words("The Berth, the BERTH of 2024 and pier7: Größe"),
            ["berth", "größe"]
        );
        assert_eq!(words(&format!("{} word", "x".repeat(33))), ["word"]);
    }

    #[test]
    fn likeness_is_that_of_pg_trgm() {
        // select similarity('shipmnt', 'shipment'), similarity('word', 'two words')…
        let of = |one: &str, other: &str| likeness(&trigrams(one), &trigrams(other));
        assert!(
            (of("shipmnt", "shipment") - 0.545_454_5).abs() < 1e-6,
            "{}",
            of("shipmnt", "shipment")
        );
        assert!((of("berth", "berth") - 1.0).abs() < 1e-6);
        assert!(of("abcd", "wxyz") < 1e-6);
    }

    #[test]
    fn a_word_that_is_not_known_is_taken_for_the_one_most_like_it() {
        let known = known(&["shipment", "receive", "berth", "berths", "tariff"]);
        for (query, meant) in [
            ("Shipmnt of the berth", Some("shipment of the berth")),
            ("recieve -tarif \"berth\"", Some("receive -tariff \"berth\"")),
            ("berth shipment", None),
            ("zebra", None),
            ("ber 1234", None),
        ] {
            assert_eq!(corrected(query, &known).as_deref(), meant, "{query}");
        }
    }
}
