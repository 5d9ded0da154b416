//! What a workflow does, as the engine reads it and as it is stored (JSON, in drafts and in published versions).
//!
//! A stored definition never changes its shape. A published one is immutable and has passed the checks of publishing; the
//! engine nevertheless meets a bad one with a failure, not a panic.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

mod kinds;
mod people;
mod routing;
mod validation;

use super::check::Demands;

pub use kinds::{
    Approval, Fan, Flow, FlowMode, Http, Keep, Llm, OnItemFailure, Reach, Retrieval, RetrievalMode, SubWorkflow, Wait,
};
pub use people::{Approvers, Policy, Rank};
pub use routing::{Retry, Route};
pub use validation::{Judge, Validation, VariableType};

/// In `next_on_pass` and `next_on_fail`: the run ends here, well.
pub const END: &str = "end";
/// The most stages a definition may have.
pub const MAX_STAGES: usize = 100;
/// The transition limit where none is given.
pub const DEFAULT_TRANSITION_LIMIT: u32 = 100;
/// The highest transition limit.
pub const MAX_TRANSITION_LIMIT: u32 = 10_000;
/// How long one attempt may take where nothing is said.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_mins(2);
/// The longest that one attempt may take.
pub const MAX_TIMEOUT: Duration = Duration::from_hours(1);
/// How long a flow may take where nothing is said: its own 10 minutes and the 2.5 that it may stand in a queue.
pub const DEFAULT_FLOW_TIMEOUT: Duration = Duration::from_mins(15);
/// The longest that a flow may take: it may pause for 30 days.
pub const MAX_FLOW_TIMEOUT: Duration = Duration::from_hours(31 * 24);
/// How many chunks a retrieval takes where nothing is said.
pub const DEFAULT_RETRIEVAL_LIMIT: u32 = 8;
/// The most chunks a retrieval may take.
pub const MAX_RETRIEVAL_LIMIT: u32 = 50;
/// The most times a stage may be tried again.
pub const MAX_RETRY_LIMIT: u32 = 20;
/// The most models that a stage may fall back on.
pub const MAX_FALLBACKS: usize = 5;
/// The most routes of a kind that a stage may have.
pub const MAX_ROUTES: usize = 20;
/// The most items that a map goes through.
pub const MAX_ITEMS: usize = 1_000;
/// How many items a map runs at once where nothing is said.
pub const DEFAULT_CONCURRENCY: u32 = 4;
/// The most items that a map may run at once.
pub const MAX_CONCURRENCY: u32 = 64;
/// How many workflows may run within one another.
pub const MAX_DEPTH: u32 = 8;

/// What a workflow does.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// The stages in their default order.
    pub stages: Vec<Stage>,
    /// How many times a run may go from one stage to another; 0 means [`DEFAULT_TRANSITION_LIMIT`].
    #[serde(default)]
    pub transition_limit: u32,
    /// JSON Schema of the inputs a start takes; without one any object will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_schema: Option<Value>,
    /// JSON Schema of the output of the stage that a run ends with; without one any output will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Value>,
}

impl Definition {
    /// The place of the stage with this name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.stages.iter().position(|stage| stage.name == name)
    }

    /// How many times a run may go from one stage to another.
    pub fn max_transitions(&self) -> u32 {
        if self.transition_limit == 0 {
            DEFAULT_TRANSITION_LIMIT
        } else {
            self.transition_limit
        }
    }
}

/// One step of a workflow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Unique within the definition.
    pub name: String,
    /// What it does.
    #[serde(flatten)]
    pub kind: Kind,
    /// Template variable to source path (see [`super::context`]).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub input_mapping: BTreeMap<String, String>,
    /// Output variable to its type; with any, the output must be an object that has them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub output_variables: BTreeMap<String, VariableType>,
    /// How the output is checked.
    #[serde(default)]
    pub validation: Validation,
    /// How many times the stage is tried again.
    #[serde(default)]
    pub retry_limit: u32,
    /// What is tried again, and after how long.
    #[serde(default, skip_serializing_if = "Retry::is_default")]
    pub retry: Retry,
    /// Where to go when the output passes and a condition holds; the first one that does counts, before `next_on_pass`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes_on_pass: Vec<Route>,
    /// The same when all tries are used up, before `next_on_fail`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes_on_fail: Vec<Route>,
    /// Where to go when the output passes: a stage, [`END`], or by default the next one in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_on_pass: Option<String>,
    /// Where to go when the retries are used up: a stage, [`END`], or by default the run's failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_on_fail: Option<String>,
    /// How long one attempt may take.
    #[serde(rename = "timeout_ms", with = "milliseconds", default = "default_timeout")]
    pub timeout: Duration,
    /// Provider settings that are passed on as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_overrides: Option<Map<String, Value>>,
    /// What its output must fit, made ready.
    #[serde(skip)]
    pub demands: Demands,
}

