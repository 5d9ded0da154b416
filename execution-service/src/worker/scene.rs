//! What a run knows while it is held: who it is, what it does, and its journal so far.

use std::sync::Arc;

use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::{Shared, store::Facts};
use crate::engine::{
    definition::{Definition, Stage},
    journal::{Entry, Hash, Payload, Sealed},
    next::{Action, next},
};

/// A run in memory.
#[derive(Debug)]
pub(super) struct Scene {
    pub shared: Arc<Shared>,
    pub facts: Facts,
    pub definition: Arc<Definition>,
    pub journal: Vec<Entry>,
    /// The hash of the last entry.
    pub head: Hash,
    /// How often the run was taken over from an instance that died, since its last entry; at least 1 if a call of it was cut.
    pub takeovers: i16,
}

impl Scene {
    pub(super) fn inputs(&self) -> &Map<String, Value> {
        &self.facts.inputs
    }

    pub(super) fn stage(&self, place: usize) -> &Stage {
        &self.definition.stages[place]
    }

    /// The place of the last entry.
    pub(super) fn seq(&self) -> i64 {
        self.journal.last().map_or(0, |last| last.seq)
    }

    pub(super) fn now(&self) -> OffsetDateTime {
        self.shared.clock.now()
    }

    /// What follows from the journal. One action, as no kind of stage fans out yet; none after the end.
    pub(super) fn next(&self) -> Option<Action> {
        next(&self.definition, self.inputs(), &self.journal).pop()
    }

    /// Puts an entry after the last one, and gives it as it is to be stored.
    pub(super) fn append(&mut self, payload: Payload) -> Sealed {
        let earliest = self
            .journal
            .last()
            .map_or(OffsetDateTime::UNIX_EPOCH, |last| last.occurred_at);
        // The clocks of two holders may differ; the order of the entries does not.
        let occurred_at = self.now().max(earliest);
        let sealed = Entry {
            seq: self.seq() + 1,
            occurred_at,
            payload,
        }
        .seal(&self.head);
        self.head = sealed.hash;
        self.journal.push(sealed.entry.clone());
        sealed
    }

    /// Takes back what was appended since the journal had this length and head.
    pub(super) fn take_back(&mut self, length: usize, head: Hash) {
        self.journal.truncate(length);
        self.head = head;
    }
}
