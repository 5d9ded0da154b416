//! What came of a start, as its row has it, and what that means for the stage.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    engine::{failure::FailureClass, journal::AttemptFailure},
    pieces::RunState,
};

/// What came of a start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(in crate::worker) enum Outcome {
    /// Its run has ended.
    Ended {
        /// As ActivePieces writes it.
        state: String,
        #[serde(default)]
        result: Value,
        #[serde(default)]
        steps: Vec<Value>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    /// The flow answered the start.
    Answered { status: u16, body: Value },
    /// The flow said so itself.
    CalledBack {
        result: Value,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<String>,
    },
    /// It was waited for long enough; its run was in this state last.
    Late { state: String },
    /// No run of it was found in the time that there is: nobody knows.
    Lost,
    /// The connection that it was started over is not there any more.
    Disconnected,
}

/// What an outcome means for the stage.
#[derive(Debug, PartialEq)]
pub(in crate::worker) enum Meaning {
    /// An output to be checked.
    Output(Value),
    /// A failure, with what there is to see of it.
    Failure(AttemptFailure, Option<Value>),
    /// Nobody knows.
    Unknown,
}

impl Outcome {
    /// The state that its row shows.
    pub(super) fn state(&self) -> &str {
        match self {
            Self::Ended { state, .. } | Self::Late { state } => state,
            Self::Answered { status, .. } if *status >= 400 => "FAILED",
            Self::CalledBack { failure: Some(_), .. } => "FAILED",
            Self::Answered { .. } | Self::CalledBack { .. } => "SUCCEEDED",
            Self::Lost | Self::Disconnected => "UNKNOWN",
        }
    }

    /// What it means.
    pub(in crate::worker) fn meaning(self) -> Meaning {
        match self {
            Self::Ended {
                state,
                result,
                steps,
                message,
            } => match failure(&RunState::parse(&state), message) {
                None => Meaning::Output(output(&state, result, steps)),
                Some(failure) => Meaning::Failure(failure, Some(json!({ "state": state, "steps": steps }))),
            },
            Self::Answered { status, body } if status >= 400 => {
                let message = format!("the flow answered with HTTP {status}");
                let failure = AttemptFailure::passing(FailureClass::ProviderError, "flow_answer", message);
                Meaning::Failure(failure, Some(json!({ "status": status, "body": body })))
            }
            Self::Answered { body, .. } => Meaning::Output(output("SUCCEEDED", body, Vec::new())),
            Self::CalledBack {
                failure: Some(message), ..
            } => {
                let failure = AttemptFailure::passing(FailureClass::ProviderError, "flow_failed", message);
                Meaning::Failure(failure, None)
            }
            Self::CalledBack { result, failure: None } => Meaning::Output(output("SUCCEEDED", result, Vec::new())),
            Self::Late { state } => {
                // Trying again would run it twice.
                let message = format!("the flow did not end in time; in ActivePieces its run is {state} and may go on");
                let failure = AttemptFailure::lasting(FailureClass::Timeout, "flow_late", message);
                Meaning::Failure(failure, None)
            }
            Self::Lost => Meaning::Unknown,
            Self::Disconnected => {
                let message = "the connection was removed while its flow ran; the run may go on in ActivePieces";
                let failure = AttemptFailure::lasting(FailureClass::ProviderError, "connection", message);
                Meaning::Failure(failure, None)
            }
        }
    }
}

/// What later stages see of a flow.
fn output(state: &str, result: Value, steps: Vec<Value>) -> Value {
    let output = [
        ("state".to_owned(), state.into()),
        ("result".to_owned(), result),
        ("steps".to_owned(), steps.into()),
    ];
    Value::Object(output.into_iter().collect())
}

