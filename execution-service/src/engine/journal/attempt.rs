//! A try of a stage, as the journal has it.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use service_kit::ids::{ChunkId, DocumentId};
use time::OffsetDateTime;

use super::bytes;
use crate::engine::failure::{Failure, FailureClass};

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
    /// Why it failed; if there is nothing here, it succeeded, or a person has to decide that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<AttemptFailure>,
    /// The output as later stages see it, once it counts; null if it failed.
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
    /// SHA-256 of the prompt that was sent (see [`Prompt::sha256`](crate::engine::request::Prompt::sha256)), hexadecimal;
    /// empty if none was rendered.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prompt_sha256: String,
    /// The model and what calling it cost; absent for a stage that calls none or did not come to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<ModelUse>,
    /// The model that judged the output and what that cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<ModelUse>,
    /// When it began.
    #[serde(with = "bytes::micros")]
    pub started_at: OffsetDateTime,
    /// How long it took, by the clock that never goes back.
    pub duration_ms: u64,
}

impl AttemptPayload {
    /// Whether its output is used without anybody's decision.
    pub fn succeeded(&self) -> bool {
        self.failure.is_none() && !self.is_open()
    }

    /// Whether a person decides if its output is used.
    pub fn is_open(&self) -> bool {
        self.failure.is_none() && self.validation.result == CheckResult::Pending
    }

    /// How it ended, as the database's column has it.
    pub fn outcome(&self) -> &'static str {
        match &self.failure {
            Some(_) => "failed",
            None if self.is_open() => "pending",
            None => "succeeded",
        }
    }

    /// Which try it is.
    pub fn of_try(&self) -> StageTry {
        StageTry {
            stage: self.stage.clone(),
            visit: self.visit,
            item: self.item,
            attempt: self.attempt,
        }
    }

    /// Whether it is this try.
    pub fn is(&self, of: &StageTry) -> bool {
        (self.visit, self.item, self.attempt) == (of.visit, of.item, of.attempt) && self.stage == of.stage
    }
}

/// A try of a stage, by its place in the run.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StageTry {
    /// The stage's name.
    pub stage: String,
    /// How often the run has come to the stage, from 1.
    pub visit: u32,
    /// The item of a fan-out, from 0.
    pub item: u32,
    /// The number of the try within the visit, from 1.
    pub attempt: u32,
}

impl fmt::Display for StageTry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            stage,
            visit,
            item,
            attempt,
        } = self;
        write!(f, "{stage}/{visit}/{item}/{attempt}")
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
    /// A person decides.
    Pending,
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
    /// The page that it stands on, where the document has pages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<u32>,
    /// What the chunk before it ends with.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub overlap: String,
    /// Its text at that time.
    pub content: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}
