//! Facts that have a form of their own: dates, amounts, numbers, addresses, codes; and lines of `label: value`.
//! All of them are found by their form and given as they were written.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::corpus::{Corpus, LineKind};
use super::markdown::cells;
use super::words::terms;

/// What a fact is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FactKind {
    /// A web address.
    Url,
    /// A mail address.
    Email,
    /// A UUID.
    Uuid,
    /// A point in time with its day: `2026-03-04T09:30:00Z`.
    DateTime,
    /// A day, a month or a year.
    Date,
    /// A time of day.
    Time,
    /// A telephone number.
    Phone,
    /// An identifier such as `INV-2041`.
    Code,
    /// A sum with its currency.
    Money,
    /// A share in percent.
    Percent,
    /// A number with a unit of time.
    Span,
    /// Any number.
    Number,
}

/// A fact and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Fact {
    /// What it is.
    pub kind: FactKind,
    /// As it was written.
    pub text: String,
    /// The line, in [`Corpus::lines`].
    pub line: usize,
    /// Its place in the line, in bytes.
    pub at: usize,
}

/// A `label: value`, or a row of two cells.
#[derive(Debug)]
pub(super) struct Pair {
    /// The label's terms.
    pub label: Vec<String>,
    /// The value, as it was written.
    pub value: String,
    /// The line, in [`Corpus::lines`].
    pub line: usize,
}

const MONTHS: &str = "(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)";

/// Forms in the order in which they take text from each other; the digits in an amount are a number of their own as well.
static FORMS: LazyLock<Vec<(FactKind, Regex)>> = LazyLock::new(|| {
    let day = r"(?:0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?";
    let number = r"\d{1,3}(?:[,\u{202f}]\d{3})+(?:\.\d+)?|\d+(?:[.,]\d+)*";
    let forms = [
        (
            FactKind::Url,
            r"\bhttps?://[^\s<>()\[\]`]+[^\s<>()\[\]`.,;:!?]".to_owned(),
        ),
        (
            FactKind::Email,
            r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.\p{L}{2,}\b".to_owned(),
        ),
        (
            FactKind::Uuid,
            r"\b[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\b".to_owned(),
        ),
        (
            FactKind::DateTime,
            r"\b\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?".to_owned(),
        ),
        (
            FactKind::Date,
            format!(
                r"\b(?:\d{{4}}-\d{{2}}-\d{{2}}|{day}\.? (?:of )?{MONTHS}\.?,? \d{{4}}|{MONTHS}\.? {day},? \d{{4}}|{day} {MONTHS}\b|{MONTHS} {day}\b|{MONTHS} \d{{4}}|\d{{1,2}}[./]\d{{1,2}}[./]\d{{4}}|Q[1-4] \d{{4}})\b"
            ),
        ),
        (FactKind::Phone, r"(?:\+|\b00)\d[\d ()/-]{6,}\d\b".to_owned()),
        (
            FactKind::Code,
            r"\b[A-Z]{2,}[-_/]?\d[\dA-Z]*(?:[-/]\d+)*\b|\b[A-Z]+-\d+\b".to_owned(),
        ),
        (
            FactKind::Time,
            r"\b(?:[01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d)?(?:\s?[ap]m)?\b|\b\d{1,2}\s?[ap]m\b".to_owned(),
        ),
        (
            FactKind::Money,
            format!(
                r"[$€£¥]\s?(?:{number})(?:\s?(?:million|billion|bn|[kKmM])\b)?|\b(?:USD|EUR|GBP|CHF|JPY)\s?(?:{number})|\b(?:{number})\s?(?:€|£|(?:USD|EUR|GBP|CHF|JPY|euros?|dollars?|pounds|francs)\b)"
            ),
        ),
        (
            FactKind::Percent,
            format!(r"\b(?:{number})\s?(?:%|(?:percent|per cent)\b)"),
        ),
        (
            FactKind::Span,
            format!(r"\b(?:{number})[ -](?:seconds?|minutes?|hours?|days?|weeks?|months?|years?|ms)\b"),
        ),
        (FactKind::Date, r"\b(?:19|20)\d{2}\b".to_owned()),
        (FactKind::Number, format!(r"(?:\B-)?\b(?:{number})\b")),
    ];
    forms
        .into_iter()
        .map(|(kind, form)| (kind, Regex::new(&form).expect("the forms are fixed and tested")))
        .collect()
});

