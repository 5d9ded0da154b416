//! A circuit breaker: who fails again and again is left alone for a while.
//!
//! Five failures in a row open it; while it is open nothing is sent. Then one call is let through, and what comes of that
//! decides. What a server refuses is no failure of its.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How many failures in a row open it.
const FAILURES: u32 = 5;
/// How long it is open.
const OPEN: Duration = Duration::from_secs(30);
/// How long the call that is let through may take to come to something, before another one is.
const PROBE: Duration = Duration::from_mins(1);

/// A breaker.
#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Debug, Clone, Copy, Default)]
struct State {
    failures: u32,
    /// Until when nothing is sent.
    until: Option<Instant>,
}

impl Breaker {
    /// Lets a call through, or says how long there is to wait.
    pub(super) fn admit(&self, now: Instant) -> Result<(), Duration> {
        let mut state = self.lock();
        match state.until {
            Some(until) if until > now => Err(until - now),
            Some(_) => {
                state.until = Some(now + PROBE);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Takes what came of a call.
    pub(super) fn record(&self, failed: bool, now: Instant) {
        let mut state = self.lock();
        if !failed {
            *state = State::default();
            return;
        }
        state.failures = state.failures.saturating_add(1);
        if state.failures >= FAILURES {
            state.until = Some(now + OPEN);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use service_kit::clock::{Clock, SystemClock};

    use super::*;

    #[test]
    fn five_failures_in_a_row_open_it_and_fewer_do_not() {
        let (breaker, now) = (Breaker::default(), SystemClock.monotonic());
        for _ in 0..4 {
            breaker.record(true, now);
        }
        breaker.record(false, now);
        for _ in 0..4 {
            breaker.record(true, now);
        }
        assert_eq!(breaker.admit(now), Ok(()));
        breaker.record(true, now);
        assert_eq!(breaker.admit(now), Err(OPEN));
    }

    #[test]
    fn one_call_is_let_through_then_and_decides() {
        let (breaker, now) = (Breaker::default(), SystemClock.monotonic());
        for _ in 0..5 {
            breaker.record(true, now);
        }
        let later = now + OPEN;
        assert_eq!(breaker.admit(later), Ok(()));
        assert_eq!(breaker.admit(later), Err(PROBE), "one alone");
        breaker.record(true, later);
        assert_eq!(breaker.admit(later), Err(OPEN));
        breaker.record(false, later);
        assert_eq!((breaker.admit(later), breaker.admit(later)), (Ok(()), Ok(())));
    }
}
