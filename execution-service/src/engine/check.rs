//! Whether an output is as its stage wants it, and what later stages see of it.
//!
//! A model's answer is text; it becomes JSON where the stage asks for JSON (a response schema, output variables or a check
//! against a schema), a code fence around it allowed. Checks are linear in the output (no backtracking, size-limited
//! expressions), read nothing but the output, and reach nothing outside: references in schemas resolve within them alone.

use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::{Map, Value, json};

use super::{
    definition::{Kind, Stage, Validation},
    failure::FailureClass,
    journal::{AttemptFailure, CheckResult, Verdict},
    pattern::MAX_REGEX_BYTES,
};
use crate::providers::clean;

mod visits;

/// Up to so many bytes, an expression of that size is looked for in microseconds.
const LIGHT_BYTES: usize = 2 << 10;
/// How many things wrong with an output are named.
const MAX_PROBLEMS: usize = 8;
/// The longest notes, in characters.
const MAX_NOTES: usize = 2_000;

/// An output after its check.
#[derive(Debug, PartialEq)]
pub struct Checked {
    /// What later stages see, once a person let it pass where one has to; null where the check failed.
    pub output: Value,
    /// What the check said.
    pub verdict: Verdict,
    /// Why the attempt fails, if it does.
    pub failure: Option<AttemptFailure>,
    /// Whether something had to be taken out of the output so that it can be stored.
    pub cleaned: bool,
}

/// A schema that can be checked against.
#[derive(Debug)]
pub struct Schema(Validator);

/// One thing that is not as a schema wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: a JSON pointer, empty for the whole value.
    pub pointer: String,
    /// What; does not repeat the value.
    pub description: String,
}

impl Schema {
    /// Compiles a schema (draft 2020-12); the error says what is wrong with it. One that would take long to check is refused.
    pub fn compile(schema: &Value) -> Result<Self, String> {
        visits::check(schema)?;
        let patterns = PatternOptions::regex()
            .size_limit(MAX_REGEX_BYTES)
            .dfa_size_limit(MAX_REGEX_BYTES);
        jsonschema::draft202012::options()
            .offline()
            .with_pattern_options(patterns)
            .build(schema)
            .map(Self)
            .map_err(|error| format!("{}: {}", pointer(&error), error.masked()))
    }

    /// Everything wrong with a value, as the validator says it.
    pub fn errors<'a>(&'a self, value: &'a Value) -> impl Iterator<Item = ValidationError<'a>> {
        self.0.iter_errors(value)
    }

    /// What is wrong with a value; the first few things.
    pub fn problems(&self, value: &Value) -> Vec<Problem> {
        let errors = self.0.iter_errors(value).take(MAX_PROBLEMS);
        errors
            .map(|error| Problem {
                pointer: pointer(&error),
                description: error.masked().to_string(),
            })
            .collect()
    }
}

fn pointer(error: &ValidationError<'_>) -> String {
    error.instance_path().to_string()
}

/// Whether an answer is checked in microseconds, whatever members wrote: without a schema, and without an expression over a
/// long text.
pub fn is_light(stage: &Stage, text: &str) -> bool {
    let is_plain = matches!(
        stage.validation,
        Validation::None | Validation::Manual | Validation::Regex { .. }
    );
    is_plain && !wants_json(stage) && text.len() <= LIGHT_BYTES
}

/// Checks a model's answer.
pub fn answer(stage: &Stage, text: &str) -> Checked {
    if !wants_json(stage) {
        return finish(stage, Value::from(text), text, false);
    }
    match clean::parse_json(unfenced(text)) {
        Ok((output, cleaned)) => finish(stage, output, text, cleaned),
        Err(error) => {
            let notes = format!("the answer is not JSON: {error}");
            let failure = if asks_for_json(stage) {
                AttemptFailure::passing(FailureClass::ProviderError, "not_json", notes.clone())
            } else {
                AttemptFailure::passing(FailureClass::Validation, "schema", notes.clone())
            };
            rejected(CheckResult::Fail, notes, failure)
        }
    }
}

/// Checks an output that is JSON already. `text` is what an expression is looked for in.
pub fn value(stage: &Stage, output: Value, text: &str) -> Checked {
    finish(stage, output, text, false)
}

