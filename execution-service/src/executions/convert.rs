//! Executions, their attempts and events as the contract writes them.

use std::time::Duration;

use service_kit::{
    error::{Result, Violations},
    ids::{ExecutionId, WorkflowId},
    update,
};
use studios_proto::execution::{self as proto, execution_event};

use super::{
    Execution, Filter, New, Status, Summary,
    attempts::{AttemptFilter, Recorded},
    decide::Decide,
    events::{Event, What},
    wait::{LONGEST, USUAL},
};
use crate::{
    engine::{
        failure::{Failure, FailureClass},
        journal::{CheckResult, Decision, Ruling, Source, StageTry},
    },
    requests,
    worker::StartKey,
};

/// The largest inputs, as JSON.
const INPUT_BYTES: usize = 256 * 1024;

pub(super) fn new(method: &'static str, request: &proto::StartExecutionRequest) -> Result<New> {
    let mut violations = Violations::new();
    let workflow = violations.id("workflow_id", &request.workflow_id);
    if request.version < 0 {
        violations.add("version", "must not be negative");
    }
    let inputs = violations.object("inputs", request.inputs.as_ref()).unwrap_or_default();
    if serde_json::to_vec(&inputs).is_ok_and(|it| it.len() > INPUT_BYTES) {
        violations.add(
            "inputs",
            format!("must have at most {} KiB as JSON", INPUT_BYTES / 1024),
        );
    }
    let key = violations
        .text("request_id", &request.request_id, 0..=200)
        .filter(|it| !it.is_empty());
    violations.finish()?;
    Ok(New {
        workflow: workflow.expect("a missing one is a violation"),
        version: request.version,
        inputs,
        key: key.map(|key| StartKey {
            method,
            key,
            body_hash: update::body_hash(request),
        }),
    })
}

pub(super) fn filter(request: &proto::ListExecutionsRequest) -> Result<Filter> {
    let mut violations = Violations::new();
    let studio = violations.id("studio_id", &request.studio_id);
    let workflow: Option<WorkflowId> = violations.optional_id("workflow_id", &request.workflow_id);
    let mut statuses = Vec::new();
    for (place, given) in request.statuses.iter().enumerate() {
        match proto::ExecutionStatus::try_from(*given).ok().and_then(status_given) {
            Some(status) => statuses.push(status),
            None => violations.add(format!("statuses[{place}]"), "must be a status"),
        }
    }
    statuses.sort_unstable();
    statuses.dedup();
    let from = moment(&mut violations, "create_time_from", request.create_time_from.as_ref());
    let before = moment(
        &mut violations,
        "create_time_before",
        request.create_time_before.as_ref(),
    );
    violations.finish()?;
    Ok(Filter {
        studio: studio.expect("a missing one is a violation"),
        statuses,
        workflow,
        from,
        before,
    })
}

pub(super) fn attempt_filter(request: &proto::ListAttemptsRequest) -> Result<AttemptFilter> {
    let mut violations = Violations::new();
    let execution = violations.id("execution_id", &request.execution_id);
    let stage = violations
        .text("stage", &request.stage, 0..=64)
        .filter(|it| !it.is_empty());
    violations.finish()?;
    Ok(AttemptFilter {
        execution: execution.expect("a missing one is a violation"),
        stage,
    })
}

pub(super) fn cancel(request: &proto::CancelExecutionRequest) -> Result<(ExecutionId, String)> {
    let mut violations = Violations::new();
    let id = violations.id("id", &request.id);
    let reason = violations.text("reason", &request.reason, 0..=500);
    violations.finish()?;
    Ok((id.expect("a missing one is a violation"), reason.unwrap_or_default()))
}

pub(super) fn decide(method: &'static str, request: &proto::DecideAttemptRequest) -> Result<Decide> {
    let mut violations = Violations::new();
    let execution = violations.id("execution_id", &request.execution_id);
    let stage = violations.text("stage", &request.stage, 1..=64);
    let mut number = |field: &str, given: i32, least: u32| {
        let number = u32::try_from(given).ok().filter(|it| *it >= least);
        if number.is_none() {
            violations.add(field, format!("must be at least {least}"));
        }
        number.unwrap_or_default()
    };
    let (visit, item, attempt) = (
        number("visit", request.visit, 1),
        number("item", request.item, 0),
        number("attempt", request.attempt, 1),
    );
    let decision = match request.decision() {
        proto::Decision::Pass => Some(Ruling::Pass),
        proto::Decision::Fail => Some(Ruling::Fail),
        proto::Decision::Unspecified => None,
    };
    if decision.is_none() {
        violations.add("decision", "must be DECISION_PASS or DECISION_FAIL");
    }
    let notes = violations.text("notes", &request.notes, 0..=2_000);
    let key = requests::Key::read(&mut violations, method, &request.request_id, request);
    violations.finish()?;
    Ok(Decide {
        execution: execution.expect("a missing one is a violation"),
        of: StageTry {
            stage: stage.expect("a missing one is a violation"),
            visit,
            item,
            attempt,
        },
        decision: decision.expect("a missing one is a violation"),
        notes: notes.unwrap_or_default(),
        key,
    })
}

