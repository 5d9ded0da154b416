//! What watchers hear from the process that runs an execution: how far its journal is durable, and what is under way.
//!
//! Events here are ephemeral. Whoever begins to follow is told what is under way with the text so far, in the same moment
//! from which on he gets events: none is lost between the two and none comes twice. The journal stays the truth; a
//! follower of an execution that another process runs hears nothing here.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use service_kit::ids::ExecutionId;
use time::OffsetDateTime;
use tokio::sync::{broadcast, watch};

/// How many events a slow follower may be behind before it has to follow anew.
const CAPACITY: usize = 256;
/// The most text that is kept of an answer under way, in bytes.
const MAX_TEXT_BYTES: usize = 1 << 20;

/// A try of a stage, by its place in the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageTry {
    /// The stage's name.
    pub stage: String,
    /// How often the run has come to the stage, from 1.
    pub visit: u32,
    /// The item of a fan-out, from 0.
    pub item: u32,
    /// The number of the try, from 1.
    pub attempt: u32,
}

/// Something that happened and is not in the journal.
#[derive(Debug, Clone, PartialEq)]
pub enum LiveEvent {
    /// A try of a stage began.
    Started {
        /// Which.
        of: StageTry,
        /// When.
        at: OffsetDateTime,
        /// The journal entry before it.
        after: i64,
    },
    /// The model's answer grew.
    Delta {
        /// Which try's.
        of: StageTry,
        /// When.
        at: OffsetDateTime,
        /// The journal entry before it.
        after: i64,
        /// What came.
        text: String,
    },
}

/// A try that has begun and is not recorded yet.
#[derive(Debug, Clone, PartialEq)]
pub struct UnderWay {
    /// Which.
    pub of: StageTry,
    /// Since when.
    pub since: OffsetDateTime,
    /// The journal entry before it.
    pub after: i64,
    /// The answer so far.
    pub text: String,
}

/// The executions that somebody here runs or follows.
#[derive(Debug, Clone, Default)]
pub struct Live {
    channels: Arc<Mutex<HashMap<ExecutionId, Channel>>>,
}

#[derive(Debug)]
struct Channel {
    seq: watch::Sender<i64>,
    events: broadcast::Sender<LiveEvent>,
    under_way: Option<UnderWay>,
    users: usize,
}

impl Live {
    /// Follows an execution. `seq` is the place of the last durable entry that is known here, 0 if none is.
    pub fn follow(&self, execution: ExecutionId) -> Follower {
        let place = Place::enter(self, execution);
        let (seq, events, under_way) = place.with(|channel| {
            (
                channel.seq.subscribe(),
                channel.events.subscribe(),
                channel.under_way.clone(),
            )
        });
        Follower {
            seq,
            events,
            under_way,
            _place: place,
        }
    }

