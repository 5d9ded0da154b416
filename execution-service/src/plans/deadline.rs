//! How long an attempt may take: 10 seconds; 20 if the first module stood, well-formed, before 9.5 seconds had passed.
//!
//! The clock is monotonic. The deadline is the attempt's: a second model that is asked within it gets what is left.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use thiserror::Error;
use tokio::time::{Instant, timeout_at};

/// What an attempt has at first.
pub const LIMIT: Duration = Duration::from_secs(10);
/// What it has once it is extended.
pub const EXTENDED: Duration = Duration::from_secs(20);
/// Before this the first module must stand for that.
pub const FIRST_MODULE: Duration = Duration::from_millis(9_500);

/// The attempt's time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the plan was not complete in time")]
pub struct Late;

/// When an attempt is given up.
#[derive(Debug)]
pub struct Deadline {
    started: Instant,
    extended: AtomicBool,
}

impl Deadline {
    /// Begins now.
    pub fn start() -> Self {
        Self::from(Instant::now())
    }

    fn from(started: Instant) -> Self {
        Self {
            started,
            extended: AtomicBool::new(false),
        }
    }

    /// A well-formed module stands. What is said again, or too late, changes nothing.
    pub fn module_stands(&self) {
        self.module_stands_at(Instant::now());
    }

    fn module_stands_at(&self, now: Instant) {
        if now.duration_since(self.started) < FIRST_MODULE {
            self.extended.store(true, Ordering::Relaxed);
        }
    }

    /// How long the attempt has taken until now.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// How long it may take still.
    pub fn left(&self) -> Duration {
        self.ends().saturating_duration_since(Instant::now())
    }

    /// When it is over at the latest, however it is extended.
    pub fn latest(&self) -> Instant {
        self.started + EXTENDED
    }

    /// What the future gives in time. The deadline may be extended meanwhile.
    pub async fn within<T>(&self, future: impl Future<Output = T>) -> Result<T, Late> {
        let mut future = std::pin::pin!(future);
        loop {
            let end = self.ends();
            match timeout_at(end, &mut future).await {
                Ok(given) => return Ok(given),
                Err(_) if self.ends() > end => {}
                Err(_) => return Err(Late),
            }
        }
    }

    fn ends(&self) -> Instant {
        let limit = if self.extended.load(Ordering::Relaxed) {
            EXTENDED
        } else {
            LIMIT
        };
        self.started + limit
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::sleep_until;

    use super::*;

    /// After how many milliseconds an attempt is given up, if modules stand after so many.
    fn given_up_after(modules: &[u64]) -> u128 {
        let started = Instant::now();
        let deadline = Deadline::from(started);
        for at in modules {
            deadline.module_stands_at(started + Duration::from_millis(*at));
        }
        deadline.ends().duration_since(started).as_millis()
    }

    /// A deadline that began so long ago.
    fn begun(ago: Duration) -> Deadline {
        Deadline::from(Instant::now().checked_sub(ago).expect("the machine runs for longer"))
    }

    #[test]
    fn an_attempt_without_a_module_is_given_up_after_10_s() {
        assert_eq!(given_up_after(&[]), 10_000);
    }

    #[test]
    fn a_first_module_at_9_49_s_extends_the_deadline_to_20_s() {
        assert_eq!(given_up_after(&[9_490]), 20_000);
        assert_eq!(given_up_after(&[0]), 20_000);
    }

    #[test]
    fn a_first_module_at_9_5_or_9_51_s_extends_nothing() {
        assert_eq!(given_up_after(&[9_500]), 10_000);
        assert_eq!(given_up_after(&[9_510]), 10_000);
    }

    #[test]
    fn the_deadline_is_extended_once_however_many_modules_come() {
        assert_eq!(given_up_after(&[100, 200, 9_400, 9_990, 15_000, 19_999]), 20_000);
    }

    #[tokio::test]
    async fn what_takes_longer_than_is_left_is_late() {
        let deadline = begun(LIMIT);
        assert_eq!(deadline.within(pending::<()>()).await, Err(Late));
        assert_eq!(deadline.left(), Duration::ZERO);
        let deadline = begun(EXTENDED);
        deadline.module_stands_at(deadline.started);
        assert_eq!(deadline.within(pending::<()>()).await, Err(Late));
    }

    #[tokio::test]
    async fn what_is_extended_while_it_runs_may_end_after_its_first_deadline() {
        let deadline = begun(LIMIT.saturating_sub(Duration::from_millis(20)));
        let end = deadline.started + LIMIT;
        let attempt = async {
            deadline.module_stands_at(deadline.started + Duration::from_secs(9));
            sleep_until(end + Duration::from_millis(20)).await;
            "whole"
        };
        assert_eq!(deadline.within(attempt).await, Ok("whole"));
        assert!(deadline.elapsed() > LIMIT && deadline.left() > Duration::ZERO);
    }
}
