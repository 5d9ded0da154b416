//! Sessions that ended before their time, for as long as tokens of theirs may still be valid.
//!
//! Every replica hears of them by the outbox and refuses their tokens from then on, remembered ones too. A replica that starts
//! is told of those that ended lately.

use std::{
    collections::HashMap,
    fmt,
    sync::{PoisonError, RwLock},
    time::{Duration, Instant},
};

use crate::{clock::SharedClock, ids::SessionId};

/// How long an ended session is remembered: for longer than an access token lives.
pub const REMEMBERED: Duration = Duration::from_mins(15);

/// How many are remembered before those whose time is over are looked for.
const FEW: usize = 1024;

/// The sessions whose tokens are refused.
pub struct Revocations {
    ended: RwLock<Ended>,
    clock: SharedClock,
}

struct Ended {
    until: HashMap<SessionId, Instant>,
    /// At this size the old ones are dropped.
    prune_at: usize,
}

impl Revocations {
    /// None yet.
    pub fn new(clock: SharedClock) -> Self {
        Self {
            ended: RwLock::new(Ended {
                until: HashMap::new(),
                prune_at: FEW,
            }),
            clock,
        }
    }

    /// Refuses the tokens of this session from now on.
    pub fn add(&self, session: SessionId) {
        let now = self.clock.monotonic();
        let mut ended = self.ended.write().unwrap_or_else(PoisonError::into_inner);
        ended.until.insert(session, now + REMEMBERED);
        if ended.until.len() >= ended.prune_at {
            ended.until.retain(|_, until| now < *until);
            ended.prune_at = (ended.until.len() * 2).max(FEW);
        }
    }

    /// Whether its tokens are refused.
    pub fn contains(&self, session: SessionId) -> bool {
        let ended = self.ended.read().unwrap_or_else(PoisonError::into_inner);
        ended.until.contains_key(&session)
    }
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocations").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use time::OffsetDateTime;

    use super::*;
    use crate::clock::FakeClock;

    #[test]
    fn an_ended_session_is_refused_for_longer_than_its_tokens_live_and_then_forgotten() {
        let clock = Arc::new(FakeClock::new(OffsetDateTime::UNIX_EPOCH));
        let revocations = Revocations::new(clock.clone());
        let (one, another) = (SessionId::generate(), SessionId::generate());
        revocations.add(one);
        assert!(revocations.contains(one) && !revocations.contains(another));
        for _ in 1..FEW - 1 {
            revocations.add(SessionId::generate());
        }
        clock.advance(REMEMBERED);
        assert!(revocations.contains(one));
        revocations.add(another);
        assert!(!revocations.contains(one) && revocations.contains(another));
        assert_eq!(revocations.ended.read().unwrap().until.len(), 1);
    }
}
