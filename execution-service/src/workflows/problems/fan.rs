//! The rules of maps and of the stages that they run, of waits and of sub-workflows.

use std::{collections::BTreeMap, time::Duration};

use service_kit::{error::Violations, ids::WorkflowId};

use super::Surroundings;
use crate::engine::definition::{Definition, Fan, Kind, MAX_CONCURRENCY, Stage, SubWorkflow, Validation, Wait};

/// The longest that a run may wait for a time.
pub(super) const MAX_WAIT: Duration = Duration::from_hours(24 * 366);

/// Notes the problems of a map.
pub(super) fn map(found: &mut Violations, field: &str, around: &Surroundings<'_>, place: usize, fan: &Fan) {
    if let Some(problem) = around.path_problem(place, &fan.items_path) {
        found.add(format!("{field}.items_path"), problem);
    }
    if fan.concurrency > MAX_CONCURRENCY {
        found.add(
            format!("{field}.concurrency"),
            format!("must be at most {MAX_CONCURRENCY}"),
        );
    }
    let field = format!("{field}.stage");
    let Some(body) = around.draft.position(&fan.stage) else {
        return found.add(field, format!("{} names no stage", fan.stage));
    };
    let stage = &around.draft.stages[body];
    if !stage.kind.is_body() {
        found.add(
            &*field,
            "must be a stage of the kind llm, retrieve, http, file, workflow or activepieces",
        );
    } else if matches!(stage.validation, Validation::Manual(_)) {
        found.add(&*field, "must not wait for people: each of the items would");
    }
    let mut maps = around.draft.stages[..place].iter();
    if maps.any(|it| matches!(&it.kind, Kind::Map(other) if other.stage == fan.stage)) {
        found.add(field, format!("{} is run by an earlier map already", fan.stage));
    }
}

/// Notes what a stage that a map runs has no use for.
pub(super) fn body(found: &mut Violations, field: &str, stage: &Stage) {
    let useless = [
        ("next_on_pass", stage.next_on_pass.is_some()),
        ("next_on_fail", stage.next_on_fail.is_some()),
        ("routes_on_pass", !stage.routes_on_pass.is_empty()),
        ("routes_on_fail", !stage.routes_on_fail.is_empty()),
    ];
    for (name, _) in useless.iter().filter(|(_, given)| *given) {
        found.add(
            format!("{field}.{name}"),
            "a stage that a map runs leads nowhere by itself",
        );
    }
}

/// Notes what a stage that nothing is called for has no use for.
pub(super) fn uncalled(found: &mut Violations, field: &str, stage: &Stage) {
    if stage.validation != Validation::None {
        found.add(format!("{field}.validation"), "there is nothing to check here");
    }
    if !stage.output_variables.is_empty() {
        found.add(
            format!("{field}.output_variables"),
            "the output of such a stage has a form of its own",
        );
    }
    if stage.retry_limit > 0 && !matches!(stage.kind, Kind::Approval(_)) {
        found.add(format!("{field}.retry_limit"), "there is nothing to try again here");
    }
}

/// Notes the problems of a wait.
pub(super) fn wait(found: &mut Violations, field: &str, around: &Surroundings<'_>, place: usize, wait: &Wait) {
    if wait.duration.is_none() && wait.until_path.is_none() && wait.signal.is_none() {
        found.add(field, "must have a duration, an until_path or a signal");
    }
    if wait.duration.is_some_and(|it| it.is_zero() || it > MAX_WAIT) {
        found.add(
            format!("{field}.duration"),
            "must be more than nothing and at most 366 days",
        );
    }
    if let Some(path) = &wait.until_path
        && let Some(problem) = around.path_problem(place, path)
    {
        found.add(format!("{field}.until_path"), problem);
    }
    if wait.signal.as_ref().is_some_and(|it| it.chars().count() > 100) {
        found.add(format!("{field}.signal"), "must have at most 100 characters");
    }
}

/// The workflows that the stages of a draft run.
pub fn called(draft: &Definition) -> Vec<WorkflowId> {
    children(draft).map(|(_, id, _)| id).collect()
}

/// Notes which of those cannot be run: `callable` are those that the company has in use, by the number of their newest version;
/// `itself` is the workflow that the draft is of, if it is one's already.
pub fn uncallable(
    found: &mut Violations,
    draft: &Definition,
    itself: Option<WorkflowId>,
    callable: &BTreeMap<WorkflowId, i32>,
) {
    for (place, id, child) in children(draft) {
        let field = format!("draft.stages[{place}].workflow");
        let newest = callable.get(&id).copied();
        let wanted = child.version.map_or(1, i64::from);
        if itself == Some(id) {
            let problem = "is the workflow itself: each of its runs would begin another one";
            found.add(format!("{field}.workflow_id"), problem);
        } else if newest.is_none() {
            let problem = "names no workflow that the company has in use";
            found.add(format!("{field}.workflow_id"), problem);
        } else if newest == Some(0) {
            let problem = "names a workflow that has no published version";
            found.add(format!("{field}.workflow_id"), problem);
        } else if newest.is_some_and(|newest| wanted < 1 || wanted > i64::from(newest)) {
            found.add(format!("{field}.version"), "is no version of that workflow");
        }
    }
}

fn children(draft: &Definition) -> impl Iterator<Item = (usize, WorkflowId, &SubWorkflow)> {
    draft.stages.iter().enumerate().filter_map(|(place, stage)| {
        let Kind::Workflow(child) = &stage.kind else {
            return None;
        };
        Some((place, child.workflow_id.parse().ok()?, child))
    })
}

/// Notes the problems of a sub-workflow that can be seen without knowing the company's workflows.
pub(super) fn workflow(found: &mut Violations, field: &str, child: &SubWorkflow) {
    if child.workflow_id.parse::<WorkflowId>().is_err() {
        found.add(format!("{field}.workflow_id"), "must be the id of a workflow");
    }
}
