//! Snapshots as files: canonical JSON (RFC 8785) that says what it is, who made it, and its own checksum.
//!
//! What comes back is foreign text, whatever it says of itself. Size and depth are bounded before anything else is looked at,
//! every member is read by name and a further one refused, and the definition passes the reader that drafts pass. The checksum
//! finds damage, not malice: nothing is believed for its sake.

use serde_json::{Map, Value, json};
use service_kit::{
    error::{Error, Result, Violations},
    update,
};
use sha2::{Digest, Sha256};

use super::{Content, Snapshot};
use crate::{
    engine::journal::canonical,
    workflows::convert::{DRAFT_BYTES, METADATA_BYTES, check_size, contract},
};

/// What a file says it is.
const FORMAT: &str = "studios.workflow-snapshot";
/// The version of the format that is written, and the only one that is read.
const FORMAT_VERSION: u64 = 1;
/// The largest file.
const MAX_BYTES: usize = 512 * 1024;
/// How deep a file may be nested. Each level is up to three messages, of which clients decode a hundred.
const MAX_DEPTH: usize = 32;
/// The field of the request that a file comes in.
const FIELD: &str = "content";

/// What a file holds.
#[derive(Debug)]
pub(super) struct File {
    /// The snapshot's name.
    pub(super) name: String,
    /// What it is for.
    pub(super) description: String,
    /// What it holds.
    pub(super) content: Content,
}

/// Writes a snapshot as a file.
pub(super) fn write(snapshot: &Snapshot) -> Vec<u8> {
    let content = &snapshot.content;
    let mut file = Map::new();
    let mut say = |name: &str, value: Value| file.insert(name.to_owned(), value);
    say("format", json!(FORMAT));
    say("format_version", json!(FORMAT_VERSION));
    say(
        "made_by",
        json!({ "product": "studios", "version": env!("CARGO_PKG_VERSION"), "schema": contract::SCHEMA }),
    );
    say(
        "snapshot",
        json!({ "name": snapshot.summary.name, "description": snapshot.summary.description }),
    );
    say(
        "workflow",
        json!({
            "name": content.name,
            "description": content.description,
            "metadata": content.metadata,
            "definition": contract::to_json(content.definition.clone()),
        }),
    );
    let checksum = checksum(&file);
    file.insert("checksum".to_owned(), Value::String(checksum));
    canonical(&file)
}

/// Reads a file, whose snapshot has this name where one is given.
///
/// # Errors
/// `Invalid` on everything that is wrong, by its path in the file.
pub(super) fn read(bytes: &[u8], name: &str) -> Result<File> {
    let file = parse(bytes)?;
    let mut violations = Violations::new();
    let mut whole = Object::new(FIELD.to_owned(), &file);
    let format = whole.text(&mut violations, "format");
    let version = whole.take("format_version");
    if format != FORMAT {
        violations.add("content.format", format!("must be {FORMAT}"));
    }
    if version.and_then(Value::as_u64) != Some(FORMAT_VERSION) {
        violations.add("content.format_version", format!("must be {FORMAT_VERSION}"));
    }
    // What is of another format cannot be judged by this one.
    std::mem::take(&mut violations).finish()?;

    made_by(&mut violations, &mut whole);
    let said = whole.text(&mut violations, "checksum");
    if said != checksum(&file) {
        violations.add("content.checksum", "does not fit: the file was changed or damaged");
    }
    let mut snapshot = whole.object(&mut violations, "snapshot");
    let own_name = snapshot.text(&mut violations, "name");
    let (field, name) = if name.is_empty() {
        ("content.snapshot.name", own_name)
    } else {
        ("name", name)
    };
    let name = violations.text(field, name, 1..=100);
    let description = snapshot.text(&mut violations, "description");
    let description = violations.text("content.snapshot.description", description, 0..=500);
    snapshot.finish(&mut violations);
    let workflow = whole.object(&mut violations, "workflow");
    let content = content(&mut violations, workflow);
    whole.finish(&mut violations);
    violations.finish()?;
    Ok(File {
        name: name.expect("a missing one is a violation"),
        description: description.expect("a missing one is a violation"),
        content: content.expect("a missing one is a violation"),
    })
}

