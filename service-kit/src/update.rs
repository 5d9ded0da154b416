//! What updates, creations and free-form fields of the contracts have in common: field masks, etags, request ids, and the
//! well-known types to and from what the services work with.

use std::{collections::BTreeSet, time::Duration};

use prost_types::{FieldMask, ListValue, Struct, Timestamp, value::Kind};
use serde_json::{Map, Number, Value};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::{
    error::{Error, Result, Violations},
    ids::RequestId,
};

/// Which fields an update changes: those that the mask names, all `allowed` ones for `*`, those `set` in the message
/// where the mask is absent or empty.
///
/// # Errors
/// `Invalid` on `update_mask`, naming every path that is not allowed.
pub fn paths(
    mask: Option<&FieldMask>,
    allowed: &[&'static str],
    set: &[&'static str],
) -> Result<BTreeSet<&'static str>> {
    let named = mask.map_or(&[][..], |mask| &mask.paths);
    match named {
        [] => return Ok(set.iter().copied().collect()),
        [all] if all == "*" => return Ok(allowed.iter().copied().collect()),
        _ => {}
    }
    let mut violations = Violations::new();
    let mut paths = BTreeSet::new();
    for path in named {
        match allowed.iter().find(|it| *it == path) {
            Some(path) => _ = paths.insert(*path),
            None => violations.add("update_mask", format!("{path} is not a field that can be changed")),
        }
    }
    violations.finish().map(|()| paths)
}

/// The etag of a revision of a thing.
pub fn etag(revision: i64) -> String {
    format!("r{revision}")
}

/// Refuses to go on if an etag was given and the thing has another revision by now.
///
/// # Errors
/// `Aborted` with the reason `ETAG_MISMATCH`.
pub fn check_etag(given: &str, revision: i64) -> Result<()> {
    if given.is_empty() || given == etag(revision) {
        return Ok(());
    }
    Err(Error::Aborted {
        reason: "ETAG_MISMATCH",
        message: "it has changed since it was read; read it again".into(),
    })
}

/// Reads the optional id under which a creation may be repeated safely.
pub fn request_id(violations: &mut Violations, field: impl Into<String>, text: &str) -> Option<RequestId> {
    violations.optional_id(field, text)
}

/// SHA-256 of the encoded request: what tells a repeated request from another one under the same id. Generated maps are
/// ordered, so equal messages have equal hashes.
pub fn body_hash(message: &impl prost::Message) -> [u8; 32] {
    Sha256::digest(message.encode_to_vec()).into()
}

/// A moment as the contracts carry it.
pub fn timestamp(at: OffsetDateTime) -> Timestamp {
    Timestamp {
        seconds: at.unix_timestamp(),
        nanos: i32::try_from(at.nanosecond()).expect("a second has fewer nanoseconds than i32::MAX"),
    }
}

/// A moment from the contracts; `None` where it lies outside the years 1 to 9999 or is malformed.
pub fn moment(at: &Timestamp) -> Option<OffsetDateTime> {
    let nanosecond = u32::try_from(at.nanos).ok()?;
    let moment = OffsetDateTime::from_unix_timestamp(at.seconds).ok()?;
    moment.replace_nanosecond(nanosecond).ok().filter(|it| it.year() > 0)
}

/// A duration as the contracts carry it; what does not fit is the longest that does.
pub fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).expect("a second has fewer nanoseconds than i32::MAX"),
    }
}

/// A free-form object as JSON. Whole numbers come out as integers, as a JSON Schema expects them.
pub fn struct_to_json(given: &Struct) -> Value {
    Value::Object(object(given))
}

/// The same, as the map that it is.
pub(crate) fn object(given: &Struct) -> Map<String, Value> {
    given
        .fields
        .iter()
        .map(|(key, value)| (key.clone(), value_to_json(value)))
        .collect()
}

/// A free-form value as JSON; a number that JSON has no word for is null.
pub fn value_to_json(given: &prost_types::Value) -> Value {
    match &given.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(it)) => Value::Bool(*it),
        Some(Kind::NumberValue(it)) => number(*it),
        Some(Kind::StringValue(it)) => Value::String(it.clone()),
        Some(Kind::ListValue(it)) => it.values.iter().map(value_to_json).collect(),
        Some(Kind::StructValue(it)) => struct_to_json(it),
    }
}

fn number(given: f64) -> Value {
    // Beyond 2^53 a double no longer tells neighbouring integers apart.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if given.fract() == 0.0 && given.abs() <= EXACT {
        #[expect(clippy::cast_possible_truncation, reason = "whole and within the exact range")]
        return Value::from(given as i64);
    }
    Number::from_f64(given).map_or(Value::Null, Value::Number)
}

/// JSON as a free-form object of the contracts, whose numbers are doubles.
pub fn json_to_struct(given: &Map<String, Value>) -> Struct {
    Struct {
        fields: given
            .iter()
            .map(|(key, value)| (key.clone(), json_to_value(value)))
            .collect(),
    }
}

