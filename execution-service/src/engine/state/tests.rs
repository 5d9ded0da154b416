//! The state by what it is asked: each test goes on entry by entry, and after every entry the state that was kept must answer
//! as one that is folded anew.

use serde_json::{Value, json};
use time::Duration;

use super::*;
use crate::engine::{
    action::Call,
    definition::{END, Fan, Http, Stage, SubWorkflow, Wait},
    failure::FailureClass,
    journal::{AttemptPayload, Started},
    testing::{START, attempt_of, entries, failing, stage},
};

mod effects;
mod fans;
mod forward;
mod people;
mod waits;

/// A run that goes on.
struct Run {
    definition: Definition,
    inputs: Map<String, Value>,
    journal: Vec<Entry>,
    state: State,
}

impl Run {
    fn of(definition: Definition, inputs: Value) -> Self {
        let mut run = Self {
            state: State::new(&definition),
            inputs: serde_json::from_value(inputs).unwrap(),
            definition,
            journal: Vec::new(),
        };
        let started = entries(Vec::<Payload>::new()).remove(0);
        run.record(started.payload);
        run
    }

    fn stages(stages: Vec<Stage>) -> Self {
        let definition = Definition {
            stages,
            ..Definition::default()
        };
        Self::of(definition, json!({}))
    }

    fn given(&self) -> Given<'_> {
        Given {
            definition: &self.definition,
            inputs: &self.inputs,
        }
    }

    fn now(&self) -> OffsetDateTime {
        self.journal.last().map_or(START, |last| last.occurred_at)
    }

    fn record(&mut self, payload: impl Into<Payload>) -> &mut Self {
        let entry = Entry {
            seq: i64::try_from(self.journal.len()).unwrap() + 1,
            occurred_at: self.now() + Duration::seconds(1),
            payload: payload.into(),
        };
        let given = Given {
            definition: &self.definition,
            inputs: &self.inputs,
        };
        self.state.apply(given, &entry);
        self.journal.push(entry);
        assert_eq!(
            self.state.actions(given),
            State::after(given, &self.journal).actions(given),
            "kept and folded"
        );
        self
    }

    fn actions(&self) -> Vec<Action> {
        self.state.actions(self.given())
    }

    fn action(&self) -> Action {
        let mut actions = self.actions();
        assert_eq!(actions.len(), 1, "{actions:?}");
        actions.remove(0)
    }

    fn call(&self) -> Call {
        match self.action() {
            Action::Call(call) => call,
            other => panic!("a call was expected, not {other:?}"),
        }
    }

    /// The stage that is called, its visit and its try.
    fn place(&self) -> (String, u32, u32) {
        let key = self.call().key;
        (key.stage, key.visit, key.attempt)
    }

    /// The items that are called.
    fn items(&self) -> Vec<u32> {
        let actions = self.actions().into_iter();
        actions
            .map(|action| match action {
                Action::Call(call) => call.key.item,
                other => panic!("a call was expected, not {other:?}"),
            })
            .collect()
    }

    fn waiting(&self) -> Waiting {
        match self.action() {
            Action::AwaitPerson(waiting) => *waiting,
            other => panic!("a wait for people was expected, not {other:?}"),
        }
    }

    fn failure(&self) -> Failure {
        match self.action() {
            Action::Fail(failure) => failure,
            other => panic!("a failure was expected, not {other:?}"),
        }
    }

    fn outputs(&self) -> Value {
        match self.action() {
            Action::Complete { outputs } => Value::Object(outputs),
            other => panic!("an end was expected, not {other:?}"),
        }
    }
}

fn of_class(class: FailureClass, mut attempt: AttemptPayload) -> AttemptPayload {
    attempt = failing(attempt);
    attempt.failure.as_mut().unwrap().class = class;
    attempt
}

fn lasting(mut attempt: AttemptPayload) -> AttemptPayload {
    attempt.failure.as_mut().unwrap().retryable = false;
    attempt
}

fn of_kind(name: &str, kind: Kind) -> Stage {
    Stage { kind, ..stage(name) }
}
