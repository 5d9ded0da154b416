//! What core-service answered, kept as long as it is known to be true. Pure: it is told what happens and what time it is.
//!
//! An answer is true as of a position in core-service's outbox, and stays so until an event of its company at a larger one.
//! The events of a company reach this service in order, answers whenever they come: one that is older than an event of its
//! company that was heard of is not kept, and what is kept is not given out after such an event. Nothing is given out unless
//! a heartbeat was heard lately: it says that no event is missing. When events are heard again after a while of silence, what
//! was kept is as good as it was, for every event that was missed comes before the next heartbeat.

use std::{collections::HashMap, time::Duration};

use service_kit::ids::{CompanyId, StudioId, UserId};
use tokio::time::Instant;

use super::Access;

/// How long after a heartbeat answers are given out. What a heartbeat says may be 250 ms old, and a second is the most that
/// a change may go unnoticed.
pub(super) const PATIENCE: Duration = Duration::from_millis(750);

/// How long an answer is given out, whatever happens: not everything in it has events, such as the plans' limits.
const MAX_AGE: Duration = Duration::from_mins(1);

/// How many answers are kept.
const ANSWERS: usize = 1 << 16;

/// Of how many companies the last event is known. Of the others it is before the floor.
const COMPANIES: usize = 1 << 14;

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Question {
    pub(super) user: UserId,
    pub(super) place: Place,
}

/// Where a user's place was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// In a studio.
    Studio(StudioId),
    /// In a company.
    Company(CompanyId),
}

/// What was answered, and the outbox position of the snapshot that it was read in.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) access: Access,
    pub(super) position: i64,
}

/// What is heard of the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Something changed in a company.
    Event(CompanyId),
    /// Nothing is missing.
    Heartbeat,
    /// What was heard before is of no use.
    Reset,
}

/// The answers that are kept, and what is known of their being true.
#[derive(Debug, Default)]
pub(super) struct Answers {
    kept: HashMap<Question, Kept>,
    /// The position of each company's last event, as far as one was heard.
    changed: HashMap<CompanyId, i64>,
    /// What was heard last; nothing before the first message.
    heard: Option<i64>,
    /// No event that `changed` does not know of was after this one.
    floor: i64,
    live_until: Option<Instant>,
}

#[derive(Debug)]
struct Kept {
    answer: Answer,
    until: Instant,
}

impl Answers {
    /// The position to follow the outbox from.
    pub(super) fn heard(&self) -> Option<i64> {
        self.heard
    }

    /// Whether answers are given out: a heartbeat was heard lately.
    pub(super) fn are_live(&self, now: Instant) -> bool {
        self.live_until.is_some_and(|until| now < until)
    }

    /// The answer to a question, if one is known to be true.
    pub(super) fn get(&self, question: &Question, now: Instant) -> Option<&Access> {
        let kept = self.kept.get(question).filter(|it| now < it.until)?;
        (self.are_live(now) && self.is_current(&kept.answer)).then_some(&kept.answer.access)
    }

    /// Keeps an answer, unless something is known to have changed since it was read.
    pub(super) fn keep(&mut self, question: Question, answer: Answer, now: Instant) {
        if self.heard.is_none() || !self.is_current(&answer) {
            return;
        }
        if self.kept.len() >= ANSWERS {
            self.make_room(now);
        }
        let until = now + MAX_AGE;
        self.kept.insert(question, Kept { answer, until });
    }

    /// Takes in what was heard of the outbox, in the order in which it was heard.
    pub(super) fn hear(&mut self, news: News, position: i64, now: Instant) {
        let begins = self.heard.is_none() || news == News::Reset;
        if begins {
            self.kept.clear();
            self.changed.clear();
            self.floor = position;
            self.heard = Some(position);
        }
        self.heard = self.heard.max(Some(position));
        match news {
            News::Event(company) => {
                if self.changed.len() >= COMPANIES {
                    self.floor = self.heard.unwrap_or(position);
                    self.changed.clear();
                }
                let changed = self.changed.entry(company).or_insert(position);
                *changed = position.max(*changed);
            }
            News::Heartbeat => self.live_until = Some(now + PATIENCE),
            News::Reset => self.live_until = None,
        }
    }

    fn is_current(&self, answer: &Answer) -> bool {
        let changed = self.changed.get(&answer.access.company).copied();
        answer.position >= self.floor && changed.is_none_or(|it| answer.position >= it)
    }

    /// Drops what is of no use, and where that is not much, everything: whoever is asked about next is asked for once.
    fn make_room(&mut self, now: Instant) {
        let mut kept = std::mem::take(&mut self.kept);
        kept.retain(|_, it| now < it.until && self.is_current(&it.answer));
        if kept.len() > ANSWERS / 2 {
            kept.clear();
        }
        self.kept = kept;
    }
}

#[cfg(test)]
mod tests;
