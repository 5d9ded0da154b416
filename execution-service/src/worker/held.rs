//! The runs that this process holds: how many there is room for, and the way to wake one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use service_kit::ids::ExecutionId;
use tokio::sync::watch;

/// The held runs.
#[derive(Debug, Clone)]
pub(super) struct Held {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    max: usize,
    /// By execution, where its commands are announced: the place of the last one that is known of.
    runs: Mutex<HashMap<ExecutionId, watch::Sender<i64>>>,
    /// How many there are.
    count: watch::Sender<usize>,
}

/// A run's place among the held ones, which it leaves by being dropped.
#[derive(Debug)]
pub(super) struct Place {
    held: Held,
    execution: ExecutionId,
    /// The place of the last command that is known of; it may be announced again.
    pub commands: watch::Receiver<i64>,
}

impl Held {
    pub(super) fn new(max: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                max,
                runs: Mutex::default(),
                count: watch::Sender::new(0),
            }),
        }
    }

    /// How many more runs there is room for.
    pub(super) fn room(&self) -> usize {
        self.shared.max.saturating_sub(self.lock().len())
    }

    /// A place for a run, if there is room and it is not held already.
    pub(super) fn enter(&self, execution: ExecutionId) -> Option<Place> {
        self.enter_up_to(self.shared.max, execution)
    }

    /// A place for a run that is claimed already, whether or not there is room; none if it is held already.
    pub(super) fn enter_over(&self, execution: ExecutionId) -> Option<Place> {
        self.enter_up_to(usize::MAX, execution)
    }

    fn enter_up_to(&self, max: usize, execution: ExecutionId) -> Option<Place> {
        let mut runs = self.lock();
        if runs.len() >= max || runs.contains_key(&execution) {
            return None;
        }
        let (announce, commands) = watch::channel(0);
        runs.insert(execution, announce);
        self.shared.count.send_replace(runs.len());
        Some(Place {
            held: self.clone(),
            execution,
            commands,
        })
    }

    /// Whether the run is held here.
    pub(super) fn contains(&self, execution: ExecutionId) -> bool {
        self.lock().contains_key(&execution)
    }

    /// Wakes a run because of a command. False if it is not held here.
    pub(super) fn announce(&self, execution: ExecutionId, commands_seq: i64) -> bool {
        match self.lock().get(&execution) {
            Some(announce) => {
                announce.send_replace(commands_seq);
                true
            }
            None => false,
        }
    }

    /// Waits until one is held.
    pub(super) async fn any(&self) {
        self.until(|held| held > 0).await;
    }

    /// Waits until none is held.
    pub(super) async fn none(&self) {
        self.until(|held| held == 0).await;
    }

    /// Waits until one is taken or let go.
    pub(super) async fn changed(&self) {
        // The sender lives in `self`.
        let _changed = self.shared.count.subscribe().changed().await;
    }

    async fn until(&self, wanted: fn(usize) -> bool) {
        let mut count = self.shared.count.subscribe();
        // The sender lives in `self`.
        drop(count.wait_for(|held| wanted(*held)).await);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ExecutionId, watch::Sender<i64>>> {
        self.shared.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut runs = self.held.lock();
        runs.remove(&self.execution);
        self.held.shared.count.send_replace(runs.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_until_there_is_not_and_again_when_a_run_is_let_go() {
        let held = Held::new(1);
        let place = held.enter(ExecutionId::generate()).unwrap();
        assert_eq!(held.room(), 0);
        assert!(held.enter(ExecutionId::generate()).is_none());
        let over = held.enter_over(ExecutionId::generate());
        assert!(over.is_some());
        drop((place, over));
        assert_eq!(held.room(), 1);
    }

    #[test]
    fn a_run_is_held_once_and_hears_of_its_commands() {
        let held = Held::new(5);
        let execution = ExecutionId::generate();
        let mut place = held.enter(execution).unwrap();
        assert!(held.enter(execution).is_none());
        assert!(held.announce(execution, 4));
        assert!(place.commands.has_changed().unwrap());
        assert_eq!(*place.commands.borrow_and_update(), 4);
        assert!(!held.announce(ExecutionId::generate(), 1));
    }
}