static LABEL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^[*_`]{0,3}(\p{L}[^:.!?|*_`]{0,39}?)[*_`]{0,3}:[*_]{0,2}\s+(\S.*)$")
        .expect("the pattern is fixed and tested")
});

static DIGITS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\d[\d.,\u{202f}]*").expect("the pattern is fixed and tested"));

/// The most facts that are considered.
const MAX_FACTS: usize = 4_000;

/// The facts in all lines, in their order; of very many the first.
pub(super) fn facts(corpus: &Corpus) -> Vec<Fact> {
    let all = corpus.lines.iter().enumerate();
    all.flat_map(|(line, of)| {
        forms_in(&of.text).into_iter().map(move |(kind, range)| Fact {
            kind,
            at: range.start,
            text: of.text[range].to_owned(),
            line,
        })
    })
    .take(MAX_FACTS)
    .collect()
}

/// The pairs in all lines, in their order.
pub(super) fn pairs(corpus: &Corpus) -> Vec<Pair> {
    corpus
        .lines
        .iter()
        .enumerate()
        .filter_map(|(line, of)| pair(line, of.kind, &of.text))
        .collect()
}

/// The number that a fact states; what is written with a sign other than digits has none.
pub(super) fn number(text: &str) -> Option<serde_json::Number> {
    let digits = DIGITS.find(text)?;
    let negative = text[..digits.start()].ends_with('-');
    let plain = plain_digits(digits.as_str().trim_end_matches(['.', ',']))?;
    let signed = if negative { format!("-{plain}") } else { plain };
    if let Ok(whole) = signed.parse::<i64>() {
        return Some(whole.into());
    }
    serde_json::Number::from_f64(signed.parse().ok()?)
}

fn pair(line: usize, kind: LineKind, text: &str) -> Option<Pair> {
    let (label, value) = if kind == LineKind::Row {
        let mut row = cells(text);
        let pair = (row.next()?.to_owned(), row.next()?.to_owned());
        row.next().is_none().then_some(pair)?
    } else {
        let found = LABEL.captures(text)?;
        (found[1].to_owned(), found[2].to_owned())
    };
    let short = label.split_whitespace().count() <= 5;
    let label = terms(&label);
    (short && !label.is_empty()).then_some(Pair { label, value, line })
}

/// Facts by place; where two overlap the earlier form has it, but digits inside an amount are a number too.
fn forms_in(text: &str) -> Vec<(FactKind, Range<usize>)> {
    if !text.bytes().any(|b| b.is_ascii_digit() || b == b'@' || b == b'/') && !text.contains("://") {
        return Vec::new();
    }
    let mut found: Vec<(FactKind, Range<usize>)> = Vec::new();
    for (kind, form) in FORMS.iter() {
        for hit in form.find_iter(text) {
            let range = hit.range();
            let taken = |(other, of): &(FactKind, Range<usize>)| {
                let overlaps = of.start < range.end && range.start < of.end;
                let amount = matches!(other, FactKind::Money | FactKind::Percent | FactKind::Span);
                let year = *other == FactKind::Date && of.len() == 4;
                overlaps && !(*kind == FactKind::Number && (amount || year))
            };
            if !found.iter().any(taken) {
                found.push((*kind, range));
            }
        }
    }
    found.sort_by_key(|(_, range)| range.start);
    found
}

/// Digits without separators of thousands and with a dot before decimals; nothing where that is not clear.
fn plain_digits(digits: &str) -> Option<String> {
    let digits = digits.replace('\u{202f}', "");
    let is_grouped = |mark: char| {
        let mut groups = digits.split(mark);
        let head = groups.next().is_some_and(|head| (1..=3).contains(&head.len()));
        let mut rest = groups.peekable();
        head && rest.peek().is_some() && rest.all(|group| group.len() == 3)
    };
    match (digits.matches(',').count(), digits.matches('.').count()) {
        (0, 0 | 1) => Some(digits),
        (_, 0) if is_grouped(',') => Some(digits.replace(',', "")),
        (1, 0) => Some(digits.replace(',', ".")),
        (0, _) if is_grouped('.') => Some(digits.replace('.', "")),
        (_, 1) if digits.rfind(',') < digits.rfind('.') => Some(digits.replace(',', "")),
        (1, _) if digits.rfind('.') < digits.rfind(',') => Some(digits.replace('.', "").replace(',', ".")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::corpus::Passage;
    use super::*;

    fn of(text: &str) -> Vec<(FactKind, &str)> {
        forms_in(text)
            .into_iter()
            .map(|(kind, range)| (kind, &text[range]))
            .collect()
    }

    #[test]
    fn facts_are_found_by_their_form() {
        use FactKind::*;
        for (text, expected) in [
            (
                "Paid on 2026-03-04 by INV-2041.",
                vec![(Date, "2026-03-04"), (Code, "INV-2041")],
            ),
            (
                "Due 4 March 2026, at 9:30 am.",
                vec![(Date, "4 March 2026"), (Time, "9:30 am")],
            ),
            ("On March 4th, 2026 it ends.", vec![(Date, "March 4th, 2026")]),
            (
                "Write to desk@example.org or see https://example.org/a?b=1.",
                vec![(Email, "desk@example.org"), (Url, "https://example.org/a?b=1")],
            ),
            (
                "The fee is €1,200.50 or 3 %.",
                vec![
                    (Money, "€1,200.50"),
                    (Number, "1,200.50"),
                    (Percent, "3 %"),
                    (Number, "3"),
                ],
            ),
            (
                "Within 30 days since 2019.",
                vec![(Span, "30 days"), (Number, "30"), (Date, "2019"), (Number, "2019")],
            ),
            (
                "At 2026-03-04T09:30:00Z it ran.",
                vec![(DateTime, "2026-03-04T09:30:00Z")],
            ),
            ("Call +49 30 1234567 now.", vec![(Phone, "+49 30 1234567")]),
            ("Room 12 has 4 doors.", vec![(Number, "12"), (Number, "4")]),
            ("No digits here.", vec![]),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
    }

    #[test]
    fn a_number_is_read_as_it_is_written() {
        for (text, expected) in [
            ("€1,200.50", "1200.5"),
            ("1.200,50 EUR", "1200.5"),
            ("3,5", "3.5"),
            ("12,000", "12000"),
            ("1.234.567", "1234567"),
            ("-7", "-7"),
            ("30 days", "30"),
            ("0.25", "0.25"),
        ] {
            assert_eq!(number(text).unwrap().to_string(), expected, "{text}");
        }
        assert_eq!(number("1,2,3"), None);
        assert_eq!(number("none"), None);
    }

    #[test]
    fn labels_and_rows_of_two_cells_are_pairs() {
        let text = "Supplier: Northwind Supplies\n**Invoice total**: 120 EUR\n\n| Terms | 30 days |\n|---|---|\n| A | B | C |\n\nThis is long prose that ends here: yes.";
        let corpus = Corpus::read(&[Passage {
            text: text.into(),
            ..Passage::default()
        }]);
        let found: Vec<_> = pairs(&corpus)
            .into_iter()
            .map(|pair| (pair.label.join(" "), pair.value))
            .collect();
        assert_eq!(
            found,
            [
                ("supplier", "Northwind Supplies"),
                ("invoice total", "120 EUR"),
                ("term", "30 days")
            ]
            .map(|(label, value)| (label.to_owned(), value.to_owned()))
        );
    }
}
