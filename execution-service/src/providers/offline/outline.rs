//! The form that a prompt asks for: markdown headings with what should stand under them.
//!
//! It is given after a line such as "Answer in this form:" or "Use these headings:", in a fence, indented, or as plain lines
//! of headings, list marks and remarks in brackets; or as headings quoted within the instructions ("with the headings
//! `# Brief` and `## Summary`").

use std::sync::LazyLock;

use regex::Regex;

/// A form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outline {
    /// Its headings in their order.
    pub parts: Vec<Part>,
}

/// One heading of a form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Part {
    /// The signs before the heading.
    pub marks: String,
    /// The heading's words.
    pub heading: String,
    /// What the form says about the text under it.
    pub note: String,
    /// The mark of its list, where it shows one.
    pub bullet: Option<Bullet>,
}

/// How a list is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bullet {
    /// With a dash.
    Dash,
    /// With numbers.
    Number,
}

static ANNOUNCED: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"(?i)\b(?:form|format|headings?|structure|outline|template|sections|skeleton|layout|shape)\b[^:]*:\s*$")
});
static HEADING: LazyLock<Regex> = LazyLock::new(|| pattern(r"^\s*(#{1,6})\s+(\S.*?)\s*$"));
static BULLET: LazyLock<Regex> = LazyLock::new(|| pattern(r"^\s*(?:([-*+])|\d{1,2}[.)])(?:\s+(.*))?$"));
static REMARK: LazyLock<Regex> = LazyLock::new(|| pattern(r"^\s*(?:[(<\[{]|\.\.\.|\u{2026})"));
static FENCE: LazyLock<Regex> = LazyLock::new(|| pattern(r"^\s*(`{3,}|~{3,})"));
static QUOTED: LazyLock<Regex> =
    LazyLock::new(|| pattern("[\"'`\u{201c}\u{2018}](#{1,6}) ([^\"'`\u{201d}\u{2019}\n]{1,80})[\"'`\u{201d}\u{2019}]"));

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the patterns are fixed and tested")
}

/// Whether the line says that a form follows.
pub(super) fn is_announced(line: &str) -> bool {
    ANNOUNCED.is_match(line)
}

/// Reads the form at the start of these lines, and how many of them it takes.
pub(super) fn read(lines: &[&str]) -> Option<(Outline, usize)> {
    let start = lines.iter().position(|line| !line.trim().is_empty())?;
    let fence = FENCE.captures(lines[start]).map(|found| found[1].to_owned());
    let (body, end) = if let Some(fence) = fence {
        let body = &lines[start + 1..];
        let length = body.iter().position(|line| line.trim() == fence).unwrap_or(body.len());
        (&body[..length], (start + length + 2).min(lines.len()))
    } else {
        HEADING.find(lines[start])?;
        let body = &lines[start..];
        let indented = lines[start].starts_with(char::is_whitespace);
        let belongs = |line: &&str| {
            let marked = HEADING.is_match(line) || BULLET.is_match(line) || REMARK.is_match(line);
            line.trim().is_empty() || marked || (indented && line.starts_with(char::is_whitespace))
        };
        let length = body.iter().position(|line| !belongs(line)).unwrap_or(body.len());
        (&body[..length], start + length)
    };
    let outline = parts(body);
    (!outline.parts.is_empty()).then_some((outline, end))
}

/// The form that instructions quote heading by heading.
pub(super) fn quoted(instructions: &str) -> Option<Outline> {
    let parts: Vec<Part> = QUOTED
        .captures_iter(instructions)
        .map(|found| Part {
            marks: found[1].to_owned(),
            heading: found[2].trim().to_owned(),
            ..Part::default()
        })
        .collect();
    (!parts.is_empty()).then_some(Outline { parts })
}

fn parts(lines: &[&str]) -> Outline {
    let mut parts: Vec<Part> = Vec::new();
    for line in lines {
        if let Some(found) = HEADING.captures(line) {
            parts.push(Part {
                marks: found[1].to_owned(),
                heading: found[2].to_owned(),
                ..Part::default()
            });
        } else if let Some(part) = parts.last_mut() {
            let mut text = line.trim();
            if let Some(found) = BULLET.captures(line) {
                let mark = if found.get(1).is_some() {
                    Bullet::Dash
                } else {
                    Bullet::Number
                };
                part.bullet = part.bullet.or(Some(mark));
                text = found.get(2).map_or("", |text| text.as_str());
            }
            part.note.push_str(text);
            part.note.push(' ');
        }
    }
    Outline { parts }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headings(outline: &Outline) -> Vec<(&str, &str, &str, Option<Bullet>)> {
        outline
            .parts
            .iter()
            .map(|p| (p.marks.as_str(), p.heading.as_str(), p.note.trim(), p.bullet))
            .collect()
    }

    const LINES: [&str; 8] = [
        "",
        "# Brief",
        "",
        "## Summary",
        "(two or three sentences)",
        "## Key points",
        "- one sentence each",
        "## Sources",
    ];

    #[test]
    fn a_form_is_read_plain_indented_and_fenced() {
        let expected = [
            ("#", "Brief", "", None),
            ("##", "Summary", "(two or three sentences)", None),
            ("##", "Key points", "one sentence each", Some(Bullet::Dash)),
            ("##", "Sources", "", None),
        ];
        let mut plain = LINES.to_vec();
        plain.extend(["", "Summary:", "The desk opens."]);
        let (outline, used) = read(&plain).unwrap();
        assert_eq!((headings(&outline).as_slice(), used), (expected.as_slice(), 9));

        let indented: Vec<String> = LINES
            .iter()
            .map(|line| format!("    {line}"))
            .chain(["Text".to_owned()])
            .collect();
        let indented: Vec<&str> = indented.iter().map(String::as_str).collect();
        let (outline, used) = read(&indented).unwrap();
        assert_eq!((headings(&outline).as_slice(), used), (expected.as_slice(), 8));

        let mut fenced = vec!["```markdown"];
        fenced.extend(LINES);
        fenced.extend(["```", "Text"]);
        let (outline, used) = read(&fenced).unwrap();
        assert_eq!((headings(&outline).as_slice(), used), (expected.as_slice(), 10));
    }

    #[test]
    fn a_line_announces_a_form_by_its_words_and_its_colon() {
        for line in [
            "Answer in this form:",
            "Use these headings:",
            "Write it with the following sections, in order:",
        ] {
            assert!(is_announced(line), "{line}");
        }
        for line in ["The form is blue.", "Text:", "Use these headings"] {
            assert!(!is_announced(line), "{line}");
        }
    }

    #[test]
    fn headings_quoted_in_a_sentence_are_a_form() {
        let outline =
            quoted("Write markdown with the headings \"# Brief\", \"## Summary\" and `## Key points`.").unwrap();
        assert_eq!(
            outline.parts.iter().map(|p| p.heading.as_str()).collect::<Vec<_>>(),
            ["Brief", "Summary", "Key points"]
        );
        assert_eq!(quoted("No headings, issue #3."), None);
    }

    #[test]
    fn text_without_headings_is_no_form() {
        assert_eq!(read(&["The desk opens."]), None);
        assert_eq!(read(&["```", "code", "```"]), None);
        assert_eq!(read(&[]), None);
    }
}
