//! What a name says about the text that should stand under it: the name and description of a schema's property, a heading in
//! a form, or the instructions of a prompt.
//!
//! A name has a noun that says what kind of text it is ("summary", "date"), and a topic, which are its other words. A name with a
//! topic only ("supplier", "risks") asks for what the text says about the topic, and nothing else will do.

use super::corpus::Corpus;
use super::facts::FactKind;
use super::vocabulary::{EMPTY, NOUNS, SYNONYMS};
use super::words::{name_terms, stem, terms};

/// The kind of text that a name asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noun {
    /// Sentences that go together.
    Summary,
    /// One sentence, or a list of them.
    Point,
    /// A sentence that says more about a point.
    Detail,
    /// A sentence as evidence.
    Quote,
    /// A short title.
    Title,
    /// What something is called.
    Name,
    /// Key phrases.
    Phrase,
    /// A heading in the source.
    Section,
    /// A document's title.
    Document,
    /// Something with a form of its own.
    Fact(FactKind),
}

/// What a name says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Hint {
    /// The kind of text.
    pub noun: Option<Noun>,
    /// Whether the name itself says so, not only the description.
    pub is_named: bool,
    /// The terms of the name.
    pub names: Vec<String>,
    /// Those that say what it is about.
    pub topic: Vec<String>,
    /// Terms of the description that may say what it is about.
    pub more: Vec<String>,
    /// The description.
    pub note: String,
}

impl Hint {
    /// What a name with a description says.
    pub(super) fn new(name: &str, note: &str) -> Self {
        let names = name_terms(&name.replace("e-mail", "email"));
        let notes = terms(note);
        let in_name = names.iter().rev().find_map(|term| noun(term));
        let at_start: String = note.split_inclusive(' ').take(3).collect();
        let in_note = || match topic(&names).as_slice() {
            [] => notes.iter().find_map(|term| noun(term)),
            _ => terms(&at_start).iter().find_map(|term| noun(term)),
        };
        let noun = in_name.or_else(in_note);
        Self {
            noun,
            is_named: in_name.is_some(),
            topic: topic(&names),
            names,
            more: topic(&notes),
            note: note.to_owned(),
        }
    }

    /// Ids of the topic's terms that occur in the text, with what else it is called; the description's where the name has none.
    pub(super) fn asked(&self, corpus: &Corpus) -> Vec<u32> {
        let by_name = corpus.known(with_synonyms(&self.topic));
        if by_name.is_empty() {
            corpus.known(with_synonyms(&self.more))
        } else {
            by_name
        }
    }

    /// The hint with its topic alone, and what else the topic is called, as its name.
    pub(super) fn of_topic(&self) -> Self {
        Self {
            names: with_synonyms(&self.topic),
            topic: self.topic.clone(),
            ..Self::default()
        }
    }

    /// Whether only text about the topic will do.
    pub(super) fn is_strict(&self) -> bool {
        let general = self.is_named && !matches!(self.noun, Some(Noun::Name | Noun::Fact(_)));
        let by_form = matches!(
            self.noun,
            Some(Noun::Fact(
                FactKind::Email | FactKind::Url | FactKind::Phone | FactKind::Uuid
            ))
        );
        !self.topic.is_empty() && !general && !by_form
    }

    /// How many of something the name or description asks for: the highest number before one of these words.
    pub(super) fn count(&self, units: &[&str]) -> Option<usize> {
        count(&self.note, units)
    }
}

/// The highest number that stands at most three words before one of these words: 5 for "three to five points".
pub(super) fn count(text: &str, units: &[&str]) -> Option<usize> {
    const NUMBERS: [&str; 21] = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
        "twenty",
    ];
    let words: Vec<String> = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    let number = |word: &String| {
        let spelled = NUMBERS.iter().position(|number| number == word);
        spelled.or_else(|| word.parse().ok())
    };
    let units: Vec<String> = units.iter().map(|unit| stem(unit)).collect();
    let places = words.iter().enumerate().filter(|(_, word)| units.contains(&stem(word)));
    let before = |at: usize| {
        let one = at
            .checked_sub(1)
            .is_some_and(|before| matches!(words[before].as_str(), "a" | "an" | "single"));
        words[at.saturating_sub(4)..at]
            .iter()
            .rev()
            .find_map(number)
            .or(one.then_some(1))
    };
    places
        .filter_map(|(at, _)| before(at))
        .find(|count| (1..=100).contains(count))
}

fn noun(term: &str) -> Option<Noun> {
    NOUNS
        .binary_search_by_key(&term, |(name, _)| name)
        .ok()
        .map(|at| NOUNS[at].1)
}

fn topic(terms: &[String]) -> Vec<String> {
    terms
        .iter()
        .filter(|term| noun(term).is_none() && EMPTY.binary_search(&term.as_str()).is_err())
        .cloned()
        .collect()
}

fn with_synonyms(terms: &[String]) -> Vec<String> {
    let more = terms
        .iter()
        .filter_map(|term| SYNONYMS.binary_search_by_key(&term.as_str(), |(name, _)| name).ok());
    let more = more.flat_map(|at| SYNONYMS[at].1.iter().map(|term| (*term).to_owned()));
    terms.iter().cloned().chain(more).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_a_noun_and_a_topic() {
        for (name, note, noun, topic) in [
            ("key_points", "", Some(Noun::Point), vec![]),
            ("summary", "", Some(Noun::Summary), vec![]),
            ("dueDate", "", Some(Noun::Fact(FactKind::Date)), vec!["due"]),
            ("risks", "Sentences about risks", Some(Noun::Point), vec!["risk"]),
            ("risks", "What can go wrong, as sentences", None, vec!["risk"]),
            (
                "valid_until",
                "The date it ends",
                Some(Noun::Fact(FactKind::Date)),
                vec!["valid"],
            ),
            ("list", "The keywords of the text", Some(Noun::Phrase), vec![]),
            ("supplier", "Name of the supplier", Some(Noun::Name), vec!["supplier"]),
            ("Key points", "", Some(Noun::Point), vec![]),
            ("contact_email", "", Some(Noun::Fact(FactKind::Email)), vec!["contact"]),
        ] {
            let hint = Hint::new(name, note);
            assert_eq!(
                (hint.noun, hint.topic),
                (noun, topic.into_iter().map(String::from).collect()),
                "{name}"
            );
        }
    }

    #[test]
    fn a_topic_binds_unless_the_noun_is_enough() {
        assert!(Hint::new("risks", "").is_strict());
        assert!(Hint::new("risks", "Sentences about risks").is_strict());
        assert!(Hint::new("due_date", "").is_strict());
        assert!(!Hint::new("contact_email", "").is_strict());
        assert!(!Hint::new("key_points", "").is_strict());
        assert!(!Hint::new("executive_summary", "").is_strict());
    }

    #[test]
    fn counts_are_read_as_digits_and_as_words() {
        for (text, expected) in [
            ("three to five key points", Some(5)),
            ("at most 4 bullet points", Some(4)),
            ("a point", Some(1)),
            ("points", None),
            ("0 points", None),
            ("3\u{2013}5 points", Some(5)),
        ] {
            assert_eq!(count(text, &["points", "bullets"]), expected, "{text}");
        }
    }
}
