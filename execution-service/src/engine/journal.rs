//! The journal of an execution: its entries, their canonical bytes and the chain of their hashes.
//!
//! An entry is stored as canonical JSON (RFC 8785) with times to the microsecond. Its hash is
//! `SHA-256(hash of the entry before | bytes)`, the first one over 32 zero bytes, so the bytes alone prove the chain; the
//! columns beside them repeat what is queried. What is in memory is always what the bytes say: sealing reads them back, so
//! that a run that was taken over decides exactly as one that was not.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use service_kit::ids::{ChunkId, DocumentId, ExecutionId, UserId, VersionId, WorkflowId};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::failure::{Failure, FailureClass};

mod bytes;

pub use bytes::{MalformedEntry, canonical};

/// A SHA-256.
pub type Hash = [u8; 32];

/// What the first entry's hash is computed over in place of a predecessor's.
pub const GENESIS: Hash = [0; 32];

/// One thing that happened to an execution.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its place, from 1, without gaps.
    pub seq: i64,
    /// When it was recorded, to the microsecond.
    pub occurred_at: OffsetDateTime,
    /// What happened.
    pub payload: Payload,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Payload {
    /// The execution was asked for; always the first entry.
    Started(Started),
    /// A try of a stage ended.
    Attempt(Box<AttemptPayload>),
    /// Somebody asked to stop; nothing follows.
    Cancelled(Cancelled),
    /// The execution ended by itself; nothing follows.
    Finished(Finished),
}

impl Payload {
    /// The kind, as the database's column has it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Started(_) => "started",
            Self::Attempt(_) => "attempt",
            Self::Cancelled(_) => "cancelled",
            Self::Finished(_) => "finished",
        }
    }

    /// Whether nothing follows.
    pub const fn is_terminal(&self) -> bool {
        matches!(self, Self::Cancelled(_) | Self::Finished(_))
    }

    /// The attempt, if it is one.
    pub fn attempt(&self) -> Option<&AttemptPayload> {
        match self {
            Self::Attempt(attempt) => Some(attempt),
            _ => None,
        }
    }
}

/// What an execution was started with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The execution.
    pub execution_id: ExecutionId,
    /// The workflow.
    pub workflow_id: WorkflowId,
    /// The version it is pinned to.
    pub version_id: VersionId,
    /// That version's number.
    pub workflow_version: i32,
    /// SHA-256 of the canonical inputs, which stand in the execution's row; hexadecimal.
    pub inputs_sha256: String,
}

/// One try of a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptPayload {
    /// The stage's name.
    pub stage: String,
    /// How many times the run had come to this stage, from 1.
    pub visit: u32,
    /// The item of a fan-out, from 0.
    pub item: u32,
    /// The number of the try within the visit, from 1.
    pub attempt: u32,
    /// Why it failed; it succeeded if there is nothing here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<AttemptFailure>,
    /// The output as later stages see it; null unless it succeeded.
    #[serde(default)]
    pub output: Value,
    /// The answer as it came, made storable.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub raw_output: String,
    /// Whether characters that cannot be stored were taken out of the answer.
    #[serde(default, skip_serializing_if = "is_false")]
    pub cleaned: bool,
    /// What the check said.
    #[serde(default, skip_serializing_if = "Verdict::is_silent")]
    pub validation: Verdict,
    /// The chunks that the prompt was given, with their text: documents change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Source>,
    /// SHA-256 of the prompt that was sent (see [`super::request::Prompt::sha256`]), hexadecimal; empty if none was rendered.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prompt_sha256: String,
    /// The model and what calling it cost; absent for a stage that calls none or did not come to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<ModelUse>,
    /// When it began.
    #[serde(with = "bytes::micros")]
    pub started_at: OffsetDateTime,
    /// How long it took, by the clock that never goes back.
    pub duration_ms: u64,
}

impl AttemptPayload {
    /// Whether its output is used.
    pub const fn succeeded(&self) -> bool {
        self.failure.is_none()
    }

