//! Rates as they are configured: `200/s burst 400`, `60/h`, `off`.

use std::{str::FromStr, time::Duration};

const MOST: u32 = 1_000_000;

/// So many in a time, and how many at once after a rest.
///
/// It is kept by the generic cell rate algorithm (ITU-T I.371, the virtual scheduling algorithm): of every key one time is
/// kept, at which all its uses so far will be made good. A use puts it off by [`every`](Self::every), and is one too many if
/// it would be more than [`depth`](Self::depth) ahead then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    count: u32,
    per: Duration,
    burst: u32,
}

impl Rate {
    /// What one use costs.
    pub fn every(self) -> Duration {
        self.per / self.count
    }

    /// What all uses together may cost after a rest.
    pub fn depth(self) -> Duration {
        self.every() * self.burst
    }

    /// Uses a second in the long run.
    pub fn per_second(self) -> f64 {
        f64::from(self.count) / self.per.as_secs_f64()
    }

    /// Uses at once after a rest.
    pub fn burst(self) -> u32 {
        self.burst
    }
}

/// A rate, or that there is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(Option<Rate>);

/// The text is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a rate like 200/s, 60/m or 200/s burst 400 of at most 1000000, or off")]
pub struct NotALimit;

impl Limit {
    /// No limit.
    pub const OFF: Self = Self(None);

    /// So many in a time, and how many at once.
    pub const fn of(count: u32, per: Duration, burst: u32) -> Self {
        assert!(count > 0 && burst > 0, "a rate lets something through");
        Self(Some(Rate { count, per, burst }))
    }

    /// The rate, where there is a limit.
    pub const fn rate(self) -> Option<Rate> {
        self.0
    }
}

impl FromStr for Limit {
    type Err = NotALimit;

    fn from_str(text: &str) -> Result<Self, NotALimit> {
        let mut words = text.split_whitespace();
        let rate = words.next().ok_or(NotALimit)?;
        if rate == "off" || rate == "0" {
            return words.next().map_or(Ok(Self::OFF), |_| Err(NotALimit));
        }
        let (count, unit) = rate.split_once('/').ok_or(NotALimit)?;
        let per = match unit {
            "s" => Duration::from_secs(1),
            "m" => Duration::from_mins(1),
            "h" => Duration::from_hours(1),
            _ => return Err(NotALimit),
        };
        let count = number(count)?;
        let burst = match (words.next(), words.next(), words.next()) {
            (None, ..) => count,
            (Some("burst"), Some(burst), None) => number(burst)?,
            _ => return Err(NotALimit),
        };
        Ok(Self(Some(Rate { count, per, burst })))
    }
}

fn number(text: &str) -> Result<u32, NotALimit> {
    text.parse().ok().filter(|it| (1..=MOST).contains(it)).ok_or(NotALimit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_reads_as_it_is_written() {
        let rate = |text: &str| text.parse::<Limit>().unwrap().rate().map(|it| (it.every(), it.burst));
        assert_eq!(rate("200/s burst 400"), Some((Duration::from_millis(5), 400)));
        assert_eq!(rate(" 60/m "), Some((Duration::from_secs(1), 60)));
        assert_eq!(rate("3/h burst 1"), Some((Duration::from_mins(20), 1)));
        assert_eq!(rate("1000000/s"), Some((Duration::from_micros(1), 1_000_000)));
        assert_eq!((rate("off"), rate("0")), (None, None));
        for wrong in [
            "",
            "200",
            "200/d",
            "0/s",
            "-1/s",
            "1/s burst",
            "1/s burst 0",
            "1/s of 2",
            "1/s burst 2 3",
            "off 1",
            "1000001/s",
        ] {
            assert_eq!(wrong.parse::<Limit>(), Err(NotALimit), "{wrong}");
        }
    }
}
