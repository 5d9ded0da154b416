//! Workflows and their versions as the contract writes them.

use std::collections::BTreeSet;

use prost_types::FieldMask;
use serde::Serialize;
use service_kit::{
    error::{Result, Violation, Violations},
    ids::{UserId, WorkflowId},
    update,
};
use studios_proto::execution::{self as proto, diff_workflow_versions_request::To};

use super::{
    Changes, New, Summary, Version, VersionSummary, Workflow,
    comparing::{Question, Sides},
    diff,
    listing::{Filter, Order},
    rolling_back,
};
use crate::{requests, templates::Mark};

pub(crate) mod contract;
mod definition;

/// The fields that an update may change.
const CHANGEABLE: &[&str] = &["name", "description", "metadata", "draft"];
/// The largest draft, as stored JSON.
pub(crate) const DRAFT_BYTES: usize = 256 * 1024;
/// The largest metadata, as stored JSON.
pub(crate) const METADATA_BYTES: usize = 16 * 1024;

pub(super) fn new(
    method: &'static str,
    request: &proto::CreateWorkflowRequest,
) -> Result<(New, Option<requests::Key>)> {
    let mut violations = Violations::new();
    let given = request.workflow.clone().unwrap_or_default();
    let studio = violations.id("workflow.studio_id", &given.studio_id);
    let said = read(&mut violations, &given, &CHANGEABLE.iter().copied().collect());
    let key = requests::Key::read(&mut violations, method, &request.request_id, request);
    violations.finish()?;
    let new = New {
        studio: studio.expect("a missing one is a violation"),
        name: said.name.expect("a missing one is a violation"),
        description: said.description.unwrap_or_default(),
        metadata: said.metadata.unwrap_or_default(),
        draft: said.draft.unwrap_or_default(),
    };
    Ok((new, key))
}

pub(super) fn changes(request: &proto::UpdateWorkflowRequest) -> Result<(WorkflowId, String, Changes)> {
    let mut violations = Violations::new();
    let given = request.workflow.clone().unwrap_or_default();
    let id = violations.id("workflow.id", &given.id);
    let paths = violations.include(paths(request.update_mask.as_ref(), &given))?;
    let changes = read(&mut violations, &given, &paths.unwrap_or_default());
    violations.finish()?;
    Ok((id.expect("a missing one is a violation"), given.etag, changes))
}

pub(super) fn filter(request: &proto::ListWorkflowsRequest) -> Result<Filter> {
    let mut violations = Violations::new();
    let studio = violations.id("studio_id", &request.studio_id);
    let owner = violations.optional_id::<UserId>("owner_id", &request.owner_id);
    let name_contains = violations.text("name_contains", &request.name_contains, 0..=200);
    let tag = violations.text("tag", &request.tag, 0..=200);
    let order = Order::parse(&request.order_by);
    if order.is_none() {
        let words = Order::ALL.map(|(word, _)| word).join(", ");
        violations.add("order_by", format!("must be one of {words}"));
    }
    violations.finish()?;
    let given = |text: Option<String>| text.filter(|it| !it.is_empty());
    Ok(Filter {
        studio: studio.expect("a missing one is a violation"),
        show_deleted: request.show_deleted,
        name_contains: given(name_contains),
        tag: given(tag),
        owner,
        only_published: request.only_published,
        show_templates: request.show_templates,
        order: order.expect("a missing one is a violation"),
    })
}

pub(super) fn publish(
    method: &'static str,
    request: &proto::PublishWorkflowRequest,
) -> Result<(WorkflowId, Option<requests::Key>)> {
    let mut violations = Violations::new();
    let id = violations.id("id", &request.id);
    let key = requests::Key::read(&mut violations, method, &request.request_id, request);
    violations.finish()?;
    Ok((id.expect("a missing one is a violation"), key))
}

pub(super) fn version(request: &proto::GetWorkflowVersionRequest) -> Result<(WorkflowId, i32)> {
    let mut violations = Violations::new();
    let workflow = violations.id("workflow_id", &request.workflow_id);
    if request.number < 0 {
        violations.add("number", "must not be negative");
    }
    violations.finish()?;
    Ok((workflow.expect("a missing one is a violation"), request.number))
}

