//! The rules of checks.

use service_kit::error::Violations;

use super::{Surroundings, cel, llm, people};
use crate::engine::{
    check,
    definition::{Judge, Stage, Validation},
    functions::Function,
    judge, template,
};

/// The longest regular expression, in characters.
const MAX_PATTERN_CHARS: usize = 1_000;
/// The longest criteria, in characters.
const MAX_CRITERIA_CHARS: usize = 10_000;

/// Notes the problems of the check of the stage at a place.
pub(super) fn check(found: &mut Violations, field: &str, around: &Surroundings<'_>, place: usize, stage: &Stage) {
    match &stage.validation {
        Validation::None => {}
        Validation::Manual(policy) => people::policy(found, &format!("{field}.manual.policy"), policy),
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
        Validation::Function {
            name,
            arguments,
            cel: condition,
        } => {
            let field = format!("{field}.function");
            if name.is_empty() && condition.is_empty() {
                found.add(&*field, "must have the name of a check, a condition, or both");
            }
            if !name.is_empty()
                && let Err(error) = Function::parse(name, arguments)
            {
                found.add(format!("{field}.name"), error);
            } else if name.is_empty() && !arguments.is_empty() {
                found.add(format!("{field}.arguments"), "are of a named check");
            }
            if !condition.is_empty() {
                let mut given = vec!["output", "text", "sources"];
                if around.flow.is_body(place) {
                    given.extend(["item", "index"]);
                }
                cel::check(found, &format!("{field}.cel"), around, place, &given, condition);
            }
        }
        Validation::Llm(judge) => judged(found, &format!("{field}.llm"), around, judge),
    }
}

fn judged(found: &mut Violations, field: &str, around: &Surroundings<'_>, judge: &Judge) {
    llm::named(found, &format!("{field}.model"), around, &judge.model);
    let chars = judge.criteria.chars().count();
    if judge.criteria.trim().is_empty() || chars > MAX_CRITERIA_CHARS {
        found.add(
            format!("{field}.criteria"),
            format!("must have 1 to {MAX_CRITERIA_CHARS} characters"),
        );
    }
    if judge.threshold.is_some_and(|it| !(0.0..=1.0).contains(&it)) {
        found.add(format!("{field}.threshold"), "must be 0 to 1");
    }
    let Some(prompt) = &judge.prompt else { return };
    match template::variables(prompt) {
        Err(error) => found.add(format!("{field}.prompt"), error.to_string()),
        Ok(names) => {
            for name in names.iter().filter(|it| !judge::VARIABLES.contains(&&***it)) {
                found.add(
                    format!("{field}.prompt"),
                    format!(
                        "nothing supplies {{{{ {name} }}}}: there are {}",
                        judge::VARIABLES.join(", ")
                    ),
                );
            }
        }
    }
}
