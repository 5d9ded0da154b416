//! What a line of a prompt is: a label, a delimiter, the head of a passage, a request, a note on a refused answer, or text.

use std::sync::LazyLock;

use regex::Regex;

use super::super::sentences::sentences;

/// What a line is by its form.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'l> {
    /// `Label:` alone.
    Label(&'l str),
    /// `Label: text`.
    LabelledText(&'l str, &'l str),
    /// `Label: {…` or `Label: […`.
    LabelledJson(&'l str, &'l str),
    /// The start of a delimited text, with the line that ends it.
    Delimiter { label: Option<&'l str>, end: String },
    /// `[1] Title — Section` above a retrieved passage.
    Passage { title: &'l str, section: &'l str },
    /// A note on an answer that was refused.
    Note,
    /// Anything else.
    Text,
}

static LABEL: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^[*_]{0,2}(\p{Lu}[\p{L}\p{N} _'/()-]{0,50}?)[*_]{0,2}:[*_]{0,2}(?:\s+(\S.*))?$"));
static TAG: LazyLock<Regex> = LazyLock::new(|| pattern(r"^<([A-Za-z][\w-]*)(?:\s[^>]*)?>$"));
static FENCE: LazyLock<Regex> = LazyLock::new(|| pattern("^(`{3,}|~{3,}|\"{3})\\w*$"));
static NOTE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)^(?:#+\s*)?[*_]{0,2}(?:(?:your|the) (?:previous|last|earlier) (?:answer|attempt|output|response)|(?:your|the) (?:answer|attempt|brief|output|response|summary|text)(?: before)? (?:was|has been) (?:refused|rejected|invalid)|(?:validation|retry) (?:notes?|errors?|failures?|failed)|problems? with (?:your|the) (?:previous|last) )",
    )
});
static PASSAGE: LazyLock<Regex> = LazyLock::new(|| pattern(r"^\[\d{1,3}\] (\S.*?)(?: \u{2014} (\S.*))?$"));
static RULES: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"(?i)\b(?:rules|requirements|constraints|guidelines|instructions|conditions|steps)\b[^.]*:$")
});
static INLINE: LazyLock<Regex> = LazyLock::new(|| pattern(r"^([^.!?:]{3,120}:)\s+(\S.*)$"));

/// Verbs and openings by which a sentence asks a model for something.
const REQUESTS: [&str; 66] = [
    "act",
    "always",
    "analyse",
    "analyze",
    "answer",
    "assess",
    "avoid",
    "below",
    "choose",
    "cite",
    "classify",
    "compare",
    "compose",
    "condense",
    "create",
    "decide",
    "describe",
    "determine",
    "do",
    "don't",
    "draft",
    "each",
    "evaluate",
    "explain",
    "extract",
    "fill",
    "find",
    "focus",
    "following",
    "format",
    "from",
    "generate",
    "give",
    "here",
    "highlight",
    "identify",
    "if",
    "imagine",
    "in",
    "include",
    "judge",
    "keep",
    "list",
    "make",
    "name",
    "never",
    "only",
    "output",
    "please",
    "prepare",
    "produce",
    "provide",
    "put",
    "quote",
    "rank",
    "read",
    "reply",
    "respond",
    "return",
    "say",
    "state",
    "summarise",
    "summarize",
    "tell",
    "use",
    "write",
];

/// Of those, the ones that texts begin their own sentences with as often as prompts do: they ask only together with a word
/// about the text or the answer.
const DOUBTFUL: [&str; 12] = [
    "below",
    "do",
    "each",
    "following",
    "from",
    "here",
    "if",
    "in",
    "keep",
    "make",
    "only",
    "use",
];

static ABOUT_ANSWER: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)\b(?:text|document|documents|sources?|context|material|excerpts?|passages?|chunks?|answer|summary|summari[sz]e|brief|points?|sentences?|words|bullets?|json|markdown|headings?|form|format|schema|language|following|above|below|short|concise|precise)\b",
    )
});

static SPEAKS_OF_TEXT: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)\b(?:the|this|these|each|following) (?:\w+ )?(?:text|documents?|sources?|passages?|excerpts?|chunks?|material|article|notes|transcript)\b|\b(?:below|following|above)\b",
    )
});

