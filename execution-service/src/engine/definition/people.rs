//! Who decides where people do, and how. Without anything said: one member of the company, whenever he comes to it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use service_kit::ids::UserId;

use super::milliseconds;

/// How people decide.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// Who may decide.
    #[serde(skip_serializing_if = "Approvers::is_anyone")]
    pub approvers: Approvers,
    /// How many must let it pass; 0 means 1.
    #[serde(skip_serializing_if = "is_zero")]
    pub required: u32,
    /// Whether the one who started the run may not.
    #[serde(skip_serializing_if = "is_false")]
    pub not_own_run: bool,
    /// Whether a decision may carry another output.
    #[serde(skip_serializing_if = "is_false")]
    pub may_edit: bool,
    /// Whether who may decide may leave it to somebody else.
    #[serde(skip_serializing_if = "is_false")]
    pub may_delegate: bool,
    /// JSON Schema of a form that who lets it pass fills in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub form: Option<Value>,
    /// After how long nobody is waited for any more.
    #[serde(
        rename = "expires_after_ms",
        with = "milliseconds::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub expires_after: Option<Duration>,
    /// Where to go then: a stage or the end; without it the stage has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_on_expiry: Option<String>,
    /// After how long they are reminded.
    #[serde(
        rename = "remind_after_ms",
        with = "milliseconds::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub remind_after: Option<Duration>,
    /// After how long others may decide too.
    #[serde(
        rename = "escalate_after_ms",
        with = "milliseconds::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub escalate_after: Option<Duration>,
    /// Those others.
    #[serde(skip_serializing_if = "Approvers::is_anyone")]
    pub escalate_to: Approvers,
}

impl Policy {
    /// How many must let it pass.
    pub const fn needed(&self) -> usize {
        if self.required == 0 { 1 } else { self.required as usize }
    }
}

/// Some people: those named, those of a rank, or, where nothing is said, any member.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Approvers {
    /// By name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<UserId>,
    /// By rank.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Rank>,
}

impl Approvers {
    /// Whether it is any member.
    pub const fn is_anyone(&self) -> bool {
        self.users.is_empty() && self.role.is_none()
    }

    /// Whether this person is among them.
    pub fn include(&self, user: UserId, rank: Rank) -> bool {
        self.is_anyone() || self.users.contains(&user) || self.role.is_some_and(|least| rank >= least)
    }
}

/// What somebody is in the company, as far as deciding goes; owners are admins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rank {
    /// A member.
    Member,
    /// An admin.
    Admin,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(value: &u32) -> bool {
    *value == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}
