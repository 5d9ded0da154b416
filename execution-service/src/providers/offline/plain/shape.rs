//! The shape of an answer that instructions ask for in words.

use std::sync::LazyLock;

use regex::Regex;

use super::super::hint::Noun;

/// A shape.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// One of these, and nothing else.
    Choice(Vec<String>),
    /// Kinds of text, one after the other.
    Parts(Vec<Noun>),
}

static CHOICE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?im)\b(?:one of(?: the following| these)?(?: \w+){0,2}|classify\b[^.:\n]{0,60}?\b(?:as|into)|choose (?:between|from|among)|answer (?:only )?with(?: one of)?)\b:?\s+([^.:\n]+)",
    )
});
static SEPARATOR: LazyLock<Regex> = LazyLock::new(|| pattern(r"\s*(?:,\s*or\b|,|;|\||/|\bor\b|\band\b)\s*"));
static POINTS: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?i)\b(?:bullets?|bulleted|(?:key )?points|takeaways|highlights|findings|list)\b"));
static PHRASES: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?i)\b(?:keywords?|key ?phrases?|topics|tags|key terms)\b"));
static TITLE: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?i)\b(?:write|give|suggest|choose|find)\b[^.\n]{0,30}\b(?:title|headline)\b"));
static SUMMARY: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?i)\b(?:summari[sz]e|summary|overview|condense|abstract)\b"));

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the patterns are fixed and tested")
}

/// The shape that these instructions ask for; sentences where they name none.
pub(super) fn shape(instructions: &str) -> Shape {
    if let Some(options) = CHOICE.captures(instructions).and_then(|found| options(&found[1])) {
        return Shape::Choice(options);
    }
    let (summary, points) = (SUMMARY.find(instructions), POINTS.find(instructions));
    let both = match (summary, points) {
        (Some(a), Some(b)) => {
            let between = instructions
                .get(a.end().min(b.end())..a.start().max(b.start()))
                .unwrap_or_default();
            between.contains(" and ") || between.contains(['.', '\n'])
        }
        _ => false,
    };
    let parts = if both {
        vec![Noun::Summary, Noun::Point]
    } else if PHRASES.is_match(instructions) {
        vec![Noun::Phrase]
    } else if points.is_some() {
        vec![Noun::Point]
    } else if summary.is_none() && TITLE.is_match(instructions) {
        vec![Noun::Title]
    } else {
        vec![Noun::Summary]
    };
    Shape::Parts(parts)
}

/// Two to twenty short options.
fn options(list: &str) -> Option<Vec<String>> {
    let bare = |option: &str| {
        option
            .trim()
            .trim_matches(['"', '\'', '`', '\u{201c}', '\u{201d}', '*'])
            .to_owned()
    };
    let options: Vec<String> = SEPARATOR
        .split(list)
        .map(bare)
        .filter(|option| !option.is_empty())
        .collect();
    let short = options.iter().all(|option| option.split_whitespace().count() <= 3);
    (short && (2..=20).contains(&options.len())).then_some(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_name_a_shape() {
        let choice = |options: &[&str]| Shape::Choice(options.iter().map(|option| (*option).to_owned()).collect());
        for (instructions, expected) in [
            ("Summarise the text.", Shape::Parts(vec![Noun::Summary])),
            (
                "Summarise the text in five bullet points.",
                Shape::Parts(vec![Noun::Point]),
            ),
            (
                "Summarise the text and list the key points.",
                Shape::Parts(vec![Noun::Summary, Noun::Point]),
            ),
            ("Give five keywords.", Shape::Parts(vec![Noun::Phrase])),
            ("Suggest a short title.", Shape::Parts(vec![Noun::Title])),
            ("What does the desk do?", Shape::Parts(vec![Noun::Summary])),
            (
                "Answer with one of: low, medium, high",
                choice(&["low", "medium", "high"]),
            ),
            (
                "Classify the letter as \"invoice\" or \"contract\".",
                choice(&["invoice", "contract"]),
            ),
            (
                "Use one of the sources, or all of them if that is what the question needs.",
                Shape::Parts(vec![Noun::Summary]),
            ),
        ] {
            assert_eq!(shape(instructions), expected, "{instructions}");
        }
    }
}