static ADDRESSED: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)^(?:you(?:r task| are| will| must| should| have| get)|(?:your|the) (?:task|job|goal|answer|summary|brief|output) (?:is|should|must|has)|the (?:following|text|document|sources?|excerpts?|material|context)\b.{0,60}\b(?:below|follows?|above)|based on\b|using (?:only|the)\b|what|which|who|when|where|why|how)\b",
    )
});

/// Labels, by their last word, that a prompt sets before a text on the same line.
const TEXT_LABELS: [&str; 24] = [
    "article",
    "brief",
    "chunks",
    "content",
    "context",
    "data",
    "document",
    "documents",
    "email",
    "excerpt",
    "excerpts",
    "facts",
    "findings",
    "input",
    "material",
    "message",
    "notes",
    "points",
    "report",
    "source",
    "sources",
    "summary",
    "text",
    "transcript",
];

/// Of those, the ones that say nothing about the text.
const WRAPPERS: [&str; 9] = [
    "content",
    "context",
    "data",
    "document",
    "documents",
    "input",
    "material",
    "source",
    "text",
];

/// Labels under which a request stands, not a text.
const INSTRUCTION_LABELS: [&str; 18] = [
    "audience",
    "constraints",
    "format",
    "goal",
    "important",
    "instruction",
    "instructions",
    "language",
    "note",
    "output",
    "query",
    "question",
    "requirements",
    "role",
    "rules",
    "style",
    "task",
    "tone",
];

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the patterns are fixed and tested")
}

/// What the line is by its form.
pub(super) fn classify(line: &str) -> Line<'_> {
    let line = line.trim_end();
    if NOTE.is_match(line) {
        return Line::Note;
    }
    if let Some(tag) = TAG.captures(line).and_then(|found| found.get(1)) {
        return Line::Delimiter {
            label: Some(tag.as_str()),
            end: format!("</{}>", tag.as_str()),
        };
    }
    if let Some(mark) = FENCE.captures(line) {
        return Line::Delimiter {
            label: None,
            end: mark[1].to_owned(),
        };
    }
    if let Some(found) = PASSAGE.captures(line) {
        let group = |at| found.get(at).map_or("", |text| text.as_str());
        return Line::Passage {
            title: group(1),
            section: group(2),
        };
    }
    let Some(found) = LABEL.captures(line) else {
        return Line::Text;
    };
    let label = found.get(1).map_or("", |label| label.as_str()).trim();
    let rest = found.get(2).map(|rest| rest.as_str());
    match rest {
        _ if label.split_whitespace().count() > 5 || is_request(label) => Line::Text,
        None => Line::Label(label),
        Some(rest) if rest.starts_with(['{', '[']) => Line::LabelledJson(label, rest),
        Some(rest) => Line::LabelledText(label, rest),
    }
}

/// Whether what stands under the label is a request.
pub(super) fn is_instruction_label(label: &str) -> bool {
    INSTRUCTION_LABELS.binary_search(&last_word(label).as_str()).is_ok()
}

/// Whether the label goes back from a text to what is asked about it.
pub(super) fn is_task_label(label: &str) -> bool {
    matches!(
        last_word(label).as_str(),
        "instruction" | "instructions" | "question" | "task"
    )
}

/// Whether what stands after the label is a text.
pub(super) fn is_text_label(label: &str) -> bool {
    TEXT_LABELS.binary_search(&last_word(label).as_str()).is_ok()
}

/// The label as a heading of the text; empty where it says nothing about it.
pub(super) fn heading(label: &str) -> &str {
    if WRAPPERS.binary_search(&last_word(label).as_str()).is_ok() {
        ""
    } else {
        label
    }
}

fn last_word(label: &str) -> String {
    label.rsplit([' ', '_', '-']).next().unwrap_or(label).to_lowercase()
}

/// Whether rules follow the line, not text.
pub(super) fn announces_rules(line: &str) -> bool {
    RULES.is_match(line.trim_end())
}

/// Whether instructions are about a text that must stand somewhere.
pub(super) fn speaks_of_text(instructions: &str) -> bool {
    SPEAKS_OF_TEXT.is_match(instructions)
}

