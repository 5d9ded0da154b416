//! Named checks of outputs, for `validation.function`. All of them take time linear in the output.
//!
//! | name | arguments | passes if |
//! |---|---|---|
//! | `not_empty` | | there is something but white space |
//! | `min_length`, `max_length` | `chars` | the text has at least, at most so many characters |
//! | `word_count` | `min`, `max` | the number of words (by Unicode's rules, in any language) is within these |
//! | `line_count` | `min`, `max` | the number of lines that are not blank is within these |
//! | `contains` | `texts`, `ignore_case` | every one of these texts is in it |
//! | `not_contains` | `texts`, `ignore_case` | none of these texts is in it |
//! | `json` | `type` (as of output variables) | it is JSON, of that type |
//! | `one_of` | `values`, `ignore_case` | it is one of these values, as text |
//! | `number_range` | `min`, `max` | it is a number within these |
//! | `list_length` | `min`, `max` | it is a list with so many elements |
//! | `unique` | | it is a list without two equal elements |
//! | `citations_exist` | `required` | every `[n]` names one of the chunks that the prompt was given; with `required`, there is one |
//! | `no_pii` | `kinds`: `email`, `phone`, `iban`, `card` | none of these is in it (absent: none of all) |
//! | `url_https` | | every URL in it is an https one, without a user's name in it |
//!
//! All of them also take `at`, a JSON pointer to the part of the output that is checked.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use unicode_segmentation::UnicodeSegmentation;

use self::pii::Kind;
use super::{definition::VariableType, journal::Source};

mod pii;
mod references;

/// The names of the checks.
pub const NAMES: [&str; 15] = [
    "not_empty",
    "min_length",
    "max_length",
    "word_count",
    "line_count",
    "contains",
    "not_contains",
    "json",
    "one_of",
    "number_range",
    "list_length",
    "unique",
    "citations_exist",
    "no_pii",
    "url_https",
];

/// The most texts or values that one check may be given.
const MAX_TEXTS: usize = 50;

/// A check with its arguments.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    at: String,
    named: Named,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Named {
    NotEmpty {},
    MinLength {
        chars: usize,
    },
    MaxLength {
        chars: usize,
    },
    WordCount {
        min: Option<usize>,
        max: Option<usize>,
    },
    LineCount {
        min: Option<usize>,
        max: Option<usize>,
    },
    Contains {
        texts: Vec<String>,
        #[serde(default)]
        ignore_case: bool,
    },
    NotContains {
        texts: Vec<String>,
        #[serde(default)]
        ignore_case: bool,
    },
    Json {
        #[serde(rename = "type")]
        kind: Option<VariableType>,
    },
    OneOf {
        values: Vec<String>,
        #[serde(default)]
        ignore_case: bool,
    },
    NumberRange {
        min: Option<f64>,
        max: Option<f64>,
    },
    ListLength {
        min: Option<usize>,
        max: Option<usize>,
    },
    Unique {},
    CitationsExist {
        #[serde(default)]
        required: bool,
    },
    NoPii {
        #[serde(default)]
        kinds: Vec<Kind>,
    },
    UrlHttps {},
}

impl Function {
    /// Reads a check; the error says what is wrong with its name or its arguments.
    pub fn parse(name: &str, arguments: &Map<String, Value>) -> Result<Self, String> {
        if !NAMES.contains(&name) {
            return Err(format!("{name} names no check; there are {}", NAMES.join(", ")));
        }
        let mut arguments = arguments.clone();
        let at = match arguments.remove("at") {
            None => String::new(),
            Some(Value::String(at)) if at.is_empty() || at.starts_with('/') => at,
            Some(_) => return Err("at must be a JSON pointer".into()),
        };
        let named = serde_json::from_value(json!({ name: arguments })).map_err(|error| error.to_string())?;
        let function = Self { at, named };
        function.sensible()?;
        Ok(function)
    }

    fn sensible(&self) -> Result<(), String> {
        match &self.named {
            Named::Contains { texts, .. } | Named::NotContains { texts, .. } | Named::OneOf { values: texts, .. }
                if texts.is_empty() || texts.len() > MAX_TEXTS =>
            {
                Err(format!("there must be 1 to {MAX_TEXTS} texts"))
            }
            Named::Contains { texts, .. } | Named::NotContains { texts, .. } if texts.iter().any(String::is_empty) => {
                Err("an empty text is in every text".into())
            }
            Named::WordCount { min, max } | Named::LineCount { min, max } | Named::ListLength { min, max } => bounds(
                min.is_some() || max.is_some(),
                min.zip(*max).is_none_or(|(min, max)| min <= max),
            ),
            Named::NumberRange { min, max } => bounds(
                min.is_some() || max.is_some(),
                min.zip(*max).is_none_or(|(min, max)| min <= max),
            ),
            _ => Ok(()),
        }
    }

    /// Checks an output; the error is what is wrong with it. `text` is the output as a text.
    pub fn check(&self, output: &Value, text: &str, sources: &[Source]) -> Result<(), String> {
        let part = output
            .pointer(&self.at)
            .ok_or_else(|| format!("there is nothing at {}", self.at))?;
        let written;
        let text = match part {
            Value::String(text) => text,
            _ if self.at.is_empty() => text,
            other => {
                written = other.to_string();
                &written
            }
        };
        self.named.check(part, text, sources)
    }
}

