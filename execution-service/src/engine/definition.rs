//! What a workflow does, as the engine reads it and as it is stored (JSON, in drafts and in published versions).
//!
//! Every kind of stage and check has its place here from the start, so that a stored definition never changes its shape;
//! `Kind::is_served` and `Validation::is_served` say which of them can be published today. A published definition is
//! immutable and has passed the checks of publishing; the engine nevertheless meets a bad one with a failure, not a panic.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::pattern::Pattern;

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
/// How many chunks a retrieval takes where nothing is said.
pub const DEFAULT_RETRIEVAL_LIMIT: u32 = 8;
/// The most chunks a retrieval may take.
pub const MAX_RETRIEVAL_LIMIT: u32 = 50;
/// The most times a stage may be tried again.
pub const MAX_RETRY_LIMIT: u32 = 20;

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
    Activepieces {
        /// The connection it runs over.
        connection_id: String,
        /// The flow.
        flow_id: String,
    },
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
    Http {
        /// GET, POST, PUT, PATCH or DELETE.
        method: String,
        /// The URL's template.
        url: String,
        /// The body's template.
        body: String,
        /// Whether sending it twice does no harm.
        repeatable: bool,
    },
    /// Runs another workflow as an execution of its own.
    Workflow {
        /// The workflow.
        workflow_id: String,
    },
    /// Runs another stage once for each item of a list.
    Map {
        /// Source path of the list.
        items_path: String,
        /// The stage to run.
        stage: String,
        /// How many items at once.
        concurrency: u32,
    },
    /// Waits for a time or a signal.
    Wait {
        /// How long at most.
        #[serde(rename = "duration_ms", with = "milliseconds")]
        duration: Duration,
        /// The signal that ends the wait; without one the time alone does.
        signal: Option<String>,
    },
    /// Waits for people's approval.
    Approval {
        /// How many must approve.
        required: u32,
        /// What they are asked.
        question: String,
    },
}

impl Kind {
    /// The kind's name, as the contract and the stored definition have it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Llm(_) => "llm",
            Self::Retrieve(_) => "retrieve",
            Self::Activepieces { .. } => "activepieces",
            Self::Flowise { .. } => "flowise",
            Self::Http { .. } => "http",
            Self::Workflow { .. } => "workflow",
            Self::Map { .. } => "map",
            Self::Wait { .. } => "wait",
            Self::Approval { .. } => "approval",
        }
    }

    /// Whether a definition with such a stage can be published today.
    pub const fn is_served(&self) -> bool {
        matches!(self, Self::Llm(_) | Self::Retrieve(_))
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

/// A call of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Llm {
    /// The model's name, the company's own before the platform's.
    pub model: String,
    /// The prompt's template.
    pub prompt: String,
    /// The template of the system message; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub system: String,
    /// JSON Schema that the answer must fill; the output is then the parsed JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_schema: Option<Value>,
    /// Parameters over the model's defaults.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub config: Map<String, Value>,
    /// What to retrieve before the prompt is rendered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retrieval: Option<Retrieval>,
}

/// A search in the studio's documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Retrieval {
    /// The query's template; empty takes the documents' chunks in their order, which needs `document_ids_path`.
    #[serde(default)]
    pub query: String,
    /// At most this many chunks; 0 means [`DEFAULT_RETRIEVAL_LIMIT`].
    #[serde(default)]
    pub limit: u32,
    /// Source path of a document id, or of a list of them, to search in; without one all documents of the studio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document_ids_path: Option<String>,
}

impl Retrieval {
    /// At most this many chunks.
    pub fn max_chunks(&self) -> u32 {
        if self.limit == 0 {
            DEFAULT_RETRIEVAL_LIMIT
        } else {
            self.limit.min(MAX_RETRIEVAL_LIMIT)
        }
    }
}

/// How an output is checked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Validation {
    /// Not at all.
    #[default]
    None,
    /// The expression must be found in the output's text.
    Regex {
        /// The expression.
        pattern: Pattern,
    },
    /// The output must be JSON that fits.
    JsonSchema {
        /// The schema (draft 2020-12).
        schema: Value,
    },
    /// A person decides.
    Manual,
    /// A named check or an expression decides.
    Function {
        /// The named check.
        name: String,
        /// A CEL expression over the output.
        cel: String,
    },
    /// Another model decides.
    Llm {
        /// The judging model's name.
        model: String,
        /// What it judges by.
        criteria: String,
    },
}

impl Validation {
    /// Whether a definition with such a check can be published today.
    pub const fn is_served(&self) -> bool {
        matches!(
            self,
            Self::None | Self::Regex { .. } | Self::JsonSchema { .. } | Self::Manual
        )
    }
}

/// The type of an output variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VariableType {
    /// A text.
    String,
    /// Any number.
    Number,
    /// A whole number.
    Integer,
    /// True or false.
    Boolean,
    /// A list.
    Array,
    /// An object.
    Object,
}

impl VariableType {
    /// Every type.
    pub const ALL: [Self; 6] = [
        Self::String,
        Self::Number,
        Self::Integer,
        Self::Boolean,
        Self::Array,
        Self::Object,
    ];

    /// The type as JSON Schema and the contract name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Number => "number",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
            Self::Array => "array",
            Self::Object => "object",
        }
    }

    /// The type that is named so, if there is one.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

const fn default_timeout() -> Duration {
    DEFAULT_TIMEOUT
}

mod milliseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

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
        assert!(!definition.stages[2].kind.is_served());
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
