//! When an endpoint is given a rest: a state that is told what came of each call. Pure; its caller has the clock.
//!
//! It opens after [`FAILURES`] failures in a row of calls that the endpoint is to blame for, whoever made them. While it is
//! open no call is made; then one is let through as a probe, and what comes of it closes the breaker or opens it again, for
//! twice as long. An end that says nothing about the endpoint (a refused prompt is an answer, a full quota is none) leaves
//! the count as it is.

use std::time::Duration;

use tokio::time::Instant;

/// How many failures in a row open it.
pub(super) const FAILURES: u32 = 5;
/// How long it is open the first time.
pub(super) const FIRST_REST: Duration = Duration::from_secs(10);
/// How long at most.
pub(super) const LONGEST_REST: Duration = Duration::from_mins(2);
/// When to ask again while a probe is under way.
const PROBE_PAUSE: Duration = Duration::from_secs(1);

/// What a call's end says of the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It works.
    Works,
    /// It is to blame, and asks to be left alone for so long, if it says so.
    Failed(Option<Duration>),
    /// Nothing.
    Nothing,
}

/// A call that was let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// One of many.
    Usual,
    /// The one that decides.
    Probe,
}

/// Whether calls are let through.
#[derive(Debug)]
pub(super) struct Breaker {
    /// Failures in a row.
    failures: u32,
    state: State,
    /// How long it rests the next time.
    pub(super) rest: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Instant },
    Probing,
}

/// How a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls are made.
    Closed,
    /// No call is made for so long.
    Open(Duration),
    /// One call finds out whether the endpoint works again, or the next one will.
    HalfOpen,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            failures: 0,
            state: State::Closed,
            rest: FIRST_REST,
        }
    }
}

impl Breaker {
    /// Lets a call through, or says after how long to ask again.
    pub(super) fn admit(&mut self, now: Instant) -> Result<Pass, Duration> {
        match self.state {
            State::Closed => Ok(Pass::Usual),
            State::Open { until } if now < until => Err(until - now),
            State::Open { .. } => {
                self.state = State::Probing;
                Ok(Pass::Probe)
            }
            State::Probing => Err(PROBE_PAUSE),
        }
    }

    /// Whether a call would be refused now, without taking the probe's place.
    pub(super) fn refuses(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Closed => None,
            State::Open { until } => until.checked_duration_since(now).filter(|it| !it.is_zero()),
            State::Probing => Some(PROBE_PAUSE),
        }
    }

    /// Takes what came of a call; says whether it opened or closed by that.
    pub(super) fn settle(&mut self, pass: Pass, verdict: Verdict, now: Instant) -> Option<BreakerState> {
        match (pass, verdict) {
            (_, Verdict::Works) => {
                let was_open = self.state != State::Closed;
                // An earlier call that ends well late says that it works as well as a probe does.
                *self = Self::default();
                was_open.then_some(BreakerState::Closed)
            }
            (Pass::Probe, Verdict::Failed(asked)) => {
                self.rest = (self.rest * 2).min(LONGEST_REST);
                Some(self.open(asked, now))
            }
            (Pass::Usual, Verdict::Failed(asked)) => {
                self.failures = self.failures.saturating_add(1);
                let opens = self.state == State::Closed && self.failures >= FAILURES;
                opens.then(|| self.open(asked, now))
            }
            (Pass::Probe, Verdict::Nothing) => {
                // The next one probes.
                self.state = State::Open { until: now };
                None
            }
            (Pass::Usual, Verdict::Nothing) => None,
        }
    }

    /// How it stands.
    pub(super) fn state(&self, now: Instant) -> BreakerState {
        match self.state {
            State::Closed => BreakerState::Closed,
            State::Open { until } if now < until => BreakerState::Open(until - now),
            State::Open { .. } | State::Probing => BreakerState::HalfOpen,
        }
    }

    /// Failures in a row.
    pub(super) const fn failures(&self) -> u32 {
        self.failures
    }

    fn open(&mut self, asked: Option<Duration>, now: Instant) -> BreakerState {
        let rest = asked.unwrap_or_default().min(LONGEST_REST).max(self.rest);
        self.state = State::Open { until: now + rest };
        BreakerState::Open(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILED: Verdict = Verdict::Failed(None);

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..FAILURES {
            assert_eq!(breaker.admit(now), Ok(Pass::Usual));
            breaker.settle(Pass::Usual, FAILED, now);
        }
        breaker
    }

    #[test]
    fn it_opens_after_so_many_failures_in_a_row_and_no_sooner() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for verdict in [
            FAILED,
            FAILED,
            FAILED,
            FAILED,
            Verdict::Works,
            FAILED,
            FAILED,
            Verdict::Nothing,
            FAILED,
            FAILED,
        ] {
            assert_eq!(breaker.admit(now), Ok(Pass::Usual));
            assert_eq!(breaker.settle(Pass::Usual, verdict, now), None);
        }
        assert_eq!(
            breaker.settle(Pass::Usual, FAILED, now),
            Some(BreakerState::Open(FIRST_REST))
        );
        assert_eq!(breaker.admit(now), Err(FIRST_REST));
        assert_eq!(breaker.refuses(now), Some(FIRST_REST));
    }

    #[test]
    fn after_its_rest_one_probe_decides_and_the_others_wait_for_it() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let later = now + FIRST_REST;
        assert_eq!(breaker.refuses(later), None);
        assert_eq!(breaker.state(later), BreakerState::HalfOpen);
        assert_eq!(breaker.admit(later), Ok(Pass::Probe));
        assert_eq!(breaker.admit(later), Err(PROBE_PAUSE));
        // One that was under way since before decides nothing by failing.
        assert_eq!(breaker.settle(Pass::Usual, FAILED, later), None);
        assert_eq!(
            breaker.settle(Pass::Probe, FAILED, later),
            Some(BreakerState::Open(2 * FIRST_REST))
        );
        assert_eq!(breaker.admit(later), Err(2 * FIRST_REST));
        let again = later + 2 * FIRST_REST;
        assert_eq!(breaker.admit(again), Ok(Pass::Probe));
        assert_eq!(
            breaker.settle(Pass::Probe, Verdict::Works, again),
            Some(BreakerState::Closed)
        );
        assert_eq!((breaker.admit(again), breaker.failures()), (Ok(Pass::Usual), 0));
    }

    #[test]
    fn a_probe_that_says_nothing_leaves_it_to_the_next() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let later = now + FIRST_REST;
        assert_eq!(breaker.admit(later), Ok(Pass::Probe));
        breaker.settle(Pass::Probe, Verdict::Nothing, later);
        assert_eq!(breaker.admit(later), Ok(Pass::Probe));
    }

    #[test]
    fn rests_grow_to_a_bound_and_what_the_endpoint_asks_for_is_kept_to_it() {
        let mut now = Instant::now();
        let mut breaker = opened(now);
        for _ in 0..10 {
            now += LONGEST_REST;
            assert_eq!(breaker.admit(now), Ok(Pass::Probe));
            breaker.settle(Pass::Probe, FAILED, now);
        }
        assert_eq!(breaker.state(now), BreakerState::Open(LONGEST_REST));
        let mut asked = Breaker::default();
        let wait = Verdict::Failed(Some(Duration::from_mins(1)));
        let last = (0..FAILURES)
            .filter_map(|_| asked.settle(Pass::Usual, wait, now))
            .last();
        assert_eq!(last, Some(BreakerState::Open(Duration::from_mins(1))));
    }
}
