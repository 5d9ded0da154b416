//! What is asked, from the contract's messages; everything wrong is named by its field.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};
use service_kit::{
    error::{Result, Violations},
    ids::{ExecutionId, TemplateId, WorkflowId},
    update,
};
use studios_proto::execution as proto;

use super::status_given;
use crate::{
    engine::{
        dry_run::Sample,
        journal::{Ruling, StageTry},
    },
    executions::{
        Filter, New,
        again::{Again, From},
        attempts::AttemptFilter,
        bulk::{Act, Control},
        control::Send,
        decide::{Decide, Delegate},
        dry::DryRun,
        trial::Trial,
        wait::{LONGEST, USUAL},
        waiting,
    },
    requests,
    worker::StartKey,
};

/// The largest inputs, as JSON.
pub(super) const INPUT_BYTES: usize = 256 * 1024;
/// The largest output that takes the place of another, as JSON.
const OUTPUT_BYTES: usize = 256 * 1024;
/// The largest outputs of a stage that are made up, as JSON.
const SAMPLE_BYTES: usize = 1 << 20;
/// The largest form, as JSON.
const FORM_BYTES: usize = 64 * 1024;
/// The largest payload of a signal, as JSON.
const SIGNAL_BYTES: usize = 64 * 1024;
/// The longest name of a signal.
const SIGNAL_NAME: usize = 64;

pub(in crate::executions) fn new(method: &'static str, request: &proto::StartExecutionRequest) -> Result<New> {
    let mut violations = Violations::new();
    let workflow = violations.id("workflow_id", &request.workflow_id);
    let version = version(&mut violations, request.version);
    let inputs = inputs(&mut violations, request.inputs.as_ref());
    let key = start_key(&mut violations, method, &request.request_id, request);
    violations.finish()?;
    Ok(New {
        workflow: workflow.expect("a missing one is a violation"),
        version: version.unwrap_or_default(),
        inputs,
        key,
    })
}

/// A version's number; none where the request leaves it to what it is about.
fn version(violations: &mut Violations, given: i32) -> Option<i32> {
    if given < 0 {
        violations.add("version", "must not be negative");
    }
    Some(given).filter(|it| *it > 0)
}

/// What a run is started with.
pub(crate) fn inputs(violations: &mut Violations, given: Option<&prost_types::Struct>) -> Map<String, Value> {
    let inputs = violations.object("inputs", given).unwrap_or_default();
    bounded(violations, "inputs", &inputs, INPUT_BYTES);
    inputs
}

fn bounded(violations: &mut Violations, field: &str, given: &impl Serialize, bytes: usize) {
    if serde_json::to_vec(given).is_ok_and(|it| it.len() > bytes) {
        violations.add(field, format!("must have at most {} KiB as JSON", bytes / 1024));
    }
}

/// A value that can be stored, of so many bytes as JSON.
fn value(violations: &mut Violations, field: &str, given: Option<&prost_types::Value>, bytes: usize) -> Option<Value> {
    let held = prost_types::Struct {
        fields: [(String::new(), given?.clone())].into(),
    };
    let value = violations.object(field, Some(&held))?.remove("")?;
    bounded(violations, field, &value, bytes);
    Some(value)
}

/// The idempotency key of a start.
pub(crate) fn start_key(
    violations: &mut Violations,
    method: &'static str,
    request_id: &str,
    request: &impl prost::Message,
) -> Option<StartKey> {
    let key = violations.text("request_id", request_id, 0..=200)?;
    (!key.is_empty()).then(|| StartKey {
        method,
        key,
        body_hash: update::body_hash(request),
    })
}

/// A try; `before` is the path of the message that its fields are of.
fn stage_try(violations: &mut Violations, before: &str, given: &proto::AttemptKey) -> StageTry {
    let stage = violations.text(format!("{before}stage"), &given.stage, 1..=64);
    let mut number = |field: &str, given: i32, least: u32| {
        let number = u32::try_from(given).ok().filter(|it| *it >= least);
        if number.is_none() {
            violations.add(format!("{before}{field}"), format!("must be at least {least}"));
        }
        number.unwrap_or_default()
    };
    StageTry {
        stage: stage.unwrap_or_default(),
        visit: number("visit", given.visit, 1),
        item: number("item", given.item, 0),
        attempt: number("attempt", given.attempt, 1),
    }
}

pub(in crate::executions) fn filter(request: &proto::ListExecutionsRequest) -> Result<Filter> {
    let mut violations = Violations::new();
    let filter = read_filter(&mut violations, request);
    violations.finish()?;
    Ok(filter.expect("what is missing is a violation"))
}