/// Why a run that ended so failed; none if it did not.
fn failure(state: &RunState, message: Option<String>) -> Option<AttemptFailure> {
    let said = message.map_or_else(String::new, |it| format!(": {it}"));
    let passing = |class, reason, what: &str| AttemptFailure::passing(class, reason, format!("{what}{said}"));
    let lasting = |class, reason, what: &str| AttemptFailure::lasting(class, reason, format!("{what}{said}"));
    Some(match state {
        RunState::Succeeded => return None,
        RunState::Failed => passing(FailureClass::ProviderError, "flow_failed", "the flow failed"),
        RunState::TimedOut => passing(
            FailureClass::Timeout,
            "flow_timeout",
            "the flow took longer than ActivePieces lets it",
        ),
        RunState::Canceled => lasting(
            FailureClass::ProviderError,
            "flow_canceled",
            "the flow's run was stopped in ActivePieces",
        ),
        RunState::QuotaExceeded => lasting(
            FailureClass::Capped,
            "flow_quota",
            "a limit of the ActivePieces plan is used up",
        ),
        RunState::MemoryLimitExceeded => lasting(
            FailureClass::Capped,
            "flow_memory",
            "the flow needed more memory than it may",
        ),
        RunState::LogSizeExceeded => lasting(
            FailureClass::Capped,
            "flow_logs",
            "the flow wrote more logs than it may",
        ),
        RunState::InternalError => passing(
            FailureClass::ProviderError,
            "flow_internal_error",
            "ActivePieces failed by itself",
        ),
        RunState::Queued | RunState::Running | RunState::Paused | RunState::Unknown(_) => lasting(
            FailureClass::ProviderError,
            "flow_state",
            "the flow's run ended in a state that is not known",
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(state: &str) -> Outcome {
        Outcome::Ended {
            state: state.into(),
            result: json!(7),
            steps: vec![json!({"name": "step_1"})],
            message: Some("the step \"Add\" failed".into()),
        }
    }

    #[test]
    fn every_end_has_its_meaning() {
        let expected = json!({"state": "SUCCEEDED", "result": 7, "steps": [{"name": "step_1"}]});
        assert_eq!(ended("SUCCEEDED").meaning(), Meaning::Output(expected));
        for (state, class, reason, retryable) in [
            ("FAILED", FailureClass::ProviderError, "flow_failed", true),
            ("TIMEOUT", FailureClass::Timeout, "flow_timeout", true),
            ("CANCELED", FailureClass::ProviderError, "flow_canceled", false),
            ("STOPPED", FailureClass::ProviderError, "flow_canceled", false),
            ("QUOTA_EXCEEDED", FailureClass::Capped, "flow_quota", false),
            ("MEMORY_LIMIT_EXCEEDED", FailureClass::Capped, "flow_memory", false),
            ("LOG_SIZE_EXCEEDED", FailureClass::Capped, "flow_logs", false),
            (
                "INTERNAL_ERROR",
                FailureClass::ProviderError,
                "flow_internal_error",
                true,
            ),
        ] {
            let Meaning::Failure(failure, seen) = ended(state).meaning() else {
                panic!("{state} fails")
            };
            assert_eq!(
                (failure.class, &*failure.reason, failure.retryable),
                (class, reason, retryable)
            );
            assert!(failure.message.ends_with(": the step \"Add\" failed") && seen.is_some());
        }
        assert_eq!(Outcome::Lost.meaning(), Meaning::Unknown);
    }

    #[test]
    fn what_may_still_run_is_never_tried_again() {
        for outcome in [
            Outcome::Late {
                state: "RUNNING".into(),
            },
            Outcome::Disconnected,
        ] {
            let Meaning::Failure(failure, _) = outcome.meaning() else {
                panic!("it fails")
            };
            assert!(!failure.retryable);
        }
    }

    #[test]
    fn a_flow_that_answers_or_calls_back_says_itself_how_it_went() {
        let answered = |status| Outcome::Answered {
            status,
            body: json!("x"),
        };
        assert!(matches!(answered(201).meaning(), Meaning::Output(it) if it["result"] == "x"));
        assert!(matches!(answered(422).meaning(), Meaning::Failure(it, _) if it.reason == "flow_answer"));
        assert_eq!((answered(200).state(), answered(404).state()), ("SUCCEEDED", "FAILED"));
        let called = |failure: Option<&str>| Outcome::CalledBack {
            result: json!(1),
            failure: failure.map(Into::into),
        };
        assert!(matches!(called(None).meaning(), Meaning::Output(it) if it["result"] == 1));
        assert!(matches!(called(Some("no")).meaning(), Meaning::Failure(it, _) if it.message == "no"));
    }

    #[test]
    fn an_outcome_reads_back_as_its_row_has_it() {
        for outcome in [
            ended("FAILED"),
            Outcome::Lost,
            Outcome::Late { state: "PAUSED".into() },
            Outcome::Disconnected,
            Outcome::Answered {
                status: 200,
                body: Value::Null,
            },
            Outcome::CalledBack {
                result: json!([]),
                failure: None,
            },
        ] {
            let stored = serde_json::to_value(&outcome).unwrap();
            assert_eq!(serde_json::from_value::<Outcome>(stored).unwrap(), outcome);
        }
    }
}
