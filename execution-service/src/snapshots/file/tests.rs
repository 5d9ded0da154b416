use service_kit::ids::{CompanyId, SnapshotId, StudioId};
use time::OffsetDateTime;

use super::*;
use crate::snapshots::Summary;

fn snapshot() -> Snapshot {
    let definition = json!({
        "stages": [{"name": "a", "kind": "llm", "model": "m", "prompt": "p", "config": {"temperature": 0.5, "max_tokens": 10}}],
        "input_schema": {"type": "object"},
    });
    Snapshot {
        summary: Summary {
            id: SnapshotId::generate(),
            company: CompanyId::generate(),
            studio: StudioId::generate(),
            workflow: None,
            version: None,
            name: "Before the fair".into(),
            description: String::new(),
            keep_on_delete: false,
            automatic: false,
            created_by: None,
            created_at: OffsetDateTime::UNIX_EPOCH,
            updated_at: OffsetDateTime::UNIX_EPOCH,
            revision: 1,
        },
        content: Content {
            name: "Summary".into(),
            description: "Sums up.".into(),
            metadata: json!({"tags": ["a"]}).as_object().cloned().unwrap(),
            definition: serde_json::from_value(definition).unwrap(),
        },
    }
}

/// A file with something changed in it and a checksum that fits.
fn changed(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut file: Value = serde_json::from_slice(&write(&snapshot())).unwrap();
    change(&mut file);
    let mut file = file.as_object().cloned().unwrap();
    let checksum = checksum(&file);
    file.insert("checksum".into(), json!(checksum));
    serde_json::to_vec_pretty(&file).unwrap()
}

fn wrong(bytes: &[u8]) -> Vec<String> {
    match read(bytes, "") {
        Err(Error::Invalid(found)) => {
            let mut fields: Vec<_> = found.into_iter().map(|it| it.field).collect();
            fields.sort();
            fields
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_reads_back_as_it_was_written() {
    let snapshot = snapshot();
    let written = write(&snapshot);
    assert_eq!(written, write(&snapshot), "equal snapshots make equal files");
    let file = read(&written, "").unwrap();
    assert_eq!(
        (file.name, file.content),
        (snapshot.summary.name, snapshot.content.clone())
    );
    assert_eq!(read(&written, "Another").unwrap().name, "Another");
    let spaced = changed(|_| ());
    assert_ne!(spaced, written);
    assert_eq!(read(&spaced, "").unwrap().content, snapshot.content);
}

#[test]
fn a_file_that_was_changed_is_refused() {
    let text = String::from_utf8(write(&snapshot())).unwrap();
    assert_eq!(
        wrong(text.replace("Sums up.", "Sums down.").as_bytes()),
        ["content.checksum"]
    );
}

#[test]
fn what_is_no_such_file_is_refused_as_a_whole() {
    let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
    let too_deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    for bytes in ["", "x", "[]", "null", &deep, &too_deep, &"x".repeat(MAX_BYTES + 1)] {
        assert_eq!(wrong(bytes.as_bytes()), ["content"], "{bytes:.20}");
    }
    assert_eq!(
        wrong(b"{}"),
        ["content.format", "content.format", "content.format_version"]
    );
    assert_eq!(wrong(&changed(|it| it["format"] = json!("other"))), ["content.format"]);
    for version in [json!(2), json!("1"), json!(1.5), json!(null)] {
        assert_eq!(
            wrong(&changed(|it| it["format_version"] = version)),
            ["content.format_version"]
        );
    }
}

#[test]
fn everything_wrong_in_a_file_is_named_by_its_path() {
    let file = changed(|it| {
        it["more"] = json!(1);
        it["made_by"] = json!({"product": "studios", "version": 3, "schema": "other"});
        it["snapshot"]["name"] = json!("x".repeat(101));
        it["snapshot"]["id"] = json!("x");
        it["workflow"]["name"] = json!(" ");
        it["workflow"]["metadata"] = json!({"a": "\u{0}"});
        it["workflow"]["definition"]["stages"][0]["colour"] = json!("red");
        it["workflow"]["definition"]["stages"][0]["retry_limit"] = json!("often");
    });
    assert_eq!(
        wrong(&file),
        [
            "content.made_by.schema",
            "content.made_by.version",
            "content.more",
            "content.snapshot.id",
            "content.snapshot.name",
            "content.workflow.definition.stages[0].colour",
            "content.workflow.definition.stages[0].retry_limit",
            "content.workflow.metadata",
            "content.workflow.name",
        ]
    );
    let without = changed(|it| _ = it.as_object_mut().unwrap().remove("workflow"));
    assert_eq!(
        wrong(&without),
        [
            "content.workflow",
            "content.workflow.definition",
            "content.workflow.metadata",
            "content.workflow.name"
        ]
    );
}

#[test]
fn a_file_may_not_hold_more_than_a_draft_may() {
    let file =
        changed(|it| it["workflow"]["definition"]["stages"][0]["llm"]["prompt"] = json!("x".repeat(DRAFT_BYTES)));
    assert_eq!(wrong(&file), ["content.workflow.definition"]);
    let file = changed(|it| it["workflow"]["metadata"] = json!({"a": "x".repeat(METADATA_BYTES)}));
    assert_eq!(wrong(&file), ["content.workflow.metadata"]);
}
