//! JSON in a prompt, mostly the output of an earlier stage, read as text: the strings under a key are a list under its name.

use serde_json::Value;

use super::super::corpus::Passage;
use super::super::words::spaced;

/// The passages of a text that begins with JSON, and of what follows it; `None` where it is not an object or a list.
pub(super) fn passages(label: &str, text: &str) -> Option<Vec<Passage>> {
    let text = text.trim();
    if !text.starts_with(['{', '[']) {
        return None;
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let value = values.next()?.ok()?;
    let rest = text[values.byte_offset()..].trim();
    let mut found: Vec<Passage> = Vec::new();
    collect(label, &value, &mut found);
    if !rest.is_empty() {
        found.push(Passage {
            section: label.to_owned(),
            text: rest.to_owned(),
            ..Passage::default()
        });
    }
    Some(found)
}

fn collect(label: &str, value: &Value, found: &mut Vec<Passage>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                match value {
                    Value::Object(_) | Value::Array(_) | Value::String(_) => collect(&named(label, key), value, found),
                    Value::Number(number) => add(label, &format!("{}: {number}", spaced(key)), found),
                    Value::Bool(_) | Value::Null => {}
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(label, item, found)),
        Value::String(text) => add(label, text, found),
        Value::Number(_) | Value::Bool(_) | Value::Null => {}
    }
}

/// The key as a label; the given one where it says the same.
fn named(label: &str, key: &str) -> String {
    let key = spaced(key);
    if label.to_lowercase() == key {
        label.to_owned()
    } else {
        key
    }
}

fn add(label: &str, text: &str, found: &mut Vec<Passage>) {
    if text.trim().is_empty() {
        return;
    }
    let item = format!("- {}", text.trim());
    match found.iter_mut().find(|passage| passage.section == label) {
        Some(passage) => {
            passage.text.push('\n');
            passage.text.push_str(&item);
        }
        None => found.push(Passage {
            section: label.to_owned(),
            text: item,
            ..Passage::default()
        }),
    }
}
