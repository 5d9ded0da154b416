//! Words: what is counted when texts are compared.
//!
//! A term is the stem of a word that carries content. The stop words are English; in another language the words that
//! stand in most sentences weigh little anyway (see [`super::corpus`]), so ranking still works, only less sharply.

use std::collections::HashSet;
use std::sync::LazyLock;

use regex::Regex;
use unicode_segmentation::UnicodeSegmentation;

const STOP_WORDS: &str = "a about above across after afterwards again against all almost alone along already also although always am \
among an and another any anybody anyone anything anyway are aren't around as at away b back be became because become becomes \
been before beforehand behind being below beside besides between beyond both but by c came can can't cannot come comes could \
couldn't d did didn't do does doesn't doing don't done down during e each eg either else elsewhere enough especially etc \
even ever every everybody everyone everything everywhere except f far few first for former from further g gave get gets give \
given gives go goes going gone got h had hadn't has hasn't have haven't having he hence her here hers herself him himself his \
how however i ie if in indeed instead into is isn't it its itself j just k keep keeps kept l last later least less let lets \
like likely m made mainly make makes making many may maybe me meanwhile might mine more moreover most mostly much must my \
myself n namely near nearly need needs neither never nevertheless next no nobody none nor not nothing now nowhere o of off \
often oh on once one only onto or other others otherwise our ours ourselves out over own p per perhaps please put q quite r \
rather really s said same saw say says second see seem seems seen several shall she should shouldn't show shown shows since so \
some somebody somehow someone something sometimes somewhere soon still such t take taken takes than that that's the their \
theirs them themselves then thence there therefore these they this those though three through throughout thus to together too \
took toward towards two u under unless until up upon us use used uses using usually v very via w want wants was wasn't way we \
well went were weren't what whatever when whenever where whereas wherever whether which while who whole whom whose why will \
with within without won't would wouldn't x y yes yet you your yours yourself yourselves z";

static STOP: LazyLock<HashSet<&str>> = LazyLock::new(|| STOP_WORDS.split_whitespace().collect());

/// Addresses and the targets of markdown links: no prose, so not counted as words.
static ADDRESS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"https?://[^\s)>\]]+|\]\([^)\s]*\)").expect("the pattern is tested"));

/// The words of a text with their places, without those in addresses.
pub(super) fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut addresses = ADDRESS.find_iter(text).peekable();
    text.unicode_word_indices().filter(move |&(at, _)| {
        while addresses.next_if(|address| address.end() <= at).is_some() {}
        addresses.peek().is_none_or(|address| at < address.start())
    })
}

/// Whether the word carries no content by itself.
pub(super) fn is_stop(word: &str) -> bool {
    let word = word.to_lowercase();
    STOP.contains(word.replace('\u{2019}', "'").as_str())
}

/// The term of a word, if it carries content.
pub(super) fn term(word: &str) -> Option<String> {
    (!is_stop(word)).then(|| stem(word))
}

/// The terms of a text in their order, with repetitions.
pub(super) fn terms(text: &str) -> Vec<String> {
    words(text).filter_map(|(_, word)| term(word)).collect()
}

/// The terms of an identifier such as `dueDate` or `due_date`, or of a heading.
pub(super) fn name_terms(name: &str) -> Vec<String> {
    terms(&spaced(name))
}

/// An identifier as words: `dueDate` and `due_date` become `due date`.
pub(super) fn spaced(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    let mut before_lower = false;
    for c in name.chars() {
        if c == '_' || c == '-' || c == '.' || c == '/' {
            out.push(' ');
        } else {
            if c.is_uppercase() && before_lower {
                out.push(' ');
            }
            out.extend(c.to_lowercase());
        }
        before_lower = c.is_lowercase() || c.is_ascii_digit();
    }
    out
}

/// A word in lower case without the endings of possessive and plural.
pub(super) fn stem(word: &str) -> String {
    let mut word = word.to_lowercase().replace('\u{2019}', "'");
    for ending in ["'s", "s'"] {
        if word.len() > ending.len() + 2 && word.ends_with(ending) {
            word.truncate(word.len() - ending.len());
        }
    }
    if word.chars().count() < 4 || !word.is_ascii() {
        return word;
    }
    if let Some(root) = word.strip_suffix("ies").filter(|root| root.len() > 2) {
        return format!("{root}y");
    }
    for double in ["sses", "shes", "ches", "xes", "zes"] {
        if word.ends_with(double) {
            word.truncate(word.len() - 2);
            return word;
        }
    }
    if word.ends_with('s') && !["ss", "us", "is"].iter().any(|ending| word.ends_with(ending)) {
        word.pop();
    }
    word
}

/// Whitespace folded: every run of it is one space, none at the ends.
pub(super) fn folded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plurals_and_possessives_have_the_term_of_their_word() {
        for (word, expected) in [
            ("Policies", "policy"),
            ("invoices", "invoice"),
            ("boxes", "box"),
            ("process", "process"),
            ("status", "status"),
            ("supplier's", "supplier"),
            ("team\u{2019}s", "team"),
            ("analysis", "analysis"),
            ("bus", "bus"),
            ("matches", "match"),
        ] {
            assert_eq!(stem(word), expected);
        }
    }

    #[test]
    fn terms_leave_out_stop_words_and_addresses() {
        let text = "See [the guide](docs/guide.md) and https://example.org/long/path for the refunds.";
        assert_eq!(terms(text), ["guide", "refund"]);
    }

    #[test]
    fn identifiers_are_split_into_words() {
        assert_eq!(name_terms("dueDate"), ["due", "date"]);
        assert_eq!(name_terms("invoice_total_EUR"), ["invoice", "total", "eur"]);
        assert_eq!(spaced("keyPoints"), "key points");
    }

    #[test]
    fn whitespace_is_folded() {
        assert_eq!(folded("  a\n b\t\u{a0}c "), "a b c");
    }
}