fn read_filter(violations: &mut Violations, request: &proto::ListExecutionsRequest) -> Option<Filter> {
    let studio = violations.id("studio_id", &request.studio_id);
    let workflow: Option<WorkflowId> = violations.optional_id("workflow_id", &request.workflow_id);
    let template: Option<TemplateId> = violations.optional_id("template_id", &request.template_id);
    let mut statuses = Vec::new();
    for (place, given) in request.statuses.iter().enumerate() {
        match proto::ExecutionStatus::try_from(*given).ok().and_then(status_given) {
            Some(status) => statuses.push(status),
            None => violations.add(format!("statuses[{place}]"), "must be a status"),
        }
    }
    statuses.sort_unstable();
    statuses.dedup();
    let from = moment(violations, "create_time_from", request.create_time_from.as_ref());
    let before = moment(violations, "create_time_before", request.create_time_before.as_ref());
    Some(Filter {
        studio: studio?,
        statuses,
        workflow,
        template,
        from,
        before,
    })
}

pub(in crate::executions) fn attempt_filter(request: &proto::ListAttemptsRequest) -> Result<AttemptFilter> {
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

/// Which execution to stop or to pause, and why.
pub(in crate::executions) fn with_reason(id: &str, reason: &str) -> Result<(ExecutionId, String)> {
    let mut violations = Violations::new();
    let id = violations.id("id", id);
    let reason = violations.text("reason", reason, 0..=500);
    violations.finish()?;
    Ok((id.expect("a missing one is a violation"), reason.unwrap_or_default()))
}

pub(in crate::executions) fn signal(method: &'static str, request: &proto::SendSignalRequest) -> Result<Send> {
    let mut violations = Violations::new();
    let execution = violations.id("execution_id", &request.execution_id);
    if !is_signal_name(&request.name) {
        let description =
            "must be a letter or digit, then up to 63 letters, digits, dots, underscores and hyphens, all ASCII";
        violations.add("name", description);
    }
    let payload = value(&mut violations, "payload", request.payload.as_ref(), SIGNAL_BYTES);
    let key = requests::Key::read(&mut violations, method, &request.request_id, request);
    violations.finish()?;
    Ok(Send {
        execution: execution.expect("a missing one is a violation"),
        name: request.name.clone(),
        payload: payload.unwrap_or_default(),
        key,
    })
}

fn is_signal_name(name: &str) -> bool {
    let begins = name.bytes().next().is_some_and(|it| it.is_ascii_alphanumeric());
    let goes_on = |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'.' | b'_' | b'-');
    begins && name.len() <= SIGNAL_NAME && name.bytes().all(goes_on)
}

pub(in crate::executions) fn decide(method: &'static str, request: &proto::DecideAttemptRequest) -> Result<Decide> {
    let mut violations = Violations::new();
    let execution = violations.id("execution_id", &request.execution_id);
    let key = proto::AttemptKey {
        stage: request.stage.clone(),
        visit: request.visit,
        item: request.item,
        attempt: request.attempt,
    };
    let of = stage_try(&mut violations, "", &key);
    let decision = match request.decision() {
        proto::Decision::Pass => Some(Ruling::Pass),
        proto::Decision::Fail => Some(Ruling::Fail),
        proto::Decision::Again => Some(Ruling::Again),
        proto::Decision::Unspecified => None,
    };
    if decision.is_none() {
        violations.add("decision", "must be DECISION_PASS, DECISION_FAIL or DECISION_AGAIN");
    }
    let output = value(&mut violations, "output", request.output.as_ref(), OUTPUT_BYTES);
    let form = request.form.as_ref().map(|form| prost_types::Value {
        kind: Some(prost_types::value::Kind::StructValue(form.clone())),
    });
    let form = value(&mut violations, "form", form.as_ref(), FORM_BYTES);
    let notes = violations.text("notes", &request.notes, 0..=2_000);
    let key = requests::Key::read(&mut violations, method, &request.request_id, request);
    violations.finish()?;
    Ok(Decide {
        execution: execution.expect("a missing one is a violation"),
        of,
        decision: decision.expect("a missing one is a violation"),
        notes: notes.unwrap_or_default(),
        output,
        form,
        key,
    })
}

pub(in crate::executions) fn delegate(
    method: &'static str,
    request: &proto::DelegateDecisionRequest,
) -> Result<Delegate> {
    let mut violations = Violations::new();
    let execution = violations.id("execution_id", &request.execution_id);
    let of = request
        .attempt
        .as_ref()
        .map(|key| stage_try(&mut violations, "attempt.", key));
    if of.is_none() {
        violations.add("attempt", "must be given");
    }
    let to = violations.id("to_user_id", &request.to_user_id);
    let key = requests::Key::read(&mut violations, method, &request.request_id, request);
    violations.finish()?;
    Ok(Delegate {
        execution: execution.expect("a missing one is a violation"),
        of: of.expect("a missing one is a violation"),
        to: to.expect("a missing one is a violation"),
        key,
    })
}

