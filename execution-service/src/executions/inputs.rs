//! Whether the inputs of a start are what the version's schema takes; every wrong one is named by its field.

use jsonschema::{
    ValidationError,
    error::ValidationErrorKind,
    paths::{Location, LocationSegment},
};
use serde_json::{Map, Value};
use service_kit::error::{Error, Result, Violations};

use crate::engine::check::Schema;

/// How many wrong fields are named.
const MAX_VIOLATIONS: usize = 100;

/// How deep inputs may be nested: a schema that refers to itself twice costs twice as much with every level.
const MAX_DEPTH: usize = 16;

/// Refuses inputs that do not fit; without a schema any object fits.
pub(crate) fn check(schema: Option<&Value>, inputs: &Map<String, Value>) -> Result<()> {
    if inputs.values().any(|value| is_deeper(value, MAX_DEPTH)) {
        let description = format!("must not be nested deeper than {MAX_DEPTH} levels");
        return Err(Error::invalid("inputs", description));
    }
    let Some(schema) = schema else { return Ok(()) };
    let schema =
        Schema::compile(schema).map_err(|error| Error::internal(format!("a published input schema: {error}")))?;
    let mut violations = Violations::new();
    for error in schema.errors(&Value::Object(inputs.clone())).take(MAX_VIOLATIONS) {
        note(&mut violations, &error);
    }
    violations.finish()
}

fn is_deeper(value: &Value, levels: usize) -> bool {
    let Some(left) = levels.checked_sub(1) else { return true };
    match value {
        Value::Array(items) => items.iter().any(|it| is_deeper(it, left)),
        Value::Object(members) => members.values().any(|it| is_deeper(it, left)),
        _ => false,
    }
}

fn note(violations: &mut Violations, error: &ValidationError<'_>) {
    let place = field(error.instance_path());
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            violations.add(
                format!("{place}.{}", property.as_str().unwrap_or_default()),
                "is required",
            );
        }
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            for name in unexpected {
                violations.add(format!("{place}.{name}"), "is not an input of this workflow");
            }
        }
        _ => violations.add(place, error.masked_with("it").to_string()),
    }
}

fn field(path: &Location) -> String {
    path.segments()
        .fold("inputs".to_owned(), |field, segment| match segment {
            LocationSegment::Property(name) => format!("{field}.{name}"),
            LocationSegment::Index(index) => format!("{field}[{index}]"),
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(schema: &Value, inputs: &Value) -> Vec<String> {
        match check(Some(schema), inputs.as_object().unwrap()) {
            Ok(()) => Vec::new(),
            Err(Error::Invalid(violations)) => violations.into_iter().map(|it| it.field).collect(),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn every_wrong_input_is_named() {
        let schema = json!({
            "type": "object",
            "required": ["topic", "documents"],
            "additionalProperties": false,
            "properties": {
                "topic": {"type": "string", "minLength": 3},
                "documents": {"type": "array", "items": {"type": "object", "required": ["id"]}},
                "count": {"type": "integer"},
            },
        });
        let good = json!({"topic": "tea", "documents": [{"id": 1}], "count": 2});
        assert!(fields(&schema, &good).is_empty());
        let mut wrong = fields(
            &schema,
            &json!({"topic": "x", "documents": [{"id": 1}, {}], "count": "2", "extra": 1}),
        );
        wrong.sort();
        assert_eq!(
            wrong,
            ["inputs.count", "inputs.documents[1].id", "inputs.extra", "inputs.topic"]
        );
        assert_eq!(fields(&schema, &json!({})), ["inputs.topic", "inputs.documents"]);
    }

    #[test]
    fn a_schema_that_doubles_itself_with_every_level_meets_no_deep_inputs() {
        let schema = json!({ "allOf": [{ "properties": { "x": { "$ref": "#" } } }, { "properties": { "x": { "$ref": "#" } } }] });
        let nested = |levels| (0..levels).fold(json!(1), |inner, _| json!({ "x": inner }));
        assert_eq!(fields(&schema, &nested(60)), ["inputs"]);
        assert!(fields(&schema, &nested(8)).is_empty());
    }

    #[test]
    fn without_a_schema_any_object_fits() {
        assert!(check(None, &Map::new()).is_ok());
    }

    #[test]
    fn a_value_is_not_repeated() {
        let schema = json!({"properties": {"secret": {"type": "integer"}}});
        let Err(Error::Invalid(violations)) = check(Some(&schema), json!({"secret": "hush"}).as_object().unwrap())
        else {
            panic!("refused");
        };
        assert!(
            !violations[0].description.contains("hush"),
            "{}",
            violations[0].description
        );
    }
}
