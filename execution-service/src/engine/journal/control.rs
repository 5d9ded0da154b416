//! What happens to an execution beside its attempts: announcements, children, signals, and what people ask of it.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use service_kit::ids::{ExecutionId, UserId, WorkflowId};

use super::StageTry;

/// Something about a try, and nothing more to say of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Of {
    /// The try.
    #[serde(flatten)]
    pub of: StageTry,
}

/// Something that must not happen twice is about to be done. Until the try's attempt is recorded nobody does it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The try.
    #[serde(flatten)]
    pub of: StageTry,
    /// What, for people: `POST https://example.com/orders`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub effect: String,
}

/// An execution of another workflow was begun for a try of a stage; how it ends is recorded as the try's attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    /// The try.
    #[serde(flatten)]
    pub of: StageTry,
    /// The execution.
    pub execution_id: ExecutionId,
    /// What it runs.
    pub workflow_id: WorkflowId,
    /// The version's number.
    pub version_number: i32,
}

/// A flow was started for a try of a stage, or may have been; how it ends is recorded as the try's attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowRun {
    /// The try.
    #[serde(flatten)]
    pub of: StageTry,
    /// The flow.
    pub flow_id: String,
    /// Whether nobody knows yet that it was taken.
    #[serde(default, skip_serializing_if = "is_false")]
    pub uncertain: bool,
}

/// A person left his decision to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegated {
    /// What is to be decided.
    #[serde(flatten)]
    pub of: StageTry,
    /// Who may not decide it any more.
    pub by: UserId,
    /// Who may in his place.
    pub to: UserId,
}

/// A signal: what a wait for its name ends with. One that nobody waits for yet is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Signal {
    /// Its name.
    pub name: String,
    /// What comes with it.
    #[serde(default)]
    pub payload: Value,
    /// Who sent it; nobody where it was no person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<UserId>,
}

/// Somebody asked to begin nothing new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// Who; nobody where the service did, because the one who started the run has lost his access.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<UserId>,
    /// Why, in his words; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// Somebody asked to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumed {
    /// Who.
    pub by: UserId,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}