pub(in crate::executions) fn waiting_filter(request: &proto::ListWaitingRequest) -> Result<waiting::Filter> {
    let mut violations = Violations::new();
    let company = violations.id("company_id", &request.company_id);
    let studio = violations.optional_id("studio_id", &request.studio_id);
    violations.finish()?;
    Ok(waiting::Filter {
        company: company.expect("a missing one is a violation"),
        studio,
        all: request.all,
    })
}

pub(in crate::executions) fn retry(method: &'static str, request: &proto::RetryExecutionRequest) -> Result<Again> {
    let mut violations = Violations::new();
    let source = violations.id("id", &request.id);
    let version = version(&mut violations, request.version);
    let key = start_key(&mut violations, method, &request.request_id, request);
    violations.finish()?;
    Ok(Again {
        source: source.expect("a missing one is a violation"),
        from: From::Failed,
        version,
        key,
    })
}

pub(in crate::executions) fn fork(method: &'static str, request: &proto::ForkExecutionRequest) -> Result<Again> {
    let mut violations = Violations::new();
    let source = violations.id("id", &request.id);
    let stage = violations.text("stage", &request.stage, 1..=64);
    let version = version(&mut violations, request.version);
    let key = start_key(&mut violations, method, &request.request_id, request);
    violations.finish()?;
    Ok(Again {
        source: source.expect("a missing one is a violation"),
        from: From::Stage(stage.expect("a missing one is a violation")),
        version,
        key,
    })
}

pub(in crate::executions) fn restart(method: &'static str, request: &proto::RestartExecutionRequest) -> Result<Again> {
    let mut violations = Violations::new();
    let source = violations.id("id", &request.id);
    let inputs = request.inputs.as_ref().map(|it| inputs(&mut violations, Some(it)));
    let version = version(&mut violations, request.version);
    let key = start_key(&mut violations, method, &request.request_id, request);
    violations.finish()?;
    Ok(Again {
        source: source.expect("a missing one is a violation"),
        from: From::Start(inputs),
        version,
        key,
    })
}

pub(in crate::executions) fn control(request: &proto::ControlExecutionsRequest) -> Result<Control> {
    let mut violations = Violations::new();
    let filter = proto::ListExecutionsRequest {
        studio_id: request.studio_id.clone(),
        statuses: request.statuses.clone(),
        workflow_id: request.workflow_id.clone(),
        create_time_from: request.create_time_from,
        create_time_before: request.create_time_before,
        ..Default::default()
    };
    let filter = read_filter(&mut violations, &filter);
    let act = match request.action() {
        proto::ControlAction::Cancel => Some(Act::Cancel),
        proto::ControlAction::Pause => Some(Act::Pause),
        proto::ControlAction::Resume => Some(Act::Resume),
        proto::ControlAction::Retry => Some(Act::Retry),
        proto::ControlAction::Unspecified => None,
    };
    if act.is_none() {
        violations.add("action", "must be an action");
    }
    let reason = violations.text("reason", &request.reason, 0..=500);
    let request_id = update::request_id(&mut violations, "request_id", &request.request_id);
    violations.finish()?;
    let act = act.expect("a missing one is a violation");
    let mut filter = filter.expect("what is missing is a violation");
    if filter.statuses.is_empty() {
        filter.statuses = act.statuses();
    }
    Ok(Control {
        filter,
        act,
        reason: reason.unwrap_or_default(),
        request: request_id,
        dry: request.dry_run,
    })
}

pub(in crate::executions) fn trial(request: &proto::TestStageRequest) -> Result<Trial> {
    let mut violations = Violations::new();
    let workflow = violations.id("workflow_id", &request.workflow_id);
    let version = version(&mut violations, request.version);
    let stage = violations.text("stage", &request.stage, 1..=64);
    let inputs = inputs(&mut violations, request.inputs.as_ref());
    let mut outputs = Map::new();
    for (name, given) in &request.outputs {
        let field = format!("outputs[{name}]");
        if let Some(output) = value(&mut violations, &field, Some(given), OUTPUT_BYTES) {
            outputs.insert(name.clone(), output);
        }
    }
    let item = value(&mut violations, "item", request.item.as_ref(), OUTPUT_BYTES);
    violations.finish()?;
    Ok(Trial {
        workflow: workflow.expect("a missing one is a violation"),
        version,
        stage: stage.expect("a missing one is a violation"),
        inputs,
        outputs,
        item,
        allow_effects: request.allow_effects,
    })
}

