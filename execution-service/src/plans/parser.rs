//! Reads a model's answer while it comes: complete modules at once, the plan at the end.
//!
//! Every byte is looked at once, and every module is read once when its brace closes, so the time is linear in the answer's
//! length. A byte-order mark and a surrounding code fence are tolerated; other text around the JSON is not. What always
//! holds: the pieces that the answer came in change nothing; once a module breaks a rule none is shown any more, and what
//! was wrong is said by [`Parser::finish`] alone, but for an answer that is too long, which need not be waited for.

use std::ops::Range;

use serde::de::IgnoredAny;
use serde_json::Value;

use super::rules::{self, ANSWER_CHARS, Invalid, MODULES, Module, Numbers, Outline};
use crate::providers::clean;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
const FENCE: &str = "```";
/// What Python writes for numbers that are none, and JSON does not know; the longer before what it holds.
const NO_NUMBERS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];

/// An answer as far as it came.
#[derive(Debug, Default)]
pub struct Parser {
    text: Vec<u8>,
    chars: usize,
    place: Place,
    /// Where the JSON begins.
    body: usize,
    fenced: bool,
    scan: Scan,
    numbers: Numbers,
    shown: usize,
    /// A module broke a rule.
    broken: bool,
}

#[derive(Debug, Clone, Copy, Default)]
enum Place {
    #[default]
    Mark,
    Blank,
    /// In a fence that opens, after so many of its ticks.
    Ticks(usize),
    /// After the ticks: the language.
    Language,
    Body,
}

/// Where in the JSON the last byte was.
#[derive(Debug, Default)]
struct Scan {
    depth: usize,
    quoting: Quoting,
    string: usize,
    /// The last string of the outermost object: a key, if a colon follows.
    key: Option<Range<usize>>,
    is_modules: bool,
    /// How often the outermost object says `modules`.
    said: usize,
    in_modules: bool,
    module: Option<usize>,
}

/// Whether a byte is one of JSON's marks or part of a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Quoting {
    #[default]
    Outside,
    Inside,
    /// After a backslash.
    Escaped,
}

impl Quoting {
    const fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Outside, b'"') | (Self::Escaped, _) => Self::Inside,
            (Self::Outside, _) | (Self::Inside, b'"') => Self::Outside,
            (Self::Inside, b'\\') => Self::Escaped,
            (Self::Inside, _) => Self::Inside,
        }
    }
}

impl Parser {
    /// Takes the next piece of the answer, of any length, and gives the modules that it completed.
    pub fn push(&mut self, piece: &[u8]) -> Result<Vec<Module>, Invalid> {
        let from = self.text.len();
        self.chars += piece.iter().filter(|it| starts_char(**it)).count();
        if self.chars > ANSWER_CHARS {
            return Err(Invalid::TooLong);
        }
        self.text.extend_from_slice(piece);
        let mut modules = Vec::new();
        for at in from..self.text.len() {
            if let Some(found) = self.step(at) {
                modules.extend(self.module(found));
            }
        }
        Ok(modules)
    }

    /// The answer is whole: the plan, or what is wrong with it.
    pub fn finish(self) -> Result<Outline, Invalid> {
        if self.chars > ANSWER_CHARS {
            return Err(Invalid::TooLong);
        }
        let text = str::from_utf8(&self.text).map_err(|_| Invalid::NotJson)?;
        let mut body = text.get(self.body..).unwrap_or_default().trim_end();
        if self.fenced {
            body = body.strip_suffix(FENCE).unwrap_or(body);
        }
        match clean::parse_json(body) {
            // Of two lists nobody knows which is meant, and the first may have been shown.
            Ok(_) if self.scan.said > 1 => Err(Invalid::Shape),
            Ok((answer, _)) => rules::judge(&answer),
            Err(_) => Err(unreadable(body)),
        }
    }

