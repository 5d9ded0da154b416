//! Small journals and definitions for the tests of this folder.

use serde_json::Value;
use service_kit::ids::{ExecutionId, UserId, VersionId, WorkflowId};
use time::{Duration, OffsetDateTime, macros::datetime};
use uuid::Uuid;

use super::{
    check::Demands,
    definition::{DEFAULT_TIMEOUT, Kind, Llm, Retry, Stage, Validation},
    failure::FailureClass,
    journal::{
        AttemptFailure, AttemptPayload, CheckResult, Decision, Entry, Payload, Ruling, StageTry, Started, Verdict,
    },
};

/// When the journals of tests begin; each entry follows the one before by a second.
pub(super) const START: OffsetDateTime = datetime!(2025-06-01 12:00:00 UTC);

/// A stage that calls a model and leaves everything else to the defaults.
pub(super) fn stage(name: &str) -> Stage {
    Stage {
        name: name.into(),
        kind: Kind::Llm(Llm {
            model: "m".into(),
            prompt: "p".into(),
            system: "".into(),
            response_schema: None,
            fallback_models: Vec::new(),
            config: serde_json::Map::new(),
            retrieval: None,
        }),
        input_mapping: std::collections::BTreeMap::new(),
        output_variables: std::collections::BTreeMap::new(),
        validation: Validation::None,
        retry_limit: 0,
        retry: Retry::default(),
        routes_on_pass: Vec::new(),
        routes_on_fail: Vec::new(),
        next_on_pass: None,
        next_on_fail: None,
        timeout: DEFAULT_TIMEOUT,
        provider_overrides: None,
        demands: Demands::default(),
    }
}

/// An attempt that succeeded.
pub(super) fn attempt_of(stage: &str, visit: u32, attempt: u32, output: Value) -> AttemptPayload {
    AttemptPayload {
        stage: stage.into(),
        visit,
        item: 0,
        attempt,
        failure: None,
        output,
        raw_output: String::new(),
        cleaned: false,
        validation: Verdict::default(),
        sources: Vec::new(),
        prompt_sha256: String::new(),
        usage: None,
        judge: None,
        started_at: START,
        duration_ms: 1,
    }
}

/// The same attempt, failed in a way that may pass.
pub(super) fn failing(mut attempt: AttemptPayload) -> AttemptPayload {
    attempt.failure = Some(AttemptFailure::passing(
        FailureClass::ProviderError,
        "upstream",
        "it broke",
    ));
    attempt
}

/// The same attempt, waiting for a person.
pub(super) fn open(mut attempt: AttemptPayload) -> AttemptPayload {
    attempt.validation.result = CheckResult::Pending;
    attempt
}

/// What a person decided.
pub(super) fn decided(stage: &str, visit: u32, attempt: u32, decision: Ruling, notes: &str) -> Payload {
    Payload::Decision(Box::new(Decision {
        of: StageTry {
            stage: stage.into(),
            visit,
            item: 0,
            attempt,
        },
        decision,
        by: UserId::from(Uuid::from_u128(10)),
        notes: notes.into(),
        output: None,
        form: None,
    }))
}

impl From<AttemptPayload> for Payload {
    fn from(attempt: AttemptPayload) -> Self {
        Self::Attempt(Box::new(attempt))
    }
}

/// A journal that starts and goes on with these.
pub(super) fn entries(rest: impl IntoIterator<Item = impl Into<Payload>>) -> Vec<Entry> {
    let started = Payload::Started(Started {
        execution_id: ExecutionId::from(Uuid::from_u128(7)),
        workflow_id: WorkflowId::from(Uuid::from_u128(8)),
        version_id: VersionId::from(Uuid::from_u128(9)),
        workflow_version: 1,
        inputs_sha256: String::new(),
        depth: 0,
    });
    std::iter::once(started)
        .chain(rest.into_iter().map(Into::into))
        .zip(1..)
        .map(|(payload, seq)| Entry {
            seq,
            occurred_at: START + Duration::seconds(seq),
            payload,
        })
        .collect()
}