fn parse(bytes: &[u8]) -> Result<Map<String, Value>> {
    if bytes.len() > MAX_BYTES {
        return Err(Error::invalid(
            FIELD,
            format!("must have at most {} KiB", MAX_BYTES / 1024),
        ));
    }
    let value: Value =
        serde_json::from_slice(bytes).map_err(|error| Error::invalid(FIELD, format!("is no JSON: {error}")))?;
    if depth(&value) > MAX_DEPTH {
        return Err(Error::invalid(
            FIELD,
            format!("must be nested at most {MAX_DEPTH} levels deep"),
        ));
    }
    match value {
        Value::Object(members) => Ok(members),
        _ => Err(Error::invalid(FIELD, "must be an object")),
    }
}

/// How deep it is nested. JSON is read no deeper than 128 levels.
fn depth(value: &Value) -> usize {
    match value {
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn made_by(violations: &mut Violations, whole: &mut Object<'_>) {
    let mut made_by = whole.object(violations, "made_by");
    made_by.text(violations, "product");
    made_by.text(violations, "version");
    if made_by.text(violations, "schema") != contract::SCHEMA {
        violations.add("content.made_by.schema", format!("must be {}", contract::SCHEMA));
    }
    made_by.finish(violations);
}

fn content(violations: &mut Violations, mut workflow: Object<'_>) -> Option<Content> {
    let name = workflow.text(violations, "name");
    let name = violations.text("content.workflow.name", name, 1..=200);
    let description = workflow.text(violations, "description");
    let description = violations.text("content.workflow.description", description, 0..=2_000);
    let metadata = workflow.object(violations, "metadata").members;
    let metadata = update::json_to_struct(metadata.unwrap_or(&Map::new()));
    let metadata = violations.object("content.workflow.metadata", Some(&metadata));
    check_size(violations, "content.workflow.metadata", &metadata, METADATA_BYTES);
    let field = "content.workflow.definition";
    let definition = workflow.take("definition").unwrap_or(&Value::Null);
    let definition = contract::from_json(violations, field, definition);
    check_size(violations, field, &definition, DRAFT_BYTES);
    workflow.finish(violations);
    Some(Content {
        name: name?,
        description: description?,
        metadata: metadata?,
        definition,
    })
}

/// `sha256:` and the hexadecimal hash of the file's canonical JSON without its checksum.
fn checksum(file: &Map<String, Value>) -> String {
    let rest: Map<_, _> = file
        .iter()
        .filter(|(name, _)| *name != "checksum")
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    format!("sha256:{}", hex::encode(Sha256::digest(canonical(&rest))))
}

/// An object of a file, whose members are taken one by one; what is left over does not belong there.
struct Object<'a> {
    path: String,
    members: Option<&'a Map<String, Value>>,
    taken: Vec<&'static str>,
}

impl<'a> Object<'a> {
    fn new(path: String, members: &'a Map<String, Value>) -> Self {
        Self {
            path,
            members: Some(members),
            taken: Vec::new(),
        }
    }

    fn take(&mut self, name: &'static str) -> Option<&'a Value> {
        self.taken.push(name);
        self.members?.get(name)
    }

    fn text(&mut self, violations: &mut Violations, name: &'static str) -> &'a str {
        let value = self.take(name);
        value.and_then(Value::as_str).unwrap_or_else(|| {
            // Of an object that is missing itself nothing more is said.
            if self.members.is_some() {
                violations.add(format!("{}.{name}", self.path), "must be a text");
            }
            ""
        })
    }

    fn object(&mut self, violations: &mut Violations, name: &'static str) -> Self {
        let path = format!("{}.{name}", self.path);
        let members = self.take(name).and_then(Value::as_object);
        if members.is_none() {
            violations.add(path.clone(), "must be an object");
        }
        Self {
            path,
            members,
            taken: Vec::new(),
        }
    }

    fn finish(self, violations: &mut Violations) {
        let names = self.members.into_iter().flat_map(Map::keys);
        for name in names.filter(|it| !self.taken.contains(&it.as_str())) {
            violations.add(format!("{}.{name}", self.path), "does not belong there");
        }
    }
}

#[cfg(test)]
mod tests;