pub(super) fn question(request: &proto::DiffWorkflowVersionsRequest) -> Result<Question> {
    let mut violations = Violations::new();
    let workflow = violations.id("workflow_id", &request.workflow_id);
    let to = match &request.to {
        Some(To::ToNumber(number)) => Some(*number),
        Some(To::ToDraft(proto::Draft {})) | None => None,
    };
    for (field, number) in [("from_number", request.from_number), ("to_number", to.unwrap_or(0))] {
        if number < 0 {
            violations.add(field, "must not be negative");
        }
    }
    violations.finish()?;
    Ok(Question {
        workflow: workflow.expect("a missing one is a violation"),
        from: request.from_number,
        to,
    })
}

pub(super) fn roll_back(
    method: &'static str,
    request: &proto::RollBackWorkflowRequest,
) -> Result<(rolling_back::Wish, Option<requests::Key>)> {
    let mut violations = Violations::new();
    let workflow = violations.id("id", &request.id);
    if request.number < 1 {
        violations.add("number", "must be the number of a version, from 1");
    }
    let key = requests::Key::read(&mut violations, method, &request.request_id, request);
    violations.finish()?;
    let wish = rolling_back::Wish {
        workflow: workflow.expect("a missing one is a violation"),
        number: request.number,
        draft_only: request.draft_only,
        etag: request.etag.clone(),
    };
    Ok((wish, key))
}

fn paths(mask: Option<&FieldMask>, given: &proto::Workflow) -> Result<BTreeSet<&'static str>> {
    let set = [
        ("name", !given.name.is_empty()),
        ("description", !given.description.is_empty()),
        ("metadata", given.metadata.is_some()),
        ("draft", given.draft.is_some()),
    ];
    let set: Vec<_> = set
        .into_iter()
        .filter_map(|(path, is_set)| is_set.then_some(path))
        .collect();
    update::paths(mask, CHANGEABLE, &set)
}

fn read(violations: &mut Violations, given: &proto::Workflow, paths: &BTreeSet<&str>) -> Changes {
    let mut changes = Changes::default();
    if paths.contains("name") {
        changes.name = violations.text("workflow.name", &given.name, 1..=200);
    }
    if paths.contains("description") {
        changes.description = violations.text("workflow.description", &given.description, 0..=2_000);
    }
    if paths.contains("metadata") {
        changes.metadata = violations.object("workflow.metadata", given.metadata.as_ref());
        check_size(violations, "workflow.metadata", &changes.metadata, METADATA_BYTES);
    }
    if paths.contains("draft") {
        let draft = given.draft.clone().unwrap_or_default();
        changes.draft = Some(definition::read(violations, "workflow.draft", &draft));
        check_size(violations, "workflow.draft", &changes.draft, DRAFT_BYTES);
    }
    changes
}

pub(crate) fn check_size(violations: &mut Violations, field: &str, stored: &impl Serialize, most: usize) {
    let bytes = serde_json::to_vec(stored).expect("what was read has string keys and finite numbers");
    if bytes.len() > most {
        violations.add(field, format!("must have at most {} KiB as JSON", most / 1024));
    }
}

impl From<Workflow> for proto::Workflow {
    fn from(workflow: Workflow) -> Self {
        Self {
            draft: Some(workflow.draft.into()),
            ..workflow.summary.into()
        }
    }
}

impl From<Summary> for proto::Workflow {
    fn from(summary: Summary) -> Self {
        let (template_id, template_version) = summary.template.map_or_else(Default::default, Mark::into_texts);
        Self {
            template_id,
            template_version,
            id: summary.id.to_string(),
            company_id: summary.company.to_string(),
            studio_id: summary.studio.to_string(),
            owner_id: summary.owner.to_string(),
            name: summary.name,
            description: summary.description,
            metadata: Some(update::json_to_struct(&summary.metadata)),
            draft: None,
            published_version: summary.published_version,
            has_unpublished_changes: summary.has_unpublished_changes,
            create_time: Some(update::timestamp(summary.created_at)),
            update_time: Some(update::timestamp(summary.updated_at)),
            delete_time: summary.deleted_at.map(update::timestamp),
            etag: update::etag(summary.revision),
        }
    }
}