/// JSON as a free-form value of the contracts.
pub fn json_to_value(given: &Value) -> prost_types::Value {
    let kind = match given {
        Value::Null => Kind::NullValue(0),
        Value::Bool(it) => Kind::BoolValue(*it),
        Value::Number(it) => Kind::NumberValue(it.as_f64().unwrap_or(f64::NAN)),
        Value::String(it) => Kind::StringValue(it.clone()),
        Value::Array(it) => Kind::ListValue(ListValue {
            values: it.iter().map(json_to_value).collect(),
        }),
        Value::Object(it) => Kind::StructValue(json_to_struct(it)),
    };
    prost_types::Value { kind: Some(kind) }
}

/// Why a free-form object cannot be stored as jsonb, if it cannot.
pub(crate) fn unstorable(given: &Struct) -> Option<&'static str> {
    given
        .fields
        .iter()
        .find_map(|(key, value)| nul(key).or_else(|| unstorable_value(value)))
}

fn unstorable_value(given: &prost_types::Value) -> Option<&'static str> {
    match given.kind.as_ref()? {
        Kind::StringValue(it) => nul(it),
        Kind::NumberValue(it) if !it.is_finite() => Some("must have only finite numbers"),
        Kind::ListValue(it) => it.values.iter().find_map(unstorable_value),
        Kind::StructValue(it) => unstorable(it),
        Kind::NullValue(_) | Kind::BoolValue(_) | Kind::NumberValue(_) => None,
    }
}

fn nul(text: &str) -> Option<&'static str> {
    text.contains('\0').then_some("must not contain a NUL character")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mask(paths: &[&str]) -> FieldMask {
        FieldMask {
            paths: paths.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn a_mask_selects_what_it_names() {
        let allowed = &["name", "description"];
        let all = BTreeSet::from(["description", "name"]);
        assert_eq!(paths(None, allowed, &["name"]).unwrap(), BTreeSet::from(["name"]));
        assert_eq!(
            paths(Some(&mask(&[])), allowed, &["name"]).unwrap(),
            BTreeSet::from(["name"])
        );
        assert_eq!(paths(Some(&mask(&["*"])), allowed, &[]).unwrap(), all);
        assert_eq!(
            paths(Some(&mask(&["name", "name", "description"])), allowed, &[]).unwrap(),
            all
        );
    }

    #[test]
    fn every_unknown_path_of_a_mask_is_named() {
        let Err(Error::Invalid(violations)) = paths(Some(&mask(&["id", "name", "*"])), &["name"], &[]) else {
            panic!("refused");
        };
        assert_eq!(violations.len(), 2);
        assert!(violations.iter().all(|it| it.field == "update_mask"));
        assert!(violations[0].description.starts_with("id "));
    }

    #[test]
    fn an_etag_guards_only_where_it_is_given() {
        assert!(check_etag("", 7).is_ok());
        assert!(check_etag(&etag(7), 7).is_ok());
        let refused = check_etag(&etag(6), 7);
        assert!(matches!(
            refused,
            Err(Error::Aborted {
                reason: "ETAG_MISMATCH",
                ..
            })
        ));
    }

    #[test]
    fn json_survives_the_way_through_a_struct() {
        let value = json!({"a": [1, -2.5, true, null, "x"], "b": {"c": {}}, "d": 9_007_199_254_740_992_i64});
        let Value::Object(map) = &value else { unreachable!() };
        assert_eq!(struct_to_json(&json_to_struct(map)), value);
    }

    #[test]
    fn a_number_without_a_json_word_becomes_null() {
        assert_eq!(number(f64::INFINITY), Value::Null);
        assert_eq!(number(1e300), json!(1e300));
        assert_eq!(number(-0.0), json!(0));
    }

    #[test]
    fn what_jsonb_cannot_hold_is_found_at_any_depth() {
        let refused = |value: Value| {
            let Value::Object(map) = value else { unreachable!() };
            unstorable(&json_to_struct(&map)).is_some()
        };
        assert!(refused(json!({"a\0": 1})));
        assert!(refused(json!({"a": [{"b": "x\0"}]})));
        assert!(!refused(json!({"a": [{"b": "x"}], "c": null})));
        let mut infinite = Struct::default();
        infinite.fields.insert(
            "a".into(),
            prost_types::Value {
                kind: Some(Kind::NumberValue(f64::NAN)),
            },
        );
        assert!(unstorable(&infinite).is_some());
    }

    #[test]
    fn times_survive_the_way_through_the_contracts() {
        let at = OffsetDateTime::from_unix_timestamp_nanos(-1_500_000_001).unwrap();
        assert_eq!(moment(&timestamp(at)), Some(at));
        assert_eq!(moment(&Timestamp { seconds: 0, nanos: -1 }), None);
        assert_eq!(
            moment(&Timestamp {
                seconds: i64::MAX,
                nanos: 0
            }),
            None
        );
    }

    #[test]
    fn another_body_has_another_hash() {
        assert_eq!(body_hash(&mask(&["a"])), body_hash(&mask(&["a"])));
        assert_ne!(body_hash(&mask(&["a"])), body_hash(&mask(&["b"])));
    }
}
