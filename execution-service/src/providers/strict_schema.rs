//! The subset of JSON Schema that OpenAI's structured outputs keep to the letter ("Structured model outputs", supported
//! schemas). A schema outside it is not sent as a schema; the model is asked for JSON and the answer is checked by us.

use serde_json::{Map, Value};

const KEYWORDS: [&str; 20] = [
    "$defs",
    "$ref",
    "additionalProperties",
    "anyOf",
    "const",
    "description",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "items",
    "maxItems",
    "maximum",
    "minItems",
    "minimum",
    "multipleOf",
    "pattern",
    "properties",
    "required",
    "title",
];
const FORMATS: [&str; 9] = [
    "date",
    "date-time",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "time",
    "uuid",
];
const TYPES: [&str; 7] = ["array", "boolean", "integer", "null", "number", "object", "string"];

const MAX_LEVELS: usize = 10;
const MAX_PROPERTIES: usize = 5_000;
const MAX_BYTES: usize = 120_000;

/// Whether the provider will keep to the schema.
pub(super) fn is_strict(schema: &Value) -> bool {
    let mut properties = 0;
    schema.get("type").is_some_and(|name| name == "object")
        && schema.get("anyOf").is_none()
        && schema.to_string().len() <= MAX_BYTES
        && fits(schema, 0, &mut properties)
}

/// What Anthropic's structured outputs do not take of that ("Structured outputs", JSON Schema limitations).
const LIMITS: [&str; 6] = [
    "exclusiveMaximum",
    "exclusiveMinimum",
    "maxItems",
    "maximum",
    "minimum",
    "multipleOf",
];

/// Whether it is a schema as [`is_strict`] that sets no limits to values either. References could lead a schema into
/// itself, which is refused there.
pub(super) fn is_plain(schema: &Value) -> bool {
    fn is_free(value: &Value) -> bool {
        match value {
            Value::Object(members) => members.iter().all(|(name, value)| {
                !LIMITS.contains(&name.as_str())
                    && name != "$ref"
                    && name != "pattern"
                    && (name != "minItems" || value.as_u64().is_some_and(|it| it <= 1))
                    && is_free(value)
            }),
            Value::Array(items) => items.iter().all(is_free),
            _ => true,
        }
    }
    is_strict(schema) && is_free(schema)
}

fn fits(schema: &Value, level: usize, properties: &mut usize) -> bool {
    let Value::Object(members) = schema else { return false };
    let of = |name: &str| members.get(name);
    let is_known = |name: &String| name == "type" || KEYWORDS.binary_search(&name.as_str()).is_ok();
    let shape = ["type", "$ref", "anyOf", "enum", "const"];
    let mut all = |inner: Option<&Map<String, Value>>, level: usize| {
        inner.is_none_or(|inner| inner.values().all(|schema| fits(schema, level, properties)))
    };
    level <= MAX_LEVELS
        && members.keys().all(is_known)
        && shape.iter().any(|name| members.contains_key(*name))
        && of("type").is_none_or(has_types)
        && of("format").is_none_or(|name| name.as_str().is_some_and(|name| FORMATS.binary_search(&name).is_ok()))
        && of("$ref").is_none_or(|to| to.as_str().is_some_and(|to| to.starts_with('#')))
        && all(of("$defs").and_then(Value::as_object), level)
        && all(of("properties").and_then(Value::as_object), level + 1)
        && of("anyOf").is_none_or(|of| {
            of.as_array()
                .is_some_and(|of| of.iter().all(|schema| fits(schema, level + 1, properties)))
        })
        && of("items").is_none_or(|items| fits(items, level + 1, properties))
        && is_closed(members, properties)
}

fn has_types(types: &Value) -> bool {
    let is_type = |name: &Value| name.as_str().is_some_and(|name| TYPES.binary_search(&name).is_ok());
    types.as_array().map_or_else(
        || is_type(types),
        |names| !names.is_empty() && names.iter().all(is_type),
    )
}

/// An object must name all its properties as required and allow no others; a list must say what it holds.
fn is_closed(schema: &Map<String, Value>, properties: &mut usize) -> bool {
    let includes = |name: &str| match schema.get("type") {
        Some(Value::Array(names)) => names.iter().any(|it| it == name),
        Some(one) => one == name,
        None => false,
    };
    if includes("array") && !schema.contains_key("items") {
        return false;
    }
    if !includes("object") {
        return true;
    }
    let named = schema.get("properties").and_then(Value::as_object);
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    *properties += named.map_or(0, Map::len);
    *properties <= MAX_PROPERTIES
        && schema.get("additionalProperties") == Some(&Value::Bool(false))
        && named.is_some_and(|named| {
            named.len() == required.len() && named.keys().all(|name| required.contains(&name.as_str()))
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(properties: &Value) -> Value {
        let names: Vec<&String> = properties.as_object().unwrap().keys().collect();
        json!({"type": "object", "properties": properties, "required": names, "additionalProperties": false})
    }

    #[test]
    fn tables_are_in_order_so_that_they_can_be_searched() {
        assert!(KEYWORDS.is_sorted() && FORMATS.is_sorted() && TYPES.is_sorted());
    }

    #[test]
    fn closed_objects_of_known_keywords_are_strict() {
        assert!(is_strict(&object(&json!({
            "a": {"type": ["string", "null"], "pattern": "^x", "description": "d"},
            "b": {"type": "array", "items": {"$ref": "#/$defs/x"}, "minItems": 1},
            "c": {"anyOf": [{"const": 1}, {"enum": ["x"]}]},
            "d": object(&json!({"e": {"type": "number", "minimum": 1}}))
        }))));
        assert!(is_strict(&object(&json!({}))));
    }

    #[test]
    fn a_plain_schema_sets_no_limits_to_values() {
        assert!(is_plain(&object(&json!({
            "a": {"type": "array", "items": {"type": "string"}, "minItems": 1},
            "b": {"enum": ["x"]}
        }))));
        for limited in [
            json!({"type": "number", "minimum": 1}),
            json!({"type": "array", "items": {"type": "string"}, "minItems": 2}),
            json!({"type": "string", "pattern": "^x"}),
            json!({"$ref": "#"}),
        ] {
            let schema = object(&json!({ "a": limited }));
            assert!(is_strict(&schema) && !is_plain(&schema), "{schema}");
        }
    }

    #[test]
    fn everything_else_is_not() {
        let mut deep = json!({"type": "string"});
        for _ in 0..=MAX_LEVELS {
            deep = object(&json!({"a": deep}));
        }
        for schema in [
            json!({"type": "string"}),
            json!(true),
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}),
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": [], "additionalProperties": false}),
            object(&json!({"a": {"type": "string", "minLength": 1}})),
            object(&json!({"a": {"type": "string", "format": "uri"}})),
            object(&json!({"a": {"type": "text"}})),
            object(&json!({"a": {"type": "array"}})),
            object(&json!({"a": {}})),
            object(&json!({"a": {"$ref": "https://example.org/s"}})),
            object(&json!({"a": {"oneOf": []}})),
            object(&json!({"a": {"type": ["object", "null"]}})),
            json!({"type": "object", "anyOf": [], "properties": {}, "required": [], "additionalProperties": false}),
            deep,
        ] {
            assert!(!is_strict(&schema), "{schema}");
        }
    }
}