impl From<Version> for proto::WorkflowVersion {
    fn from(version: Version) -> Self {
        Self {
            definition: Some(version.definition.into()),
            ..version.summary.into()
        }
    }
}

impl From<VersionSummary> for proto::WorkflowVersion {
    fn from(summary: VersionSummary) -> Self {
        Self {
            id: summary.id.to_string(),
            workflow_id: summary.workflow.to_string(),
            number: summary.number,
            name: summary.name,
            definition: None,
            published_by: summary.published_by.to_string(),
            create_time: Some(update::timestamp(summary.created_at)),
            rolled_back_from: summary.rolled_back_from.unwrap_or_default(),
        }
    }
}

impl From<rolling_back::Done> for proto::RollBackWorkflowResponse {
    fn from(done: rolling_back::Done) -> Self {
        Self {
            workflow: Some(done.workflow.into()),
            version: done.version.map(Into::into),
            kept_snapshot_id: done.kept.map(|it| it.to_string()).unwrap_or_default(),
        }
    }
}

/// Compares what was read for it.
pub(super) fn compared(sides: Sides) -> proto::DiffWorkflowVersionsResponse {
    let told = diff::diff(&contract::to_json(sides.old), &contract::to_json(sides.new));
    proto::DiffWorkflowVersionsResponse {
        from_number: sides.from,
        to_number: sides.to.unwrap_or_default(),
        diff: Some(told.into()),
    }
}

impl From<diff::Diff> for proto::DefinitionDiff {
    fn from(told: diff::Diff) -> Self {
        Self {
            fields: told.fields.into_iter().map(Into::into).collect(),
            stages: told.stages.into_iter().map(Into::into).collect(),
            truncated: told.truncated,
        }
    }
}

impl From<diff::Stage> for proto::StageDiff {
    fn from(stage: diff::Stage) -> Self {
        let change = match (stage.from, stage.to) {
            (None, _) => proto::StageChange::Added,
            (_, None) => proto::StageChange::Removed,
            _ if stage.fields.is_empty() => proto::StageChange::Moved,
            _ => proto::StageChange::Changed,
        };
        let order = |place: Option<usize>| place.map_or(0, |it| i32::try_from(it + 1).unwrap_or(i32::MAX));
        Self {
            name: stage.name,
            change: change.into(),
            from_order: order(stage.from),
            to_order: order(stage.to),
            moved: stage.moved,
            fields: stage.fields.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<diff::Field> for proto::FieldDiff {
    fn from(field: diff::Field) -> Self {
        let value = |it: Option<serde_json::Value>| it.map(|it| shallow(&it));
        Self {
            path: field.path,
            old_value: value(field.old),
            new_value: value(field.new),
        }
    }
}

/// A value as clients can decode it where it stands: the nesting of messages is limited.
fn shallow(value: &serde_json::Value) -> prost_types::Value {
    const DEEPEST: usize = 16;
    fn is_deeper(value: &serde_json::Value, than: usize) -> bool {
        let Some(than) = than.checked_sub(1) else {
            return value.is_object() || value.is_array();
        };
        match value {
            serde_json::Value::Object(members) => members.values().any(|it| is_deeper(it, than)),
            serde_json::Value::Array(items) => items.iter().any(|it| is_deeper(it, than)),
            _ => false,
        }
    }
    if is_deeper(value, DEEPEST) {
        update::json_to_value(&serde_json::Value::String(value.to_string()))
    } else {
        update::json_to_value(value)
    }
}

pub(crate) fn problem(violation: Violation) -> proto::Problem {
    proto::Problem {
        field: violation.field,
        description: violation.description,
    }
}

#[cfg(test)]
mod tests;
