//! Following an execution's events until it ends, through broken streams.

use std::time::Duration;

use anyhow::Result;
use studios_proto::execution::{
    AttemptDecided, AttemptKey, AttemptStatus, Decision, ExecutionEvent, ExecutionStatus, GetExecutionRequest,
    StatusChanged, WatchExecutionRequest, execution_event::Event,
};
use tonic::Code;

use crate::{
    output::{Output, message_json},
    remote::Remote,
};

const RETRIES_IN_A_ROW: u32 = 10;
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Tells each event from `after` on and returns the status the execution ended with. A stream that breaks is resumed at the
/// last durable event.
pub async fn follow(remote: &Remote, id: &str, after: i64, output: Output) -> Result<ExecutionStatus> {
    let mut cursor = after;
    let mut broken = 0;
    loop {
        let request = remote.stream_request(WatchExecutionRequest {
            id: id.into(),
            after: cursor,
        });
        let ended = match remote.executions().watch_execution(request).await {
            Ok(stream) => drain(stream.into_inner(), &mut cursor, &mut broken, output).await,
            Err(status) => Err(status),
        };
        match ended {
            Ok(Some(status)) => return Ok(status),
            // A stream that starts after the last event ends without one.
            Ok(None) => {
                let request = remote.request(GetExecutionRequest { id: id.into() });
                let execution = remote.executions().get_execution(request).await?.into_inner();
                if is_terminal(execution.status()) {
                    return Ok(execution.status());
                }
            }
            Err(status) if matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Internal) => {
                tracing::debug!(%status, "the stream broke; resuming");
                if broken >= RETRIES_IN_A_ROW {
                    return Err(status.into());
                }
            }
            Err(status) => return Err(status.into()),
        }
        broken += 1;
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

async fn drain(
    mut stream: tonic::Streaming<ExecutionEvent>,
    cursor: &mut i64,
    broken: &mut u32,
    output: Output,
) -> Result<Option<ExecutionStatus>, tonic::Status> {
    while let Some(event) = stream.message().await? {
        *broken = 0;
        *cursor = (*cursor).max(event.cursor);
        tell(&event, output);
        if let Some(Event::StatusChanged(change)) = &event.event
            && is_terminal(change.status())
        {
            return Ok(Some(change.status()));
        }
    }
    Ok(None)
}

fn tell(event: &ExecutionEvent, output: Output) {
    if output.json {
        output.result("", || message_json(event));
        return;
    }
    match &event.event {
        Some(Event::StatusChanged(change)) => tell_status(&event.execution_id, change, output),
        Some(Event::StageStarted(stage)) => {
            output.progress(format_args!("  {:<12} attempt {} …", stage.stage, stage.attempt));
        }
        Some(Event::AttemptRecorded(recorded)) => {
            let Some(attempt) = &recorded.attempt else { return };
            let took = attempt
                .duration
                .and_then(|it| Duration::try_from(it).ok())
                .unwrap_or_default();
            let how = match (attempt.status(), &attempt.failure) {
                (AttemptStatus::Failed, Some(failure)) => format!("failed: {}", failure.message),
                (AttemptStatus::Failed, None) => format!("refused: {}", attempt.validation_notes),
                (AttemptStatus::Waiting, _) => format!("waits for a decision:\n{}", attempt.raw_output),
                _ => format!(
                    "{} sources, {} + {} tokens",
                    attempt.sources.len(),
                    attempt.input_tokens,
                    attempt.output_tokens
                ),
            };
            output.progress(format_args!(
                "  {:<12} attempt {} took {} ms, {how}",
                attempt.stage,
                attempt.attempt,
                took.as_millis()
            ));
        }
        Some(Event::AttemptDecided(decided)) => tell_decision(decided, output),
        Some(Event::OutputDelta(_)) | None => {}
        Some(other) => output.progress(format_args!("  {}", noted(other))),
    }
}

/// What an event says that is neither a status nor a try nor a decision.
fn noted(event: &Event) -> String {
    let of = |key: &Option<AttemptKey>| key.as_ref().map_or_else(String::new, |it| it.stage.clone());
    match event {
        Event::Forked(it) => format!(
            "{:<12} goes on from {}, {} outputs kept",
            it.stage,
            it.source_id,
            it.kept.len()
        ),
        Event::EffectAnnounced(it) => format!("{:<12} is about to do {}", of(&it.attempt), it.effect),
        Event::OutcomeUnknown(it) => format!("{:<12} may or may not have been done", of(&it.attempt)),
        Event::ChildStarted(it) => format!("{:<12} runs as {}", of(&it.attempt), it.execution_id),
        Event::FlowStarted(it) => {
            let how = if it.uncertain { "may have started" } else { "started" };
            format!("{:<12} {how} the ActivePieces flow {}", of(&it.attempt), it.flow_id)
        }
        Event::DecisionDelegated(it) => {
            format!(
                "{:<12} left by {} to {}",
                of(&it.attempt),
                it.delegated_by,
                it.delegated_to
            )
        }
        Event::DecisionReminded(it) => format!("{:<12} waits; those asked were reminded", of(&it.attempt)),
        Event::DecisionEscalated(it) => format!("{:<12} waits; others may decide too", of(&it.attempt)),
        Event::DecisionExpired(it) => format!("{:<12} was not decided in time", of(&it.attempt)),
        Event::SignalReceived(it) => format!("signal {}", it.name),
        Event::Paused(it) => match &*it.reason {
            "" => format!("on hold by {}", it.paused_by),
            reason => format!("on hold by {}: {reason}", it.paused_by),
        },
        Event::Resumed(it) => format!("let go on by {}", it.resumed_by),
        Event::StatusChanged(_)
        | Event::StageStarted(_)
        | Event::AttemptRecorded(_)
        | Event::AttemptDecided(_)
        | Event::OutputDelta(_) => String::new(),
    }
}

fn tell_status(execution: &str, change: &StatusChanged, output: Output) {
    let word = status_word(change.status());
    match (&change.failure, change.status()) {
        (Some(failure), _) => output.progress(format_args!("  {word:<12} {}", failure.message)),
        (None, ExecutionStatus::Paused) => output.progress(format_args!(
            "  {word:<12} decide with: studios execution decide {execution} --pass | --fail [--notes TEXT], or see: studios \
             execution explain {execution}"
        )),
        (None, _) => output.progress(format_args!("  {word}")),
    }
}

fn tell_decision(decided: &AttemptDecided, output: Output) {
    let key = decided.attempt.clone().unwrap_or_default();
    let how = match decided.decision() {
        Decision::Pass => "let pass",
        Decision::Again => "asked for again",
        Decision::Fail | Decision::Unspecified => "refused",
    };
    let notes = match &*decided.notes {
        "" => String::new(),
        notes => format!(": {notes}"),
    };
    output.progress(format_args!(
        "  {:<12} attempt {} {how} by {}{notes}",
        key.stage, key.attempt, decided.decided_by
    ));
}

/// Whether an execution with this status has ended.
pub fn is_terminal(status: ExecutionStatus) -> bool {
    matches!(
        status,
        ExecutionStatus::Completed | ExecutionStatus::Failed | ExecutionStatus::Cancelled
    )
}

/// A status in lower case, as scripts and people read it.
pub fn status_word(status: ExecutionStatus) -> &'static str {
    match status {
        ExecutionStatus::Unspecified => "unspecified",
        ExecutionStatus::Pending => "pending",
        ExecutionStatus::Running => "running",
        ExecutionStatus::Completed => "completed",
        ExecutionStatus::Failed => "failed",
        ExecutionStatus::Paused => "paused",
        ExecutionStatus::Cancelled => "cancelled",
    }
}
