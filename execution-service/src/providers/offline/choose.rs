//! The best match among fixed choices: the one whose words weigh most in the text, with the words that explain it where the schema
//! has some; without any, the one that is written most like the text's words, then one that says that nothing is known.

use std::collections::BTreeSet;

use super::corpus::{Corpus, shared};
use super::words::{name_terms, terms};

/// Choices for when nothing is known.
const UNDECIDED: [&str; 8] = [
    "n/a",
    "neutral",
    "none",
    "not applicable",
    "other",
    "unclear",
    "undecided",
    "unknown",
];

/// The best choice and whether the text speaks for it. `asked` are terms that lines should hold to count in full; `note` may explain
/// choices.
pub(super) fn best(
    options: &[&str],
    corpus: &Corpus,
    lines: &[usize],
    asked: &[u32],
    note: &str,
) -> Option<(usize, bool)> {
    let evidence: Vec<f64> = options
        .iter()
        .map(|option| evidence(option, corpus, lines, asked) + explained(option, note, corpus, lines))
        .collect();
    if let Some(at) = highest(&evidence).or_else(|| misspelt(options, corpus, lines)) {
        return Some((at, true));
    }
    if let Some(at) = options
        .iter()
        .position(|option| UNDECIDED.binary_search(&option.to_lowercase().as_str()).is_ok())
    {
        return Some((at, false));
    }
    let words: BTreeSet<String> = lines
        .iter()
        .filter_map(|&i| corpus.lines.get(i))
        .flat_map(|line| name_terms(&line.text))
        .collect();
    let likeness: Vec<f64> = options
        .iter()
        .map(|option| {
            words
                .iter()
                .map(|word| alike(&option.to_lowercase(), word))
                .fold(0.0, f64::max)
        })
        .collect();
    highest(&likeness)
        .or((!options.is_empty()).then_some(0))
        .map(|at| (at, false))
}

/// How much the lines say that the choice holds; nothing where they do not name it.
pub(super) fn evidence(option: &str, corpus: &Corpus, lines: &[usize], asked: &[u32]) -> f64 {
    let terms = name_terms(option);
    let known = corpus.known(&terms);
    if known.is_empty() {
        return 0.0;
    }
    let count = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    let covered = count(known.len()) / count(terms.len());
    let of_line = |&i: &usize| {
        let line = corpus.lines.get(i)?;
        let hits = corpus.mass(&shared(&line.terms, &known).collect::<Vec<_>>());
        let on_topic = asked.is_empty() || shared(&line.terms, asked).next().is_some();
        Some(hits * if on_topic { 1.0 } else { 0.25 })
    };
    lines.iter().filter_map(of_line).sum::<f64>() * covered
}

/// How much the lines hold of the words that explain a choice: those after `choice:` in the note, up to a semicolon or its line's end.
fn explained(option: &str, note: &str, corpus: &Corpus, lines: &[usize]) -> f64 {
    let head = format!("{}:", option.to_lowercase());
    let note = note.to_lowercase();
    let begins_word = |at: usize| note[..at].chars().next_back().is_none_or(|it| !it.is_alphanumeric());
    let Some((at, _)) = note.match_indices(&head).find(|(at, _)| begins_word(*at)) else {
        return 0.0;
    };
    let rest = &note[at + head.len()..];
    let end = rest.find([';', '\n']).unwrap_or(rest.len());
    let known = corpus.known(terms(&rest[..end]));
    let of_line = |&i: &usize| {
        corpus
            .lines
            .get(i)
            .map(|line| corpus.mass(&shared(&line.terms, &known).collect::<Vec<_>>()))
    };
    lines.iter().filter_map(of_line).sum()
}

