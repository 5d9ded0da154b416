//! Where a workflow's inputs have files, by its input schema, and what they say of them. Pure.
//!
//! A property that is an object with `x-widget: file` is one file; a list whose items are that has some. Only properties of the
//! inputs themselves count. A look at a schema's properties is all that a start without files pays.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use service_kit::{
    error::Violations,
    ids::{DocumentId, FileId},
};

use crate::engine::definition::Definition;

/// What a caller may say of a file.
const ASKED: [&str; 2] = ["file_id", "version"];

/// A file as a run has it among its inputs: what it was when the run was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pinned {
    /// The file.
    pub file_id: FileId,
    /// The number of its version.
    pub version: i32,
    /// Its name.
    pub name: String,
    /// What its content is.
    pub mime_type: String,
    /// Its size.
    pub size_bytes: i64,
    /// SHA-256 of its bytes, in lower-case hexadecimal.
    pub sha256: String,
    /// The document of its text, where text can be taken from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document_id: Option<DocumentId>,
}

/// Where a file stands among inputs: `contract`, `papers[0]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    name: String,
    item: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.item {
            None => f.write_str(&self.name),
            Some(item) => write!(f, "{}[{item}]", self.name),
        }
    }
}

impl Place {
    /// What stands there.
    pub fn of<'v>(&self, inputs: &'v Map<String, Value>) -> Option<&'v Value> {
        let value = inputs.get(&self.name)?;
        match self.item {
            None => Some(value),
            Some(item) => value.get(item),
        }
    }

    fn of_mut<'v>(&self, inputs: &'v mut Map<String, Value>) -> Option<&'v mut Value> {
        let value = inputs.get_mut(&self.name)?;
        match self.item {
            None => Some(value),
            Some(item) => value.get_mut(item),
        }
    }

    /// Puts a file there, in the place of what stands there.
    pub fn put(&self, inputs: &mut Map<String, Value>, file: &Pinned) {
        if let Some(value) = self.of_mut(inputs) {
            *value = serde_json::to_value(file).unwrap_or_default();
        }
    }
}

/// The places of these inputs that the schema says are files.
pub fn places(definition: &Definition, inputs: &Map<String, Value>) -> Vec<Place> {
    let schema = definition.input_schema.as_ref();
    let properties = schema.and_then(|it| it.get("properties")).and_then(Value::as_object);
    let mut places = Vec::new();
    for (name, property) in properties.into_iter().flatten() {
        let place = |item| Place {
            name: name.clone(),
            item,
        };
        if is_file(property) {
            places.extend(inputs.contains_key(name).then(|| place(None)));
        } else if property.get("items").is_some_and(is_file)
            && let Some(Value::Array(items)) = inputs.get(name)
        {
            places.extend((0..items.len()).map(|item| place(Some(item))));
        }
    }
    places
}

fn is_file(schema: &Value) -> bool {
    let says = |key: &str, value: &str| schema.get(key).is_some_and(|it| it == value);
    says("x-widget", "file") && says("type", "object")
}

/// The inputs without what only the server says of files: what the schema is about, whether a run had them before or not.
pub fn asked<'i>(definition: &Definition, inputs: &'i Map<String, Value>) -> Cow<'i, Map<String, Value>> {
    let mut asked = Cow::Borrowed(inputs);
    for place in places(definition, inputs) {
        if let Some(Value::Object(file)) = place.of_mut(asked.to_mut()) {
            file.retain(|name, _| ASKED.contains(&name.as_str()));
        }
    }
    asked
}

/// Which file and version a place asks for; the current one where it names none.
pub(super) fn wanted(violations: &mut Violations, place: &Place, value: &Value) -> Option<(FileId, Option<i32>)> {
    let file = match value.get("file_id").and_then(Value::as_str) {
        None => {
            violations.add(format!("inputs.{place}.file_id"), "is required");
            None
        }
        Some(text) => violations.id(format!("inputs.{place}.file_id"), text),
    };
    let version = match value.get("version") {
        None | Some(Value::Null) => None,
        Some(number) => {
            let number = whole(number);
            if number.is_none() {
                violations.add(format!("inputs.{place}.version"), "must be the number of a version");
            }
            Some(number?)
        }
    };
    file.map(|file| (file, version))
}

