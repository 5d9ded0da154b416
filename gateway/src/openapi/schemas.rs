//! JSON Schemas of the contracts' messages and enums, by protobuf's JSON mapping.
//!
//! They do not forbid further properties: a client must not break at a field that is added one day.

use std::collections::BTreeMap;

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use prost_types::FieldOptions;
use serde_json::{Map, Value, json};

use super::{comments, well_known};

/// The schemas that were referred to so far, by the full name of what they describe.
#[derive(Debug, Default)]
pub(super) struct Schemas(BTreeMap<String, Value>);

impl Schemas {
    /// Refers to a message.
    pub(super) fn message(&mut self, message: &MessageDescriptor) -> Value {
        let name = message.full_name();
        if !self.0.contains_key(name) {
            // There before its fields are looked at: a message may hold itself.
            self.0.insert(name.to_owned(), Value::Null);
            let schema = well_known::schema(name).unwrap_or_else(|| self.fields(message));
            self.0.insert(name.to_owned(), schema);
        }
        reference(name)
    }

    /// All of them, and Connect's error.
    pub(super) fn finish(mut self) -> Map<String, Value> {
        self.0.insert("connect.Error".into(), well_known::error());
        self.0.into_iter().collect()
    }

    fn enumeration(&mut self, enumeration: &EnumDescriptor) -> Value {
        let name = enumeration.full_name();
        if name == "google.protobuf.NullValue" {
            return json!({ "type": "null" });
        }
        if !self.0.contains_key(name) {
            let file = enumeration.parent_file();
            let mut description = comments::of(&file, enumeration.path());
            for value in enumeration.values() {
                let comment = comments::of(&file, value.path());
                let gap = if value.number() == 0 { "\n\n" } else { "\n" };
                description.extend([gap, "- `", value.name(), "`: ", &comment]);
            }
            let names: Vec<_> = enumeration.values().map(|it| it.name().to_owned()).collect();
            let schema = json!({ "type": "string", "enum": names, "description": description });
            self.0.insert(name.to_owned(), schema);
        }
        reference(name)
    }

    fn fields(&mut self, message: &MessageDescriptor) -> Value {
        let properties: Map<_, _> = message
            .fields()
            .map(|field| (field.json_name().to_owned(), self.field(&field)))
            .collect();
        let mut schema = json!({ "type": "object", "properties": properties });
        let comment = comments::of(&message.parent_file(), message.path());
        if !comment.is_empty() {
            schema["description"] = comment.into();
        }
        let choices: Vec<_> = message
            .oneofs()
            .filter(|oneof| !oneof.is_synthetic())
            .map(|oneof| at_most_one(oneof.fields()))
            .collect();
        if !choices.is_empty() {
            schema["allOf"] = choices.into();
        }
        schema
    }

    fn field(&mut self, field: &FieldDescriptor) -> Value {
        let mut schema = self.shape(field);
        let comment = comments::of(&field.parent_message().parent_file(), field.path());
        if !comment.is_empty() {
            schema["description"] = comment.into();
        }
        let options = field.field_descriptor_proto().options.as_ref();
        if options.is_some_and(FieldOptions::deprecated) {
            schema["deprecated"] = true.into();
        }
        schema
    }

    fn shape(&mut self, field: &FieldDescriptor) -> Value {
        match field.kind() {
            Kind::Message(entry) if field.is_map() => {
                let values = self.value(&entry.map_entry_value_field().kind());
                json!({ "type": "object", "additionalProperties": values })
            }
            kind if field.is_list() => json!({ "type": "array", "items": self.value(&kind) }),
            kind => self.value(&kind),
        }
    }

    fn value(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::Message(message) => self.message(message),
            Kind::Enum(enumeration) => self.enumeration(enumeration),
            Kind::Bool => json!({ "type": "boolean" }),
            Kind::String => json!({ "type": "string" }),
            Kind::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
            Kind::Double => floating("double"),
            Kind::Float => floating("float"),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => json!({ "type": "integer", "format": "int32" }),
            Kind::Uint32 | Kind::Fixed32 => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
                json!({ "type": "string", "format": "int64", "pattern": "^-?[0-9]+$" })
            }
            Kind::Uint64 | Kind::Fixed64 => json!({ "type": "string", "format": "uint64", "pattern": "^[0-9]+$" }),
        }
    }
}

/// A floating-point number; JSON has no number for what is none.
pub(super) fn floating(format: &str) -> Value {
    json!({ "anyOf": [{ "type": "number", "format": format }, { "enum": ["NaN", "Infinity", "-Infinity"] }] })
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// At most one field of a oneof is there.
fn at_most_one(fields: impl Iterator<Item = FieldDescriptor>) -> Value {
    let alone: Vec<_> = fields.map(|field| json!({ "required": [field.json_name()] })).collect();
    let none = json!({ "not": { "anyOf": alone } });
    let choices: Vec<_> = alone.into_iter().chain([none]).collect();
    json!({ "oneOf": choices })
}