    /// How it ended, as the database's column has it.
    pub const fn outcome(&self) -> &'static str {
        if self.succeeded() { "succeeded" } else { "failed" }
    }
}

/// Why an attempt failed and what that means for the next one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptFailure {
    /// The class.
    pub class: FailureClass,
    /// What it was within the class; stable.
    pub reason: String,
    /// What happened, for people.
    pub message: String,
    /// Whether another try may end differently.
    #[serde(default, skip_serializing_if = "is_false")]
    pub retryable: bool,
    /// How long the provider asked to wait before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl AttemptFailure {
    /// A failure that another try would not change.
    pub fn lasting(class: FailureClass, reason: &str, message: impl Into<String>) -> Self {
        Self {
            class,
            reason: reason.to_owned(),
            message: message.into(),
            retryable: false,
            retry_after_ms: None,
        }
    }

    /// A failure that may pass.
    pub fn passing(class: FailureClass, reason: &str, message: impl Into<String>) -> Self {
        Self {
            retryable: true,
            ..Self::lasting(class, reason, message)
        }
    }

    /// Class and message alone.
    pub fn failure(&self) -> Failure {
        Failure::new(self.class, self.message.clone())
    }
}

/// What calling a model took.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelUse {
    /// The model's name, as the stage has it.
    pub model: String,
    /// The provider's name.
    pub provider: String,
    /// The model that the provider says answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_model: Option<String>,
    /// The provider's id of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_id: Option<String>,
    /// Why the model stopped.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub finish_reason: String,
    /// Tokens read, by the provider's count.
    pub input_tokens: u64,
    /// Tokens written, by the provider's count.
    pub output_tokens: u64,
    /// Cost in millionths of a US dollar.
    pub cost_micros: u64,
    /// Whether the provider may bill more without our knowing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub billing_uncertain: bool,
}

/// What a check said of an output.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Its result.
    pub result: CheckResult,
    /// Its notes, for the next try's prompt.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub notes: String,
}

impl Verdict {
    fn is_silent(&self) -> bool {
        *self == Self::default()
    }
}

/// A check's result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckResult {
    /// There was nothing to check.
    #[default]
    Unchecked,
    /// The output passes.
    Pass,
    /// The output does not pass.
    Fail,
    /// The check itself could not be made.
    Error,
}

/// A chunk that a prompt was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The document.
    pub document_id: DocumentId,
    /// The chunk.
    pub chunk_id: ChunkId,
    /// The document's title.
    pub document_title: String,
    /// The headings above it; empty where there is none.
    pub section: String,
    /// Its text at that time.
    pub content: String,
}

/// Somebody asked to stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancelled {
    /// Who.
    pub by: UserId,
    /// Why, in his words; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The stage whose call was in flight and was given up; the provider may bill it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interrupted: Option<String>,
}

/// How the execution ended by itself. The outputs stand in the execution's row and in the last attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// Why it failed; it completed if there is nothing here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// An entry with its bytes and its place in the chain, ready to be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Sealed {
    /// The entry, as the bytes say it.
    pub entry: Entry,
    /// Its canonical bytes.
    pub bytes: Vec<u8>,
    /// The hash over the predecessor's and the bytes.
    pub hash: Hash,
}

impl Entry {
    /// Puts the entry after the one with the hash `previous`.
    pub fn seal(&self, previous: &Hash) -> Sealed {
        let bytes = bytes::encode(self);
        let entry = bytes::decode(&bytes).expect("an entry reads its own bytes");
        Sealed {
            entry,
            hash: chain(previous, &bytes),
            bytes,
        }
    }

    /// Reads an entry's stored bytes.
    pub fn open(stored: &[u8]) -> Result<Self, MalformedEntry> {
        bytes::decode(stored)
    }
}

/// The hash of an entry's bytes after a predecessor's hash.
pub fn chain(previous: &Hash, bytes: &[u8]) -> Hash {
    Sha256::new()
        .chain_update(previous)
        .chain_update(bytes)
        .finalize()
        .into()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests;
