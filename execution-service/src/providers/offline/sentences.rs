//! Sentences of a block: Unicode's sentence bounds (UAX #29), put together again where a dot belongs to an abbreviation, an
//! initial, a numbering or an ellipsis.

use unicode_segmentation::UnicodeSegmentation;

/// Abbreviations, without their last dot, after which a sentence goes on even before a capital letter.
const ABBREVIATIONS: [&str; 44] = [
    "approx", "art", "bzw", "ca", "cf", "ch", "co", "corp", "dept", "dr", "e.g", "ed", "eds", "eq", "est", "fig",
    "figs", "gen", "i.e", "inc", "jr", "ltd", "max", "messrs", "min", "mr", "mrs", "ms", "no", "nos", "nr", "p",
    "para", "pp", "prof", "ref", "sec", "sect", "sr", "st", "tel", "vol", "vs", "z.b",
];

/// The longest sentence, in bytes; what is longer is no sentence and is taken apart at spaces.
const MAX_BYTES: usize = 800;

/// Marks that close what a sentence holds, and so belong to it.
const CLOSING: [char; 9] = ['*', '_', '`', '"', '\'', ')', ']', '\u{201d}', '\u{2019}'];

/// The sentences of a text on one line, in order, without the spaces between them.
pub(super) fn sentences(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut start = 0;
    for bound in bounds(text) {
        let so_far = text[start..bound].trim();
        if so_far.is_empty() || (bound < text.len() && goes_on(so_far, &text[bound..])) {
            continue;
        }
        push_short(&mut found, so_far);
        start = bound;
    }
    found
}

fn push_short<'t>(found: &mut Vec<&'t str>, mut text: &'t str) {
    while text.len() > MAX_BYTES {
        let end = text.floor_char_boundary(MAX_BYTES);
        let (piece, rest) = text.split_at(text[..end].rfind(' ').unwrap_or(end));
        found.push(piece);
        text = rest.trim_start();
    }
    if !text.is_empty() {
        found.push(text);
    }
}

/// Where sentences may end: Unicode's bounds, moved behind closing marks, and ends before code, which Unicode takes for the
/// lower case that goes on.
fn bounds(text: &str) -> Vec<usize> {
    let unicode = text.split_sentence_bound_indices().map(|(at, piece)| at + piece.len());
    let mut bounds: Vec<usize> = unicode
        .map(|bound| behind_closing(text, bound))
        .chain(before_code(text))
        .collect();
    bounds.sort_unstable();
    bounds.dedup();
    bounds
}

fn behind_closing(text: &str, bound: usize) -> usize {
    let rest = &text[bound..];
    let open = rest.trim_start_matches(CLOSING);
    let is_closed = open.len() < rest.len() && (open.is_empty() || open.starts_with(' '));
    if is_closed { text.len() - open.len() } else { bound }
}

fn before_code(text: &str) -> impl Iterator<Item = usize> {
    let spaces = text.match_indices(" `").map(|(at, _)| at);
    spaces
        .filter(|&at| text[..at].trim_end_matches(CLOSING).ends_with(['.', '!', '?']))
        .map(|at| at + 1)
}

/// Whether the text so far, which seems to end, goes on in what follows.
fn goes_on(so_far: &str, following: &str) -> bool {
    if so_far.matches('`').count() % 2 == 1 && following.contains('`') {
        return true;
    }
    let Some(stem) = so_far.strip_suffix('.') else {
        return false;
    };
    let last = stem.rsplit([' ', '(', '[', '"', '\u{201c}']).next().unwrap_or(stem);
    let initial = last.chars().count() == 1 && last.chars().all(char::is_uppercase);
    let numbering = !last.is_empty() && last.len() <= 3 && last == stem && last.bytes().all(|b| b.is_ascii_digit());
    let abbreviation = ABBREVIATIONS.binary_search(&last.to_lowercase().as_str()).is_ok();
    // "No." and "Min." end sentences too: they go on only before what they can belong to.
    let ambiguous = matches!(
        last,
        "no" | "No" | "nos" | "min" | "max" | "sec" | "p" | "est" | "ed" | "art" | "ch" | "st" | "co"
    );
    let before_number = following.trim_start().starts_with(|c: char| c.is_ascii_digit());
    initial || numbering || (abbreviation && (!ambiguous || before_number)) || so_far.ends_with("...")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abbreviations_are_in_order_so_that_they_can_be_searched() {
        assert!(ABBREVIATIONS.is_sorted());
    }

    #[test]
    fn a_dot_of_an_abbreviation_or_initial_does_not_end_a_sentence() {
        let text = "Dr. A. Smith pays approx. 3.5 EUR, e.g. Mondays. See No. 7 of the list! Is it so? Yes.";
        assert_eq!(
            sentences(text),
            [
                "Dr. A. Smith pays approx. 3.5 EUR, e.g. Mondays.",
                "See No. 7 of the list!",
                "Is it so?",
                "Yes."
            ]
        );
    }

    #[test]
    fn a_word_that_may_be_an_abbreviation_ends_a_sentence_before_another_word() {
        assert_eq!(
            sentences("The answer is no. Nobody asked."),
            ["The answer is no.", "Nobody asked."]
        );
    }

    #[test]
    fn numbering_stays_with_its_sentence() {
        assert_eq!(
            sentences("1. Open the door. 2. Close it."),
            ["1. Open the door.", "2. Close it."]
        );
    }

    #[test]
    fn marks_and_code_belong_to_their_sentences() {
        assert_eq!(
            sentences("**To its row.** `Get.Studio` comes in (see `a. B`). `make run` starts it. Done."),
            [
                "**To its row.**",
                "`Get.Studio` comes in (see `a. B`).",
                "`make run` starts it.",
                "Done."
            ]
        );
        assert_eq!(
            sentences("A stray ` mark. Then more."),
            ["A stray ` mark.", "Then more."]
        );
    }

    #[test]
    fn what_is_too_long_for_a_sentence_is_taken_apart_at_spaces() {
        let words = "word ".repeat(400);
        let found = sentences(&words);
        assert_eq!(found.join(" "), words.trim());
        assert!(found.iter().all(|piece| piece.len() <= MAX_BYTES));
        assert_eq!(sentences(&"é".repeat(MAX_BYTES)).concat(), "é".repeat(MAX_BYTES));
    }

    #[test]
    fn text_without_an_end_is_one_sentence() {
        assert_eq!(sentences("no end here"), ["no end here"]);
        assert_eq!(sentences("  "), Vec::<&str>::new());
    }

    #[test]
    fn sentences_of_other_scripts_are_found() {
        assert_eq!(sentences("退货需要三十天。费用为五欧元。").len(), 2);
        assert_eq!(sentences("Это первое. Это второе.").len(), 2);
    }
}
