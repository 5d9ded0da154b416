//! The decision: what an execution does next, from its definition, inputs and journal alone.
//!
//! What always holds: the same journal gives the same answer, on any machine and at any time (times come from entries, jitter
//! from a hash of the attempt's key); after a terminal entry, and before the started one, nothing is decided; tries are
//! numbered from 1 within a visit without gaps; a run goes from stage to stage at most as often as its transition limit
//! says; every definition, a bad one too, leads to an answer.

use std::{fmt, time::Duration};

use serde_json::{Map, Value};
use service_kit::ids::ExecutionId;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::{
    context::Context,
    definition::{Definition, END, Stage},
    failure::{Failure, FailureClass},
    journal::{AttemptFailure, AttemptPayload, Decision, Entry, Payload, Ruling, StageTry},
};

/// The wait before the second try, without jitter.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
/// The longest wait that grows by itself.
const MAX_BACKOFF: Duration = Duration::from_mins(1);
/// The longest wait that a provider can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(24);

/// Something to do now.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Try a stage and record how it went.
    Call(Call),
    /// Wait until a person decides this attempt, which is recorded.
    AwaitPerson(StageTry),
    /// End the run well.
    Complete {
        /// The output of the last stage that passed, under its name.
        outputs: Map<String, Value>,
    },
    /// End the run with a failure.
    Fail(Failure),
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
    /// The variables of the stage's input mapping.
    pub inputs: Map<String, Value>,
    /// What the check said of the try before; empty on a first try and after other failures.
    pub notes: String,
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

/// What follows from the journal. Several actions where a stage fans out; none once the execution has ended.
pub fn next(definition: &Definition, inputs: &Map<String, Value>, journal: &[Entry]) -> Vec<Action> {
    let Some((Payload::Started(started), rest)) = journal.split_first().map(|(first, rest)| (&first.payload, rest))
    else {
        return Vec::new();
    };
    let mut walk = Walk {
        definition,
        execution: started.execution_id,
        transitions: 0,
        visits: vec![0; definition.stages.len()],
        last_passed: None,
    };
    let mut step = if definition.stages.is_empty() {
        Step::Complete
    } else {
        walk.arrive(0)
    };
    for entry in rest {
        match &entry.payload {
            Payload::Cancelled(_) | Payload::Finished(_) => return Vec::new(),
            Payload::Attempt(attempt) => step = walk.after(attempt, entry.occurred_at),
            Payload::Decision(decision) => {
                if let Step::Await(attempt) = step
                    && attempt.is(&decision.of)
                {
                    step = walk.decided(attempt, decision, entry.occurred_at);
                }
            }
            Payload::Started(_) => {}
        }
    }
    vec![match step {
        Step::Try(place) => {
            let stage = &definition.stages[place.stage];
            Action::Call(Call {
                key: walk.key(stage, place.visit, place.attempt),
                stage: place.stage,
                not_before: place.not_before,
                inputs: Context::new(definition, inputs, journal).mapped(&stage.input_mapping),
                notes: place.notes.to_owned(),
            })
        }
        Step::Await(attempt) => Action::AwaitPerson(attempt.of_try()),
        Step::Complete => Action::Complete {
            outputs: walk
                .last_passed
                .map(|last| (last.stage.clone(), last.output.clone()))
                .into_iter()
                .collect(),
        },
        Step::Fail(failure) => Action::Fail(failure),
    }]
}

/// How long to wait before trying again: what the provider asked for, or twice as long with every try, spread by a hash of
/// the attempt's key so that runs that failed together do not come back together. Failed checks do not wait.
fn backoff(failed: &AttemptKey, failure: &AttemptFailure) -> Duration {
    let asked = Duration::from_millis(failure.retry_after_ms.unwrap_or(0)).min(MAX_RETRY_AFTER);
    if failure.class == FailureClass::Validation {
        return asked;
    }
    let doublings = failed.attempt.saturating_sub(1).min(16);
    let full = FIRST_BACKOFF.saturating_mul(1 << doublings).min(MAX_BACKOFF);
    asked.max(full.mul_f64(0.5 + 0.5 * jitter(failed)))
}

/// A number from 0 to 1 that depends on the key alone.
fn jitter(key: &AttemptKey) -> f64 {
    let digest = Sha256::digest(key.to_string());
    f64::from(u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])) / f64::from(u32::MAX)
}

