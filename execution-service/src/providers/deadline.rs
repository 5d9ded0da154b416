//! The three times that a call has: until the model begins to answer, between signs of life from it, and in all.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::CallError;
use crate::engine::failure::FailureClass;

/// When a call is given up.
#[derive(Debug)]
pub(super) struct Deadline {
    total: Instant,
    timeout: Duration,
    /// When the next sign of life is due, what it is called that it did not come, and how long it was waited for.
    sign: Instant,
    reason: &'static str,
    patience: Duration,
    idle: Duration,
}

impl Deadline {
    /// Begins now.
    pub(super) fn new(total: Duration, first_token: Duration, idle: Duration) -> Self {
        Self::from(Instant::now(), total, first_token, idle)
    }

    fn from(now: Instant, total: Duration, first_token: Duration, idle: Duration) -> Self {
        Self {
            total: now + total,
            timeout: total,
            sign: now + first_token,
            reason: "first_token",
            patience: first_token,
            idle,
        }
    }

    /// What the future gives in time.
    pub(super) async fn within<T>(&self, future: impl Future<Output = T>) -> Result<T, CallError> {
        timeout_at(self.total.min(self.sign), future)
            .await
            .map_err(|_| self.late())
    }

    /// The model is at work.
    pub(super) fn alive(&mut self) {
        self.alive_at(Instant::now());
    }

    fn alive_at(&mut self, now: Instant) {
        self.sign = now + self.idle;
        self.reason = "idle";
        self.patience = self.idle;
    }

    /// Which of the times ends first, how that is told, and how long it was.
    fn first_end(&self) -> (&'static str, &'static str, Duration) {
        if self.total <= self.sign {
            ("total", "the model did not answer in time", self.timeout)
        } else if self.reason == "idle" {
            (self.reason, "the model fell silent in its answer", self.patience)
        } else {
            (self.reason, "the model did not begin to answer", self.patience)
        }
    }

    fn late(&self) -> CallError {
        let (reason, message, waited) = self.first_end();
        let message = format!("{message} ({} ms)", waited.as_millis());
        let error = CallError::new(FailureClass::Timeout, reason, message);
        error.retryable().billing_uncertain()
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_time_that_ends_first_counts() {
        let now = Instant::now();
        let mut deadline = Deadline::from(now, 100 * SECOND, 30 * SECOND, 10 * SECOND);
        let end = |it: &Deadline| (it.first_end().0, it.total.min(it.sign).duration_since(now).as_secs());
        assert_eq!(end(&deadline), ("first_token", 30));
        deadline.alive_at(now + 20 * SECOND);
        assert_eq!(end(&deadline), ("idle", 30));
        deadline.alive_at(now + 89 * SECOND);
        assert_eq!(end(&deadline), ("idle", 99));
        deadline.alive_at(now + 90 * SECOND);
        assert_eq!(end(&deadline), ("total", 100));
        let short = Deadline::from(now, 10 * SECOND, 30 * SECOND, 10 * SECOND);
        assert_eq!(end(&short), ("total", 10));
    }

    #[tokio::test]
    async fn what_is_late_may_pass_and_may_be_billed() {
        let deadline = Deadline::new(SECOND, Duration::ZERO, SECOND);
        let error = deadline.within(pending::<()>()).await.unwrap_err();
        let expected = (FailureClass::Timeout, "first_token", true, true);
        assert_eq!(
            (error.class, error.reason, error.retryable, error.billing_uncertain),
            expected
        );
    }
}