/// Splits a line into what it asks and the text that follows, if any.
pub(super) fn split_instruction(line: &str) -> (&str, Option<&str>) {
    let bullet = line
        .trim_start()
        .trim_start_matches(['-', '*', '\u{2022}'])
        .trim_start();
    let mut end = 0;
    for sentence in sentences(line.trim()) {
        let start = end + line[end..].find(sentence).unwrap_or_default();
        let spoken = if end == 0 { bullet } else { sentence };
        if !is_request(spoken) {
            break;
        }
        if let Some(found) = INLINE
            .captures(sentence)
            .filter(|_| sentences(line.trim()).last() == Some(&sentence))
        {
            let text = start + found.get(2).map_or(0, |text| text.start());
            let asked = start + found.get(1).map_or(0, |asked| asked.end());
            return (line[..asked].trim(), Some(&line[text..]));
        }
        end = start + sentence.len();
    }
    let text = line[end..].trim_start();
    (line[..end].trim(), (!text.is_empty()).then_some(text))
}

/// Whether the last paragraph of a prompt goes back to asking.
pub(super) fn closes(paragraph: &str) -> bool {
    let first = sentences(paragraph).into_iter().next().unwrap_or_default();
    paragraph.len() <= 400 && is_request(first) && (ABOUT_ANSWER.is_match(paragraph) || first.ends_with('?'))
}

fn is_request(sentence: &str) -> bool {
    if ADDRESSED.is_match(sentence) {
        return true;
    }
    let mut words = sentence.split([' ', ',', ':', '.', '!']).map(str::to_lowercase);
    let Some(mut first) = words.next() else { return false };
    if matches!(first.as_str(), "now" | "then" | "finally" | "first" | "next") {
        first = words.find(|word| !word.is_empty()).unwrap_or_default();
    }
    REQUESTS.binary_search(&first.as_str()).is_ok()
        && (DOUBTFUL.binary_search(&first.as_str()).is_err() || ABOUT_ANSWER.is_match(sentence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_lists_are_in_order_so_that_they_can_be_searched() {
        assert!(REQUESTS.is_sorted() && DOUBTFUL.is_sorted());
        assert!(INSTRUCTION_LABELS.is_sorted() && TEXT_LABELS.is_sorted() && WRAPPERS.is_sorted());
    }

    #[test]
    fn a_line_is_known_by_its_form() {
        for (line, kind) in [
            ("Key points:", Line::Label("Key points")),
            ("**Summary:**", Line::Label("Summary")),
            ("Summary: it opens.", Line::LabelledText("Summary", "it opens.")),
            ("Points: [\"a\"]", Line::LabelledJson("Points", "[\"a\"]")),
            (
                "<source_text>",
                Line::Delimiter {
                    label: Some("source_text"),
                    end: "</source_text>".into(),
                },
            ),
            (
                "```markdown",
                Line::Delimiter {
                    label: None,
                    end: "```".into(),
                },
            ),
            (
                "[2] Guide \u{2014} Setup > Linux",
                Line::Passage {
                    title: "Guide",
                    section: "Setup > Linux",
                },
            ),
            (
                "[3] Guide",
                Line::Passage {
                    title: "Guide",
                    section: "",
                },
            ),
            ("Your previous answer was refused:", Line::Note),
            ("The brief before was refused: no heading", Line::Note),
            ("Validation notes:", Line::Note),
            ("Write a brief of this:", Line::Text),
            ("no label: here", Line::Text),
        ] {
            assert_eq!(classify(line), kind, "{line}");
        }
    }

    #[test]
    fn sentences_that_ask_are_told_from_sentences_that_state() {
        for sentence in [
            "Summarise it",
            "Please list it.",
            "You are a clerk.",
            "Use only the sources.",
            "In three sentences, say it.",
            "Now write the brief.",
            "Which desk opens first?",
        ] {
            assert!(is_request(sentence), "{sentence}");
        }
        for sentence in [
            "The desk opens.",
            "In spring the desk opens.",
            "Use gloves at the desk.",
            "If it rains, stay.",
            "Nine desks open.",
        ] {
            assert!(!is_request(sentence), "{sentence}");
        }
    }
}
