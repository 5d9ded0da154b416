//! Where a run goes next, and what is tried again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::milliseconds;
use crate::engine::{cel::Expression, failure::FailureClass};

/// A way that is taken on a condition.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// The condition. It sees `inputs`, `stages`, `stage_<order>`, the stage's `output`, its `visit`, and on the way of failures
    /// `failure` with `class`, `reason` and `message`. One that cannot be evaluated fails the run.
    pub when: Expression,
    /// The stage to go to, or [`END`](super::END).
    pub to: String,
}

/// What is tried again, and after how long.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Retry {
    /// The classes of failures to try again after; empty means all, of those that may pass.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<FailureClass>,
    /// The wait before the second try, which doubles with every further one.
    #[serde(
        rename = "first_backoff_ms",
        with = "milliseconds::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub first_backoff: Option<Duration>,
    /// The longest wait that grows by itself.
    #[serde(
        rename = "max_backoff_ms",
        with = "milliseconds::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub max_backoff: Option<Duration>,
}

impl Retry {
    /// Whether nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether such a failure is tried again.
    pub fn covers(&self, class: FailureClass) -> bool {
        self.classes.is_empty() || self.classes.contains(&class)
    }
}