impl Named {
    fn check(&self, part: &Value, text: &str, sources: &[Source]) -> Result<(), String> {
        match self {
            Self::NotEmpty {} => {
                let empty = match part {
                    Value::Null => true,
                    Value::Array(items) => items.is_empty(),
                    Value::Object(members) => members.is_empty(),
                    _ => text.trim().is_empty(),
                };
                demand(!empty, || "the output is empty".into())
            }
            Self::MinLength { chars } => {
                let has = text.chars().count();
                demand(has >= *chars, || {
                    format!("the output has {has} characters; it must have {chars} or more")
                })
            }
            Self::MaxLength { chars } => {
                let has = text.chars().count();
                demand(has <= *chars, || {
                    format!("the output has {has} characters; it must have at most {chars}")
                })
            }
            Self::WordCount { min, max } => within("words", text.unicode_words().count(), *min, *max),
            Self::LineCount { min, max } => {
                let lines = text.lines().filter(|line| !line.trim().is_empty());
                within("lines", lines.count(), *min, *max)
            }
            Self::Contains { texts, ignore_case } => {
                let missing = found(text, texts, *ignore_case, false);
                demand(missing.is_empty(), || {
                    format!("the output must contain {}", missing.join(", "))
                })
            }
            Self::NotContains { texts, ignore_case } => {
                let there = found(text, texts, *ignore_case, true);
                demand(there.is_empty(), || {
                    format!("the output must not contain {}", there.join(", "))
                })
            }
            Self::Json { kind } => json_of(part, text, *kind),
            Self::OneOf { values, ignore_case } => {
                let is = |value: &String| {
                    let text = text.trim();
                    value == text || (*ignore_case && value.to_lowercase() == text.to_lowercase())
                };
                demand(values.iter().any(is), || {
                    format!("the output must be one of {}", values.join(", "))
                })
            }
            Self::NumberRange { min, max } => {
                let number = part.as_f64().or_else(|| text.trim().parse().ok());
                let number = number.ok_or_else(|| "the output must be a number".to_owned())?;
                let low = min.is_some_and(|min| number < min);
                let high = max.is_some_and(|max| number > max);
                demand(!low && !high && number.is_finite(), || {
                    format!("the output is {number}; it must be {}", range(*min, *max))
                })
            }
            Self::ListLength { min, max } => match part {
                Value::Array(items) => within("elements", items.len(), *min, *max),
                _ => Err("the output must be a list".into()),
            },
            Self::Unique {} => match part {
                Value::Array(items) => {
                    let mut seen = HashSet::new();
                    let twice = items.iter().position(|item| !seen.insert(item.to_string()));
                    demand(twice.is_none(), || "the output has two equal elements".into())
                }
                _ => Err("the output must be a list".into()),
            },
            Self::CitationsExist { required } => references::citations(text, sources.len(), *required),
            Self::NoPii { kinds } => pii::none_of(text, kinds),
            Self::UrlHttps {} => references::https_alone(text),
        }
    }
}

fn bounds(given: bool, ordered: bool) -> Result<(), String> {
    match (given, ordered) {
        (false, _) => Err("min or max must be given".into()),
        (true, false) => Err("min must not be more than max".into()),
        (true, true) => Ok(()),
    }
}

fn demand(holds: bool, notes: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(notes()) }
}

fn within(what: &str, has: usize, min: Option<usize>, max: Option<usize>) -> Result<(), String> {
    let holds = min.is_none_or(|min| has >= min) && max.is_none_or(|max| has <= max);
    demand(holds, || {
        format!("the output has {has} {what}; it must have {}", range(min, max))
    })
}

fn range<T: ToString>(min: Option<T>, max: Option<T>) -> String {
    match (min, max) {
        (Some(min), Some(max)) => format!("{} to {}", min.to_string(), max.to_string()),
        (Some(min), None) => format!("{} or more", min.to_string()),
        (None, Some(max)) => format!("at most {}", max.to_string()),
        (None, None) => "any".into(),
    }
}

/// Those of the texts that are in it, or those that are not.
fn found(text: &str, texts: &[String], ignore_case: bool, wanted: bool) -> Vec<String> {
    let lower = if ignore_case {
        text.to_lowercase()
    } else {
        String::new()
    };
    let is_in = |one: &String| {
        if ignore_case {
            lower.contains(&one.to_lowercase())
        } else {
            text.contains(&**one)
        }
    };
    texts
        .iter()
        .filter(|one| is_in(one) == wanted)
        .map(|one| format!("{one:?}"))
        .collect()
}

fn json_of(part: &Value, text: &str, kind: Option<VariableType>) -> Result<(), String> {
    let parsed: Option<Value> = match part {
        Value::String(_) => serde_json::from_str(text).ok(),
        other => Some(other.clone()),
    };
    let value = parsed.ok_or_else(|| "the output must be JSON".to_owned())?;
    let fits = match kind {
        None => true,
        Some(VariableType::String) => value.is_string(),
        Some(VariableType::Number) => value.is_number(),
        Some(VariableType::Integer) => value.as_f64().is_some_and(|it| it.fract() == 0.0),
        Some(VariableType::Boolean) => value.is_boolean(),
        Some(VariableType::Array) => value.is_array(),
        Some(VariableType::Object) => value.is_object(),
    };
    demand(fits, || {
        format!(
            "the output must be JSON of the type {}",
            kind.map_or("any", VariableType::as_str)
        )
    })
}

#[cfg(test)]
mod tests;
