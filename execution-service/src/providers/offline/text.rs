//! Pieces of a line that are shorter than it and still stand in it word for word.

use std::sync::LazyLock;

use regex::Regex;

/// Two capitalised words or more, or one that does not begin the line.
static NAME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\p{Lu}[\p{L}\p{N}&'-]+(?: (?:of|and|for|&) \p{Lu}[\p{L}\p{N}&'-]+| \p{Lu}[\p{L}\p{N}&'-]*)*")
        .expect("the pattern is fixed and tested")
});

/// Who is to do something: what stands before the verb of a task.
static ACTOR: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^(?:(?i:action|task|to-?do|next step)\b[^:]{0,20}:\s*)?(\p{L}[\p{L}\p{N}&'. -]{1,60}?) (?:will|shall|must|has to|have to|is to|are to|to)\s")
        .expect("the pattern is fixed and tested")
});

/// Who a line says is to do something.
pub(super) fn actor(line: &str) -> Option<&str> {
    ACTOR.captures(line)?.get(1).map(|it| it.as_str())
}

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
    fn who_is_to_do_something_stands_before_the_verb() {
        for (line, expected) in [
            ("The shift lead will order scanners by Friday.", Some("The shift lead")),
            ("Action: transport desk to tell all carriers.", Some("transport desk")),
            ("The tills must be checked.", Some("The tills")),
            ("Late deliveries fell in a month.", None),
        ] {
            assert_eq!(actor(line), expected, "{line}");
        }
    }

    #[test]
    fn names_are_capitalised_and_not_just_the_start_of_a_line() {
        let found: Vec<_> = names("Parcels go to Northwind Supplies and the Ministry of Ports.").collect();
        assert_eq!(found, ["Northwind Supplies", "Ministry of Ports"]);
        assert_eq!(names("Parcels wait.").count(), 0);
    }
}
