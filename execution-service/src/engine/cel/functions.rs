//! The functions that expressions may call. All of them end in time linear in what they are given, and make nothing longer.

use std::borrow::Cow;

use super::{CelError, numbers, value::Value};

/// Whether a text matches a regular expression.
pub(super) const MATCHES: &str = "matches";

/// Name, whether it is called on a target, and how many arguments it takes.
const FUNCTIONS: [(&str, bool, usize); 14] = [
    ("size", false, 1),
    ("size", true, 0),
    ("contains", true, 1),
    ("startsWith", true, 1),
    ("endsWith", true, 1),
    (MATCHES, true, 1),
    ("lowerAscii", true, 0),
    ("upperAscii", true, 0),
    ("trim", true, 0),
    ("int", false, 1),
    ("double", false, 1),
    ("string", false, 1),
    ("bool", false, 1),
    ("type", false, 1),
];

/// An error if there is no such function.
pub(super) fn check(name: &str, has_target: bool, arguments: usize) -> Result<(), CelError> {
    if FUNCTIONS.contains(&(name, has_target, arguments)) {
        return Ok(());
    }
    let known = FUNCTIONS.iter().any(|(it, ..)| *it == name);
    Err(CelError::Unusable(if known {
        format!("{name} is not called so")
    } else {
        format!("there is no function {name} here")
    }))
}

/// Calls a function on its target, or on its first argument where it has none.
pub(super) fn call<'v>(name: &str, on: &Value<'v>, argument: Option<&Value<'v>>) -> Result<Value<'v>, CelError> {
    if let (Value::Text(text), Some(Value::Text(other))) = (on, argument) {
        return Ok(Value::Bool(match name {
            "contains" => text.contains(&**other),
            "startsWith" => text.starts_with(&**other),
            "endsWith" => text.ends_with(&**other),
            _ => return Err(unfit(name, on)),
        }));
    }
    match (name, on) {
        ("size", Value::Text(text)) => Ok(count(text.chars().count())),
        ("size", Value::Items(items)) => Ok(count(items.len())),
        ("size", Value::List(items)) => Ok(count(items.len())),
        ("size", Value::Members(members)) => Ok(count(members.len())),
        ("size", Value::Map(members)) => Ok(count(members.len())),
        ("lowerAscii", Value::Text(text)) => Ok(made(text.to_ascii_lowercase())),
        ("upperAscii", Value::Text(text)) => Ok(made(text.to_ascii_uppercase())),
        ("trim", Value::Text(text)) => Ok(made(text.trim().to_owned())),
        ("string", _) => string(on),
        ("int", _) => int(on),
        ("double", Value::Int(_) | Value::Double(_)) => Ok(Value::Double(numbers::double(on))),
        ("double", Value::Text(text)) => read(text.trim().parse::<f64>().ok().map(Value::Double), text),
        ("bool", Value::Bool(it)) => Ok(Value::Bool(*it)),
        ("bool", Value::Text(text)) => read(text.trim().parse::<bool>().ok().map(Value::Bool), text),
        ("type", _) => Ok(made(type_of(on).to_owned())),
        _ => Err(unfit(name, on)),
    }
}

fn string<'v>(value: &Value<'v>) -> Result<Value<'v>, CelError> {
    match value {
        Value::Text(_) => Ok(value.clone()),
        Value::Int(it) => Ok(made(it.to_string())),
        Value::Double(it) => Ok(made(it.to_string())),
        Value::Bool(it) => Ok(made(it.to_string())),
        _ => Err(unfit("string", value)),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the bounds are looked at first")]
fn int<'v>(value: &Value<'v>) -> Result<Value<'v>, CelError> {
    match value {
        Value::Int(it) => Ok(Value::Int(*it)),
        Value::Double(it) if it.abs() < 9.0e18 => Ok(Value::Int(it.trunc() as i64)),
        Value::Text(text) => read(text.trim().parse::<i64>().ok().map(Value::Int), text),
        _ => Err(unfit("int", value)),
    }
}

const fn type_of(value: &Value<'_>) -> &'static str {
    match value {
        Value::Null => "null_type",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Double(_) => "double",
        Value::Text(_) => "string",
        Value::Items(_) | Value::List(_) => "list",
        Value::Members(_) | Value::Map(_) | Value::Stages(_) | Value::Stage(_) => "map",
    }
}

fn read<'v>(value: Option<Value<'v>>, text: &str) -> Result<Value<'v>, CelError> {
    let shown: String = text.chars().take(40).collect();
    value.ok_or_else(|| CelError::Value(format!("{shown:?} cannot be read as that")))
}

fn count<'v>(given: usize) -> Value<'v> {
    Value::Int(i64::try_from(given).unwrap_or(i64::MAX))
}

const fn made<'v>(text: String) -> Value<'v> {
    Value::Text(Cow::Owned(text))
}

fn unfit(name: &str, value: &Value<'_>) -> CelError {
    CelError::Value(format!("{name} cannot be applied to {}", value.kind()))
}
