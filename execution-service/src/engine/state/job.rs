//! A stage, or an item of a map, that is being tried.

use std::sync::Arc;

use serde_json::Value;
use service_kit::ids::ExecutionId;
use time::OffsetDateTime;

use super::wait::Until;
use crate::engine::{
    definition::{Definition, Policy},
    journal::{AttemptPayload, StageTry},
    waiting::{About, Waiting},
};

/// What is tried, and how far that is.
#[derive(Debug, Clone)]
pub(super) struct Job {
    /// The stage's place.
    pub(super) stage: usize,
    pub(super) visit: u32,
    pub(super) item: u32,
    /// The number of the try at hand.
    pub(super) attempt: u32,
    /// How often people said that the try at hand is to be made once more.
    pub(super) round: u32,
    /// How many models were asked before the one at hand.
    pub(super) model: usize,
    /// How many tries the model at hand has used up.
    pub(super) tries: u32,
    pub(super) not_before: Option<OffsetDateTime>,
    /// What the check said of the try before.
    pub(super) notes: String,
    pub(super) phase: Phase,
}

/// How far a try is.
#[derive(Debug, Clone)]
pub(super) enum Phase {
    /// To be made.
    Ready,
    /// Announced.
    Intended,
    /// Announced by a process that is gone.
    Lost,
    /// A flow is under way for it elsewhere, since this time.
    Run(OffsetDateTime),
    /// Another execution is under way for it.
    Child(ExecutionId),
    /// Its output waits for people, or its outcome does.
    People(Box<Waiting>, Arc<Value>),
    /// It waits for a time or a signal.
    Until(Box<Until>),
    /// It is known how it went, but not recorded yet.
    Known(Box<AttemptPayload>),
}

impl Phase {
    /// What must not be done twice may or may not have been done: people say.
    pub(super) fn outcome(of: StageTry, since: OffsetDateTime) -> Self {
        let waiting = Waiting::new(of, About::Outcome, Arc::new(Policy::default()), since);
        Self::People(Box::new(waiting), Arc::new(Value::Null))
    }

    pub(super) fn waiting(&self) -> Option<&Waiting> {
        match self {
            Self::People(waiting, _) => Some(waiting),
            _ => None,
        }
    }

    pub(super) fn waiting_mut(&mut self) -> Option<&mut Waiting> {
        match self {
            Self::People(waiting, _) => Some(waiting),
            _ => None,
        }
    }
}

impl Job {
    /// A first try.
    pub(super) const fn new(stage: usize, visit: u32, item: u32) -> Self {
        Self {
            stage,
            visit,
            item,
            attempt: 1,
            round: 0,
            model: 0,
            tries: 0,
            not_before: None,
            notes: String::new(),
            phase: Phase::Ready,
        }
    }

    pub(super) fn of_try(&self, definition: &Definition) -> StageTry {
        StageTry {
            stage: definition.stages[self.stage].name.clone(),
            visit: self.visit,
            item: self.item,
            attempt: self.attempt,
        }
    }

    pub(super) fn is(&self, definition: &Definition, of: &StageTry) -> bool {
        (self.visit, self.item, self.attempt) == (of.visit, of.item, of.attempt)
            && definition.stages[self.stage].name == of.stage
    }
}
