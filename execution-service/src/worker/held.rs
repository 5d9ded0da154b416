//! The runs that this process holds: how many there is room for, and the way to wake one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use service_kit::ids::ExecutionId;
use tokio::sync::{oneshot, watch};

use super::store::Command;

/// The held runs.
#[derive(Debug, Clone)]
pub(super) struct Held {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    max: usize,
    runs: Mutex<HashMap<ExecutionId, Seat>>,
    /// How many there are.
    count: watch::Sender<usize>,
}

#[derive(Debug)]
struct Seat {
    /// Where its holder is told of its commands.
    tell: watch::Sender<Told>,
    /// Who takes the place next.
    next: Option<oneshot::Sender<Place>>,
}

/// What a held run is told of its commands.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    /// How often it was said that there are some, which are to be read.
    pub hints: u64,
    /// Those that were brought last, in order.
    brought: Arc<[Command]>,
}

impl Told {
    /// What was brought of the commands after a place.
    pub(super) fn after(&self, seq: i64) -> Vec<Command> {
        self.brought
            .iter()
            .filter(|command| command.seq > seq)
            .cloned()
            .collect()
    }
}

/// A run's place among the held ones, which it leaves by being dropped.
#[derive(Debug)]
pub(super) struct Place {
    held: Held,
    execution: ExecutionId,
    /// What it is told of its commands; it may be told the same again.
    pub commands: watch::Receiver<Told>,
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
        let mut runs = self.lock();
        if runs.len() >= self.shared.max || runs.contains_key(&execution) {
            return None;
        }
        Some(self.seat(&mut runs, execution))
    }

    /// A place for a run that is claimed already, whether or not there is room: at once, or when its last holder here has left it.
    pub(super) fn enter_over(&self, execution: ExecutionId) -> oneshot::Receiver<Place> {
        let (give, place) = oneshot::channel();
        let mut runs = self.lock();
        if let Some(seat) = runs.get_mut(&execution) {
            seat.next = Some(give);
        } else {
            let taken = self.seat(&mut runs, execution);
            drop(runs);
            // The receiver is at hand.
            let _place = give.send(taken);
        }
        place
    }

    fn seat(&self, runs: &mut HashMap<ExecutionId, Seat>, execution: ExecutionId) -> Place {
        let (tell, commands) = watch::channel(Told::default());
        runs.insert(execution, Seat { tell, next: None });
        self.shared.count.send_replace(runs.len());
        Place {
            held: self.clone(),
            execution,
            commands,
        }
    }

    /// Whether the run is held here.
    pub(super) fn contains(&self, execution: ExecutionId) -> bool {
        self.lock().contains_key(&execution)
    }

    /// Tells a run that it has commands. False if it is not held here.
    pub(super) fn hint(&self, execution: ExecutionId) -> bool {
        self.tell(execution, |told| told.hints += 1)
    }

    /// Brings a run its commands.
    pub(super) fn bring(&self, execution: ExecutionId, commands: Vec<Command>) {
        self.tell(execution, |told| told.brought = commands.into());
    }

    fn tell(&self, execution: ExecutionId, change: impl FnOnce(&mut Told)) -> bool {
        let runs = self.lock();
        let seat = runs.get(&execution);
        if let Some(seat) = seat {
            seat.tell.send_modify(change);
        }
        seat.is_some()
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

    fn lock(&self) -> MutexGuard<'_, HashMap<ExecutionId, Seat>> {
        self.shared.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut runs = self.held.lock();
        let next = runs.remove(&self.execution).and_then(|seat| seat.next);
        let Some(next) = next else {
            self.held.shared.count.send_replace(runs.len());
            return;
        };
        let place = self.held.seat(&mut runs, self.execution);
        drop(runs);
        // Whoever gave up waiting leaves it at once.
        drop(next.send(place));
    }
}

#[cfg(test)]
mod tests {
    use service_kit::ids::UserId;

    use super::*;

    #[test]
    fn there_is_room_until_there_is_not_and_again_when_a_run_is_let_go() {
        let held = Held::new(1);
        let place = held.enter(ExecutionId::generate()).unwrap();
        assert_eq!(held.room(), 0);
        assert!(held.enter(ExecutionId::generate()).is_none());
        let over = held.enter_over(ExecutionId::generate()).try_recv();
        assert!(over.is_ok());
        drop((place, over));
        assert_eq!(held.room(), 1);
    }

    #[test]
    fn a_run_is_held_once_and_its_next_holder_here_follows_when_the_last_has_left() {
        let held = Held::new(5);
        let execution = ExecutionId::generate();
        let place = held.enter(execution).unwrap();
        assert!(held.enter(execution).is_none());
        let mut next = held.enter_over(execution);
        assert!(next.try_recv().is_err());
        drop(place);
        let place = next.try_recv().unwrap();
        assert!(held.contains(execution));
        let given_up = held.enter_over(execution);
        drop(given_up);
        drop(place);
        assert!(!held.contains(execution));
        assert_eq!(held.room(), 5);
    }

    #[test]
    fn a_run_hears_of_its_commands_and_a_hint_is_not_lost_to_what_is_brought() {
        let held = Held::new(5);
        let execution = ExecutionId::generate();
        let mut place = held.enter(execution).unwrap();
        assert!(held.hint(execution));
        held.bring(execution, vec![command(1), command(2)]);
        assert!(place.commands.has_changed().unwrap());
        let told = place.commands.borrow_and_update().clone();
        assert_eq!(told.hints, 1);
        let after: Vec<_> = told.after(1).iter().map(|command| command.seq).collect();
        assert_eq!(after, [2]);
        assert!(!held.hint(ExecutionId::generate()));
    }

    fn command(seq: i64) -> Command {
        Command {
            seq,
            kind: "cancel".into(),
            payload: serde_json::Value::Null,
            issued_by: UserId::generate(),
        }
    }
}