    /// Tells followers of an execution that is run here.
    pub(super) fn publish(&self, execution: ExecutionId) -> Publisher {
        Publisher {
            place: Place::enter(self, execution),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ExecutionId, Channel>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a follower listens to.
#[derive(Debug)]
pub struct Follower {
    /// The place of the last durable entry.
    pub seq: watch::Receiver<i64>,
    /// What happens from now on. A follower that lagged behind follows anew.
    pub events: broadcast::Receiver<LiveEvent>,
    /// What was under way when following began.
    pub under_way: Option<UnderWay>,
    _place: Place,
}

/// The run's side.
#[derive(Debug)]
pub(super) struct Publisher {
    place: Place,
}

impl Publisher {
    /// The journal is durable up to here; nothing is under way.
    pub(super) fn recorded(&self, seq: i64) {
        self.place.with(|channel| {
            channel.under_way = None;
            channel
                .seq
                .send_if_modified(|known| std::mem::replace(known, seq) != seq);
        });
    }

    /// A try begins.
    pub(super) fn started(&self, of: StageTry, at: OffsetDateTime) {
        self.place.with(|channel| {
            let after = *channel.seq.borrow();
            channel.under_way = Some(UnderWay {
                of: of.clone(),
                since: at,
                after,
                text: String::new(),
            });
            let _no_follower = channel.events.send(LiveEvent::Started { of, at, after });
        });
    }

    /// The answer of the try under way grew.
    pub(super) fn delta(&self, text: &str, at: OffsetDateTime) {
        self.place.with(|channel| {
            let Some(under_way) = &mut channel.under_way else {
                return;
            };
            if under_way.text.len() + text.len() <= MAX_TEXT_BYTES {
                under_way.text.push_str(text);
            }
            let (of, after) = (under_way.of.clone(), under_way.after);
            let _no_follower = channel.events.send(LiveEvent::Delta {
                of,
                at,
                after,
                text: text.to_owned(),
            });
        });
    }
}

impl Drop for Publisher {
    /// Whatever is under way is given up: another takes the run over, or it has ended.
    fn drop(&mut self) {
        self.place.with(|channel| channel.under_way = None);
    }
}

/// Keeps an execution's channel as long as it is used.
#[derive(Debug)]
struct Place {
    live: Live,
    execution: ExecutionId,
}

impl Place {
    fn enter(live: &Live, execution: ExecutionId) -> Self {
        live.lock()
            .entry(execution)
            .or_insert_with(|| Channel {
                seq: watch::Sender::new(0),
                events: broadcast::Sender::new(CAPACITY),
                under_way: None,
                users: 0,
            })
            .users += 1;
        Self {
            live: live.clone(),
            execution,
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Channel) -> T) -> T {
        let mut channels = self.live.lock();
        act(channels
            .get_mut(&self.execution)
            .expect("a channel stays while it is used"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut channels = self.live.lock();
        if let Some(channel) = channels.get_mut(&self.execution) {
            channel.users -= 1;
            if channel.users == 0 {
                channels.remove(&self.execution);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const AT: OffsetDateTime = datetime!(2025-01-01 00:00:00 UTC);

    fn a_try() -> StageTry {
        StageTry {
            stage: "a".into(),
            visit: 1,
            item: 0,
            attempt: 1,
        }
    }

    #[test]
    fn whoever_follows_late_gets_the_text_so_far_and_then_every_piece_once() {
        let live = Live::default();
        let execution = ExecutionId::generate();
        let publisher = live.publish(execution);
        publisher.recorded(3);
        publisher.started(a_try(), AT);
        publisher.delta("one ", AT);
        let mut follower = live.follow(execution);
        publisher.delta("two", AT);
        let so_far = UnderWay {
            of: a_try(),
            since: AT,
            after: 3,
            text: "one ".into(),
        };
        assert_eq!(follower.under_way, Some(so_far));
        let next = LiveEvent::Delta {
            of: a_try(),
            at: AT,
            after: 3,
            text: "two".into(),
        };
        assert_eq!(follower.events.try_recv(), Ok(next));
        assert!(follower.events.try_recv().is_err());
    }

    #[test]
    fn followers_wake_when_the_journal_grows_and_nothing_is_under_way_then() {
        let live = Live::default();
        let execution = ExecutionId::generate();
        let mut follower = live.follow(execution);
        assert_eq!(*follower.seq.borrow_and_update(), 0);
        let publisher = live.publish(execution);
        publisher.started(a_try(), AT);
        publisher.recorded(2);
        assert!(follower.seq.has_changed().unwrap());
        assert_eq!(*follower.seq.borrow_and_update(), 2);
        publisher.recorded(2);
        assert!(!follower.seq.has_changed().unwrap());
        assert_eq!(live.follow(execution).under_way, None);
    }

    #[test]
    fn a_channel_lives_as_long_as_somebody_uses_it() {
        let live = Live::default();
        let execution = ExecutionId::generate();
        let publisher = live.publish(execution);
        let follower = live.follow(execution);
        publisher.started(a_try(), AT);
        drop(publisher);
        assert_eq!(live.lock().len(), 1);
        drop(follower);
        assert!(live.lock().is_empty());
    }

    #[test]
    fn a_run_that_is_given_up_leaves_nothing_under_way() {
        let live = Live::default();
        let execution = ExecutionId::generate();
        let _follower = live.follow(execution);
        let publisher = live.publish(execution);
        publisher.started(a_try(), AT);
        drop(publisher);
        assert_eq!(live.follow(execution).under_way, None);
    }
}