pub(in crate::executions) fn dry_run(request: &proto::DryRunWorkflowRequest) -> Result<DryRun> {
    let mut violations = Violations::new();
    let workflow = violations.id("workflow_id", &request.workflow_id);
    let version = version(&mut violations, request.version);
    let inputs = request.inputs.as_ref().map(|it| inputs(&mut violations, Some(it)));
    let mut sample = Sample::default();
    for (stage, given) in &request.outputs {
        let list = prost_types::Value {
            kind: Some(prost_types::value::Kind::ListValue(given.clone())),
        };
        let field = format!("outputs[{stage}]");
        if let Some(Value::Array(outputs)) = value(&mut violations, &field, Some(&list), SAMPLE_BYTES) {
            sample.outputs.insert(stage.clone(), outputs);
        }
    }
    for (stage, given) in &request.decisions {
        let mut rulings = Vec::new();
        for (place, decision) in given.decisions().enumerate() {
            match decision {
                proto::Decision::Pass => rulings.push(Ruling::Pass),
                proto::Decision::Fail => rulings.push(Ruling::Fail),
                proto::Decision::Again | proto::Decision::Unspecified => violations.add(
                    format!("decisions[{stage}].decisions[{place}]"),
                    "must be DECISION_PASS or DECISION_FAIL",
                ),
            }
        }
        sample.decisions.insert(stage.clone(), rulings);
    }
    let recorded = violations.optional_id("execution_id", &request.execution_id);
    violations.finish()?;
    Ok(DryRun {
        workflow: workflow.expect("a missing one is a violation"),
        version,
        inputs,
        sample,
        recorded,
    })
}

/// Whose rest is waited for, and how long.
pub(in crate::executions) fn wait(request: &proto::WaitExecutionRequest) -> Result<(ExecutionId, Duration)> {
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

pub(in crate::executions) fn watch(request: &proto::WatchExecutionRequest) -> Result<(ExecutionId, i64)> {
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

#[cfg(test)]
mod tests {
    use serde_json::json;
    use service_kit::error::Error;

    use super::*;
    use crate::executions::Status;

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
        let none = proto::DelegateDecisionRequest::default();
        assert_eq!(fields(delegate("m", &none)), ["execution_id", "attempt", "to_user_id"]);
        let zeros = proto::DelegateDecisionRequest {
            execution_id: WorkflowId::generate().to_string(),
            attempt: Some(proto::AttemptKey::default()),
            to_user_id: WorkflowId::generate().to_string(),
            ..Default::default()
        };
        assert_eq!(
            fields(delegate("m", &zeros)),
            ["attempt.stage", "attempt.visit", "attempt.attempt"]
        );
    }

    #[test]
    fn a_signal_has_a_plain_name_and_a_small_payload() {
        let mut request = proto::SendSignalRequest {
            execution_id: WorkflowId::generate().to_string(),
            name: "order.paid-2_x".into(),
            payload: Some(update::json_to_value(&json!({ "n": 1 }))),
            ..Default::default()
        };
        assert_eq!(signal("m", &request).unwrap().payload, json!({ "n": 1 }));
        request.payload = None;
        assert_eq!(signal("m", &request).unwrap().payload, Value::Null);
        request.payload = Some(update::json_to_value(&"x".repeat(SIGNAL_BYTES).into()));
        for name in ["", ".x", "a b", "ä", &"x".repeat(65)] {
            name.clone_into(&mut request.name);
            assert_eq!(fields(signal("m", &request)), ["name", "payload"], "{name}");
        }
        request.payload = Some(update::json_to_value(&json!({ "a": ["\0"] })));
        request.name = "x".into();
        assert_eq!(fields(signal("m", &request)), ["payload"]);
    }

    #[test]
    fn what_many_are_asked_is_read_with_the_statuses_that_it_can_be_done_to() {
        let mut request = proto::ControlExecutionsRequest {
            studio_id: WorkflowId::generate().to_string(),
            action: proto::ControlAction::Resume.into(),
            ..Default::default()
        };
        assert_eq!(control(&request).unwrap().filter.statuses, [Status::Paused]);
        request.statuses = vec![proto::ExecutionStatus::Failed.into()];
        assert_eq!(control(&request).unwrap().filter.statuses, [Status::Failed]);
        request.action = 0;
        request.request_id = "r".into();
        request.reason = "r".repeat(501);
        assert_eq!(fields(control(&request)), ["action", "reason", "request_id"]);
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
}