/// The choice that a short text means and writes a little differently.
fn misspelt(options: &[&str], corpus: &Corpus, lines: &[usize]) -> Option<usize> {
    const WORDS: usize = 12;
    const LIKE: f64 = 0.75;
    let text: Vec<String> = lines
        .iter()
        .filter_map(|&i| corpus.lines.get(i))
        .map(|line| line.text.trim().to_lowercase())
        .collect();
    let words: Vec<&str> = text
        .iter()
        .flat_map(|line| line.split_whitespace())
        .take(WORDS + 1)
        .collect();
    if words.len() > WORDS {
        return None;
    }
    let written: Vec<&str> = text.iter().map(String::as_str).chain(words).collect();
    let likeness = options.iter().map(|option| {
        let option = option.to_lowercase();
        let like = written
            .iter()
            .map(|it| strsim::normalized_damerau_levenshtein(&option, it));
        like.filter(|it| *it >= LIKE).fold(0.0, f64::max)
    });
    highest(&likeness.collect::<Vec<_>>())
}

/// The place of the highest value above nothing, the first of equals.
fn highest(values: &[f64]) -> Option<usize> {
    let best = values
        .iter()
        .enumerate()
        .rev()
        .max_by(|(_, a), (_, b)| a.total_cmp(b))?;
    (*best.1 > 0.0).then_some(best.0)
}

/// Dice's coefficient over three-letter pieces, where it is high enough to mean something.
fn alike(a: &str, b: &str) -> f64 {
    let pieces = |word: &str| -> BTreeSet<String> {
        let letters: Vec<char> = word.chars().collect();
        letters.windows(3).map(|window| window.iter().collect()).collect()
    };
    let (a, b) = (pieces(a), pieces(b));
    let count = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    let dice = if a.is_empty() || b.is_empty() {
        0.0
    } else {
        2.0 * count(a.intersection(&b).count()) / count(a.len() + b.len())
    };
    if dice >= 0.5 { dice } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::super::corpus::Passage;
    use super::*;

    fn chosen<'o>(text: &str, options: &[&'o str]) -> (&'o str, bool) {
        let corpus = Corpus::read(&[Passage {
            text: text.into(),
            ..Passage::default()
        }]);
        let lines: Vec<usize> = (0..corpus.lines.len()).collect();
        let (at, spoken_for) = best(options, &corpus, &lines, &[], NOTE).unwrap();
        (options[at], spoken_for)
    }

    const NOTE: &str = "delivery: parcel, courier; account: password, locked; other";

    #[test]
    fn words_that_explain_a_choice_speak_for_it() {
        let options = ["account", "delivery", "other"];
        assert_eq!(chosen("The courier lost it.", &options), ("delivery", true));
        assert_eq!(chosen("My password is wrong.", &options), ("account", true));
        assert_eq!(chosen("Good morning.", &options), ("other", false));
    }

    #[test]
    fn undecided_choices_are_in_order_so_that_they_can_be_searched() {
        assert!(UNDECIDED.is_sorted());
    }

    #[test]
    fn the_choice_that_the_text_names_most_wins() {
        let text = "The invoice lists three parcels. The invoice is due in May. A contract is not needed.";
        assert_eq!(chosen(text, &["contract", "invoice", "other"]), ("invoice", true));
        assert_eq!(
            chosen("High priority: fix the pump.", &["low_priority", "high_priority"]),
            ("high_priority", true)
        );
    }

    #[test]
    fn a_choice_that_is_misspelt_in_a_short_text_is_meant() {
        let options = ["Germany", "France", "unknown"];
        for (text, expected) in [
            ("Germny", "Germany"),
            ("Frnace", "France"),
            ("Gabon", "unknown"),
            ("  FRANCE ", "France"),
        ] {
            assert_eq!(chosen(text, &options).0, expected, "{text}");
        }
    }

    #[test]
    fn without_a_name_in_the_text_the_undecided_choice_or_the_most_alike_wins() {
        assert_eq!(chosen("The pump stops.", &["red", "unknown"]), ("unknown", false));
        assert_eq!(
            chosen("Approving it takes a day.", &["rejection", "approval"]),
            ("approval", false)
        );
        assert_eq!(chosen("The pump stops.", &["red", "green"]), ("red", false));
    }
}
