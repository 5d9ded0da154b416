//! Workflows and their versions as the contract writes them.

use std::collections::BTreeSet;

use prost_types::FieldMask;
use serde::Serialize;
use service_kit::{
    error::{Result, Violation, Violations},
    ids::WorkflowId,
    update,
};
use studios_proto::execution as proto;

use super::{Changes, Filter, New, Summary, Version, VersionSummary, Workflow};
use crate::requests;

mod definition;

/// The fields that an update may change.
const CHANGEABLE: &[&str] = &["name", "description", "metadata", "draft"];
/// The largest draft, as stored JSON.
const DRAFT_BYTES: usize = 256 * 1024;
/// The largest metadata, as stored JSON.
const METADATA_BYTES: usize = 16 * 1024;

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
    let studio = Violations::only_id("studio_id", &request.studio_id)?;
    Ok(Filter {
        studio,
        show_deleted: request.show_deleted,
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

fn check_size(violations: &mut Violations, field: &str, stored: &impl Serialize, most: usize) {
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
        Self {
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
        }
    }
}

pub(super) fn problem(violation: Violation) -> proto::Problem {
    proto::Problem {
        field: violation.field,
        description: violation.description,
    }
}

#[cfg(test)]
mod tests;
