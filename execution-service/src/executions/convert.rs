//! Executions and their attempts as the contract writes them.

use service_kit::{ids::ExecutionId, update};
use sha2::{Digest, Sha256};
use studios_proto::execution as proto;
use time::OffsetDateTime;

use super::{Ask, Execution, Status, Summary, attempts::Recorded, bulk::Outcome, files, waiting::Place};
use crate::{
    engine::{
        failure::{Failure, FailureClass},
        journal::{AttemptFailure, CheckResult, Decision, Ruling, Source, StageTry},
        waiting::About,
    },
    templates::Mark,
};

mod asked;
mod dry;
mod events;
mod explained;
mod quotas;

pub(super) use asked::{
    attempt_filter, control, decide, delegate, dry_run, filter, fork, new, restart, retry, signal, trial, wait,
    waiting_filter, watch, with_reason,
};
pub(crate) use asked::{inputs, start_key};
pub(super) use dry::trace;
pub(super) use events::event;
pub(super) use explained::explanation;

/// A file that an execution was given or has made.
pub(super) fn file(taken: files::Taken) -> proto::ExecutionFile {
    let file = taken.file;
    let from = match taken.from {
        files::From::Input(input) => proto::ExecutionFile {
            direction: proto::FileDirection::Input.into(),
            input,
            ..Default::default()
        },
        files::From::Output(of) => proto::ExecutionFile {
            direction: proto::FileDirection::Output.into(),
            visit: number(of.visit),
            item: number(of.item),
            stage: of.stage,
            ..Default::default()
        },
    };
    proto::ExecutionFile {
        file_id: file.file_id.to_string(),
        version: file.version,
        name: file.name,
        mime_type: file.mime_type,
        size_bytes: file.size_bytes,
        sha256: file.sha256,
        document_id: file.document_id.map(|it| it.to_string()).unwrap_or_default(),
        ..from
    }
}

impl From<Execution> for proto::Execution {
    fn from(execution: Execution) -> Self {
        Self {
            inputs: Some(update::json_to_struct(&execution.inputs)),
            outputs: Some(update::json_to_struct(&execution.outputs)),
            remaining_executions: execution.remaining,
            ..execution.summary.into()
        }
    }
}

impl From<Summary> for proto::Execution {
    fn from(summary: Summary) -> Self {
        Self {
            id: summary.id.to_string(),
            company_id: summary.company.to_string(),
            studio_id: summary.studio.to_string(),
            workflow_id: summary.workflow.to_string(),
            workflow_version: summary.workflow_version,
            status: status(summary.status).into(),
            inputs: None,
            outputs: None,
            current_stage: summary.current_stage,
            failure: summary.failure.map(failure),
            started_by: summary.started_by.to_string(),
            create_time: Some(update::timestamp(summary.created_at)),
            start_time: summary.started_at.map(update::timestamp),
            end_time: summary.finished_at.map(update::timestamp),
            update_time: Some(update::timestamp(summary.updated_at)),
            trace_id: trace_id(&summary.trace_context).to_owned(),
            waiting_for: summary.waiting.first().map(|it| attempt_key(it.of.clone())),
            waiting: summary.waiting.into_iter().map(waiting).collect(),
            paused: summary.paused.map(|it| proto::Pause {
                paused_by: optional(it.by),
                reason: it.reason,
                pause_time: Some(update::timestamp(it.at)),
            }),
            parent_id: optional(summary.parent),
            source_id: optional(summary.source),
            depth: number(summary.depth),
            template_id: String::new(),
            template_version: String::new(),
            notes: Vec::new(),
            remaining_executions: None,
        }
    }
}

/// An execution with the template that it runs.
pub(super) fn marked(execution: proto::Execution, mark: Option<Mark>) -> proto::Execution {
    let (template_id, template_version) = mark.map_or_else(Default::default, Mark::into_texts);
    proto::Execution {
        template_id,
        template_version,
        ..execution
    }
}

