//! Time as the services see it: asked of a clock, so that a test can move it.
//!
//! This is the only place that reads the machine's clocks.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use time::OffsetDateTime;

/// The time of day, for what is stored and shown, and a time that never goes back, for durations and deadlines.
pub trait Clock: Send + Sync {
    /// The time of day, in UTC.
    fn now(&self) -> OffsetDateTime;
    /// A moment of the time that never goes back.
    fn monotonic(&self) -> Instant;
}

/// The clock that a service is given.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[expect(clippy::disallowed_methods, reason = "this is the one place that asks the machine")]
impl Clock for SystemClock {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }

    fn monotonic(&self) -> Instant {
        Instant::now()
    }
}

/// A clock that stands still until it is moved, for tests.
#[derive(Debug)]
pub struct FakeClock {
    start: OffsetDateTime,
    origin: Instant,
    passed: Mutex<Duration>,
}

impl FakeClock {
    /// A clock that shows `start`.
    pub fn new(start: OffsetDateTime) -> Self {
        Self {
            start,
            origin: SystemClock.monotonic(),
            passed: Mutex::default(),
        }
    }

    /// Moves both times forward.
    pub fn advance(&self, by: Duration) {
        *self.passed.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }

    fn passed(&self) -> Duration {
        *self.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for FakeClock {
    fn now(&self) -> OffsetDateTime {
        self.start + self.passed()
    }

    fn monotonic(&self) -> Instant {
        self.origin + self.passed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fake_clock_moves_both_times_only_when_told() {
        let clock = FakeClock::new(OffsetDateTime::UNIX_EPOCH);
        let before = clock.monotonic();
        assert_eq!(clock.now(), OffsetDateTime::UNIX_EPOCH);
        clock.advance(Duration::from_secs(90));
        assert_eq!(clock.now().unix_timestamp(), 90);
        assert_eq!(clock.monotonic() - before, Duration::from_secs(90));
    }
}
