//! Events as the contract writes them.

use service_kit::{ids::ExecutionId, update};
use studios_proto::execution::{self as proto, execution_event::Event as Told};

use super::{attempt, attempt_key, failure, number, optional, ruling, status};
use crate::{
    engine::journal::{Kept, Payload, StageTry},
    executions::events::{Event, What},
};

pub(in crate::executions) fn event(execution: ExecutionId, event: Event) -> proto::ExecutionEvent {
    let told = match event.what {
        What::Status {
            status: to,
            failure: why,
            outputs,
        } => Some(Told::StatusChanged(proto::StatusChanged {
            status: status(to).into(),
            failure: why.map(failure),
            outputs: outputs.as_ref().map(update::json_to_struct),
        })),
        What::Started(StageTry {
            stage,
            visit,
            item,
            attempt,
        }) => Some(Told::StageStarted(proto::StageStarted {
            stage,
            visit: number(visit),
            item: number(item),
            attempt: number(attempt),
        })),
        What::Recorded(recorded) => Some(Told::AttemptRecorded(proto::AttemptRecorded {
            attempt: Some(attempt(execution, *recorded)),
        })),
        What::Noted(payload) => noted(*payload),
        What::Delta { of, text, so_far } => Some(Told::OutputDelta(proto::OutputDelta {
            stage: of.stage,
            visit: number(of.visit),
            item: number(of.item),
            attempt: number(of.attempt),
            text,
            so_far,
        })),
    };
    proto::ExecutionEvent {
        execution_id: execution.to_string(),
        cursor: event.cursor,
        time: Some(update::timestamp(event.time)),
        event: told,
    }
}

/// An entry that speaks for itself; what starts, ends or is tried is told otherwise.
fn noted(payload: Payload) -> Option<Told> {
    Some(match payload {
        Payload::Forked(forked) => Told::Forked(proto::ExecutionForked {
            source_id: forked.source_execution.to_string(),
            source_seq: forked.source_seq,
            stage: forked.from_stage,
            kept: forked.kept.into_iter().map(kept).collect(),
        }),
        Payload::Intent(intent) => Told::EffectAnnounced(proto::EffectAnnounced {
            attempt: Some(attempt_key(intent.of)),
            effect: intent.effect,
        }),
        Payload::Unknown(it) => Told::OutcomeUnknown(proto::OutcomeUnknown {
            attempt: Some(attempt_key(it.of)),
        }),
        Payload::Child(child) => Told::ChildStarted(proto::ChildStarted {
            attempt: Some(attempt_key(child.of)),
            execution_id: child.execution_id.to_string(),
            workflow_id: child.workflow_id.to_string(),
            workflow_version: child.version_number,
        }),
        Payload::FlowRun(run) => Told::FlowStarted(proto::FlowStarted {
            attempt: Some(attempt_key(run.of)),
            flow_id: run.flow_id,
            uncertain: run.uncertain,
        }),
        Payload::Decision(decision) => Told::AttemptDecided(proto::AttemptDecided {
            attempt: Some(attempt_key(decision.of)),
            decision: ruling(decision.decision).into(),
            notes: decision.notes,
            decided_by: decision.by.to_string(),
            form: decision.form.as_ref().map(update::json_to_value),
            output: decision.output.as_ref().map(update::json_to_value),
        }),
        Payload::Delegated(it) => Told::DecisionDelegated(proto::DecisionDelegated {
            attempt: Some(attempt_key(it.of)),
            delegated_by: it.by.to_string(),
            delegated_to: it.to.to_string(),
        }),
        Payload::Reminded(it) => Told::DecisionReminded(proto::DecisionReminded {
            attempt: Some(attempt_key(it.of)),
        }),
        Payload::Escalated(it) => Told::DecisionEscalated(proto::DecisionEscalated {
            attempt: Some(attempt_key(it.of)),
        }),
        Payload::Expired(it) => Told::DecisionExpired(proto::DecisionExpired {
            attempt: Some(attempt_key(it.of)),
        }),
        Payload::Signal(signal) => Told::SignalReceived(proto::SignalReceived {
            name: signal.name,
            payload: Some(update::json_to_value(&signal.payload)),
            sent_by: optional(signal.by),
        }),
        Payload::Paused(paused) => Told::Paused(proto::ExecutionPaused {
            paused_by: optional(paused.by),
            reason: paused.reason,
        }),
        Payload::Resumed(resumed) => Told::Resumed(proto::ExecutionResumed {
            resumed_by: resumed.by.to_string(),
        }),
        Payload::Started(_) | Payload::Attempt(_) | Payload::Cancelled(_) | Payload::Finished(_) => return None,
    })
}

fn kept(kept: Kept) -> proto::AttemptKey {
    attempt_key(StageTry {
        stage: kept.stage,
        visit: kept.visit,
        item: kept.item,
        attempt: kept.attempt,
    })
}
