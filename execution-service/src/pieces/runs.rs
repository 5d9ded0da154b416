//! Runs of flows: their states, and what their steps say.
//!
//! What is kept of steps is bounded, holds no inputs (they repeat the flow's and its secrets) and no rights; an output that
//! ActivePieces keeps in a file stays a reference to it, without the token.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::scrub;
use crate::providers::clean;

/// The most steps that are kept.
const MAX_STEPS: usize = 100;
/// The largest output of a step that is kept, in bytes of JSON.
const MAX_OUTPUT_BYTES: usize = 32 << 10;
/// The most that is kept of all steps, in bytes of JSON.
const MAX_STEPS_BYTES: usize = 256 << 10;
/// The longest message that is kept, in bytes.
const MAX_MESSAGE_BYTES: usize = 2 << 10;
/// How deep an output may be nested; within what it becomes part of, it can still be read again.
const MAX_DEPTH: usize = 16;
/// The step that a flow begins with.
const TRIGGER: &str = "trigger";

/// The state of a run. One that is not known is not final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunState {
    /// It waits for a worker.
    Queued,
    /// A worker has it.
    Running,
    /// It waits for a time or somebody.
    Paused,
    /// All went well.
    Succeeded,
    /// A step failed.
    Failed,
    /// It took longer than a flow may.
    TimedOut,
    /// Somebody stopped it.
    Canceled,
    /// The plan's limit is used up.
    QuotaExceeded,
    /// It needed more memory than it may.
    MemoryLimitExceeded,
    /// It wrote more logs than it may.
    LogSizeExceeded,
    /// ActivePieces itself failed; it may try again by itself minutes later.
    InternalError,
    /// A state that this version does not know.
    Unknown(String),
}

impl RunState {
    /// The state that is written so.
    pub fn parse(text: &str) -> Self {
        match text {
            "QUEUED" => Self::Queued,
            "RUNNING" => Self::Running,
            "PAUSED" => Self::Paused,
            "SUCCEEDED" => Self::Succeeded,
            "FAILED" => Self::Failed,
            "TIMEOUT" => Self::TimedOut,
            "CANCELED" | "STOPPED" => Self::Canceled,
            "QUOTA_EXCEEDED" => Self::QuotaExceeded,
            "MEMORY_LIMIT_EXCEEDED" => Self::MemoryLimitExceeded,
            "LOG_SIZE_EXCEEDED" => Self::LogSizeExceeded,
            "INTERNAL_ERROR" => Self::InternalError,
            other => Self::Unknown(other.chars().filter(char::is_ascii_graphic).take(40).collect()),
        }
    }

    /// As ActivePieces writes it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Queued => "QUEUED",
            Self::Running => "RUNNING",
            Self::Paused => "PAUSED",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::TimedOut => "TIMEOUT",
            Self::Canceled => "CANCELED",
            Self::QuotaExceeded => "QUOTA_EXCEEDED",
            Self::MemoryLimitExceeded => "MEMORY_LIMIT_EXCEEDED",
            Self::LogSizeExceeded => "LOG_SIZE_EXCEEDED",
            Self::InternalError => "INTERNAL_ERROR",
            Self::Unknown(other) => other,
        }
    }

    /// Whether nothing follows. An internal error may be tried again by itself: it is held for a while.
    pub const fn is_final(&self) -> bool {
        !matches!(
            self,
            Self::Queued | Self::Running | Self::Paused | Self::InternalError | Self::Unknown(_)
        )
    }

    /// Whether ActivePieces can stop a run in this state.
    pub const fn can_be_cancelled(&self) -> bool {
        matches!(self, Self::Queued | Self::Paused)
    }
}

/// A run, as lists have it. Debug shows no id.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// A capability: whoever has it can resume the run.
    pub id: String,
    /// The flow it is of.
    #[serde(default)]
    pub flow_id: Option<String>,
    #[serde(default)]
    status: Option<String>,
    /// What it was tagged with.
    #[serde(default)]
    pub tags: Option<Vec<String>>,
}

impl Listed {
    /// Its state.
    pub fn state(&self) -> RunState {
        RunState::parse(self.status.as_deref().unwrap_or_default())
    }
}