/// Whose rest is waited for, and how long.
pub(super) fn wait(request: &proto::WaitExecutionRequest) -> Result<(ExecutionId, Duration)> {
    let mut violations = Violations::new();
    let id = violations.id("id", &request.id);
    let at_most = match request.timeout.map(Duration::try_from) {
        None => USUAL,
        Some(Ok(given)) => given.min(LONGEST),
        Some(Err(_)) => {
            violations.add("timeout", "must not be negative");
            USUAL
        }
    };
    violations.finish()?;
    Ok((id.expect("a missing one is a violation"), at_most))
}

pub(super) fn watch(request: &proto::WatchExecutionRequest) -> Result<(ExecutionId, i64)> {
    let mut violations = Violations::new();
    let id = violations.id("id", &request.id);
    if request.after < 0 {
        violations.add("after", "must not be negative");
    }
    violations.finish()?;
    Ok((id.expect("a missing one is a violation"), request.after))
}

fn moment(
    violations: &mut Violations,
    field: &str,
    given: Option<&prost_types::Timestamp>,
) -> Option<time::OffsetDateTime> {
    let moment = update::moment(given?);
    if moment.is_none() {
        violations.add(field, "must be a time in the years 1 to 9999");
    }
    moment
}

impl From<Execution> for proto::Execution {
    fn from(execution: Execution) -> Self {
        Self {
            inputs: Some(update::json_to_struct(&execution.inputs)),
            outputs: Some(update::json_to_struct(&execution.outputs)),
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
            waiting_for: summary.waiting_for.map(attempt_key),
        }
    }
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
    }
}

pub(super) fn attempt(execution: ExecutionId, recorded: Recorded) -> proto::Attempt {
    let Recorded {
        seq,
        mut attempt,
        prompt,
        decided,
    } = recorded;
    let mut status = match &attempt.failure {
        Some(_) => proto::AttemptStatus::Failed,
        None if attempt.is_open() => proto::AttemptStatus::Waiting,
        None => proto::AttemptStatus::Succeeded,
    };
    let mut result = match attempt.validation.result {
        CheckResult::Unchecked => proto::ValidationResult::Unspecified,
        CheckResult::Pending => proto::ValidationResult::Pending,
        CheckResult::Pass => proto::ValidationResult::Pass,
        CheckResult::Fail => proto::ValidationResult::Fail,
        CheckResult::Error => proto::ValidationResult::Error,
    };
    let (decide_time, decision) = decided.unzip();
    if let Some(decision) = &decision {
        (status, result) = match decision.decision {
            Ruling::Pass => (proto::AttemptStatus::Succeeded, proto::ValidationResult::Pass),
            Ruling::Fail => (proto::AttemptStatus::Failed, proto::ValidationResult::Fail),
            // It is said of effects whose outcome is unknown, of which there is no attempt.
            Ruling::Again => (status, result),
        };
        attempt.validation.notes.clone_from(&decision.notes);
        if decision.decision == Ruling::Fail {
            attempt.failure = Some(decision.refusal());
        }
    }
    let used = attempt.usage.unwrap_or_default();
    proto::Attempt {
        execution_id: execution.to_string(),
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
        failure: attempt.failure.map(|it| failure(it.failure())),
        model: used.model,
        input_tokens: large(used.input_tokens),
        output_tokens: large(used.output_tokens),
        cost_micros: large(used.cost_micros),
        billing_uncertain: used.billing_uncertain,
        sources: attempt.sources.into_iter().map(source).collect(),
        start_time: Some(update::timestamp(attempt.started_at)),
        duration: Some(update::duration(std::time::Duration::from_millis(attempt.duration_ms))),
        output_cleaned: attempt.cleaned,
        decided_by: decision.map(|it| it.by.to_string()).unwrap_or_default(),
        decide_time: decide_time.map(update::timestamp),
    }
}

fn attempt_key(of: StageTry) -> proto::AttemptKey {
    proto::AttemptKey {
        stage: of.stage,
        visit: number(of.visit),
        item: number(of.item),
        attempt: number(of.attempt),
    }
}