/// What a stage does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// Calls a model.
    Llm(Llm),
    /// Finds chunks of the studio's documents.
    Retrieve(Retrieval),
    /// Runs an ActivePieces flow.
    Activepieces(Flow),
    /// Runs a Flowise flow.
    Flowise {
        /// The connection it runs over.
        connection_id: String,
        /// The flow.
        flow_id: String,
        /// The question's template.
        question: String,
    },
    /// Sends an HTTP request.
    Http(Http),
    /// Keeps a text as a file of the studio.
    File(Keep),
    /// Runs another workflow as an execution of its own.
    Workflow(SubWorkflow),
    /// Runs another stage once for each item of a list.
    Map(Fan),
    /// Waits for a time or a signal.
    Wait(Wait),
    /// Waits for people's approval.
    Approval(Box<Approval>),
}

impl Kind {
    /// The kind's name, as the contract and the stored definition have it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Llm(_) => "llm",
            Self::Retrieve(_) => "retrieve",
            Self::Activepieces(_) => "activepieces",
            Self::Flowise { .. } => "flowise",
            Self::Http(_) => "http",
            Self::File(_) => "file",
            Self::Workflow(_) => "workflow",
            Self::Map(_) => "map",
            Self::Wait(_) => "wait",
            Self::Approval(_) => "approval",
        }
    }

    /// Whether a map can run such a stage for its items.
    pub const fn is_body(&self) -> bool {
        matches!(
            self,
            Self::Llm(_)
                | Self::Retrieve(_)
                | Self::Http(_)
                | Self::File(_)
                | Self::Workflow(_)
                | Self::Activepieces(_)
                | Self::Flowise { .. }
        )
    }

    /// How long one attempt may take where nothing is said.
    pub const fn usual_timeout(&self) -> Duration {
        match self {
            Self::Activepieces(_) => DEFAULT_FLOW_TIMEOUT,
            _ => DEFAULT_TIMEOUT,
        }
    }

    /// The longest that one attempt may take.
    pub const fn longest_timeout(&self) -> Duration {
        match self {
            Self::Activepieces(_) => MAX_FLOW_TIMEOUT,
            _ => MAX_TIMEOUT,
        }
    }

    /// What the stage retrieves, if it does.
    pub const fn retrieval(&self) -> Option<&Retrieval> {
        match self {
            Self::Llm(llm) => llm.retrieval.as_ref(),
            Self::Retrieve(retrieval) => Some(retrieval),
            _ => None,
        }
    }
}

const fn default_timeout() -> Duration {
    DEFAULT_TIMEOUT
}

/// Durations as whole milliseconds.
mod milliseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    /// The same for a duration that may not be there.
    pub(super) mod optional {
        use std::time::Duration;

        use serde::{Deserialize, Deserializer, Serializer};

        #[expect(clippy::ref_option, reason = "serde passes a reference")]
        pub(in crate::engine::definition) fn serialize<S: Serializer>(
            duration: &Option<Duration>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match duration {
                Some(duration) => super::serialize(duration, serializer),
                None => serializer.serialize_none(),
            }
        }

        pub(in crate::engine::definition) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Duration>, D::Error> {
            Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_millis))
        }
    }

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_definition_reads_back_as_it_was_stored() {
        let stored = json!({
            "stages": [
                {"name": "a", "kind": "llm", "model": "offline", "prompt": "p {{ x }}", "timeout_ms": 1500,
                 "config": {"temperature": 0.5, "max_tokens": 10},
                 "validation": {"type": "regex", "pattern": "^x"}, "retry_limit": 2, "next_on_pass": "c",
                 "input_mapping": {"x": "inputs.x"}, "output_variables": {"n": "integer"},
                 "retrieval": {"query": "q", "limit": 4, "document_ids_path": "inputs.ids"}},
                {"name": "b", "kind": "retrieve", "query": "", "limit": 0, "document_ids_path": "inputs.id",
                 "validation": {"type": "none"}, "retry_limit": 0, "timeout_ms": 120_000},
                {"name": "c", "kind": "wait", "duration_ms": 10, "signal": null,
                 "validation": {"type": "json_schema", "schema": {"type": "object"}}, "retry_limit": 0, "timeout_ms": 120_000},
            ],
            "transition_limit": 7,
            "input_schema": {"type": "object"},
        });
        let definition: Definition = serde_json::from_value(stored.clone()).unwrap();
        assert_eq!(definition.stages[0].timeout, Duration::from_millis(1500));
        assert_eq!(
            definition.stages[1].kind.retrieval().unwrap().max_chunks(),
            DEFAULT_RETRIEVAL_LIMIT
        );
        assert_eq!(serde_json::to_value(&definition).unwrap(), stored);
    }

    #[test]
    fn what_a_stored_stage_leaves_out_has_its_default() {
        let stage: Stage = serde_json::from_value(json!({"name": "a", "kind": "retrieve", "query": "q"})).unwrap();
        assert_eq!(stage.timeout, DEFAULT_TIMEOUT);
        assert_eq!(stage.validation, Validation::None);
        assert_eq!(stage.retry_limit, 0);
        assert_eq!(Definition::default().max_transitions(), DEFAULT_TRANSITION_LIMIT);
    }

    #[test]
    fn a_variable_type_reads_back_as_it_is_written() {
        for kind in VariableType::ALL {
            assert_eq!(VariableType::parse(kind.as_str()), Some(kind));
        }
    }
}
