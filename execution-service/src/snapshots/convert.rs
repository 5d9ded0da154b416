//! Snapshots as the contract writes them.

use prost_types::FieldMask;
use serde_json::{Value, json};
use service_kit::{
    error::{Result, Violation, Violations},
    ids::{SnapshotId, StudioId},
    update,
};
use studios_proto::execution::{
    self as proto, compare_snapshots_request::To, restore_snapshot_request::Target as Given,
};

use super::{
    Changes, Content, Filter, Listed, Other, Snapshot, Summary, Wish, file,
    restoring::{Restored, Target},
};
use crate::{
    requests,
    workflows::{
        convert::{contract, problem},
        diff,
    },
};

pub(super) const MEDIA_TYPE: &str = "application/json";
/// The fields that an update may change.
const CHANGEABLE: &[&str] = &["name", "description", "keep_on_delete"];

pub(super) fn wish(
    method: &'static str,
    request: &proto::CreateSnapshotRequest,
) -> Result<(Wish, Option<requests::Key>)> {
    let mut violations = Violations::new();
    let workflow = violations.id("workflow_id", &request.workflow_id);
    let name = violations.text("name", &request.name, 1..=100);
    let description = violations.text("description", &request.description, 0..=500);
    if request.version < 0 {
        violations.add("version", "must not be negative");
    }
    let key = requests::Key::read(&mut violations, method, &request.request_id, request);
    violations.finish()?;
    let wish = Wish {
        workflow: workflow.expect("a missing one is a violation"),
        version: request.version,
        name: name.expect("a missing one is a violation"),
        description: description.expect("a missing one is a violation"),
        keep_on_delete: request.keep_on_delete,
    };
    Ok((wish, key))
}

pub(super) fn filter(request: &proto::ListSnapshotsRequest) -> Result<Filter> {
    let mut violations = Violations::new();
    let filter = Filter {
        studio: violations.optional_id("studio_id", &request.studio_id),
        workflow: violations.optional_id("workflow_id", &request.workflow_id),
        own: request.own,
        show_automatic: request.show_automatic,
    };
    violations.finish()?;
    Ok(filter)
}

pub(super) fn changes(request: &proto::UpdateSnapshotRequest) -> Result<(SnapshotId, String, Changes)> {
    let mut violations = Violations::new();
    let given = request.snapshot.clone().unwrap_or_default();
    let id = violations.id("snapshot.id", &given.id);
    let set = [
        ("name", !given.name.is_empty()),
        ("description", !given.description.is_empty()),
        ("keep_on_delete", given.keep_on_delete),
    ];
    let set: Vec<_> = set
        .iter()
        .filter(|(_, is_set)| *is_set)
        .map(|(path, _)| *path)
        .collect();
    let mask: Option<&FieldMask> = request.update_mask.as_ref();
    let paths = violations.include(update::paths(mask, CHANGEABLE, &set))?;
    let paths = paths.unwrap_or_default();
    let mut changes = Changes::default();
    if paths.contains("name") {
        changes.name = violations.text("snapshot.name", &given.name, 1..=100);
    }
    if paths.contains("description") {
        changes.description = violations.text("snapshot.description", &given.description, 0..=500);
    }
    if paths.contains("keep_on_delete") {
        changes.keep_on_delete = Some(given.keep_on_delete);
    }
    violations.finish()?;
    Ok((id.expect("a missing one is a violation"), given.etag, changes))
}

pub(super) fn restore(
    method: &'static str,
    request: &proto::RestoreSnapshotRequest,
) -> Result<(SnapshotId, Target, Option<requests::Key>)> {
    let mut violations = Violations::new();
    let id = violations.id("id", &request.id);
    let target = match &request.target {
        Some(Given::NewWorkflow(new)) => violations
            .text("new_workflow.name", &new.name, 1..=200)
            .map(Target::New),
        Some(Given::OverDraft(over)) => Some(Target::OverDraft(over.etag.clone())),
        None => {
            violations.add("target", "must be new_workflow or over_draft");
            None
        }
    };
    let key = requests::Key::read(&mut violations, method, &request.request_id, request);
    violations.finish()?;
    Ok((
        id.expect("a missing one is a violation"),
        target.expect("a missing one is a violation"),
        key,
    ))
}

