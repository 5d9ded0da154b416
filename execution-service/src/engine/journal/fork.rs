//! From where an execution goes on that another one came to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use service_kit::ids::ExecutionId;

/// Where the source was, and what it had by then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Forked {
    /// The source.
    pub source_execution: ExecutionId,
    /// Its last entry that was looked at.
    pub source_seq: i64,
    /// That entry's hash, hexadecimal.
    pub source_hash: String,
    /// The stage to begin with.
    pub from_stage: String,
    /// The outputs that are kept, of stages, and of items of the map to begin with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<Kept>,
    /// How often the source had come to each stage before.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub visits: BTreeMap<String, u32>,
}

/// An output that was paid for in another execution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// The stage's name.
    pub stage: String,
    /// The visit it is of.
    pub visit: u32,
    /// The item of a fan-out, from 0.
    pub item: u32,
    /// The try that made it.
    pub attempt: u32,
    /// The output.
    #[serde(default)]
    pub output: Value,
}
