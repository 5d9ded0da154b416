//! How outputs are checked.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Policy;
use crate::engine::{cel::Expression, pattern::Pattern};

/// How an output is checked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Validation {
    /// Not at all.
    #[default]
    None,
    /// The expression must be found in the output's text.
    Regex {
        /// The expression.
        pattern: Pattern,
    },
    /// The output must be JSON that fits.
    JsonSchema {
        /// The schema (draft 2020-12).
        schema: Value,
    },
    /// People decide.
    Manual(Box<Policy>),
    /// A named check or an expression decides, or both do.
    Function {
        /// The named check (see [`crate::engine::functions`]); may be empty.
        #[serde(default)]
        name: String,
        /// Its arguments.
        #[serde(default, skip_serializing_if = "Map::is_empty")]
        arguments: Map<String, Value>,
        /// A condition over `output`, `text`, `inputs`, `stages` and `sources`; may be empty.
        #[serde(default)]
        cel: Expression,
    },
    /// Another model decides.
    Llm(Judge),
}

/// A model that judges outputs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Judge {
    /// Its name.
    pub model: String,
    /// What it judges by.
    pub criteria: String,
    /// The least score, from 0 to 1, that passes; absent means [`Judge::THRESHOLD`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// A template in place of the usual prompt; it has `criteria`, `output` and `inputs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
}

impl Judge {
    /// The least score that passes where none is given.
    pub const THRESHOLD: f64 = 0.7;

    /// The least score that passes.
    pub fn least(&self) -> f64 {
        self.threshold.unwrap_or(Self::THRESHOLD)
    }
}

impl Validation {
    /// How people decide, if they do.
    pub fn policy(&self) -> Option<&Policy> {
        match self {
            Self::Manual(policy) => Some(policy),
            _ => None,
        }
    }
}

/// The type of an output variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VariableType {
    /// A text.
    String,
    /// Any number.
    Number,
    /// A whole number.
    Integer,
    /// True or false.
    Boolean,
    /// A list.
    Array,
    /// An object.
    Object,
}

impl VariableType {
    /// Every type.
    pub const ALL: [Self; 6] = [
        Self::String,
        Self::Number,
        Self::Integer,
        Self::Boolean,
        Self::Array,
        Self::Object,
    ];

    /// The type as JSON Schema and the contract name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Number => "number",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
            Self::Array => "array",
            Self::Object => "object",
        }
    }

    /// The type that is named so, if there is one.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}