pub(super) fn comparison(request: &proto::CompareSnapshotsRequest) -> Result<(SnapshotId, Other)> {
    let mut violations = Violations::new();
    let from = violations.id("from_id", &request.from_id);
    let to = match &request.to {
        Some(To::ToId(id)) => violations.id("to_id", id).map(Other::Snapshot),
        Some(To::ToWorkflowId(id)) => violations.id("to_workflow_id", id).map(Other::DraftOf),
        None => {
            violations.add("to", "must be to_id or to_workflow_id");
            None
        }
    };
    violations.finish()?;
    Ok((
        from.expect("a missing one is a violation"),
        to.expect("a missing one is a violation"),
    ))
}

/// What an import asks for, its file unread.
pub(super) fn import(
    method: &'static str,
    request: &proto::ImportSnapshotRequest,
) -> Result<(StudioId, Option<requests::Key>)> {
    let mut violations = Violations::new();
    let studio = violations.id("studio_id", &request.studio_id);
    let key = requests::Key::read(&mut violations, method, &request.request_id, request);
    violations.finish()?;
    Ok((studio.expect("a missing one is a violation"), key))
}

/// Compares what two snapshots hold.
pub(super) fn compared((old, new): (Content, Content)) -> proto::CompareSnapshotsResponse {
    let told = diff::diff(&flat(old), &flat(new));
    proto::CompareSnapshotsResponse {
        diff: Some(told.into()),
    }
}

/// A definition, and beside it what else there is of its workflow.
fn flat(content: Content) -> Value {
    let mut all = contract::to_json(content.definition);
    all["name"] = json!(content.name);
    all["description"] = json!(content.description);
    all["metadata"] = Value::Object(content.metadata);
    all
}

pub(super) fn exported(snapshot: &Snapshot) -> proto::ExportSnapshotResponse {
    let plain = |it: char| if it.is_alphanumeric() || it == '-' { it } else { '_' };
    let name: String = snapshot.summary.name.chars().map(plain).collect();
    proto::ExportSnapshotResponse {
        content: file::write(snapshot),
        file_name: format!("{name}.studios.json"),
        media_type: MEDIA_TYPE.into(),
    }
}

pub(super) fn imported((snapshot, warnings): (Snapshot, Vec<Violation>)) -> proto::ImportSnapshotResponse {
    proto::ImportSnapshotResponse {
        snapshot: Some(snapshot.into()),
        warnings: warnings.into_iter().map(problem).collect(),
    }
}

pub(super) fn listed(listed: Listed) -> proto::ListSnapshotsResponse {
    proto::ListSnapshotsResponse {
        snapshots: listed.snapshots.into_iter().map(Into::into).collect(),
        next_page_token: String::new(),
        own_count: listed.used,
        own_limit: listed.allowed,
    }
}

impl From<Restored> for proto::RestoreSnapshotResponse {
    fn from(restored: Restored) -> Self {
        Self {
            workflow: Some(restored.workflow.into()),
            kept_snapshot_id: restored.kept.map(|it| it.to_string()).unwrap_or_default(),
        }
    }
}

impl From<Snapshot> for proto::Snapshot {
    fn from(snapshot: Snapshot) -> Self {
        Self {
            content: Some(snapshot.content.into()),
            ..snapshot.summary.into()
        }
    }
}

impl From<Content> for proto::SnapshotContent {
    fn from(content: Content) -> Self {
        Self {
            name: content.name,
            description: content.description,
            metadata: Some(update::json_to_struct(&content.metadata)),
            definition: Some(content.definition.into()),
        }
    }
}

