//! Why an attempt or an execution failed. There are five classes and no others: the same cause always gives the same class,
//! on every provider, so that routing, retries and statistics can be written against them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The class of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// The request or the answer was not as it must be.
    Validation,
    /// The provider failed, or is not configured right.
    ProviderError,
    /// The provider asked to slow down.
    RateLimit,
    /// A deadline passed.
    Timeout,
    /// A limit of ours was reached.
    Capped,
}

impl FailureClass {
    /// Every class.
    pub const ALL: [Self; 5] = [
        Self::Validation,
        Self::ProviderError,
        Self::RateLimit,
        Self::Timeout,
        Self::Capped,
    ];

    /// The class as the database and the journal write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Validation => "validation",
            Self::ProviderError => "provider_error",
            Self::RateLimit => "rate_limit",
            Self::Timeout => "timeout",
            Self::Capped => "capped",
        }
    }

    /// The class that is written so, if there is one.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == text)
    }
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A class with what happened, in words for people: no secrets, no internals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The class.
    pub class: FailureClass,
    /// What happened.
    pub message: String,
}

impl Failure {
    /// A failure of this class.
    pub fn new(class: FailureClass, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_reads_back_as_it_is_written_in_text_and_in_json() {
        for class in FailureClass::ALL {
            assert_eq!(FailureClass::parse(class.as_str()), Some(class));
            assert_eq!(serde_json::to_value(class).unwrap(), class.as_str());
        }
        assert_eq!(FailureClass::parse("other"), None);
    }
}
