//! What a run knows while it is held: who it is, what it does, and where it stands.

use std::sync::Arc;

use time::OffsetDateTime;

use super::{Shared, store::Facts};
use crate::engine::{
    definition::{Definition, Stage},
    journal::{Entry, Hash, Payload, Sealed},
    state::{Given, State},
};

/// What all tries of a run have in common.
#[derive(Debug)]
pub(super) struct Ground {
    pub shared: Arc<Shared>,
    pub facts: Facts,
    pub definition: Arc<Definition>,
}

impl Ground {
    pub(super) fn given(&self) -> Given<'_> {
        Given {
            definition: &self.definition,
            inputs: &self.facts.inputs,
        }
    }

    pub(super) fn stage(&self, place: usize) -> &Stage {
        &self.definition.stages[place]
    }

    pub(super) fn now(&self) -> OffsetDateTime {
        self.shared.clock.now()
    }
}

/// A run in memory. What it holds does not grow with its journal.
#[derive(Debug)]
pub(super) struct Scene {
    pub ground: Arc<Ground>,
    /// Shared with the tries under way, which see it as it was when they began.
    pub state: Arc<State>,
    /// The place of the last entry.
    pub seq: i64,
    /// The hash of the last entry.
    pub head: Hash,
    /// When the last entry was recorded.
    pub last_at: OffsetDateTime,
    /// How often the run was taken over from an instance that died, since its last entry; at least 1 if a call of it was cut.
    pub takeovers: i16,
}

impl Scene {
    /// A run that has its first entry.
    pub(super) fn begun(ground: Ground, started: &[Sealed]) -> Self {
        let mut state = State::new(&ground.definition);
        let given = ground.given();
        for sealed in started {
            state.apply(given, &sealed.entry);
        }
        let last = started.last().expect("a run begins with an entry");
        Self {
            ground: Arc::new(ground),
            state: Arc::new(state),
            seq: last.entry.seq,
            head: last.hash,
            last_at: last.entry.occurred_at,
            takeovers: 0,
        }
    }

    /// Puts an entry after the last one, and gives it as it is to be stored.
    pub(super) fn append(&mut self, payload: Payload) -> Sealed {
        // The clocks of two holders may differ; the order of the entries does not.
        let occurred_at = self.ground.now().max(self.last_at);
        let sealed = Entry {
            seq: self.seq + 1,
            occurred_at,
            payload,
        }
        .seal(&self.head);
        self.seq = sealed.entry.seq;
        self.head = sealed.hash;
        self.last_at = sealed.entry.occurred_at;
        Arc::make_mut(&mut self.state).apply(self.ground.given(), &sealed.entry);
        sealed
    }
}
