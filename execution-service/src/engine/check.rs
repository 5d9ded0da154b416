//! Whether an output is as its stage wants it, and what later stages see of it.
//!
//! A model's answer is text; it becomes JSON where the stage asks for JSON (a response schema, output variables or a check
//! against a schema), a code fence around it allowed. Checks are linear in the output (no backtracking, size-limited
//! expressions), read nothing but the output, and reach nothing outside: references in schemas resolve within them alone.

use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::{Map, Value, json};

use super::{
    cel::{Expression, Scope, Variable},
    context::Context,
    definition::{Kind, Stage, Validation},
    failure::FailureClass,
    functions::Function,
    journal::{AttemptFailure, CheckResult, Source, Verdict},
    pattern::MAX_REGEX_BYTES,
};
use crate::providers::clean;

pub use demands::Demands;

mod demands;
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

/// What a check may look at beside the output.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen<'a> {
    /// The inputs and the outputs of earlier stages.
    pub context: Option<&'a Context<'a>>,
    /// The chunks that the prompt was given.
    pub sources: &'a [Source],
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
        Validation::None | Validation::Manual(_) | Validation::Regex { .. }
    );
    is_plain && !wants_json(stage) && text.len() <= LIGHT_BYTES
}

/// Checks a model's answer.
pub fn answer(stage: &Stage, text: &str, seen: Seen<'_>) -> Checked {
    if !wants_json(stage) {
        return finish(stage, Value::from(text), text, false, seen);
    }
    match clean::parse_json(unfenced(text)) {
        Ok((output, cleaned)) => finish(stage, output, text, cleaned, seen),
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

/// What to tell a model whose answer is no JSON, or not as the schema wants it that it was given: it may then get it right.
/// Nothing where that is not what is wrong.
pub fn correctable<'c>(stage: &Stage, checked: &'c Checked) -> Option<&'c str> {
    let failure = checked.failure.as_ref().filter(|_| asks_for_json(stage))?;
    let is_form = matches!(failure.reason.as_str(), "not_json" | "schema");
    is_form.then_some(&checked.verdict.notes)
}

/// Checks an output that is JSON already. `text` is what an expression is looked for in.
pub fn value(stage: &Stage, output: Value, text: &str, seen: Seen<'_>) -> Checked {
    finish(stage, output, text, false, seen)
}

