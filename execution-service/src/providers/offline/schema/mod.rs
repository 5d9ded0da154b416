//! JSON Schemas that the offline model fills: which keywords it knows, and what a schema says.
//!
//! A keyword that is not in [`SUPPORTED_KEYWORDS`] is refused by name and place, never ignored: an answer that only seems to fit
//! would be worse than none. What is filled always satisfies the schema; `fill` says how values are found.

mod fill;
mod lists;
mod numbers;
mod scope;
mod strings;

use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};

pub(super) use self::fill::{Limits, Unfilled, fill};

/// Every JSON Schema keyword that the offline model knows (draft 2020-12, and `definitions` from before).
///
/// - `type`, `const`, `enum`, `anyOf` (the first that can be filled), `$ref` to a place in the same schema, `$defs`, `definitions`;
/// - objects: `properties`, `required`, `additionalProperties` (nothing is ever added);
/// - lists: `items`, `minItems`, `maxItems`, `uniqueItems` (nothing is ever listed twice);
/// - texts: `minLength`, `maxLength`, `pattern`, and `format` with `date`, `date-time`, `email`, `time`, `uri` or `uuid`;
/// - numbers: `minimum`, `maximum`, `exclusiveMinimum`, `exclusiveMaximum`, `multipleOf`;
/// - `title` and `description`, which say what to look for; the other annotations are allowed and mean nothing here.
pub const SUPPORTED_KEYWORDS: [&str; 33] = [
    "$comment",
    "$defs",
    "$id",
    "$ref",
    "$schema",
    "additionalProperties",
    "anyOf",
    "const",
    "default",
    "definitions",
    "deprecated",
    "description",
    "enum",
    "examples",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maximum",
    "minItems",
    "minLength",
    "minimum",
    "multipleOf",
    "pattern",
    "properties",
    "readOnly",
    "required",
    "title",
    "type",
    "uniqueItems",
    "writeOnly",
];

/// The values of `format` that the offline model knows.
pub(super) const FORMATS: [&str; 6] = ["date", "date-time", "email", "time", "uri", "uuid"];

const ANNOTATIONS: [&str; 12] = [
    "$comment",
    "$defs",
    "$id",
    "$schema",
    "default",
    "definitions",
    "deprecated",
    "description",
    "examples",
    "readOnly",
    "title",
    "writeOnly",
];
const TYPES: [&str; 7] = ["array", "boolean", "integer", "null", "number", "object", "string"];

/// The most levels of schemas in schemas, references followed.
const MAX_DEPTH: usize = 24;

/// The most memory, in bytes, that a compiled expression may take.
const MAX_EXPRESSION_BYTES: usize = 1 << 20;

/// What in a schema the offline model cannot fill, as `keyword at place`, in the schema's order; empty where it can be tried.
pub fn unsupported_keywords(schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(schema, schema, "#", 0, &mut found);
    found
}

fn check(root: &Value, schema: &Value, place: &str, depth: usize, found: &mut Vec<String>) {
    let Value::Object(members) = schema else {
        if !schema.is_boolean() {
            found.push(format!("not a schema at {place}"));
        }
        return;
    };
    if depth > MAX_DEPTH {
        found.push(format!("nesting deeper than {MAX_DEPTH} at {place}"));
        return;
    }
    let mut refuse = |what: &str| found.push(format!("{what} at {place}"));
    for (keyword, value) in members {
        if let Some(what) = refused(root, members, keyword, value) {
            refuse(&what);
        }
    }
    for group in ["properties", "$defs", "definitions"] {
        for (name, inner) in members.get(group).and_then(Value::as_object).into_iter().flatten() {
            check(root, inner, &format!("{place}/{group}/{name}"), depth + 1, found);
        }
    }
    for (at, inner) in members
        .get("anyOf")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .enumerate()
    {
        check(root, inner, &format!("{place}/anyOf/{at}"), depth + 1, found);
    }
    for keyword in ["items", "additionalProperties"] {
        if let Some(inner) = members.get(keyword).filter(|inner| inner.is_object()) {
            check(root, inner, &format!("{place}/{keyword}"), depth + 1, found);
        }
    }
}

/// Why a keyword with this value cannot be filled, if so.
fn refused(root: &Value, members: &Map<String, Value>, keyword: &str, value: &Value) -> Option<String> {
    if SUPPORTED_KEYWORDS.binary_search(&keyword).is_err() {
        return Some(keyword.to_owned());
    }
    let beside = || {
        let other = members
            .keys()
            .find(|key| key.as_str() != keyword && ANNOTATIONS.binary_search(&key.as_str()).is_err());
        other.map(|other| format!("{keyword} beside {other}"))
    };
    match (keyword, value) {
        ("$ref", Value::String(reference)) => match target(root, reference) {
            Some(_) => beside(),
            None => Some(format!("$ref to {reference}")),
        },
        ("anyOf", Value::Array(_)) => beside(),
        ("type", Value::String(name)) => (!is_type(name)).then(|| format!("type {name}")),
        ("type", Value::Array(names)) => {
            let bad = names.iter().find(|name| !name.as_str().is_some_and(is_type));
            bad.map(|name| format!("type {name}"))
        }
        ("format", Value::String(name)) => FORMATS
            .binary_search(&name.as_str())
            .is_err()
            .then(|| format!("format {name}")),
        ("pattern", Value::String(pattern)) => expression(pattern).is_none().then(|| format!("pattern {pattern}")),
        ("items", Value::Array(_)) => Some("items as a list".to_owned()),
        ("properties" | "$defs" | "definitions", Value::Object(_)) => None,
        ("$ref" | "anyOf" | "type" | "format" | "pattern" | "properties" | "$defs" | "definitions", _) => {
            Some(format!("{keyword} that is {value}"))
        }
        _ => None,
    }
}

