//! What a replica holds of a rate that it shares with others: pure arithmetic.
//!
//! The shared row is a bucket (see [`Rate`]); a grant takes several starts out of it at once, and what of them is not spent
//! within their life is lost. A replica asks for as many as it spent last time, so little is. In any stretch of time all
//! replicas together spend only what was granted in it or up to one life before it; the bucket is shallower than the rate's
//! burst by as much as the rate brings in one life, so in every stretch at most the burst and what the rate brings in it are
//! spent (one more where the burst is 1).

use std::time::{Duration, Instant};

use service_kit::limits::Rate;

/// How long what was taken may be spent, at most. It bounds the statements: under load one is due in each life.
const LIFE: Duration = Duration::from_millis(250);

/// How a rate is shared out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// What the shared bucket gains.
    pub(super) per_second: f64,
    /// What it holds after a rest.
    pub(super) burst: f64,
    /// The largest grant: what the rate brings in one life.
    most: u32,
    life: Duration,
}

impl Plan {
    pub(super) fn of(rate: Rate) -> Self {
        let life = LIFE.min(rate.depth() / 2);
        let per_life = rate.per_second() * life.as_secs_f64();
        Self {
            per_second: rate.per_second(),
            burst: (f64::from(rate.burst()) - per_life).max(1.0),
            most: whole(per_life).max(1),
            life,
        }
    }
}

/// What the database answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grant {
    /// How many were taken.
    pub(super) starts: u32,
    /// How long until there is one, where there was none.
    pub(super) wait: Duration,
}

/// Starts that a replica may still make, and how many it made of them.
#[derive(Debug, Default)]
pub(super) struct Lease {
    left: u32,
    spent: u32,
    /// From when it is, and how long; none before the first.
    times: Option<Times>,
}

#[derive(Debug, Clone, Copy)]
struct Times {
    since: Instant,
    until: Instant,
    /// It is of no use to ask for more before.
    shut_until: Instant,
}

/// What becomes of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spend {
    Spent,
    /// More have to be asked for.
    Ask,
    /// There are none before.
    Wait(Duration),
}

impl Lease {
    /// What was granted to a question that was sent at a moment: life begins there, for the grant came later.
    pub(super) fn granted(plan: &Plan, asked_at: Instant, wanted: u32, grant: Grant) -> Self {
        // A bucket that is empty is let fill a little: it would be asked for every single start.
        let shut = if grant.starts < wanted {
            grant.wait.max(plan.life / 2)
        } else {
            Duration::ZERO
        };
        Self {
            left: grant.starts,
            spent: 0,
            times: Some(Times {
                since: asked_at,
                until: asked_at + plan.life,
                shut_until: asked_at + shut,
            }),
        }
    }

    /// Makes a start.
    pub(super) fn spend(&mut self, now: Instant) -> Spend {
        let Some(times) = self.times else { return Spend::Ask };
        if now < times.until && self.spend_first() {
            Spend::Spent
        } else if now < times.shut_until {
            Spend::Wait(times.shut_until - now)
        } else {
            Spend::Ask
        }
    }

    /// Makes a start with what has just come, whatever time it is.
    pub(super) fn spend_first(&mut self) -> bool {
        let is_left = self.left > 0;
        if is_left {
            self.left -= 1;
            self.spent += 1;
        }
        is_left
    }

    /// How many to ask for: what is likely to be spent in one life, by what was spent since the last time, and at least as
    /// many as wait for it.
    pub(super) fn wanted(&self, plan: &Plan, waiting: u32, now: Instant) -> u32 {
        let likely = self.times.map_or(0, |times| {
            // A burst of a few is not taken for more than eight times as many.
            let passed = (now - times.since).max(plan.life / 8);
            whole((f64::from(self.spent) * plan.life.as_secs_f64() / passed.as_secs_f64()).ceil())
        });
        likely.max(waiting).clamp(1, plan.most)
    }

    /// Whether forgetting it would make a difference.
    pub(super) fn counts(&self, now: Instant) -> bool {
        self.times.is_some_and(|it| now < it.until.max(it.shut_until))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "casts of numbers saturate, and none is negative"
)]
fn whole(number: f64) -> u32 {
    number as u32
}

#[cfg(test)]
mod tests;
