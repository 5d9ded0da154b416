//! A log as lines: JSON, which can be checked without the installation that wrote it, and CSV for people.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    chain::Head,
    entry::Entry,
    reading::{Personal, Shown},
};

const HEADER: &str = "place,time,actor_kind,actor,service,action,thing_kind,thing,outcome,address,user_agent,details,trace,\
    correlation_id,id,hash\n";

/// What lines look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A JSON object each, the signed head last.
    JsonLines,
    /// Comma-separated, without the head.
    Csv,
}

/// A line of an export.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub enum Line {
    /// An entry in its place in the chain.
    Entry {
        /// Its place.
        seq: i64,
        /// Its link's hash, in hexadecimal digits.
        hash: String,
        /// What was written; nothing where it was removed.
        entry: Option<Entry>,
        /// What was encrypted; nothing where the key is gone.
        #[serde(default)]
        personal: Option<Personal>,
    },
    /// The signed end.
    Head(Head),
}

impl Line {
    pub(super) fn entry(seq: i64, hash: &[u8], shown: Option<Shown>) -> Self {
        let (entry, personal) = shown.map_or((None, None), |it| (Some(it.entry), it.personal));
        Self::Entry {
            seq,
            hash: hex::encode(hash),
            entry,
            personal,
        }
    }
}

impl Format {
    /// What comes before all lines.
    pub(super) fn header(self) -> &'static str {
        match self {
            Self::JsonLines => "",
            Self::Csv => HEADER,
        }
    }

    /// Adds a line.
    pub(super) fn write(self, lines: &mut String, line: &Line) {
        match self {
            Self::JsonLines => {
                let json = serde_json::to_string(line).expect("a line is plain data");
                writeln!(lines, "{json}").expect("a string takes everything");
            }
            Self::Csv => csv(lines, line),
        }
    }
}

fn csv(lines: &mut String, line: &Line) {
    let Line::Entry {
        seq,
        hash,
        entry: Some(entry),
        personal,
    } = line
    else {
        return;
    };
    let personal = personal.clone().unwrap_or_default();
    let details = if personal.details.is_empty() {
        String::new()
    } else {
        Value::Object(personal.details).to_string()
    };
    let cells = [
        &seq.to_string(),
        &entry.at_text(),
        entry.actor_kind.as_str(),
        &entry.actor_id.to_string(),
        &entry.service,
        &entry.action,
        &entry.thing_kind,
        &entry.thing_id.map(|it| it.to_string()).unwrap_or_default(),
        entry.outcome.as_str(),
        &personal.address,
        &personal.user_agent,
        &details,
        &entry.trace_id,
        &entry.correlation_id,
        &entry.id.to_string(),
        hash,
    ];
    let cells: Vec<_> = cells.into_iter().map(cell).collect();
    lines.push_str(&cells.join(","));
    lines.push('\n');
}

/// A cell as RFC 4180 writes it; one that a spreadsheet would take for a formula begins with an apostrophe.
fn cell(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if is_formula {
        format!("'{text}")
    } else {
        text.to_owned()
    };
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::entry::tests::entry;

    #[test]
    fn a_cell_is_text_and_never_a_formula() {
        assert_eq!(cell("a b"), "a b");
        assert_eq!(cell("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(cell("=cmd()"), "'=cmd()");
        assert_eq!(cell("-1,2"), "\"'-1,2\"");
    }

    #[test]
    fn a_line_reads_back_what_it_writes() {
        let personal = Personal {
            user_agent: "curl, and more".into(),
            ..Personal::default()
        };
        let shown = Shown {
            entry: entry(),
            personal: Some(personal),
        };
        let line = Line::entry(1, &[7; 32], Some(shown));
        let mut json = String::new();
        Format::JsonLines.write(&mut json, &line);
        let Line::Entry { entry: read, hash, .. } = serde_json::from_str(&json).unwrap() else {
            panic!("another line: {json}")
        };
        assert_eq!((read, hash), (Some(entry()), "07".repeat(32)));
        let mut csv = String::new();
        Format::Csv.write(&mut csv, &line);
        assert!(csv.starts_with("1,1970-01-01T00:00:00Z,user,"), "{csv}");
        assert_eq!(csv.matches(',').count(), HEADER.matches(',').count() + 1, "{csv}");
    }
}