/// What is wrong with an output that a person puts in the place of one that waits: the form is what its stage demands of any.
pub fn edited(stage: &Stage, output: &Value) -> Vec<Problem> {
    let Ok(schemas) = stage.demands.of(stage) else {
        return Vec::new();
    };
    let problems = schemas.iter().flat_map(|it| it.problems(output));
    problems.take(MAX_PROBLEMS).collect()
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

fn finish(stage: &Stage, output: Value, text: &str, cleaned: bool, seen: Seen<'_>) -> Checked {
    let schemas = match stage.demands.of(stage) {
        Ok(schemas) => schemas,
        Err(error) => return unusable(&format!("the schema cannot be used: {error}")),
    };
    let problems: Vec<_> = schemas.iter().flat_map(|it| it.problems(&output)).collect();
    let mut reason = "schema";
    let mut notes: Vec<String> = problems.into_iter().map(described).take(MAX_PROBLEMS).collect();
    let mut result = if schemas.is_empty() {
        CheckResult::Unchecked
    } else {
        CheckResult::Pass
    };
    if notes.is_empty() {
        match ruled(&stage.validation, &output, text, seen) {
            Ok(None) => {}
            Ok(Some(ruling)) => result = ruling,
            Err(Ruled::Fails(why, said)) => {
                reason = why;
                notes.push(said);
            }
            Err(Ruled::Unusable(message)) => return unusable(&message),
        }
    }
    if notes.is_empty() {
        let verdict = Verdict {
            result,
            notes: String::new(),
        };
        let failure = matches!(stage.validation, Validation::Llm(_)).then(unjudged);
        return Checked {
            output,
            verdict,
            failure,
            cleaned,
        };
    }
    let notes: String = notes.join("; ").chars().take(MAX_NOTES).collect();
    Checked {
        cleaned,
        ..refused(reason, notes)
    }
}

/// Why a check does not let an output pass.
enum Ruled {
    /// By its reason, with its notes.
    Fails(&'static str, String),
    /// It could not be made.
    Unusable(String),
}

/// What a check, other than against a schema, says of an output; nothing if there is none.
fn ruled(validation: &Validation, output: &Value, text: &str, seen: Seen<'_>) -> Result<Option<CheckResult>, Ruled> {
    match validation {
        Validation::None | Validation::JsonSchema { .. } | Validation::Llm(_) => Ok(None),
        Validation::Manual(_) => Ok(Some(CheckResult::Pending)),
        Validation::Regex { pattern } => match pattern.compiled() {
            Ok(expression) if expression.is_match(text) => Ok(Some(CheckResult::Pass)),
            Ok(_) => {
                let notes = format!("the output does not match the expression {}", pattern.as_str());
                Err(Ruled::Fails("regex", notes))
            }
            Err(error) => Err(Ruled::Unusable(format!("the expression cannot be used: {error}"))),
        },
        Validation::Function { name, arguments, cel } => {
            if !name.is_empty() {
                let function = Function::parse(name, arguments);
                let function =
                    function.map_err(|error| Ruled::Unusable(format!("the function cannot be used: {error}")))?;
                let checked = function.check(output, text, seen.sources);
                checked.map_err(|notes| Ruled::Fails("function", notes))?;
            }
            if !cel.is_empty() {
                condition(cel, output, text, seen)?;
            }
            Ok(Some(CheckResult::Pass))
        }
    }
}

fn condition(cel: &Expression, output: &Value, text: &str, seen: Seen<'_>) -> Result<(), Ruled> {
    let sources: Value = if cel.as_str().contains("sources") {
        seen.sources.iter().map(|it| json!(it)).collect()
    } else {
        Value::Null
    };
    let scope = seen.context.map_or_else(Scope::default, Scope::of);
    let scope = scope
        .with("output", Variable::Json(output))
        .with("text", Variable::Text(text))
        .with("sources", Variable::Json(&sources));
    match cel.holds(&scope) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Ruled::Fails(
            "function",
            format!("the output does not fulfil {}", cel.as_str()),
        )),
        Err(error) => {
            let message = format!("the condition {} cannot be used: {error}", cel.as_str());
            Err(Ruled::Unusable(message))
        }
    }
}

impl Checked {
    /// Whether another model has to judge it, by [`judge`](super::judge): until then it fails.
    pub fn is_to_judge(&self) -> bool {
        self.failure.as_ref().is_some_and(|it| it.reason == UNJUDGED)
    }

    /// The same once it was judged.
    #[must_use]
    pub fn judged(self, ruling: Result<Verdict, AttemptFailure>) -> Self {
        match ruling {
            Ok(verdict) if verdict.result == CheckResult::Pass => Self {
                verdict,
                failure: None,
                ..self
            },
            Ok(verdict) => refused("judge", verdict.notes),
            Err(failure) => rejected(CheckResult::Error, failure.message.clone(), failure),
        }
    }
}

/// The reason of a failure that stands until a model has judged.
const UNJUDGED: &str = "not_judged";

fn unjudged() -> AttemptFailure {
    AttemptFailure::lasting(FailureClass::Validation, UNJUDGED, "no model has judged the output")
}

fn refused(reason: &str, notes: String) -> Checked {
    let failure = AttemptFailure::passing(
        FailureClass::Validation,
        reason,
        format!("the output does not pass its check: {notes}"),
    );
    rejected(CheckResult::Fail, notes, failure)
}

/// A problem in words, with its place.
pub(super) fn described(problem: Problem) -> String {
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
pub(super) fn unfenced(text: &str) -> &str {
    let trimmed = text.trim();
    trimmed
        .strip_prefix("```")
        .and_then(|rest| rest.split_once('\n'))
        .and_then(|(_language, rest)| rest.trim_end().strip_suffix("```"))
        .unwrap_or(trimmed)
}

#[cfg(test)]
mod tests;
