//! What watchers hear from the process that runs an execution: how far its journal is durable, and what is under way.
//!
//! Events here are ephemeral. Whoever begins to follow is told what is under way with the text so far, in the same moment
//! from which on he gets events: none is lost between the two and none comes twice. The journal stays the truth; a
//! follower of an execution that another process runs hears nothing here ([`crate::replicas`] asks that one). A run that
//! nobody follows costs the text so far and nothing else.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use service_kit::ids::ExecutionId;
use time::OffsetDateTime;
use tokio::sync::{broadcast, watch};

use crate::engine::journal::StageTry;

/// How many events a slow follower may be behind before it has to follow anew.
const CAPACITY: usize = 256;
/// The most text that is kept of an answer under way, in bytes; what comes after it is not told.
const MAX_TEXT_BYTES: usize = 1 << 20;

/// Something that happened and is not in the journal.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveEvent {
    /// The try it happened to.
    pub of: StageTry,
    /// When.
    pub at: OffsetDateTime,
    /// The journal entry before it.
    pub after: i64,
    /// What happened.
    pub what: LiveWhat,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LiveWhat {
    /// The try began.
    Started,
    /// The model's answer grew by a text, or is it so far.
    Delta {
        /// The text.
        text: String,
        /// Whether it is all text so far.
        so_far: bool,
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
    /// The answer has grown longer than is kept.
    is_full: bool,
}

impl UnderWay {
    /// As events: that it began, and the text so far if there is any.
    pub fn into_events(self) -> impl Iterator<Item = LiveEvent> {
        let event = |what| LiveEvent {
            of: self.of.clone(),
            at: self.since,
            after: self.after,
            what,
        };
        let started = event(LiveWhat::Started);
        let text = Some(self.text.clone()).filter(|it| !it.is_empty());
        let so_far = text.map(|text| event(LiveWhat::Delta { text, so_far: true }));
        [Some(started), so_far].into_iter().flatten()
    }
}

/// The executions that somebody here runs or follows.
#[derive(Debug, Clone, Default)]
pub struct Live {
    channels: Arc<Mutex<HashMap<ExecutionId, Used>>>,
}

#[derive(Debug)]
struct Used {
    channel: Arc<Mutex<Channel>>,
    users: usize,
}

#[derive(Debug)]
struct Channel {
    /// How far the journal is durable; none while nobody here runs the execution.
    seq: watch::Sender<Option<i64>>,
    /// Since somebody has followed.
    events: Option<broadcast::Sender<LiveEvent>>,
    /// Several where a stage fans out.
    under_way: Vec<UnderWay>,
}

impl Channel {
    fn send(&self, event: impl FnOnce() -> LiveEvent) {
        if let Some(events) = self.events.as_ref().filter(|it| it.receiver_count() > 0) {
            let _no_follower = events.send(event());
        }
    }

    fn know(&self, seq: Option<i64>) {
        self.seq.send_if_modified(|known| mem::replace(known, seq) != seq);
    }
}

impl Live {
    /// Follows an execution.
    pub fn follow(&self, execution: ExecutionId) -> Follower {
        let place = Place::enter(self, execution);
        let (seq, events, under_way) = place.with(|channel| {
            let events = channel.events.get_or_insert_with(|| broadcast::Sender::new(CAPACITY));
            (channel.seq.subscribe(), events.subscribe(), channel.under_way.clone())
        });
        Follower {
            seq,
            events,
            under_way,
            _place: place,
        }
    }

    /// Whether an execution is run here, and when that changes.
    pub fn holding(&self, execution: ExecutionId) -> Holding {
        let place = Place::enter(self, execution);
        let seq = place.with(|channel| channel.seq.subscribe());
        Holding { seq, _place: place }
    }

    /// Tells followers of an execution that is run here.
    pub(super) fn publish(&self, execution: ExecutionId) -> Publisher {
        Publisher {
            place: Place::enter(self, execution),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ExecutionId, Used>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an execution is run here.
#[derive(Debug)]
pub struct Holding {
    seq: watch::Receiver<Option<i64>>,
    _place: Place,
}

impl Holding {
    /// Waits until the execution is not run here any more: it has ended, waits, or was given up. At once where nobody here
    /// runs it.
    pub async fn over(&mut self) {
        // The sender lives as long as the place.
        let _ = self.seq.wait_for(Option::is_none).await;
    }

    /// Waits until the execution is run here.
    pub async fn begins(&mut self) {
        let _ = self.seq.wait_for(Option::is_some).await;
    }
}

/// What a follower listens to.
#[derive(Debug)]
pub struct Follower {
    /// The place of the last durable entry; none while the execution is not run here.
    pub seq: watch::Receiver<Option<i64>>,
    /// What happens from now on. A follower that lagged behind follows anew.
    pub events: broadcast::Receiver<LiveEvent>,
    /// What was under way when following began.
    pub under_way: Vec<UnderWay>,
    _place: Place,
}

impl Follower {
    /// The place of the last durable entry; none while the execution is not run here.
    pub fn held_at(&self) -> Option<i64> {
        *self.seq.borrow()
    }
}

/// The run's side.
#[derive(Debug)]
pub(super) struct Publisher {
    place: Place,
}

impl Publisher {
    /// The journal is durable up to here, and these alone are under way.
    pub(super) fn recorded(&self, seq: i64, is_under_way: impl Fn(&StageTry) -> bool) {
        self.place.with(|channel| {
            channel.under_way.retain(|it| is_under_way(&it.of));
            for it in &mut channel.under_way {
                it.after = seq;
            }
            channel.know(Some(seq));
        });
    }

    /// A try begins.
    pub(super) fn started(&self, of: StageTry, at: OffsetDateTime) {
        self.place.with(|channel| {
            let after = channel.seq.borrow().unwrap_or(0);
            channel.send(|| LiveEvent {
                of: of.clone(),
                at,
                after,
                what: LiveWhat::Started,
            });
            channel.under_way.push(UnderWay {
                of,
                since: at,
                after,
                text: String::new(),
                is_full: false,
            });
        });
    }

    /// The answer of a try under way grew.
    pub(super) fn delta(&self, of: &StageTry, text: &str, at: OffsetDateTime) {
        self.place.with(|channel| {
            let mut all = mem::take(&mut channel.under_way);
            if let Some(under_way) = all.iter_mut().find(|it| it.of == *of) {
                under_way.is_full |= under_way.text.len() + text.len() > MAX_TEXT_BYTES;
                if !under_way.is_full {
                    under_way.text.push_str(text);
                    channel.send(|| LiveEvent {
                        of: under_way.of.clone(),
                        at,
                        after: under_way.after,
                        what: LiveWhat::Delta {
                            text: text.to_owned(),
                            so_far: false,
                        },
                    });
                }
            }
            channel.under_way = all;
        });
    }
}

impl Drop for Publisher {
    /// Whatever is under way is given up: another takes the run over, or it has ended.
    fn drop(&mut self) {
        self.place.with(|channel| {
            channel.under_way.clear();
            channel.know(None);
        });
    }
}

/// Keeps an execution's channel as long as it is used.
#[derive(Debug)]
struct Place {
    live: Live,
    execution: ExecutionId,
    channel: Arc<Mutex<Channel>>,
}

impl Place {
    fn enter(live: &Live, execution: ExecutionId) -> Self {
        let mut channels = live.lock();
        let used = channels.entry(execution).or_insert_with(|| Used {
            channel: Arc::new(Mutex::new(Channel {
                seq: watch::Sender::new(None),
                events: None,
                under_way: Vec::new(),
            })),
            users: 0,
        });
        used.users += 1;
        Self {
            live: live.clone(),
            execution,
            channel: used.channel.clone(),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Channel) -> T) -> T {
        act(&mut self.channel.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut channels = self.live.lock();
        if let Some(used) = channels.get_mut(&self.execution) {
            used.users -= 1;
            if used.users == 0 {
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

    fn event(after: i64, what: LiveWhat) -> LiveEvent {
        LiveEvent {
            of: a_try(),
            at: AT,
            after,
            what,
        }
    }

    fn text(text: &str, so_far: bool) -> LiveWhat {
        LiveWhat::Delta {
            text: text.into(),
            so_far,
        }
    }

    fn so_far(follower: &mut Follower) -> Vec<LiveEvent> {
        mem::take(&mut follower.under_way)
            .into_iter()
            .flat_map(UnderWay::into_events)
            .collect()
    }

    #[test]
    fn whoever_follows_late_gets_the_text_so_far_and_then_every_piece_once() {
        let live = Live::default();
        let execution = ExecutionId::generate();
        let publisher = live.publish(execution);
        publisher.recorded(3, |_| false);
        publisher.started(a_try(), AT);
        publisher.delta(&a_try(), "one ", AT);
        let mut follower = live.follow(execution);
        publisher.delta(&a_try(), "two", AT);
        let begun = [event(3, LiveWhat::Started), event(3, text("one ", true))];
        assert_eq!(so_far(&mut follower), begun);
        assert_eq!(follower.events.try_recv(), Ok(event(3, text("two", false))));
        assert!(follower.events.try_recv().is_err());
    }

    #[test]
    fn whoever_falls_behind_and_follows_anew_has_the_same_text() {
        let live = Live::default();
        let execution = ExecutionId::generate();
        let publisher = live.publish(execution);
        publisher.started(a_try(), AT);
        let mut slow = live.follow(execution);
        for _ in 0..=CAPACITY {
            publisher.delta(&a_try(), "x", AT);
        }
        assert!(matches!(
            slow.events.try_recv(),
            Err(broadcast::error::TryRecvError::Lagged(1))
        ));
        slow = live.follow(execution);
        publisher.delta(&a_try(), "y", AT);
        let all = "x".repeat(CAPACITY + 1);
        assert_eq!(so_far(&mut slow).last(), Some(&event(0, text(&all, true))));
        assert_eq!(slow.events.try_recv(), Ok(event(0, text("y", false))));
    }

    #[test]
    fn a_text_that_is_too_long_stops_for_everybody_at_the_same_place() {
        let live = Live::default();
        let execution = ExecutionId::generate();
        let publisher = live.publish(execution);
        publisher.started(a_try(), AT);
        let mut follower = live.follow(execution);
        let long = "x".repeat(MAX_TEXT_BYTES);
        for piece in [long.as_str(), "y", ""] {
            publisher.delta(&a_try(), piece, AT);
        }
        assert_eq!(follower.events.try_recv(), Ok(event(0, text(&long, false))));
        assert!(follower.events.try_recv().is_err());
        let late = so_far(&mut live.follow(execution));
        assert_eq!(late.last(), Some(&event(0, text(&long, true))));
    }

    #[test]
    fn followers_wake_when_the_journal_grows_and_nothing_is_under_way_then() {
        let live = Live::default();
        let execution = ExecutionId::generate();
        let mut follower = live.follow(execution);
        assert_eq!(*follower.seq.borrow_and_update(), None);
        let publisher = live.publish(execution);
        publisher.started(a_try(), AT);
        publisher.recorded(2, |_| false);
        assert!(follower.seq.has_changed().unwrap());
        assert_eq!(*follower.seq.borrow_and_update(), Some(2));
        publisher.recorded(2, |_| false);
        assert!(!follower.seq.has_changed().unwrap());
        assert!(live.follow(execution).under_way.is_empty());
    }

    #[test]
    fn of_several_tries_under_way_each_has_its_own_text_and_end() {
        let live = Live::default();
        let execution = ExecutionId::generate();
        let publisher = live.publish(execution);
        let item = |item| StageTry { item, ..a_try() };
        for place in [0, 1] {
            publisher.started(item(place), AT);
            publisher.delta(&item(place), &format!("item {place}"), AT);
        }
        publisher.recorded(5, |of| of.item == 1);
        let left = live.follow(execution).under_way;
        assert_eq!(left.len(), 1);
        assert_eq!((left[0].of.item, &*left[0].text, left[0].after), (1, "item 1", 5));
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
    fn a_run_that_is_given_up_leaves_nothing_under_way_and_says_so() {
        let live = Live::default();
        let execution = ExecutionId::generate();
        let mut follower = live.follow(execution);
        let publisher = live.publish(execution);
        publisher.recorded(1, |_| false);
        publisher.started(a_try(), AT);
        assert_eq!(*follower.seq.borrow_and_update(), Some(1));
        drop(publisher);
        assert!(follower.seq.has_changed().unwrap());
        assert_eq!(follower.held_at(), None);
        assert!(live.follow(execution).under_way.is_empty());
    }
}
