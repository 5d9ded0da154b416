//! When a start is looked at: soon at first, then seldom, and many of them together.
//!
//! Times come from the clock, the number of looks and a hash of the correlation id alone. Those that are not soon fall on a
//! grid, so that what waits over one connection is asked for in few requests.

use std::time::Duration;

use sha2::{Digest, Sha256};
use time::OffsetDateTime;

/// How soon a start is looked at that does not call back, and the longest between two looks.
const POLLED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// The same of one that calls back: a look is there for a call-back that was lost.
const CALLS_BACK: (Duration, Duration) = (Duration::from_mins(1), Duration::from_mins(10));
/// Looks that are further away than this fall on the grid.
const SOON: Duration = Duration::from_secs(8);
/// The grid, in seconds.
const GRID: i64 = 5;
/// How soon the steps of a run are looked for whose end is known.
const STEPS: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(20), Duration::from_mins(1)];

/// After how long a start is looked at first.
pub(super) const fn first(calls_back: bool) -> Duration {
    if calls_back { CALLS_BACK.0 } else { POLLED.0 }
}

/// When it is looked at after so many looks.
pub(super) fn next(tag: &str, looks: i32, calls_back: bool, now: OffsetDateTime) -> OffsetDateTime {
    let (shortest, longest) = if calls_back { CALLS_BACK } else { POLLED };
    let doublings = u32::try_from(looks).unwrap_or(0).min(16);
    let full = shortest.saturating_mul(1 << doublings).min(longest);
    let wait = full.mul_f64(0.75 + 0.25 * jitter(tag, looks));
    let at = now + wait;
    if wait <= SOON {
        return at;
    }
    let over = at.unix_timestamp().rem_euclid(GRID);
    OffsetDateTime::from_unix_timestamp(at.unix_timestamp() - over + GRID).unwrap_or(at)
}

/// After how long the steps of a run are looked for after so many looks; at the last one for the last time.
pub(super) fn steps(looks: i32) -> Duration {
    STEPS[usize::try_from(looks).unwrap_or(0).min(STEPS.len() - 1)]
}

/// Whether its steps are looked for once more.
pub(super) fn looks_for_steps(looks: i32) -> bool {
    usize::try_from(looks).is_ok_and(|it| it < STEPS.len())
}

/// A number from 0 to 1 that depends on these alone.
fn jitter(tag: &str, looks: i32) -> f64 {
    let digest = Sha256::digest(format!("{tag}#{looks}"));
    f64::from(u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-01-01 00:00:02 UTC);

    #[test]
    fn looks_grow_from_a_second_to_half_a_minute_and_are_rare_where_a_flow_calls_back() {
        let wait = |looks, calls_back| (next("e/a/1/0/1", looks, calls_back, NOW) - NOW).as_seconds_f64();
        let mut before = 0.0;
        for looks in 0..4 {
            let wait = wait(looks, false);
            assert!(wait > before && wait <= f64::from(1 << looks), "{looks}: {wait}");
            before = wait;
        }
        for looks in [5, 20, i32::MAX] {
            assert!((22.0..=35.0).contains(&wait(looks, false)));
            assert!((450.0..=605.0).contains(&wait(looks, true)));
        }
        assert!((45.0..=65.0).contains(&wait(0, true)));
    }

    #[test]
    fn the_same_start_is_looked_at_at_the_same_times_and_many_of_them_together() {
        assert_eq!(next("a", 9, false, NOW), next("a", 9, false, NOW));
        let times: std::collections::BTreeSet<_> = (0..1_000).map(|n| next(&n.to_string(), 9, false, NOW)).collect();
        assert!(times.len() <= 3, "{times:?}");
        assert!(times.iter().all(|it| it.unix_timestamp() % GRID == 0));
    }
}