    /// Looks at a byte; where it completes a module, that is where the module stands.
    fn step(&mut self, at: usize) -> Option<Range<usize>> {
        let byte = self.text[at];
        match self.place {
            Place::Mark if BYTE_ORDER_MARK.get(at) == Some(&byte) => return None,
            Place::Mark | Place::Blank if byte.is_ascii_whitespace() => self.place = Place::Blank,
            Place::Mark | Place::Blank if byte == b'`' && !self.fenced => self.place = Place::Ticks(1),
            Place::Ticks(ticks) if byte == b'`' => {
                self.fenced = ticks + 1 == FENCE.len();
                self.place = if self.fenced {
                    Place::Language
                } else {
                    Place::Ticks(ticks + 1)
                };
            }
            Place::Language if byte.is_ascii_alphanumeric() => {}
            Place::Language if byte.is_ascii_whitespace() => self.place = Place::Blank,
            Place::Ticks(ticks) => self.begin(at - ticks),
            Place::Mark | Place::Blank | Place::Language => {
                self.begin(at);
                return self.scan.step(&self.text, at);
            }
            Place::Body => return self.scan.step(&self.text, at),
        }
        None
    }

    fn begin(&mut self, at: usize) {
        self.body = at;
        self.place = Place::Body;
    }

    fn module(&mut self, found: Range<usize>) -> Option<Module> {
        if self.broken || self.shown == MODULES || self.scan.said > 1 {
            return None;
        }
        let module = str::from_utf8(&self.text[found])
            .ok()
            .and_then(|text| clean::parse_json(text).ok())
            .and_then(|(answer, _)| rules::module(&answer, self.shown + 1, &mut self.numbers).ok());
        self.broken = module.is_none();
        self.shown += 1;
        module
    }
}

impl Scan {
    fn step(&mut self, text: &[u8], at: usize) -> Option<Range<usize>> {
        let byte = text[at];
        let before = self.quoting;
        self.quoting = before.after(byte);
        if before != Quoting::Outside {
            if self.quoting == Quoting::Outside && self.depth == 1 {
                self.key = Some(self.string..at + 1);
            }
            return None;
        }
        match byte {
            b'"' => self.string = at,
            b':' if self.depth == 1 => {
                let key = self.key.take().map(|it| &text[it]);
                self.is_modules = key.is_some_and(says_modules);
                self.said += usize::from(self.is_modules);
            }
            b',' if self.depth == 1 => self.is_modules = false,
            b'{' | b'[' => {
                if self.depth == 1 && self.is_modules {
                    self.in_modules = byte == b'[';
                }
                if self.depth == 2 && self.in_modules {
                    self.module = Some(at);
                }
                self.depth += 1;
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                if self.depth == 1 {
                    self.in_modules = false;
                }
                if self.depth == 2 {
                    return self.module.take().map(|from| from..at + 1);
                }
            }
            _ => {}
        }
        None
    }
}

/// Whether this key, in its quotation marks, is the list's; escapes may stand in it.
fn says_modules(key: &[u8]) -> bool {
    serde_json::from_slice::<String>(key).is_ok_and(|it| it == "modules")
}

const fn starts_char(byte: u8) -> bool {
    byte & 0b1100_0000 != 0b1000_0000
}

/// Why an answer could not be read: it is no JSON, or JSON that no plan can be.
fn unreadable(body: &str) -> Invalid {
    if is_json(body) {
        return Invalid::Shape;
    }
    let Some(body) = without_no_numbers(body).filter(|it| is_json(it)) else {
        return Invalid::NotJson;
    };
    let judged = clean::parse_json(&body).map(|(answer, _): (Value, bool)| rules::judge(&answer));
    judged.ok().and_then(Result::err).unwrap_or(Invalid::Shape)
}

/// Whether the grammar allows it, however deep it is nested and however large its numbers are.
fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// The text with null for each of [`NO_NUMBERS`] outside of strings; nothing, if there is none.
fn without_no_numbers(text: &str) -> Option<String> {
    let mut replaced = String::with_capacity(text.len());
    let (mut copied, mut at) = (0, 0);
    let mut quoting = Quoting::Outside;
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        let no_number = NO_NUMBERS.iter().find(|it| rest.starts_with(it.as_bytes()));
        if let Some(no_number) = no_number.filter(|_| quoting == Quoting::Outside) {
            replaced.push_str(&text[copied..at]);
            replaced.push_str("null");
            at += no_number.len();
            copied = at;
            continue;
        }
        quoting = quoting.after(rest[0]);
        at += 1;
    }
    replaced.push_str(&text[copied..]);
    (copied > 0).then_some(replaced)
}

#[cfg(test)]
mod tests;
