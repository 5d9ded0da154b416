//! Definitions in the contract's own JSON, with its field names: what diffs compare and files hold.
//!
//! It goes by the contract's descriptors, so a new field of a stage is here by itself. What is read from foreign JSON passes
//! the same reader as a draft; everything in it that the contract does not have is named by its path.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, SerializeOptions};
use serde_json::{Value, json, value::Serializer};
use service_kit::error::Violations;
use studios_proto::execution as proto;

use super::definition;
use crate::engine::definition::Definition;

static DEFINITION: LazyLock<MessageDescriptor> = LazyLock::new(|| {
    studios_proto::descriptors()
        .get_message_by_name(SCHEMA)
        .expect("the contracts have it")
});

/// The name of what a definition is written in.
pub(crate) const SCHEMA: &str = "studios.execution.v1.Definition";

/// A definition as the contract writes it; what holds its default is left out.
pub(crate) fn to_json(definition: Definition) -> Value {
    let encoded = proto::Definition::from(definition).encode_to_vec();
    let message = DynamicMessage::decode(DEFINITION.clone(), encoded.as_slice())
        .expect("what came in by the contract decodes by its descriptor");
    let options = SerializeOptions::new().use_proto_field_name(true);
    message
        .serialize_with_options(Serializer, &options)
        .expect("a message of known types has a JSON form")
}

/// Reads a definition; what is wrong with it is noted under its path, and then what is returned is of no use.
pub(crate) fn from_json(violations: &mut Violations, field: &str, given: &Value) -> Definition {
    let read = DynamicMessage::deserialize(DEFINITION.clone(), given).map_err(|error| error.to_string());
    let read = read.and_then(|it| it.transcode_to().map_err(|error| error.to_string()));
    match read {
        Ok(message) => definition::read(violations, field, &message),
        Err(error) => {
            blame(violations, field, &DEFINITION, given, error);
            Definition::default()
        }
    }
}

/// Notes what in a message that cannot be read is the reason; the message itself, where none of its fields is.
fn blame(violations: &mut Violations, path: &str, descriptor: &MessageDescriptor, given: &Value, error: String) {
    let Value::Object(members) = given else {
        violations.add(path, "must be an object");
        return;
    };
    let mut blamed = false;
    for (name, value) in members {
        let at = format!("{path}.{name}");
        let by_name = descriptor.get_field_by_name(name);
        let Some(field) = by_name.or_else(|| descriptor.get_field_by_json_name(name)) else {
            violations.add(at, "is no field of the contract");
            blamed = true;
            continue;
        };
        let Some(error) = fault(descriptor, &json!({ name: value })) else {
            continue;
        };
        blamed = true;
        match (field.kind(), value) {
            (Kind::Message(inner), Value::Object(_)) if !field.is_map() && is_looked_into(&inner) => {
                blame(violations, &at, &inner, value, error);
            }
            (Kind::Message(inner), Value::Array(items)) if field.is_list() && is_looked_into(&inner) => {
                for (i, item) in items.iter().enumerate() {
                    if let Some(error) = fault(&inner, item) {
                        blame(violations, &format!("{at}[{i}]"), &inner, item, error);
                    }
                }
            }
            _ => violations.add(at, error),
        }
    }
    if !blamed {
        violations.add(path, error);
    }
}

/// Why something is no such message, if it is not.
fn fault(descriptor: &MessageDescriptor, given: &Value) -> Option<String> {
    DynamicMessage::deserialize(descriptor.clone(), given)
        .err()
        .map(|error| error.to_string())
}

/// Protobuf's own messages have JSON of their own.
fn is_looked_into(descriptor: &MessageDescriptor) -> bool {
    !descriptor.full_name().starts_with("google.protobuf.")
}

#[cfg(test)]
mod tests {
    use service_kit::error::Error;

    use super::*;

    fn wrong(given: &Value) -> Vec<String> {
        let mut violations = Violations::new();
        from_json(&mut violations, "d", given);
        match violations.finish() {
            Err(Error::Invalid(found)) => found.into_iter().map(|it| it.field).collect(),
            _ => panic!("not refused"),
        }
    }

    #[test]
    fn a_definition_reads_back_as_it_was_written() {
        let written = json!({
            "stages": [
                {"name": "a", "llm": {"model": "m", "prompt": "p", "response_schema": {"type": "object"}},
                 "output_variables": {"n": "integer"}, "retry_limit": 2, "timeout": "1.500s"},
                {"name": "b", "retrieve": {"retrieval": {"query": "q"}}, "timeout": "120s",
                 "validation": {"manual": {}}, "next_on_fail": "a"},
            ],
            "transition_limit": 7,
        });
        let mut violations = Violations::new();
        let definition = from_json(&mut violations, "d", &written);
        violations.finish().unwrap();
        let again = to_json(definition);
        assert_eq!(again["stages"][1], written["stages"][1]);
        assert_eq!(
            again["stages"][0]["output_variables"],
            written["stages"][0]["output_variables"]
        );
        assert_eq!(again["transition_limit"], 7);
    }

    #[test]
    fn everything_that_the_contract_does_not_have_is_named_by_its_path() {
        let given = json!({
            "stages": [
                {"name": 7, "llm": {"model": "m", "colour": "red", "retrieval": {"limit": "many"}}},
                {"name": "b", "timeout": "soon", "wait": {}},
                {"name": "c", "llm": {}, "wait": {}},
                "d",
            ],
            "speed": 3,
            "input_schema": [],
        });
        let mut named = wrong(&given);
        named.sort();
        assert_eq!(
            named,
            [
                "d.input_schema",
                "d.speed",
                "d.stages[0].llm.colour",
                "d.stages[0].llm.retrieval.limit",
                "d.stages[0].name",
                "d.stages[1].timeout",
                "d.stages[2]",
                "d.stages[3]",
            ]
        );
    }

    #[test]
    fn what_a_draft_may_not_say_a_file_may_not_say_either() {
        let given = json!({"stages": [{"name": "a"}, {"name": "b\u{0}", "wait": {}, "retry_limit": -1}]});
        assert_eq!(
            wrong(&given),
            ["d.stages[0].kind", "d.stages[1].name", "d.stages[1].retry_limit"]
        );
        assert_eq!(wrong(&json!(null)), ["d"]);
    }
}