/// A run with its steps. Debug shows no id.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Detailed {
    /// A capability: whoever has it can resume the run.
    pub id: String,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    failed_step: Option<FailedStep>,
    #[serde(default)]
    steps: Option<Map<String, Value>>,
}

/// What a run says of the step that failed.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct FailedStep {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    display_name: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

macro_rules! hides_its_id {
    ($($name:ident)+) => {$(
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).field("status", &self.status).finish_non_exhaustive()
            }
        }
    )+};
}
hides_its_id! { Listed Detailed }

impl Detailed {
    /// Its state.
    pub fn state(&self) -> RunState {
        RunState::parse(self.status.as_deref().unwrap_or_default())
    }

    /// The correlation id that the start carried, where the run still says what it was started with.
    pub fn correlation_id(&self) -> Option<&str> {
        self.steps.as_ref()?.get(TRIGGER)?["output"]["body"]["studios"]["correlation_id"].as_str()
    }

    /// Whether it says what it was started with.
    pub fn says_its_input(&self) -> bool {
        let trigger = self.steps.as_ref().and_then(|it| it.get(TRIGGER));
        trigger.is_some_and(|it| it.get("output").is_some())
    }

    /// What is kept of it.
    pub fn kept(self) -> Ended {
        let state = self.state();
        let ids = [self.id.as_str()];
        let steps = self.steps.unwrap_or_default();
        let message = message(&state, self.failed_step.as_ref(), &steps);
        let mut named: Vec<(String, Value)> = steps.into_iter().filter(|(name, _)| name != TRIGGER).collect();
        named.sort_by_cached_key(|(name, _)| in_order(name));
        let answered = named.iter().rev().find_map(|(_, step)| answer(step));
        let last = named.last().and_then(|(_, step)| step.get("output").cloned());
        let result = scrub::value(bounded(answered.or(last).unwrap_or_default(), MAX_STEPS_BYTES), &ids);
        let mut bytes = 0;
        let mut kept = Vec::new();
        for (name, step) in named {
            let step = scrub::value(shown(&name, step), &ids);
            let size = step.to_string().len();
            if kept.len() == MAX_STEPS || bytes + size > MAX_STEPS_BYTES {
                break;
            }
            bytes += size;
            kept.push(step);
        }
        Ended {
            state: state.as_str().to_owned(),
            result: clean::storable_json(result).0,
            steps: kept.into_iter().map(|it| clean::storable_json(it).0).collect(),
            message: message.map(|it| scrub::text(&it, &ids)),
        }
    }
}

/// What is kept of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ended {
    /// Its state as ActivePieces writes it.
    pub state: String,
    /// What its Return Response step answered, else what its last step gave.
    pub result: Value,
    /// Its steps in order: `{"name", "type", "status", "output", "duration_ms", "error"}`.
    pub steps: Vec<Value>,
    /// Why it failed.
    pub message: Option<String>,
}

/// Reads JSON that may hold escapes that no parser takes.
pub(super) fn parse<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Option<T> {
    if let Ok(value) = serde_json::from_slice(bytes) {
        return Some(value);
    }
    let text: Cow<'_, str> = String::from_utf8_lossy(bytes);
    serde_json::from_str(&clean::without_bad_escapes(&text)).ok()
}

/// Steps are named `step_1`, `step_2` …, and have no order but that.
fn in_order(name: &str) -> (String, u64) {
    let digits = name.trim_start_matches(|it: char| !it.is_ascii_digit());
    match digits.parse() {
        Ok(number) => (name[..name.len() - digits.len()].to_owned(), number),
        Err(_) => (name.to_owned(), 0),
    }
}

/// What a step that answers the start says: only that has a body beside a status.
fn answer(step: &Value) -> Option<Value> {
    let input = step.get("input")?;
    let answers = input.get("respond").is_some() && input.get("responseType").is_some();
    answers.then(|| step["output"].get("body").cloned()).flatten()
}

fn shown(name: &str, step: Value) -> Value {
    let Value::Object(mut step) = step else {
        return json!({ "name": name });
    };
    let mut shown = Map::new();
    shown.insert("name".into(), name.into());
    for field in ["type", "status"] {
        if let Some(Value::String(text)) = step.remove(field) {
            shown.insert(field.into(), text.into());
        }
    }
    if let Some(output) = step.remove("output") {
        shown.insert("output".into(), bounded(output, MAX_OUTPUT_BYTES));
    }
    if let Some(duration) = step.get("duration").and_then(Value::as_f64).filter(|it| *it >= 0.0) {
        shown.insert("duration_ms".into(), json!(duration.round()));
    }
    if let Some(error) = step.get("errorMessage").and_then(Value::as_str) {
        shown.insert("error".into(), words(error).into());
    }
    Value::Object(shown)
}

