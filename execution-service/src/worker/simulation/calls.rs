//! How calls and children end: as a seed has it, well, badly, or without anybody's knowing.

use serde_json::{Value, json};
use service_kit::ids::ExecutionId;
use time::OffsetDateTime;

use super::{
    dice::Dice,
    shapes,
    store::{Execution, POISON},
};
use crate::engine::{
    action::{Call, StartChild},
    definition::{Definition, Kind, MAX_DEPTH, Validation},
    failure::FailureClass,
    journal::{
        AttemptFailure, AttemptPayload, CheckResult, Child, Entry, Forked, GENESIS, Of, Payload, Sealed, StageTry,
        Started, Verdict,
    },
};
use crate::worker::writer::NewRun;

/// How a call ends that something may be wrong with; well where nothing is.
pub(super) fn landed(
    dice: &mut Dice,
    call: &Call,
    definition: &Definition,
    is_calm: bool,
    now: OffsetDateTime,
) -> Payload {
    let of = call.key.of_try();
    let stage = &definition.stages[call.stage];
    let mut attempt = attempt(&of, now);
    let asks_people = matches!(stage.kind, Kind::Approval(_));
    let is_manual = asks_people || matches!(stage.validation, Validation::Manual(_));
    if !is_calm && call.intended && dice.percent(20) {
        return Payload::Unknown(Of { of });
    }
    if !is_calm && !asks_people && dice.percent(30) {
        let class = *dice.pick(&FailureClass::ALL);
        attempt.failure = Some(AttemptFailure {
            class,
            reason: "made_up".to_owned(),
            message: "it broke".to_owned(),
            retryable: dice.percent(60),
            retry_after_ms: dice.percent(20).then(|| dice.below(120_000)),
        });
    } else {
        let outputs = [
            json!("x"),
            json!(1.5),
            json!({"a": [1, 2.25, null]}),
            json!("\u{10fffd}"),
            json!(-0.0),
            json!(1e300),
        ];
        attempt.output = dice.pick(&outputs).clone();
        attempt.validation.result = if is_manual {
            CheckResult::Pending
        } else {
            CheckResult::Unchecked
        };
    }
    if !is_calm && dice.percent(5) {
        POISON.clone_into(&mut attempt.raw_output);
    }
    Payload::Attempt(Box::new(attempt))
}

/// The attempt in place of one whose processes died again and again.
pub(super) fn crashed(of: &StageTry, now: OffsetDateTime) -> AttemptPayload {
    let failure = AttemptFailure::passing(FailureClass::ProviderError, "crash", "it crashed");
    AttemptPayload {
        failure: Some(failure),
        ..attempt(of, now)
    }
}

/// How a child ended, if it has.
pub(super) fn child_ended(of: &StageTry, child: &Execution, now: OffsetDateTime) -> Option<Payload> {
    let end = child.end.as_ref()?;
    let mut attempt = attempt(of, now);
    match (end.status, end.failure_class.and_then(FailureClass::parse)) {
        ("completed", _) => attempt.output = json!("done"),
        (_, Some(class)) => attempt.failure = Some(AttemptFailure::passing(class, "child", "it failed")),
        _ => {
            let failure = AttemptFailure::lasting(FailureClass::ProviderError, "child_cancelled", "it was cancelled");
            attempt.failure = Some(failure);
        }
    }
    Some(Payload::Attempt(Box::new(attempt)))
}

/// A child to begin with its parent's entry, or why it cannot be.
pub(super) fn child(
    dice: &mut Dice,
    parent: ExecutionId,
    wanted: &StartChild,
    is_full: bool,
    now: OffsetDateTime,
) -> Result<(NewRun, Payload), Payload> {
    let of = wanted.key.of_try();
    if wanted.depth > MAX_DEPTH || is_full || dice.percent(5) {
        let failure = AttemptFailure::lasting(FailureClass::Capped, "depth", "too many");
        let attempt = AttemptPayload {
            failure: Some(failure),
            ..attempt(&of, now)
        };
        return Err(Payload::Attempt(Box::new(attempt)));
    }
    let workflow_id: service_kit::ids::WorkflowId = wanted.workflow_id.parse().expect("an id");
    let place = usize::try_from(workflow_id.as_uuid().as_u128() - 1).expect("a place");
    let new = new_run(dice, place, (None, Some(parent), wanted.depth), None, now);
    let entry = Payload::Child(Child {
        of,
        execution_id: new.execution,
        workflow_id,
        version_number: 1,
    });
    Ok((new, entry))
}

/// A run of the workflow at this place, with its owner, its parent and how deep it is.
pub(super) fn new_run(
    dice: &mut Dice,
    place: usize,
    (owner, parent, depth): (Option<i32>, Option<ExecutionId>, u32),
    forked: Option<Forked>,
    now: OffsetDateTime,
) -> NewRun {
    let execution = dice.execution();
    let version = shapes::workflow(place).as_uuid().into();
    let started = Payload::Started(Started {
        execution_id: execution,
        workflow_id: shapes::workflow(place),
        version_id: version,
        workflow_version: 1,
        inputs_sha256: String::new(),
        depth,
    });
    let source = forked.as_ref().map(|it| it.source_execution);
    let mut entries: Vec<Sealed> = Vec::new();
    for payload in std::iter::once(started).chain(forked.map(|it| Payload::Forked(Box::new(it)))) {
        let (seq, head) = entries.last().map_or((0, GENESIS), |last| (last.entry.seq, last.hash));
        let entry = Entry {
            seq: seq + 1,
            occurred_at: now,
            payload,
        };
        entries.push(entry.seal(&head));
    }
    NewRun {
        execution,
        company: uuid::Uuid::nil().into(),
        studio: uuid::Uuid::nil().into(),
        workflow: shapes::workflow(place),
        version,
        version_number: 1,
        started_by: uuid::Uuid::from_u128(1).into(),
        inputs: Value::Object(shapes::inputs(dice)).to_string(),
        trace_context: String::new(),
        stage: String::new(),
        owner,
        entries,
        key: None,
        parent,
        source,
        audit: None,
        allowance: None,
    }
}

fn attempt(of: &StageTry, now: OffsetDateTime) -> AttemptPayload {
    AttemptPayload {
        stage: of.stage.clone(),
        visit: of.visit,
        item: of.item,
        attempt: of.attempt,
        failure: None,
        output: Value::Null,
        raw_output: String::new(),
        cleaned: false,
        validation: Verdict::default(),
        sources: Vec::new(),
        prompt_sha256: String::new(),
        usage: None,
        judge: None,
        started_at: now,
        duration_ms: 1,
    }
}
