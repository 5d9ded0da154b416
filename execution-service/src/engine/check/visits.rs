//! How much work a schema makes, known before it is compiled.
//!
//! A validator follows every reference anew, so forty definitions that each name the next one twice are 2^40 visits of one
//! value. Counted is the schema with its references unfolded; of properties, which are for different values, only the largest
//! counts. A reference back to where it is followed from counts as nothing: how far it goes depends on the value.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

/// How many visits one value may take.
const MAX_VISITS: u64 = 10_000;
/// How deep subschemas and references may go.
const MAX_DEPTH: usize = 256;
/// Keywords with a schema or a list of them.
const SCHEMAS: [&str; 15] = [
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "items",
    "additionalItems",
    "additionalProperties",
    "contains",
    "propertyNames",
    "contentSchema",
    UNEVALUATED[0],
    UNEVALUATED[1],
];
/// Keywords with named schemas that may apply to the same value.
const NAMED: [&str; 3] = ["patternProperties", "dependentSchemas", "dependencies"];
/// Keywords that look at everything beside them once more.
const UNEVALUATED: [&str; 2] = ["unevaluatedItems", "unevaluatedProperties"];

/// An error if checking against the schema may take too long, or if that cannot be told.
pub(super) fn check(schema: &Value) -> Result<(), String> {
    if members(schema).any(has_id) {
        return Err("a part of the schema has an $id of its own; only the whole may have one".into());
    }
    let mut count = Count {
        root: schema,
        known: HashMap::new(),
        open: HashSet::new(),
    };
    if count.visits(schema)? > MAX_VISITS {
        return Err(format!(
            "the schema's references multiply: a check would visit more than {MAX_VISITS} of its parts"
        ));
    }
    Ok(())
}

struct Count<'a> {
    root: &'a Value,
    known: HashMap<*const Value, u64>,
    /// The schemas that are being counted.
    open: HashSet<*const Value>,
}

impl<'a> Count<'a> {
    fn visits(&mut self, schema: &'a Value) -> Result<u64, String> {
        let place: *const Value = schema;
        if let Some(known) = self.known.get(&place) {
            return Ok(*known);
        }
        let Value::Object(keywords) = schema else { return Ok(1) };
        if self.open.len() == MAX_DEPTH {
            return Err(format!("the schema goes deeper than {MAX_DEPTH} parts"));
        }
        if !self.open.insert(place) {
            return Ok(0);
        }
        let mut visits: u64 = 1;
        for keyword in SCHEMAS {
            visits = visits.saturating_add(self.sum(keywords.get(keyword).into_iter().flat_map(listed))?);
        }
        for keyword in NAMED {
            visits = visits.saturating_add(self.sum(keywords.get(keyword).into_iter().flat_map(members))?);
        }
        for keyword in ["$ref", "$dynamicRef"] {
            if let Some(reference) = keywords.get(keyword).and_then(Value::as_str) {
                let targets = targets(self.root, reference)?;
                visits = visits.saturating_add(self.sum(targets)?);
            }
        }
        let mut largest = 0;
        for keyword in ["properties", "prefixItems"] {
            for part in keywords.get(keyword).into_iter().flat_map(members) {
                largest = self.visits(part)?.max(largest);
            }
        }
        visits = visits.saturating_add(largest);
        if UNEVALUATED.iter().any(|keyword| keywords.contains_key(*keyword)) {
            visits = visits.saturating_mul(3);
        }
        self.open.remove(&place);
        self.known.insert(place, visits);
        Ok(visits)
    }

    fn sum(&mut self, schemas: impl IntoIterator<Item = &'a Value>) -> Result<u64, String> {
        schemas
            .into_iter()
            .try_fold(0, |sum: u64, schema| Ok(sum.saturating_add(self.visits(schema)?)))
    }
}

/// What a reference may lead to.
fn targets<'a>(root: &'a Value, reference: &str) -> Result<Vec<&'a Value>, String> {
    let fragment = reference
        .strip_prefix('#')
        .ok_or_else(|| format!("the reference {reference} does not begin with #: it leads out of the schema"))?;
    let mut found = Vec::new();
    if fragment.is_empty() || fragment.starts_with('/') {
        found.extend(root.pointer(fragment));
    } else {
        anchored(root, fragment, &mut found);
    }
    if found.is_empty() {
        return Err(format!("the reference {reference} leads nowhere"));
    }
    Ok(found)
}

fn anchored<'a>(part: &'a Value, name: &str, found: &mut Vec<&'a Value>) {
    let is_named = |keyword: &str| part.get(keyword).and_then(Value::as_str) == Some(name);
    if is_named("$anchor") || is_named("$dynamicAnchor") {
        found.push(part);
    }
    for member in members(part) {
        anchored(member, name, found);
    }
}

fn has_id(part: &Value) -> bool {
    part.get("$id").is_some_and(Value::is_string) || members(part).any(has_id)
}

/// The value, or what it lists.
fn listed(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    if value.is_array() {
        members(value)
    } else {
        Box::new(std::iter::once(value))
    }
}

/// What a list or an object holds.
fn members(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(named) => Box::new(named.values()),
        _ => Box::new(std::iter::empty()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Definitions of which each names the next one twice.
    fn chain(levels: usize, link: impl Fn(Value) -> Value) -> Value {
        let mut definitions: serde_json::Map<String, Value> = (0..levels)
            .map(|level| {
                (
                    format!("d{level}"),
                    link(json!({"$ref": format!("#/$defs/d{}", level + 1)})),
                )
            })
            .collect();
        definitions.insert(format!("d{levels}"), json!({"type": "string"}));
        json!({"$ref": "#/$defs/d0", "$defs": definitions})
    }

    #[test]
    fn references_that_multiply_are_refused_at_once() {
        let links: [fn(Value) -> Value; 4] = [
            |next| json!({"allOf": [next, next]}),
            |next| json!({"if": next, "then": next}),
            |next| json!({"not": next, "dependentSchemas": {"a": next}}),
            |next| json!({"allOf": [{"properties": {"x": next}}, {"properties": {"x": next}}]}),
        ];
        for link in links {
            let error = check(&chain(40, link)).unwrap_err();
            assert!(error.contains("10000"), "{error}");
        }
        assert!(
            check(&chain(
                40,
                |next| json!({"unevaluatedProperties": false, "allOf": [next]})
            ))
            .is_err()
        );
    }

    #[test]
    fn anchors_are_followed_and_other_bases_are_refused() {
        let twice = json!({"$anchor": "a", "allOf": [{"$ref": "#b"}, {"$ref": "#b"}]});
        assert_eq!(
            check(&json!({"$ref": "#a", "$defs": {"a": twice, "b": {"$anchor": "b"}}})),
            Ok(())
        );
        assert!(check(&json!({"$ref": "#a"})).is_err());
        assert!(check(&json!({"$defs": {"a": {"$id": "urn:a"}}})).is_err());
        assert_eq!(
            check(&json!({"$id": "urn:a", "properties": {"$id": {"type": "string"}}})),
            Ok(())
        );
    }

    #[test]
    fn what_is_used_often_side_by_side_or_in_a_cycle_is_no_danger() {
        assert_eq!(
            check(&chain(40, |next| json!({"properties": {"x": next, "y": next}}))),
            Ok(())
        );
        let tree = json!({"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}});
        assert_eq!(check(&tree), Ok(()));
        assert!(check(&chain(MAX_DEPTH, |next| next)).is_err(), "too deep");
    }
}