/// The value, or how large it is where that is more than is kept; not deeper than can be read again.
fn bounded(value: Value, most: usize) -> Value {
    let value = shallow(value, MAX_DEPTH);
    let bytes = value.to_string().len();
    if bytes > most {
        return json!({ "truncated": true, "bytes": bytes });
    }
    value
}

fn shallow(value: Value, levels: usize) -> Value {
    match value {
        Value::Array(_) | Value::Object(_) if levels == 0 => Value::String("[nested deeper]".into()),
        Value::Array(items) => items.into_iter().map(|it| shallow(it, levels - 1)).collect(),
        Value::Object(members) => Value::Object(
            members
                .into_iter()
                .map(|(name, it)| (name, shallow(it, levels - 1)))
                .collect(),
        ),
        other => other,
    }
}

/// Why a run failed: the failed step's whole message where the steps have it, else the cut one.
fn message(state: &RunState, failed: Option<&FailedStep>, steps: &Map<String, Value>) -> Option<String> {
    if *state == RunState::Succeeded {
        return None;
    }
    let failed = failed?;
    let name = failed.name.as_deref().unwrap_or_default();
    let whole = steps
        .get(name)
        .and_then(|step| step.get("errorMessage"))
        .and_then(Value::as_str);
    let said = words(whole.or(failed.message.as_deref()).unwrap_or_default());
    let called = failed.display_name.as_deref().unwrap_or(name);
    Some(match (called, &*said) {
        ("", _) => said,
        (_, "") => format!("the step \"{called}\" failed"),
        _ => format!("the step \"{called}\" failed: {said}"),
    })
}

/// The message in `{"__apErrorVersion", "message", "raw"}`, which is JSON in a string and may be cut anywhere.
fn words(text: &str) -> String {
    #[derive(Deserialize)]
    struct Wrapped {
        message: String,
    }
    let mut said = match serde_json::from_str::<Wrapped>(text) {
        Ok(wrapped) => wrapped.message,
        Err(_) => cut(text).unwrap_or_else(|| text.to_owned()),
    };
    said.truncate(said.floor_char_boundary(MAX_MESSAGE_BYTES));
    said
}

