//! A regular expression of a definition, compiled once, when it is first looked for.

use std::sync::OnceLock;

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

/// The most memory, in bytes, that a compiled expression may take.
pub const MAX_REGEX_BYTES: usize = 64 << 10;

/// An expression: its text, which may be wrong, and what it is compiled to. Two are equal if their texts are.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pattern {
    text: String,
    #[serde(skip)]
    compiled: OnceLock<Result<Regex, String>>,
}

impl Pattern {
    /// The expression as it is written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The expression compiled; the error says what is wrong with it. Searches take time linear in the text's length.
    pub fn compiled(&self) -> Result<&Regex, &str> {
        let compiled = self.compiled.get_or_init(|| {
            RegexBuilder::new(&self.text)
                .size_limit(MAX_REGEX_BYTES)
                .dfa_size_limit(MAX_REGEX_BYTES)
                .build()
                .map_err(|error| error.to_string())
        });
        compiled.as_ref().map_err(String::as_str)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl From<String> for Pattern {
    fn from(text: String) -> Self {
        Self {
            text,
            compiled: OnceLock::new(),
        }
    }
}

impl From<&str> for Pattern {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.text
    }
}
