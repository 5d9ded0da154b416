//! A rate for each of many keys, in the memory of one process.
//!
//! A key's entry is one time (see [`Rate`]), under the key's hash, which is 64 bits that nobody outside can foresee. Entries are
//! bounded: where a shard is full, those whose time is over are removed, which are as good as absent. While all of them
//! count, keys that come new are let through uncounted: that many at once are more than one rate per key can hold back,
//! and nobody who is counted gets anything by them.

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState},
    marker::PhantomData,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::Rate;

const SHARDS: usize = 64;
/// A quarter of a million keys in all, in less than 16 MiB.
const ENTRIES_PER_SHARD: usize = 4096;
/// Between two looks of a full shard for entries to remove, which takes microseconds.
const SWEEP_EVERY_NS: u64 = 100_000_000;

/// Counts uses by key. Times are nanoseconds since it was made.
#[derive(Debug)]
pub struct Limiter<K> {
    every: u64,
    depth: u64,
    origin: Instant,
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
    keys: PhantomData<fn(K)>,
}

#[derive(Debug, Default)]
struct Shard {
    over_at: HashMap<u64, u64, BuildHasherDefault<Hashed>>,
    swept_at: u64,
}

/// The hash of what is hashed already.
#[derive(Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Not asked for: entries lie under numbers. It would be a poor hash, and no wrong one.
        self.0 = bytes
            .iter()
            .fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl<K: Hash> Limiter<K> {
    /// Keeps to a rate from a moment on.
    pub fn new(rate: Rate, origin: Instant) -> Self {
        Self {
            every: nanos(rate.every()),
            depth: nanos(rate.depth()),
            origin,
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            keys: PhantomData,
        }
    }

    /// Counts a use of a key, unless it is one too many: then it answers how long to wait for the next.
    ///
    /// # Errors
    /// The time to wait.
    pub fn check(&self, key: K, now: Instant) -> Result<(), Duration> {
        let now = nanos(now.saturating_duration_since(self.origin));
        let key = self.hasher.hash_one(key);
        // The map takes other bits.
        let place = usize::try_from(key >> 32).unwrap_or(0) % SHARDS;
        let mut shard = self.shards[place].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(over_at) = shard.over_at.get_mut(&key) {
            let next = (*over_at).max(now) + self.every;
            let ahead = next - now;
            if ahead > self.depth {
                return Err(Duration::from_nanos(ahead - self.depth));
            }
            *over_at = next;
        } else if shard.has_room(now) {
            shard.over_at.insert(key, now + self.every);
        }
        Ok(())
    }
}

impl Shard {
    fn has_room(&mut self, now: u64) -> bool {
        if self.over_at.len() < ENTRIES_PER_SHARD {
            return true;
        }
        if now < self.swept_at + SWEEP_EVERY_NS {
            return false;
        }
        self.swept_at = now;
        self.over_at.retain(|_, over_at| now < *over_at);
        self.over_at.len() < ENTRIES_PER_SHARD
    }
}

fn nanos(duration: Duration) -> u64 {
    // 500 years.
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        clock::{Clock, SystemClock},
        limits::Limit,
    };

    fn rate(text: &str) -> Rate {
        text.parse::<Limit>().unwrap().rate().unwrap()
    }

    proptest! {
        /// In any stretch of time at most the burst and what the rate allows in it are let through.
        #[test]
        fn never_more_than_the_rate_and_the_burst_in_any_stretch(
            count in 1_u32..1_000, burst in 1_u32..50, pauses in prop::collection::vec(0_u64..30_000_000, 1..200),
        ) {
            let rate = rate(&format!("{count}/s burst {burst}"));
            let start = SystemClock.monotonic();
            let limiter = Limiter::new(rate, start);
            let mut at = Duration::ZERO;
            let mut passed: Vec<Duration> = Vec::new();
            for pause in pauses {
                at += Duration::from_nanos(pause);
                if limiter.check((), start + at).is_ok() {
                    passed.push(at);
                }
            }
            for (i, from) in passed.iter().enumerate() {
                for (k, to) in passed[i..].iter().enumerate() {
                    let allowed = f64::from(burst) + to.saturating_sub(*from).as_secs_f64() * rate.per_second() + 1e-3;
                    let made = f64::from(u32::try_from(k + 1).unwrap());
                    prop_assert!(made <= allowed, "{made} in {:?}", to.saturating_sub(*from));
                }
            }
        }

        /// Whoever waits as he was told is let through.
        #[test]
        fn who_waits_as_told_is_let_through(count in 1_u32..1_000, burst in 1_u32..50, pauses in prop::collection::vec(0_u64..9_000_000, 1..200)) {
            let start = SystemClock.monotonic();
            let limiter = Limiter::new(rate(&format!("{count}/s burst {burst}")), start);
            let mut at = start;
            for pause in pauses {
                at += Duration::from_nanos(pause);
                if let Err(wait) = limiter.check((), at) {
                    prop_assert!(wait > Duration::ZERO);
                    at += wait;
                    prop_assert_eq!(limiter.check((), at), Ok(()));
                }
            }
        }
    }

    #[test]
    fn keys_are_bounded_and_idle_ones_make_room() {
        let start = SystemClock.monotonic();
        let limiter = Limiter::new(rate("1/s burst 2"), start);
        let kept = || {
            limiter
                .shards
                .iter()
                .map(|it| it.lock().unwrap().over_at.len())
                .sum::<usize>()
        };
        let most = SHARDS * ENTRIES_PER_SHARD;
        for key in 0..most * 2 {
            limiter.check(key, start).expect("each comes once");
        }
        assert!(kept() <= most);
        let later = start + Duration::from_secs(2);
        // Half as many as there is room for: no shard gets more of them than it takes.
        let newest = most * 5 / 2;
        for key in most * 2..=newest {
            limiter.check(key, later).expect("each comes once");
        }
        assert!(kept() <= most);
        limiter.check(newest, later).expect("the second of two");
        assert!(
            limiter.check(newest, later).is_err(),
            "it was counted, though others had filled the shard"
        );
    }
}