/// Whether the model is asked for JSON.
fn asks_for_json(stage: &Stage) -> bool {
    let has_schema = matches!(&stage.kind, Kind::Llm(llm) if llm.response_schema.is_some());
    has_schema || !stage.output_variables.is_empty()
}

fn wants_json(stage: &Stage) -> bool {
    asks_for_json(stage) || matches!(stage.validation, Validation::JsonSchema { .. })
}

/// The schema that the model is asked to fill: the response schema, or else one made of the output variables.
pub fn response_schema(stage: &Stage) -> Option<Value> {
    match &stage.kind {
        Kind::Llm(llm) if llm.response_schema.is_some() => llm.response_schema.clone(),
        Kind::Llm(_) => variables_schema(stage),
        _ => None,
    }
}

fn variables_schema(stage: &Stage) -> Option<Value> {
    if stage.output_variables.is_empty() {
        return None;
    }
    let properties: Map<String, Value> = stage
        .output_variables
        .iter()
        .map(|(name, kind)| (name.clone(), json!({ "type": kind.as_str() })))
        .collect();
    let required: Vec<&String> = stage.output_variables.keys().collect();
    Some(json!({ "type": "object", "properties": properties, "required": required }))
}

fn finish(stage: &Stage, output: Value, text: &str, cleaned: bool) -> Checked {
    let mut schemas = Vec::new();
    if let Kind::Llm(llm) = &stage.kind {
        schemas.extend(llm.response_schema.clone());
    }
    schemas.extend(variables_schema(stage));
    if let Validation::JsonSchema { schema } = &stage.validation {
        schemas.push(schema.clone());
    }
    let mut problems = Vec::new();
    for schema in &schemas {
        match Schema::compile(schema) {
            Ok(schema) => problems.extend(schema.problems(&output)),
            Err(error) => return unusable(&format!("the schema cannot be used: {error}")),
        }
    }
    let mut reason = "schema";
    let mut notes: Vec<String> = problems.into_iter().map(described).take(MAX_PROBLEMS).collect();
    let mut checked = !schemas.is_empty();
    match &stage.validation {
        Validation::Regex { pattern } => match pattern.compiled() {
            Ok(expression) => {
                checked = true;
                if notes.is_empty() && !expression.is_match(text) {
                    reason = "regex";
                    notes.push(format!("the output does not match the expression {}", pattern.as_str()));
                }
            }
            Err(error) => return unusable(&format!("the expression cannot be used: {error}")),
        },
        Validation::None | Validation::JsonSchema { .. } | Validation::Manual => {}
        Validation::Function { .. } | Validation::Llm { .. } => {
            return unusable("this kind of check is not served");
        }
    }
    if notes.is_empty() {
        let result = if stage.validation == Validation::Manual {
            CheckResult::Pending
        } else if checked {
            CheckResult::Pass
        } else {
            CheckResult::Unchecked
        };
        let verdict = Verdict {
            result,
            notes: String::new(),
        };
        return Checked {
            output,
            verdict,
            failure: None,
            cleaned,
        };
    }
    let notes: String = notes.join("; ").chars().take(MAX_NOTES).collect();
    let failure = AttemptFailure::passing(
        FailureClass::Validation,
        reason,
        format!("the output does not pass its check: {notes}"),
    );
    Checked {
        cleaned,
        ..rejected(CheckResult::Fail, notes, failure)
    }
}

fn described(problem: Problem) -> String {
    if problem.pointer.is_empty() {
        problem.description
    } else {
        format!("at {}: {}", problem.pointer, problem.description)
    }
}

fn unusable(message: &str) -> Checked {
    let failure = AttemptFailure::lasting(FailureClass::Validation, "check", message);
    rejected(CheckResult::Error, message.to_owned(), failure)
}

fn rejected(result: CheckResult, notes: String, failure: AttemptFailure) -> Checked {
    Checked {
        output: Value::Null,
        verdict: Verdict { result, notes },
        failure: Some(failure),
        cleaned: false,
    }
}

/// The text without a code fence around all of it.
fn unfenced(text: &str) -> &str {
    let trimmed = text.trim();
    trimmed
        .strip_prefix("```")
        .and_then(|rest| rest.split_once('\n'))
        .and_then(|(_language, rest)| rest.trim_end().strip_suffix("```"))
        .unwrap_or(trimmed)
}

#[cfg(test)]
mod tests;