fn waiting(ask: Ask) -> proto::Waiting {
    proto::Waiting {
        attempt: Some(attempt_key(ask.of)),
        about: about(ask.about).into(),
        question: ask.question,
        required: ask.required,
        approved: ask.approved,
        since: Some(update::timestamp(ask.since)),
        expire_time: ask.expires_at.map(update::timestamp),
        may_decide: ask.may_decide,
        escalated: ask.escalated,
    }
}

const fn about(about: About) -> proto::WaitingAbout {
    match about {
        About::Output => proto::WaitingAbout::Output,
        About::Question => proto::WaitingAbout::Question,
        About::Outcome => proto::WaitingAbout::Outcome,
    }
}

pub(super) fn place(place: Place) -> proto::WaitingExecution {
    proto::WaitingExecution {
        execution_id: place.execution.to_string(),
        studio_id: place.studio.to_string(),
        waiting: Some(waiting(place.ask)),
    }
}

pub(super) fn outcome(outcome: Outcome, dry: bool) -> proto::ControlResult {
    let (how, new, refusal) = match outcome.done {
        Ok(new) if dry => (proto::ControlOutcome::WouldBeDone, new, None),
        Ok(new) => (proto::ControlOutcome::Done, new, None),
        Err(refusal) => (proto::ControlOutcome::Refused, None, Some(refusal)),
    };
    let (reason, message) = refusal.map_or_else(Default::default, |it| (it.reason.to_owned(), it.message));
    proto::ControlResult {
        execution_id: outcome.execution.to_string(),
        outcome: how.into(),
        reason,
        message,
        new_execution_id: optional(new),
    }
}

fn optional(id: Option<impl ToString>) -> String {
    id.map_or_else(String::new, |it| it.to_string())
}

/// The trace id of a traceparent (W3C Trace Context: version, trace id, parent id, flags).
fn trace_id(traceparent: &str) -> &str {
    traceparent.split('-').nth(1).unwrap_or_default()
}

fn status(status: Status) -> proto::ExecutionStatus {
    match status {
        Status::Pending => proto::ExecutionStatus::Pending,
        Status::Running => proto::ExecutionStatus::Running,
        Status::Completed => proto::ExecutionStatus::Completed,
        Status::Failed => proto::ExecutionStatus::Failed,
        Status::Paused => proto::ExecutionStatus::Paused,
        Status::Cancelled => proto::ExecutionStatus::Cancelled,
    }
}

fn status_given(given: proto::ExecutionStatus) -> Option<Status> {
    Status::ALL.into_iter().find(|it| status(*it) == given)
}

fn failure(failure: Failure) -> proto::Failure {
    let class = match failure.class {
        FailureClass::Validation => proto::FailureClass::Validation,
        FailureClass::ProviderError => proto::FailureClass::ProviderError,
        FailureClass::RateLimit => proto::FailureClass::RateLimit,
        FailureClass::Timeout => proto::FailureClass::Timeout,
        FailureClass::Capped => proto::FailureClass::Capped,
    };
    proto::Failure {
        class: class.into(),
        message: failure.message,
        reason: String::new(),
    }
}

fn attempt_failure(it: AttemptFailure) -> proto::Failure {
    let whole = failure(it.failure());
    proto::Failure {
        reason: it.reason,
        ..whole
    }
}

pub(super) fn attempt(execution: ExecutionId, recorded: Recorded) -> proto::Attempt {
    proto::Attempt {
        execution_id: execution.to_string(),
        ..alone(recorded)
    }
}