/// Where the run stands.
enum Step<'a> {
    Try(Place<'a>),
    Await(&'a AttemptPayload),
    Complete,
    Fail(Failure),
}

struct Place<'a> {
    stage: usize,
    visit: u32,
    attempt: u32,
    not_before: Option<OffsetDateTime>,
    notes: &'a str,
}

/// The way through the stages as the journal tells it.
struct Walk<'a> {
    definition: &'a Definition,
    execution: ExecutionId,
    transitions: u32,
    visits: Vec<u32>,
    last_passed: Option<&'a AttemptPayload>,
}

impl<'a> Walk<'a> {
    fn after(&mut self, attempt: &'a AttemptPayload, at: OffsetDateTime) -> Step<'a> {
        match &attempt.failure {
            None if attempt.is_open() => Step::Await(attempt),
            None => self.pass(attempt),
            Some(failure) => self.fail(attempt, failure, &attempt.validation.notes, at),
        }
    }

    fn decided(&mut self, attempt: &'a AttemptPayload, decision: &'a Decision, at: OffsetDateTime) -> Step<'a> {
        match decision.decision {
            Ruling::Pass => self.pass(attempt),
            Ruling::Fail => self.fail(attempt, &decision.refusal(), &decision.notes, at),
        }
    }

    fn pass(&mut self, attempt: &'a AttemptPayload) -> Step<'a> {
        let Some(place) = self.definition.position(&attempt.stage) else {
            return unheard_of(attempt);
        };
        self.last_passed = Some(attempt);
        match &self.definition.stages[place].next_on_pass {
            Some(name) => self.go_to(name),
            None if place + 1 < self.definition.stages.len() => self.transit(place + 1),
            None => Step::Complete,
        }
    }

    fn fail(
        &mut self,
        attempt: &'a AttemptPayload,
        failure: &AttemptFailure,
        notes: &'a str,
        at: OffsetDateTime,
    ) -> Step<'a> {
        let Some(place) = self.definition.position(&attempt.stage) else {
            return unheard_of(attempt);
        };
        let stage = &self.definition.stages[place];
        if failure.retryable && attempt.attempt <= stage.retry_limit {
            let failed = self.key(stage, attempt.visit, attempt.attempt);
            return Step::Try(Place {
                stage: place,
                visit: attempt.visit,
                attempt: attempt.attempt + 1,
                not_before: Some(at + backoff(&failed, failure)),
                notes,
            });
        }
        match &stage.next_on_fail {
            Some(name) => self.go_to(name),
            None => Step::Fail(Failure::new(
                failure.class,
                format!("stage \"{}\": {}", stage.name, failure.message),
            )),
        }
    }

    fn go_to(&mut self, name: &str) -> Step<'a> {
        match self.definition.position(name) {
            Some(place) => self.transit(place),
            None if name == END => Step::Complete,
            None => Step::Fail(broken(format!("the workflow has no stage \"{name}\""))),
        }
    }

    fn transit(&mut self, place: usize) -> Step<'a> {
        self.transitions += 1;
        let limit = self.definition.max_transitions();
        if self.transitions > limit {
            let message = format!("the run went from stage to stage more than {limit} times");
            return Step::Fail(Failure::new(FailureClass::Capped, message));
        }
        self.arrive(place)
    }

    fn arrive(&mut self, place: usize) -> Step<'a> {
        let stage = &self.definition.stages[place];
        if !stage.kind.is_served() {
            return Step::Fail(broken(format!(
                "stage \"{}\": {} stages are not served",
                stage.name,
                stage.kind.name()
            )));
        }
        self.visits[place] += 1;
        Step::Try(Place {
            stage: place,
            visit: self.visits[place],
            attempt: 1,
            not_before: None,
            notes: "",
        })
    }

    fn key(&self, stage: &Stage, visit: u32, attempt: u32) -> AttemptKey {
        AttemptKey {
            execution: self.execution,
            stage: stage.name.clone(),
            visit,
            item: 0,
            attempt,
        }
    }
}

fn unheard_of<'a>(attempt: &AttemptPayload) -> Step<'a> {
    Step::Fail(broken(format!("the workflow has no stage \"{}\"", attempt.stage)))
}

fn broken(message: String) -> Failure {
    Failure::new(FailureClass::Validation, message)
}

#[cfg(test)]
mod tests;
