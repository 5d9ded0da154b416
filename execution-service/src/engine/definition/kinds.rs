//! What stages of each kind are told.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{DEFAULT_CONCURRENCY, DEFAULT_RETRIEVAL_LIMIT, MAX_CONCURRENCY, MAX_RETRIEVAL_LIMIT, Policy, milliseconds};
use crate::engine::template::Template;

/// A call of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Llm {
    /// The model's name, the company's own before the platform's.
    pub model: String,
    /// The prompt's template.
    pub prompt: Template,
    /// The template of the system message; may be empty.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub system: Template,
    /// JSON Schema that the answer must fill; the output is then the parsed JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_schema: Option<Value>,
    /// The models to ask next, in order, when the one before has used up its tries or cannot be used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallback_models: Vec<String>,
    /// Parameters over the model's defaults.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub config: Map<String, Value>,
    /// What to retrieve before the prompt is rendered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retrieval: Option<Retrieval>,
}

fn is_empty(template: &Template) -> bool {
    template.as_str().is_empty()
}

impl Llm {
    /// The model that is asked after so many others.
    pub fn model_at(&self, place: usize) -> Option<&str> {
        match place.checked_sub(1) {
            None => Some(&self.model),
            Some(place) => self.fallback_models.get(place).map(String::as_str),
        }
    }
}

/// A search in the studio's documents.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Retrieval {
    /// The query's template; empty takes the documents' chunks in their order, which needs `document_ids_path`.
    #[serde(default)]
    pub query: Template,
    /// At most this many chunks; 0 means [`DEFAULT_RETRIEVAL_LIMIT`].
    #[serde(default)]
    pub limit: u32,
    /// Source path of a document id, of a file, or of a list of such, to search in; without one all documents of the studio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document_ids_path: Option<String>,
    /// By what chunks are found.
    #[serde(default, skip_serializing_if = "RetrievalMode::is_default")]
    pub mode: RetrievalMode,
    /// Only in documents of these types, if there are some.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mime_types: Vec<String>,
    /// Only in documents with all of these tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Only in documents that were made no longer ago.
    #[serde(
        rename = "max_age_ms",
        with = "milliseconds::optional",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub max_age: Option<Duration>,
}

/// By what a retrieval finds chunks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetrievalMode {
    /// By both, where the company has a model that makes vectors; by words otherwise.
    #[default]
    Automatic,
    /// By the query's words.
    Text,
    /// By the query's vector.
    Vector,
    /// By both.
    Fused,
}

impl RetrievalMode {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
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

/// A text to keep as a file of the studio. Its output is what an input that is a file has, without a document.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Keep {
    /// The template of the file's name.
    pub file_name: Template,
    /// The template of its content.
    pub content: Template,
    /// What the content is.
    pub mime_type: String,
    /// Who reaches it.
    #[serde(default)]
    pub reach: Reach,
    /// Source path of the file that it is a new version of; without one a new file is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_path: Option<String>,
}

/// Who reaches a file that is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// Who started the run alone.
    Private,
    /// Who reaches its studio.
    #[default]
    Studio,
    /// All of the company.
    Company,
}

/// An HTTP request. Its output is `{"status", "headers", "body"}`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Http {
    /// GET, POST, PUT, PATCH or DELETE.
    pub method: String,
    /// The URL's template.
    pub url: String,
    /// The body's template.
    #[serde(default)]
    pub body: String,
    /// Headers and the templates of their values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The connection whose secret goes with it; the URL then stays on the connection's server and below its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_id: Option<String>,
    /// Whether sending it twice does no harm. If it does, sending is announced in the journal first, and what was announced
    /// is never sent again unless a person says so.
    #[serde(default)]
    pub repeatable: bool,
}

/// A flow of ActivePieces. It is sent the variables of the stage's mapping, and beside them `studios` with what it calls back
/// by. Its output is `{"state", "result", "steps"}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// The connection it runs over.
    pub connection_id: String,
    /// The flow.
    pub flow_id: String,
    /// Whether the start's answer is waited for.
    #[serde(default, skip_serializing_if = "FlowMode::is_default")]
    pub mode: FlowMode,
    /// Whether the flow has a step that posts to the call-back URL at its end: it is asked about seldom then.
    #[serde(default, skip_serializing_if = "is_false")]
    pub calls_back: bool,
    /// Whether the flow tags its run with our correlation id.
    #[serde(default, skip_serializing_if = "is_false")]
    pub tags_run: bool,
}

/// How a flow is started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowMode {
    /// Nothing but that it was taken is waited for; its end is learned later.
    #[default]
    Asynchronous,
    /// What its Return Response step answers is waited for.
    Synchronous,
}

impl FlowMode {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// Another workflow. Its inputs are the variables of the stage's mapping.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SubWorkflow {
    /// The workflow.
    pub workflow_id: String,
    /// The version's number; without one the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
}

/// Another stage, once for each item of a list; its output is the list of their outputs, in the items' order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Fan {
    /// Source path of the list.
    pub items_path: String,
    /// The stage to run.
    pub stage: String,
    /// How many items at once; 0 means [`DEFAULT_CONCURRENCY`].
    #[serde(default)]
    pub concurrency: u32,
    /// What an item's failure means.
    #[serde(default, skip_serializing_if = "OnItemFailure::is_default")]
    pub on_item_failure: OnItemFailure,
}

impl Fan {
    /// How many items at once.
    pub const fn at_once(&self) -> usize {
        let wanted = match self.concurrency {
            0 => DEFAULT_CONCURRENCY,
            more if more > MAX_CONCURRENCY => MAX_CONCURRENCY,
            some => some,
        };
        wanted as usize
    }
}

/// What the failure of a map's item means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnItemFailure {
    /// The map fails with it, at once.
    #[default]
    Fail,
    /// The item's output is null.
    Null,
}

impl OnItemFailure {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A wait: until a time, or for a signal with a time as its deadline.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Wait {
    /// How long.
    #[serde(
        rename = "duration_ms",
        with = "milliseconds::optional",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub duration: Option<Duration>,
    /// Source path of the time (RFC 3339) until when; with a duration too, the earlier of both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_path: Option<String>,
    /// The signal that ends the wait; without one the time alone does.
    #[serde(default)]
    pub signal: Option<String>,
}

/// A question to people. Its output is `{"approved": true, "decisions": [{"by", "notes", "form", "at"}]}`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Approval {
    /// What they are asked: a template.
    #[serde(default)]
    pub question: String,
    /// Who decides, and how.
    #[serde(flatten)]
    pub policy: Policy,
}