/// The message of such a text that was cut.
fn cut(text: &str) -> Option<String> {
    let rest = text.trim_start().strip_prefix('{')?;
    let (_, rest) = rest.split_once("\"message\":")?;
    let rest = rest.trim_start().strip_prefix('"')?;
    let mut end = 0;
    let mut escaped = false;
    for (place, character) in rest.char_indices() {
        match character {
            '"' if !escaped => break,
            '\\' if !escaped => escaped = true,
            _ => {
                escaped = false;
                end = place + character.len_utf8();
            }
        }
    }
    let quoted = format!("\"{}\"", &rest[..end]);
    Some(serde_json::from_str(&quoted).unwrap_or_else(|_| rest[..end].to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(given: Value) -> Detailed {
        serde_json::from_value(given).unwrap()
    }

    #[test]
    fn every_state_reads_back_and_what_is_not_known_is_not_final() {
        for (text, is_final) in [
            ("QUEUED", false),
            ("RUNNING", false),
            ("PAUSED", false),
            ("SUCCEEDED", true),
            ("FAILED", true),
            ("TIMEOUT", true),
            ("CANCELED", true),
            ("QUOTA_EXCEEDED", true),
            ("MEMORY_LIMIT_EXCEEDED", true),
            ("LOG_SIZE_EXCEEDED", true),
            ("INTERNAL_ERROR", false),
            ("BRAND_NEW", false),
        ] {
            let state = RunState::parse(text);
            assert_eq!((state.as_str(), state.is_final()), (text, is_final));
        }
        assert_eq!(RunState::parse("STOPPED"), RunState::Canceled);
        assert!(RunState::Paused.can_be_cancelled() && !RunState::Running.can_be_cancelled());
    }

    #[test]
    fn the_steps_are_kept_in_their_order_without_inputs_and_what_was_answered_is_the_result() {
        let id = "WrkTbKA96XkfKuVmsY0A3";
        let ended = run(json!({"id": id, "status": "SUCCEEDED", "failedStep": null, "steps": {
            "trigger": {"type": "PIECE_TRIGGER", "status": "SUCCEEDED", "output": {"body": {"studios": {"correlation_id": "e/a"}}}},
            "step_10": {"type": "CODE", "status": "SUCCEEDED", "output": {"late": true}, "duration": 1.6},
            "step_2": {"type": "PIECE", "status": "SUCCEEDED", "input": {"respond": "stop", "responseType": "json", "secret": "s"},
                       "output": {"status": 201, "headers": {}, "body": {"sum": 7, "at": format!("/flow-runs/{id}/x")}}},
            "step_1": {"type": "CODE", "status": "SUCCEEDED",
                       "output": {"fileId": "V", "size": 102_417, "url": "http://a/files/V?token=eyJ.x"}},
        }}));
        assert_eq!(ended.correlation_id(), Some("e/a"));
        let ended = ended.kept();
        assert_eq!(ended.result, json!({"sum": 7, "at": "/flow-runs/[hidden]/x"}));
        let names: Vec<_> = ended.steps.iter().map(|it| it["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["step_1", "step_2", "step_10"]);
        assert_eq!(ended.steps[0]["output"]["url"], "http://a/files/V?token=[hidden]");
        assert_eq!(ended.steps[2]["duration_ms"], 2.0);
        let all = json!(ended.steps).to_string();
        assert!(!all.contains("secret") && !all.contains(id), "{all}");
    }

    #[test]
    fn a_failure_is_told_whether_or_not_its_message_was_cut() {
        let whole = r#"{"__apErrorVersion":1,"message":"Error: asked to fail: \"x\"","raw":"at (eval)"}"#;
        let failed = |message: &str, steps: Value| {
            run(json!({"id": "r", "status": "FAILED", "steps": steps,
                "failedStep": {"name": "step_1", "displayName": "Add", "message": message}}))
            .kept()
            .message
            .unwrap()
        };
        let expected = "the step \"Add\" failed: Error: asked to fail: \"x\"";
        assert_eq!(failed(whole, json!({})), expected);
        assert_eq!(
            failed(&whole[..whole.len() - 12], json!({})),
            expected,
            "cut behind the message"
        );
        assert_eq!(
            failed(&whole[..50], json!({})),
            "the step \"Add\" failed: Error: asked to f"
        );
        assert_eq!(failed("cut", json!({"step_1": {"errorMessage": whole}})), expected);
        assert_eq!(failed("plain", json!(null)), "the step \"Add\" failed: plain");
        assert_eq!(failed("", json!(null)), "the step \"Add\" failed");
    }

    #[test]
    fn what_is_kept_is_bounded_however_much_comes() {
        let mut deep = json!(1);
        for _ in 0..60 {
            deep = json!({ "d": deep });
        }
        let mut steps = Map::new();
        for n in 0..300 {
            steps.insert(
                format!("step_{n}"),
                json!({"status": "SUCCEEDED", "output": "x".repeat(20_000)}),
            );
        }
        steps.insert("step_0".into(), json!({"output": "y".repeat(40_000)}));
        steps.insert("step_1".into(), json!({"output": deep}));
        let ended = run(json!({"id": "r", "status": "SUCCEEDED", "steps": steps})).kept();
        assert_eq!(ended.steps[0]["output"]["truncated"], true);
        let stored = json!(ended.steps).to_string();
        assert!(stored.len() < 2 * MAX_STEPS_BYTES);
        assert!(clean::parse_json(&stored).is_ok(), "it can be read again");
    }

    #[test]
    fn purged_runs_and_absent_fields_are_read() {
        let ended = run(json!({"id": "r"})).kept();
        assert_eq!((ended.result, ended.steps.len(), ended.message), (Value::Null, 0, None));
        let listed: Listed =
            serde_json::from_value(json!({"id": "r", "tags": null, "flowVersion": {"x": [1]}})).unwrap();
        assert!(!listed.state().is_final());
        assert!(!format!("{listed:?} {:?}", run(json!({"id": "WrkTb"}))).contains("WrkTb"));
    }
}
