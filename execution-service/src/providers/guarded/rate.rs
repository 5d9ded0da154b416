//! How much may be asked of an endpoint in a minute: two buckets that fill all the time, as providers have them. Pure; its
//! caller has the clock.
//!
//! Who asks takes what he needs at once, also what is not there yet, and is told how long to wait until it is. So nobody
//! who comes later is sooner. Tokens are an estimate then, which is corrected by what was used.

use std::{num::NonZeroU32, time::Duration};

use tokio::time::Instant;

const MINUTE: f64 = 60.0;

/// The buckets of an endpoint.
#[derive(Debug)]
pub(super) struct Rate {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    capacity: f64,
    level: f64,
    filled: Instant,
}

/// What a call has taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Taken {
    tokens: f64,
}

impl Rate {
    /// Full buckets.
    pub(super) fn new(requests: Option<NonZeroU32>, tokens: Option<NonZeroU32>, now: Instant) -> Self {
        let bucket = |capacity: NonZeroU32| Bucket {
            capacity: capacity.get().into(),
            level: capacity.get().into(),
            filled: now,
        };
        Self {
            requests: requests.map(bucket),
            tokens: tokens.map(bucket),
        }
    }

    /// Takes a call with so many tokens, if the wait for it is not longer than this; else says how long it would be.
    pub(super) fn take(
        &mut self,
        tokens: u64,
        patience: Duration,
        now: Instant,
    ) -> Result<(Taken, Duration), Duration> {
        let tokens = self.tokens.as_ref().map_or(0.0, |it| it.at_most(tokens));
        let requests = self.requests.as_mut().map_or(0.0, |it| it.wait(1.0, now));
        let wait = self
            .tokens
            .as_mut()
            .map_or(0.0, |it| it.wait(tokens, now))
            .max(requests);
        let wait = Duration::from_secs_f64(wait);
        if wait > patience {
            return Err(wait);
        }
        if let Some(bucket) = &mut self.requests {
            bucket.level -= 1.0;
        }
        if let Some(bucket) = &mut self.tokens {
            bucket.level -= tokens;
        }
        Ok((Taken { tokens }, wait))
    }

    /// Corrects what was taken by what was used.
    pub(super) fn correct(&mut self, taken: Taken, used: u64) {
        if let Some(bucket) = &mut self.tokens {
            #[expect(clippy::cast_precision_loss, reason = "no call uses so many tokens")]
            let used = used as f64;
            bucket.level = (bucket.level + taken.tokens - used).min(bucket.capacity);
        }
    }

    /// Gives back what was taken for a call that was not made.
    pub(super) fn give_back(&mut self, taken: Taken) {
        if let Some(bucket) = &mut self.requests {
            bucket.level = (bucket.level + 1.0).min(bucket.capacity);
        }
        self.correct(taken, 0);
    }
}

impl Bucket {
    /// More than it holds can never be there: that waits for a full one.
    fn at_most(&self, wanted: u64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "it is cut to the capacity")]
        let wanted = wanted as f64;
        wanted.min(self.capacity)
    }

    /// How many seconds it takes until so much is there.
    fn wait(&mut self, wanted: f64, now: Instant) -> f64 {
        let filled = now.saturating_duration_since(self.filled).as_secs_f64() * self.capacity / MINUTE;
        self.level = (self.level + filled).min(self.capacity);
        self.filled = self.filled.max(now);
        ((wanted - self.level) * MINUTE / self.capacity).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENT: Duration = Duration::from_hours(1);

    fn rate(requests: u32, tokens: u32, now: Instant) -> Rate {
        Rate::new(NonZeroU32::new(requests), NonZeroU32::new(tokens), now)
    }

    fn waits(rate: &mut Rate, tokens: u64, now: Instant) -> u64 {
        rate.take(tokens, PATIENT, now).unwrap().1.as_secs()
    }

    #[test]
    fn a_minutes_calls_are_there_at_once_and_then_they_come_evenly() {
        let now = Instant::now();
        let mut rate = rate(3, 0, now);
        let found: Vec<u64> = (0..5).map(|_| waits(&mut rate, 9, now)).collect();
        assert_eq!(found, [0, 0, 0, 20, 40]);
        assert_eq!(waits(&mut rate, 9, now + Duration::from_mins(1)), 0);
    }

    #[test]
    fn tokens_are_taken_as_an_estimate_and_corrected() {
        let now = Instant::now();
        let mut rate = rate(0, 600, now);
        let (taken, _) = rate.take(600, PATIENT, now).unwrap();
        assert_eq!(rate.take(60, Duration::from_secs(5), now), Err(Duration::from_secs(6)));
        rate.correct(taken, 540);
        assert_eq!(waits(&mut rate, 60, now), 0);
        let (taken, wait) = rate.take(10_000, PATIENT, now).unwrap();
        assert_eq!(wait, Duration::from_mins(1), "more than there can be waits for all");
        rate.correct(taken, 1_200);
        assert_eq!(waits(&mut rate, 0, now), 120, "what was used beyond it is paid for");
    }

    #[test]
    fn who_is_refused_or_gives_up_takes_nothing() {
        let now = Instant::now();
        let mut rate = rate(1, 100, now);
        let (taken, _) = rate.take(100, PATIENT, now).unwrap();
        assert!(rate.take(1, Duration::ZERO, now).is_err());
        rate.give_back(taken);
        assert_eq!(waits(&mut rate, 100, now), 0);
    }

    #[test]
    fn without_limits_nobody_waits() {
        let now = Instant::now();
        let mut rate = rate(0, 0, now);
        assert!((0..1_000).all(|_| waits(&mut rate, u64::MAX, now) == 0));
    }
}