/// An attempt of no execution, or of one that is not named.
pub(super) fn alone(recorded: Recorded) -> proto::Attempt {
    let Recorded {
        seq,
        attempt,
        prompt,
        decisions,
        settled_by,
    } = recorded;
    let status = match &attempt.failure {
        Some(_) => proto::AttemptStatus::Failed,
        None if attempt.is_open() => proto::AttemptStatus::Waiting,
        None => proto::AttemptStatus::Succeeded,
    };
    let result = check_result(attempt.validation.result);
    let settled = settled_by.and_then(|it| decisions.get(it));
    let (decided_by, decide_time) = settled.map_or_else(Default::default, |(at, decision)| {
        (decision.by.to_string(), Some(update::timestamp(*at)))
    });
    let judge = attempt.judge.unwrap_or_default();
    let used = attempt.usage.unwrap_or_default();
    proto::Attempt {
        execution_id: String::new(),
        seq,
        stage: attempt.stage,
        visit: number(attempt.visit),
        item: number(attempt.item),
        attempt: number(attempt.attempt),
        status: status.into(),
        inputs: Some(update::json_to_struct(&prompt.inputs)),
        prompt: prompt.prompt,
        raw_output: attempt.raw_output,
        output: Some(update::json_to_value(&attempt.output)),
        validation_result: result.into(),
        validation_notes: attempt.validation.notes,
        failure: attempt.failure.map(attempt_failure),
        model: used.model,
        input_tokens: large(used.input_tokens),
        output_tokens: large(used.output_tokens),
        cost_micros: large(used.cost_micros),
        billing_uncertain: used.billing_uncertain,
        sources: (1..).zip(attempt.sources).map(source).collect(),
        start_time: Some(update::timestamp(attempt.started_at)),
        duration: Some(update::duration(std::time::Duration::from_millis(attempt.duration_ms))),
        output_cleaned: attempt.cleaned,
        decided_by,
        decide_time,
        decisions: decisions.into_iter().map(|(at, it)| attempt_decision(at, it)).collect(),
        judge_model: judge.model,
        judge_input_tokens: large(judge.input_tokens),
        judge_output_tokens: large(judge.output_tokens),
        judge_cost_micros: large(judge.cost_micros),
    }
}

fn attempt_decision(at: OffsetDateTime, given: Decision) -> proto::AttemptDecision {
    proto::AttemptDecision {
        decision: ruling(given.decision).into(),
        notes: given.notes,
        decided_by: given.by.to_string(),
        decide_time: Some(update::timestamp(at)),
        form: given.form.as_ref().map(update::json_to_value),
        edited: given.output.is_some(),
    }
}

const fn check_result(result: CheckResult) -> proto::ValidationResult {
    match result {
        CheckResult::Unchecked => proto::ValidationResult::Unspecified,
        CheckResult::Pending => proto::ValidationResult::Pending,
        CheckResult::Pass => proto::ValidationResult::Pass,
        CheckResult::Fail => proto::ValidationResult::Fail,
        CheckResult::Error => proto::ValidationResult::Error,
    }
}

const fn ruling(ruling: Ruling) -> proto::Decision {
    match ruling {
        Ruling::Pass => proto::Decision::Pass,
        Ruling::Fail => proto::Decision::Fail,
        Ruling::Again => proto::Decision::Again,
    }
}

pub(crate) fn attempt_key(of: StageTry) -> proto::AttemptKey {
    proto::AttemptKey {
        stage: of.stage,
        visit: number(of.visit),
        item: number(of.item),
        attempt: number(of.attempt),
    }
}

fn source((place, source): (i32, Source)) -> proto::Source {
    proto::Source {
        number: place,
        content_sha256: hex::encode(Sha256::digest(&source.content)),
        page: source.page.map(number).unwrap_or_default(),
        document_id: source.document_id.to_string(),
        chunk_id: source.chunk_id.to_string(),
        section: source.section,
        document_title: source.document_title,
    }
}

fn number(given: u32) -> i32 {
    i32::try_from(given).unwrap_or(i32::MAX)
}

fn large(given: u64) -> i64 {
    i64::try_from(given).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_id_is_read_from_its_traceparent() {
        let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(trace_id(traceparent), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(trace_id(""), "");
    }
}
