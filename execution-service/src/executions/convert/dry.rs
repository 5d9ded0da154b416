//! What a dry run did, as the contract writes it.

use prost::Message;
use service_kit::update;
use studios_proto::execution as proto;

use super::{attempt_key, check_result, failure};
use crate::engine::dry_run::{End, Step, Trace};

/// The steps that are told have at most so many bytes: what clients take of a message is bounded.
const STEP_BYTES: usize = 2 << 20;

pub(in crate::executions) fn trace(trace: Trace) -> proto::DryRunWorkflowResponse {
    let all = trace.steps.len();
    let mut bytes = 0;
    let steps: Vec<proto::DryRunStep> = trace
        .steps
        .into_iter()
        .map(step)
        .take_while(|it| {
            bytes += it.encoded_len();
            bytes <= STEP_BYTES
        })
        .collect();
    let told = proto::DryRunWorkflowResponse {
        steps_left_out: i32::try_from(all - steps.len()).unwrap_or(i32::MAX),
        steps,
        ..Default::default()
    };
    match trace.end {
        End::Completed { outputs } => proto::DryRunWorkflowResponse {
            status: proto::ExecutionStatus::Completed.into(),
            outputs: Some(update::json_to_struct(&outputs)),
            ..told
        },
        End::Failed(why) => proto::DryRunWorkflowResponse {
            status: proto::ExecutionStatus::Failed.into(),
            failure: Some(failure(why)),
            ..told
        },
        End::Stopped(why) => proto::DryRunWorkflowResponse {
            stopped: why.to_string(),
            ..told
        },
    }
}

fn step(step: Step) -> proto::DryRunStep {
    let prompt = step.prompt.unwrap_or_default();
    proto::DryRunStep {
        attempt: Some(attempt_key(step.of)),
        model: step.model.unwrap_or_default(),
        inputs: Some(update::json_to_struct(&step.inputs)),
        prompt: prompt.prompt,
        system: prompt.system,
        output: Some(update::json_to_value(&step.output)),
        validation_result: check_result(step.check.result).into(),
        validation_notes: step.check.notes,
        failure: step.failure.map(|it| failure(it.failure())),
        next_stage: step.next.unwrap_or_default(),
    }
}