impl From<Summary> for proto::Snapshot {
    fn from(summary: Summary) -> Self {
        Self {
            id: summary.id.to_string(),
            company_id: summary.company.to_string(),
            studio_id: summary.studio.to_string(),
            workflow_id: summary.workflow.map(|it| it.to_string()).unwrap_or_default(),
            version: summary.version.unwrap_or_default(),
            name: summary.name,
            description: summary.description,
            keep_on_delete: summary.keep_on_delete,
            automatic: summary.automatic,
            created_by: summary.created_by.map(|it| it.to_string()).unwrap_or_default(),
            content: None,
            create_time: Some(update::timestamp(summary.created_at)),
            update_time: Some(update::timestamp(summary.updated_at)),
            etag: update::etag(summary.revision),
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use service_kit::ids::CompanyId;
    use time::OffsetDateTime;

    use super::*;

    /// A snapshot with a schema of so many levels.
    fn nested(levels: usize) -> Snapshot {
        let schema = (0..levels).fold(json!(1), |it, _| json!({ "a": it }));
        let stage = json!({ "name": "a", "kind": "llm", "model": "m", "prompt": "p", "response_schema": schema });
        Snapshot {
            summary: Summary {
                id: SnapshotId::generate(),
                company: CompanyId::generate(),
                studio: StudioId::generate(),
                workflow: None,
                version: None,
                name: "Before: the fair/1".into(),
                description: String::new(),
                keep_on_delete: false,
                automatic: false,
                created_by: None,
                created_at: OffsetDateTime::UNIX_EPOCH,
                updated_at: OffsetDateTime::UNIX_EPOCH,
                revision: 1,
            },
            content: Content {
                name: "Say".into(),
                description: String::new(),
                metadata: serde_json::Map::new(),
                definition: serde_json::from_value(json!({ "stages": [stage] })).unwrap(),
            },
        }
    }

    #[test]
    fn what_a_file_may_hold_can_be_decoded_wherever_it_is_answered_with() {
        let deepest = (1..31)
            .rev()
            .find(|levels| file::read(&file::write(&nested(*levels)), "").is_ok())
            .unwrap();
        assert!(deepest >= 20, "{deepest}");
        let it = nested(deepest);
        let draft = Some(it.content.definition.clone().into());
        let restored = proto::RestoreSnapshotResponse {
            workflow: Some(proto::Workflow {
                draft,
                ..Default::default()
            }),
            ..Default::default()
        };
        proto::RestoreSnapshotResponse::decode(restored.encode_to_vec().as_slice()).unwrap();
        let imported = imported((it.clone(), Vec::new()));
        proto::ImportSnapshotResponse::decode(imported.encode_to_vec().as_slice()).unwrap();
        let compared = compared((nested(1).content, it.content));
        proto::CompareSnapshotsResponse::decode(compared.encode_to_vec().as_slice()).unwrap();
    }

    #[test]
    fn a_files_name_is_one_on_every_system() {
        assert_eq!(exported(&nested(1)).file_name, "Before__the_fair_1.studios.json");
    }

    #[test]
    fn an_update_changes_what_is_set_or_what_its_mask_names() {
        let asked = |paths: &[&str]| {
            changes(&proto::UpdateSnapshotRequest {
                snapshot: Some(proto::Snapshot {
                    id: SnapshotId::generate().to_string(),
                    name: "New".into(),
                    ..Default::default()
                }),
                update_mask: Some(FieldMask {
                    paths: paths.iter().map(ToString::to_string).collect(),
                }),
            })
        };
        let (_, _, set) = asked(&[]).unwrap();
        assert_eq!(
            (set.name.as_deref(), set.description, set.keep_on_delete),
            (Some("New"), None, None)
        );
        let (_, _, named) = asked(&["description", "keep_on_delete"]).unwrap();
        assert_eq!(
            (named.name, named.description.as_deref(), named.keep_on_delete),
            (None, Some(""), Some(false))
        );
        assert!(asked(&["version"]).is_err(), "what it holds never changes");
    }
}
