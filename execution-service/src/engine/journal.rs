//! The journal of an execution: its entries, their canonical bytes and the chain of their hashes.
//!
//! An entry is stored as canonical JSON (RFC 8785) with times to the microsecond. Its hash is
//! `SHA-256(hash of the entry before | bytes)`, the first one over 32 zero bytes, so the bytes alone prove the chain; the
//! columns beside them repeat what is queried. What is in memory is always what the bytes say: sealing gives it back so, and
//! a run that was taken over decides exactly as one that was not.

use serde::{Deserialize, Serialize};
use service_kit::ids::{ExecutionId, UserId, VersionId, WorkflowId};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::failure::Failure;

mod attempt;
mod bytes;
mod control;
mod decision;
mod fork;

pub use attempt::{AttemptFailure, AttemptPayload, CheckResult, ModelUse, Source, StageTry, Verdict};
pub use bytes::{MalformedEntry, canonical};
pub use control::{Child, Delegated, FlowRun, Intent, Of, Paused, Resumed, Signal};
pub use decision::{Decision, Ruling, decision_on, passed};
pub use fork::{Forked, Kept};

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
    /// The execution goes on from where another one was; always the second entry.
    Forked(Box<Forked>),
    /// Something that must not happen twice is about to be done.
    Intent(Intent),
    /// It cannot be found out whether it was.
    Unknown(Of),
    /// An execution of another workflow was begun for a stage.
    Child(Child),
    /// A flow of ActivePieces was started for a stage.
    FlowRun(FlowRun),
    /// A person decided what waited for that.
    Decision(Box<Decision>),
    /// A person left his decision to another.
    Delegated(Delegated),
    /// Those who may decide were reminded.
    Reminded(Of),
    /// Others may decide too from here on.
    Escalated(Of),
    /// Nobody decided in time.
    Expired(Of),
    /// Somebody or something sent a signal.
    Signal(Box<Signal>),
    /// Somebody asked to begin nothing new.
    Paused(Paused),
    /// Somebody asked to go on.
    Resumed(Resumed),
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
            Self::Forked(_) => "forked",
            Self::Intent(_) => "intent",
            Self::Unknown(_) => "unknown",
            Self::Child(_) => "child",
            Self::FlowRun(_) => "flow_run",
            Self::Decision(_) => "decision",
            Self::Delegated(_) => "delegated",
            Self::Reminded(_) => "reminded",
            Self::Escalated(_) => "escalated",
            Self::Expired(_) => "expired",
            Self::Signal(_) => "signal",
            Self::Paused(_) => "paused",
            Self::Resumed(_) => "resumed",
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

    /// The decision, if it is one.
    pub fn decision(&self) -> Option<&Decision> {
        match self {
            Self::Decision(decision) => Some(decision),
            _ => None,
        }
    }

    /// The try of a stage that it is about without being one.
    pub fn about(&self) -> Option<&StageTry> {
        match self {
            Self::Decision(it) => Some(&it.of),
            Self::Intent(it) => Some(&it.of),
            Self::Child(it) => Some(&it.of),
            Self::FlowRun(it) => Some(&it.of),
            Self::Delegated(it) => Some(&it.of),
            Self::Unknown(it) | Self::Reminded(it) | Self::Escalated(it) | Self::Expired(it) => Some(&it.of),
            Self::Attempt(_)
            | Self::Started(_)
            | Self::Forked(_)
            | Self::Signal(_)
            | Self::Paused(_)
            | Self::Resumed(_)
            | Self::Cancelled(_)
            | Self::Finished(_) => None,
        }
    }

    /// The try of a stage that it is about, if it is about one.
    pub fn of_try(&self) -> Option<StageTry> {
        self.attempt()
            .map(AttemptPayload::of_try)
            .or_else(|| self.about().cloned())
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
    /// How many executions it runs within, each a stage of the next.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub depth: u32,
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
    pub fn seal(self, previous: &Hash) -> Sealed {
        let (bytes, entry) = bytes::sealed(self);
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
const fn is_zero(value: &u32) -> bool {
    *value == 0
}

#[cfg(test)]
mod tests;