/// A whole number from 1; JSON may write it as 3.0.
fn whole(value: &Value) -> Option<i32> {
    let text = value.as_f64().filter(|it| it.fract() == 0.0)?;
    format!("{text:.0}").parse().ok().filter(|it| *it > 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn definition(properties: &Value) -> Definition {
        Definition {
            input_schema: Some(json!({ "type": "object", "properties": properties })),
            ..Definition::default()
        }
    }

    fn object(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn papers() -> Definition {
        let file = json!({ "type": "object", "x-widget": "file" });
        definition(
            &json!({ "contract": file, "papers": { "type": "array", "items": file }, "topic": { "type": "string" },
            "other": { "type": "object", "properties": { "deep": file } } }),
        )
    }

    #[test]
    fn files_stand_where_the_schema_says_so() {
        let found = |inputs: Value| {
            let found = places(&papers(), &object(&inputs));
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            found(json!({ "contract": {}, "papers": [{}, {}], "topic": "x", "other": { "deep": {} } })),
            ["contract", "papers[0]", "papers[1]"]
        );
        assert!(found(json!({ "topic": "x", "papers": "no list" })).is_empty());
        assert!(places(&Definition::default(), &object(&json!({ "contract": {} }))).is_empty());
    }

    #[test]
    fn what_a_caller_claims_of_a_file_is_left_out() {
        let id = FileId::generate().to_string();
        let given = object(
            &json!({ "contract": { "file_id": id, "version": 2, "name": "a lie", "document_id": "x" }, "topic": "y" }),
        );
        let asked = asked(&papers(), &given);
        assert_eq!(
            Value::Object(asked.into_owned()),
            json!({ "contract": { "file_id": id, "version": 2 }, "topic": "y" })
        );
        let plain = object(&json!({ "topic": "y" }));
        assert!(matches!(super::asked(&papers(), &plain), Cow::Borrowed(_)));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_named() {
        let id = FileId::generate();
        let place = Place {
            name: "papers".into(),
            item: Some(1),
        };
        let read = |value: Value| {
            let mut violations = Violations::new();
            let wanted = wanted(&mut violations, &place, &value);
            violations.finish().map(|()| wanted.unwrap())
        };
        assert_eq!(read(json!({ "file_id": id })).unwrap(), (id, None));
        assert_eq!(read(json!({ "file_id": id, "version": 3.0 })).unwrap(), (id, Some(3)));
        for (value, field) in [
            (json!({}), "inputs.papers[1].file_id"),
            (json!("x"), "inputs.papers[1].file_id"),
            (json!({ "file_id": "x" }), "inputs.papers[1].file_id"),
            (json!({ "file_id": id, "version": 0 }), "inputs.papers[1].version"),
            (json!({ "file_id": id, "version": 1.5 }), "inputs.papers[1].version"),
            (json!({ "file_id": id, "version": "2" }), "inputs.papers[1].version"),
        ] {
            let error = read(value.clone()).unwrap_err().to_string();
            assert!(error.contains(field), "{value}: {error}");
        }
    }

    #[test]
    fn a_file_is_put_where_it_was_asked_for() {
        let file = Pinned {
            file_id: FileId::generate(),
            version: 2,
            name: "contract.pdf".into(),
            mime_type: "application/pdf".into(),
            size_bytes: 7,
            sha256: "00".into(),
            document_id: None,
        };
        let mut inputs = object(&json!({ "papers": [1, 2] }));
        let place = Place {
            name: "papers".into(),
            item: Some(1),
        };
        place.put(&mut inputs, &file);
        let put = place.of(&inputs).unwrap();
        assert_eq!(serde_json::from_value::<Pinned>(put.clone()).unwrap(), file);
        assert!(put.get("document_id").is_none());
        assert_eq!(inputs["papers"][0], 1);
    }
}