fn source(source: Source) -> proto::Source {
    proto::Source {
        document_id: source.document_id.to_string(),
        chunk_id: source.chunk_id.to_string(),
        section: source.section,
        document_title: source.document_title,
    }
}

pub(super) fn event(execution: ExecutionId, event: Event) -> proto::ExecutionEvent {
    let what = match event.what {
        What::Status {
            status: to,
            failure: why,
            outputs,
        } => execution_event::Event::StatusChanged(proto::StatusChanged {
            status: status(to).into(),
            failure: why.map(failure),
            outputs: outputs.as_ref().map(update::json_to_struct),
        }),
        What::Started(StageTry {
            stage,
            visit,
            item,
            attempt,
        }) => execution_event::Event::StageStarted(proto::StageStarted {
            stage,
            visit: number(visit),
            item: number(item),
            attempt: number(attempt),
        }),
        What::Recorded(recorded) => execution_event::Event::AttemptRecorded(proto::AttemptRecorded {
            attempt: Some(attempt(execution, *recorded)),
        }),
        What::Decided(Decision {
            of,
            decision,
            by,
            notes,
            ..
        }) => {
            let decision = match decision {
                Ruling::Pass => proto::Decision::Pass,
                Ruling::Fail => proto::Decision::Fail,
                Ruling::Again => proto::Decision::Unspecified,
            };
            execution_event::Event::AttemptDecided(proto::AttemptDecided {
                attempt: Some(attempt_key(of)),
                decision: decision.into(),
                notes,
                decided_by: by.to_string(),
            })
        }
        What::Delta { of, text, so_far } => execution_event::Event::OutputDelta(proto::OutputDelta {
            stage: of.stage,
            visit: number(of.visit),
            item: number(of.item),
            attempt: number(of.attempt),
            text,
            so_far,
        }),
    };
    proto::ExecutionEvent {
        execution_id: execution.to_string(),
        cursor: event.cursor,
        time: Some(update::timestamp(event.time)),
        event: Some(what),
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
    use service_kit::error::Error;

    use super::*;

    fn fields<T>(result: Result<T>) -> Vec<String> {
        match result {
            Err(Error::Invalid(violations)) => violations.into_iter().map(|it| it.field).collect(),
            _ => panic!("not refused for its input"),
        }
    }

    #[test]
    fn every_wrong_field_of_a_start_is_named() {
        let request = proto::StartExecutionRequest {
            workflow_id: "w".into(),
            version: -1,
            inputs: None,
            request_id: "k".repeat(201),
        };
        assert_eq!(fields(new("m", &request)), ["workflow_id", "version", "request_id"]);
    }

    #[test]
    fn every_wrong_field_of_a_decision_is_named() {
        let request = proto::DecideAttemptRequest {
            item: -1,
            decision: 9,
            notes: "n".repeat(2_001),
            request_id: "r".into(),
            ..Default::default()
        };
        let named = fields(decide("m", &request));
        let all = [
            "execution_id",
            "stage",
            "visit",
            "item",
            "attempt",
            "decision",
            "notes",
            "request_id",
        ];
        assert_eq!(named, all);
    }

    #[test]
    fn inputs_have_a_size() {
        let mut inputs = prost_types::Struct::default();
        inputs
            .fields
            .insert("text".into(), update::json_to_value(&"x".repeat(INPUT_BYTES).into()));
        let request = proto::StartExecutionRequest {
            workflow_id: WorkflowId::generate().to_string(),
            inputs: Some(inputs),
            ..Default::default()
        };
        assert_eq!(fields(new("m", &request)), ["inputs"]);
    }

    #[test]
    fn every_wrong_filter_is_named_and_statuses_are_a_set() {
        let mut request = proto::ListExecutionsRequest {
            studio_id: WorkflowId::generate().to_string(),
            statuses: vec![3, 1, 3],
            ..Default::default()
        };
        assert_eq!(filter(&request).unwrap().statuses, [Status::Pending, Status::Completed]);
        request.statuses = vec![1, 0, 99];
        request.workflow_id = "w".into();
        request.create_time_from = Some(prost_types::Timestamp {
            seconds: i64::MAX,
            nanos: 0,
        });
        assert_eq!(
            fields(filter(&request)),
            ["workflow_id", "statuses[1]", "statuses[2]", "create_time_from"]
        );
    }

    #[test]
    fn a_trace_id_is_read_from_its_traceparent() {
        let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(trace_id(traceparent), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(trace_id(""), "");
    }
}
