//! The rules of every stage, whatever it does.

use std::time::Duration;

use service_kit::error::Violations;

use super::{Surroundings, is_identifier, llm};
use crate::engine::{
    check,
    definition::{Kind, MAX_RETRY_LIMIT, MAX_TIMEOUT, Stage, Validation},
    request,
};

/// The longest regular expression, in characters.
const MAX_PATTERN_CHARS: usize = 1_000;

/// Notes the problems of the stage at a place.
pub(super) fn check(found: &mut Violations, field: &str, around: &Surroundings<'_>, place: usize, stage: &Stage) {
    if stage.retry_limit > MAX_RETRY_LIMIT {
        found.add(
            format!("{field}.retry_limit"),
            format!("must be 0 to {MAX_RETRY_LIMIT}"),
        );
    }
    if stage.timeout == Duration::ZERO || stage.timeout > MAX_TIMEOUT {
        found.add(format!("{field}.timeout"), "must be more than nothing and at most 1 h");
    }
    mapping(found, field, around, place, stage);
    variables(found, field, stage);
    validation(found, &format!("{field}.validation"), &stage.validation);
    let kind = format!("{field}.{}", stage.kind.name());
    match &stage.kind {
        Kind::Llm(it) => llm::check(found, &kind, around, place, stage, it),
        Kind::Retrieve(it) => llm::retrieval(found, &format!("{kind}.retrieval"), around, place, stage, it),
        other => found.add(kind, format!("a stage of the kind {} is not served yet", other.name())),
    }
}

fn mapping(found: &mut Violations, field: &str, around: &Surroundings<'_>, place: usize, stage: &Stage) {
    for (variable, path) in &stage.input_mapping {
        let field = format!("{field}.input_mapping.{variable}");
        if !is_identifier(variable) {
            found.add(
                &*field,
                "a variable's name must be letters, digits and underscores, not starting with a digit",
            );
        } else if request::is_reserved(variable) {
            found.add(&*field, "templates have something else under this name");
        }
        if let Some(problem) = around.path_problem(place, path) {
            found.add(field, problem);
        }
    }
}

fn variables(found: &mut Violations, field: &str, stage: &Stage) {
    for name in stage.output_variables.keys().filter(|it| it.is_empty()) {
        found.add(
            format!("{field}.output_variables.{name}"),
            "a variable must have a name",
        );
    }
}

fn validation(found: &mut Violations, field: &str, validation: &Validation) {
    match validation {
        Validation::None | Validation::Manual(_) => {}
        Validation::Regex { pattern } => {
            let field = format!("{field}.regex.pattern");
            let chars = pattern.as_str().chars().count();
            if chars == 0 || chars > MAX_PATTERN_CHARS {
                found.add(field, format!("must have 1 to {MAX_PATTERN_CHARS} characters"));
            } else if let Err(error) = pattern.compiled() {
                found.add(field, error);
            }
        }
        Validation::JsonSchema { schema } => {
            if let Err(error) = check::Schema::compile(schema) {
                found.add(format!("{field}.json_schema.schema"), error);
            }
        }
        Validation::Function { .. } => not_served(found, field, "function"),
        Validation::Llm { .. } => not_served(found, field, "llm"),
    }
}

fn not_served(found: &mut Violations, field: &str, kind: &str) {
    found.add(
        format!("{field}.{kind}"),
        format!("a check of the kind {kind} is not served yet"),
    );
}