fn is_type(name: &str) -> bool {
    TYPES.binary_search(&name).is_ok()
}

/// The expression, if it can be compiled to a sensible size.
fn expression(pattern: &str) -> Option<Regex> {
    RegexBuilder::new(pattern).size_limit(MAX_EXPRESSION_BYTES).build().ok()
}

/// What a reference within the schema refers to.
fn target<'s>(root: &'s Value, reference: &str) -> Option<&'s Value> {
    root.pointer(reference.strip_prefix('#')?)
}

/// The schema with its references followed; `None` where they go in a circle.
fn resolve<'s>(root: &'s Value, schema: &'s Value) -> Option<&'s Value> {
    let mut schema = schema;
    for _ in 0..MAX_DEPTH {
        match schema.get("$ref").and_then(Value::as_str) {
            Some(reference) => schema = target(root, reference)?,
            None => return Some(schema),
        }
    }
    None
}

/// The types that a schema allows, in its order; by its other keywords where it does not say.
fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ if schema.get("properties").is_some() => vec!["object"],
        _ if schema.get("items").is_some() => vec!["array"],
        _ if [
            "minimum",
            "maximum",
            "exclusiveMinimum",
            "exclusiveMaximum",
            "multipleOf",
        ]
        .iter()
        .any(|key| schema.get(key).is_some()) =>
        {
            vec!["number"]
        }
        _ => vec!["string"],
    }
}

/// A keyword that is a count.
fn size(schema: &Value, keyword: &str) -> Option<usize> {
    let value = schema.get(keyword)?;
    // JSON Schema allows 3.0 for 3.
    let whole = value.as_u64().or_else(|| {
        value
            .as_f64()
            .filter(|v| v.fract() == 0.0)
            .and_then(|v| format!("{v}").parse().ok())
    })?;
    usize::try_from(whole).ok()
}

fn text<'s>(schema: &'s Value, keyword: &str) -> &'s str {
    schema.get(keyword).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tables_are_in_order_so_that_they_can_be_searched() {
        assert!(SUPPORTED_KEYWORDS.is_sorted() && FORMATS.is_sorted() && ANNOTATIONS.is_sorted() && TYPES.is_sorted());
        assert!(ANNOTATIONS.iter().all(|keyword| SUPPORTED_KEYWORDS.contains(keyword)));
    }

    #[test]
    fn a_schema_of_known_keywords_has_nothing_to_refuse() {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "required": ["a"], "additionalProperties": false,
            "properties": {
                "a": {"type": ["string", "null"], "minLength": 1, "maxLength": 9, "pattern": "^x", "format": "date"},
                "b": {"type": "array", "items": {"$ref": "#/$defs/point"}, "minItems": 1, "maxItems": 2, "uniqueItems": true},
                "c": {"anyOf": [{"const": 1}, {"enum": ["x"]}], "description": "d"},
                "d": {"type": "number", "minimum": 1, "exclusiveMaximum": 2, "multipleOf": 0.5}
            },
            "$defs": {"point": {"type": "object", "properties": {"next": {"$ref": "#/$defs/point"}}}}
        });
        assert_eq!(unsupported_keywords(&schema), Vec::<String>::new());
    }

    #[test]
    fn what_cannot_be_filled_is_named_with_its_place() {
        let schema = json!({
            "type": "object", "patternProperties": {"^x": {}},
            "properties": {
                "a": {"oneOf": [{"type": "string"}]},
                "b": {"type": "array", "items": {"not": {}}},
                "c": {"$ref": "https://example.org/schema"},
                "d": {"$ref": "#/$defs/gone"},
                "e": {"$ref": "#/$defs/x", "minLength": 2},
                "f": {"type": "text"},
                "g": {"format": "ipv6"},
                "h": {"pattern": "(?=x)"},
                "i": {"items": [{}]},
                "j": {"anyOf": [{}], "minLength": 1},
                "k": 7
            },
            "$defs": {"x": {"if": true}}
        });
        assert_eq!(
            unsupported_keywords(&schema),
            [
                "patternProperties at #",
                "oneOf at #/properties/a",
                "not at #/properties/b/items",
                "$ref to https://example.org/schema at #/properties/c",
                "$ref to #/$defs/gone at #/properties/d",
                "$ref beside minLength at #/properties/e",
                "type text at #/properties/f",
                "format ipv6 at #/properties/g",
                "pattern (?=x) at #/properties/h",
                "items as a list at #/properties/i",
                "anyOf beside minLength at #/properties/j",
                "not a schema at #/properties/k",
                "if at #/$defs/x",
            ]
        );
    }
}
