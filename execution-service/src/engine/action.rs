//! What an execution does next: the actions that the worker carries out, and what they are known by.

use std::fmt;

use serde_json::{Map, Value};
use service_kit::ids::{ExecutionId, UserId};
use time::OffsetDateTime;

use super::{
    failure::Failure,
    journal::{Payload, StageTry},
    waiting::Waiting,
};

/// Something to do now.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Try a stage and record how it went.
    Call(Call),
    /// Record that this call will be made, and make it after that: it must not be made twice.
    Intend(Call),
    /// Find out whether this call, which was announced before a crash, was made, and record its attempt; where it is certain
    /// that it was not, make it; where that cannot be found out, record that it is unknown. Never make it on a guess.
    LookUp(Call),
    /// Begin an execution of another workflow and record it.
    StartChild(StartChild),
    /// Wait until that execution ends, and record how as an attempt of the stage.
    AwaitChild {
        /// The try it was begun for.
        of: StageTry,
        /// The execution.
        execution: ExecutionId,
    },
    /// Wait until the flow that was started for this call has ended, and record how as its attempt.
    AwaitRun {
        /// The call it was started by.
        call: Call,
        /// Since when.
        since: OffsetDateTime,
        /// Until when at most.
        until: OffsetDateTime,
    },
    /// Wait until people have decided, each decision recorded, or until something happens by itself.
    AwaitPerson(Box<Waiting>),
    /// Wait until a signal is recorded, or until its deadline.
    AwaitSignal {
        /// The try that waits.
        of: StageTry,
        /// The signal's name.
        name: String,
        /// The deadline.
        alarm: Option<Alarm>,
    },
    /// Wait until a time.
    AwaitTime {
        /// The try that waits.
        of: StageTry,
        /// The time.
        alarm: Alarm,
    },
    /// Record this entry: it follows from those before.
    Record(Box<Payload>),
    /// Wait until somebody lets the run go on; calls in flight end and are recorded.
    AwaitResume {
        /// Who paused it; nobody where the service did.
        by: Option<UserId>,
        /// Why; may be empty.
        reason: String,
        /// Since when.
        since: OffsetDateTime,
    },
    /// End the run well.
    Complete {
        /// The output of the last stage that passed, under its name.
        outputs: Map<String, Value>,
    },
    /// End the run with a failure.
    Fail(Failure),
}

/// What is to be recorded when a time has come.
#[derive(Debug, Clone, PartialEq)]
pub struct Alarm {
    /// The time.
    pub at: OffsetDateTime,
    /// The entry.
    pub record: Box<Payload>,
}

/// A try of a stage.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// What it is known by, in the journal and to the provider.
    pub key: AttemptKey,
    /// The stage's place in the definition, from 0.
    pub stage: usize,
    /// Not before this time.
    pub not_before: Option<OffsetDateTime>,
    /// The variables of the stage's input mapping; in a map also `item` and `index`.
    pub inputs: Map<String, Value>,
    /// What the check said of the try before; empty on a first try and after other failures.
    pub notes: String,
    /// The model to ask, of a stage that asks one: the stage's own, or one of those it falls back on.
    pub model: Option<String>,
    /// Whether it was announced in the journal.
    pub intended: bool,
    /// How often people said that it is to be made once more, as it was not.
    pub round: u32,
}

/// An execution to begin.
#[derive(Debug, Clone, PartialEq)]
pub struct StartChild {
    /// The try that it is for.
    pub key: AttemptKey,
    /// Not before this time.
    pub not_before: Option<OffsetDateTime>,
    /// The workflow.
    pub workflow_id: String,
    /// The version's number; without one the newest.
    pub version: Option<u32>,
    /// Its inputs.
    pub inputs: Map<String, Value>,
    /// How many executions it runs within.
    pub depth: u32,
}

/// What an attempt is known by: no two entries of a journal have the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AttemptKey {
    /// The execution.
    pub execution: ExecutionId,
    /// The stage's name.
    pub stage: String,
    /// How often the run has come to the stage, from 1.
    pub visit: u32,
    /// The item of a fan-out, from 0.
    pub item: u32,
    /// The number of the try within the visit, from 1.
    pub attempt: u32,
}

impl AttemptKey {
    /// The try within the execution.
    pub fn of_try(&self) -> StageTry {
        StageTry {
            stage: self.stage.clone(),
            visit: self.visit,
            item: self.item,
            attempt: self.attempt,
        }
    }
}

impl fmt::Display for AttemptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            execution,
            stage,
            visit,
            item,
            attempt,
        } = self;
        write!(f, "{execution}/{stage}/{visit}/{item}/{attempt}")
    }
}
