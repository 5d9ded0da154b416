//! Where a plan stands. It is derived from the attempts whenever it is asked for, and stored nowhere.

use serde::Serialize;

/// How many attempts a version of a plan has, retries and the one that runs included.
pub const ATTEMPTS: u32 = 3;

/// Where a plan stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// An attempt runs, or may be made.
    Pending,
    /// An attempt succeeded.
    Ready,
    /// No attempt succeeded, and there are no more.
    Failed,
}

impl Status {
    /// By how many attempts ended well and how many did not. One that runs still is neither.
    pub const fn of(successes: u32, failures: u32) -> Self {
        if successes > 0 {
            Self::Ready
        } else if failures >= ATTEMPTS {
            Self::Failed
        } else {
            Self::Pending
        }
    }

    /// As lists filter by it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Ready => "ready",
            Self::Failed => "failed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_ready_with_a_success_failed_once_the_cap_is_used_up_and_else_pending() {
        use Status::{Failed, Pending, Ready};
        let stands = |successes| [0, 1, 2, 3].map(|failures| Status::of(successes, failures));
        assert_eq!(stands(0), [Pending, Pending, Pending, Failed]);
        assert_eq!(stands(1), [Ready; 4]);
    }
}
