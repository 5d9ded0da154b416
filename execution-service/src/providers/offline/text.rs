//! Pieces of a line that are shorter than it and still stand in it word for word.

use std::sync::LazyLock;

use regex::Regex;

/// Two capitalised words or more, or one that does not begin the line.
static NAME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\p{Lu}[\p{L}\p{N}&'-]+(?: (?:of|and|for|&) \p{Lu}[\p{L}\p{N}&'-]+| \p{Lu}[\p{L}\p{N}&'-]*)*")
        .expect("the pattern is fixed and tested")
});

/// What a line calls by name, in its order.
pub(super) fn names(line: &str) -> impl Iterator<Item = &str> {
    let found = NAME.find_iter(line);
    found
        .filter(|name| name.start() > 2 || name.as_str().contains(' '))
        .map(|name| name.as_str())
}

/// The text if it has at most `most` characters, else its longest beginning that ends at a clause or, failing that, at a
/// word; `None` where not even a word fits.
pub(super) fn clip(text: &str, most: usize) -> Option<&str> {
    let Some((end, next)) = text.char_indices().nth(most) else {
        return Some(text);
    };
    let start = &text[..end];
    let clause = start
        .rfind([',', ';', ':', '(', '\u{2013}', '\u{2014}'])
        .filter(|&at| at * 2 > end);
    let word = if next.is_whitespace() {
        Some(end)
    } else {
        start.rfind(' ')
    };
    let cut = start[..clause.or(word)?]
        .trim_end_matches(|c: char| c.is_whitespace() || ",;:(-\u{2013}\u{2014}*_`[".contains(c));
    (!cut.is_empty()).then_some(cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_at_a_clause_or_a_word() {
        let text = "The desk opens at nine, except on Mondays.";
        assert_eq!(clip(text, 100), Some(text));
        assert_eq!(clip(text, 30), Some("The desk opens at nine"));
        assert_eq!(clip(text, 14), Some("The desk opens"));
        assert_eq!(clip(text, 13), Some("The desk"));
        assert_eq!(clip(text, 2), None);
        assert_eq!(clip("schöne Grüße", 9), Some("schöne"));
    }

    #[test]
    fn names_are_capitalised_and_not_just_the_start_of_a_line() {
        let found: Vec<_> = names("Parcels go to Northwind Supplies and the Ministry of Ports.").collect();
        assert_eq!(found, ["Northwind Supplies", "Ministry of Ports"]);
        assert_eq!(names("Parcels wait.").count(), 0);
    }
}
