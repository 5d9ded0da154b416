//! What happened to an execution, as watchers are told it: durable events from the journal, ephemeral ones from the process
//! that runs it.
//!
//! A cursor is the place of a journal entry. Ephemeral events carry that of the entry before them, and so does what an entry
//! says before its last word: going on after any event's cursor loses no durable one.

use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::{
    Status,
    attempts::{Recorded, Run},
};
use crate::engine::{
    failure::Failure,
    journal::{Decision, Entry, Payload, StageTry, passed},
};

/// Something that happened.
#[derive(Clone, Debug)]
pub(super) struct Event {
    /// The place to resume after.
    pub cursor: i64,
    /// When it happened.
    pub time: OffsetDateTime,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// The status changed.
    Status {
        status: Status,
        failure: Option<Failure>,
        outputs: Option<Map<String, Value>>,
    },
    /// A try of a stage began.
    Started(StageTry),
    /// A try of a stage ended.
    Recorded(Box<Recorded>),
    /// A person decided an attempt.
    Decided(Decision),
    /// The model's answer grew by a text, or is it so far.
    Delta { of: StageTry, text: String, so_far: bool },
}

impl What {
    fn status(status: Status) -> Self {
        Self::Status {
            status,
            failure: None,
            outputs: None,
        }
    }
}

/// That a run has begun: no entry says so, its first try does.
pub(super) fn running(cursor: i64, time: OffsetDateTime) -> Event {
    Event {
        cursor,
        time,
        what: What::status(Status::Running),
    }
}

/// What an entry that was read says; a first attempt also says that the run has begun.
pub(super) fn of(run: &Run, entry: &Entry) -> Vec<Event> {
    let mut said = match &entry.payload {
        Payload::Started(_) => vec![What::status(Status::Pending)],
        Payload::Attempt(attempt) => {
            let recorded = run.recorded(entry.seq).map(|it| What::Recorded(Box::new(it)));
            let paused = attempt.is_open().then(|| What::status(Status::Paused));
            recorded.into_iter().chain(paused).collect()
        }
        Payload::Decision(decision) => vec![What::Decided((**decision).clone()), What::status(Status::Running)],
        Payload::Paused(_) | Payload::Unknown(_) => vec![What::status(Status::Paused)],
        Payload::Resumed(_) | Payload::Expired(_) => vec![What::status(Status::Running)],
        Payload::Forked(_)
        | Payload::Intent(_)
        | Payload::Child(_)
        | Payload::Delegated(_)
        | Payload::Reminded(_)
        | Payload::Escalated(_)
        | Payload::Signal(_) => Vec::new(),
        Payload::Cancelled(_) => vec![What::status(Status::Cancelled)],
        Payload::Finished(end) => vec![match &end.failure {
            Some(failure) => What::Status {
                status: Status::Failed,
                failure: Some(failure.clone()),
                outputs: None,
            },
            None => What::Status {
                status: Status::Completed,
                failure: None,
                outputs: Some(outputs(run.journal())),
            },
        }],
    };
    let last = said.pop().map(|what| (entry.seq, what));
    let before = said.into_iter().map(|what| (entry.seq - 1, what));
    let event = |(cursor, what)| Event {
        cursor,
        time: entry.occurred_at,
        what,
    };
    before.chain(last).map(event).collect()
}

/// The last stage's output under the stage's name.
fn outputs(journal: &[Entry]) -> Map<String, Value> {
    let last = passed(journal).last();
    last.map(|it| (it.stage.clone(), it.output.clone()))
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use service_kit::ids::{ExecutionId, UserId, VersionId, WorkflowId};

    use super::*;
    use crate::engine::{
        failure::FailureClass,
        journal::{AttemptFailure, AttemptPayload, Cancelled, CheckResult, Finished, Ruling, Started, Verdict},
    };

    fn started() -> Payload {
        Payload::Started(Started {
            execution_id: ExecutionId::generate(),
            workflow_id: WorkflowId::generate(),
            version_id: VersionId::generate(),
            workflow_version: 1,
            inputs_sha256: String::new(),
            depth: 0,
        })
    }

    fn attempt(stage: &str, output: Option<Value>) -> Payload {
        let failure = match &output {
            Some(_) => None,
            None => Some(AttemptFailure::lasting(FailureClass::Timeout, "total", "too slow")),
        };
        Payload::Attempt(Box::new(AttemptPayload {
            stage: stage.into(),
            visit: 1,
            item: 0,
            attempt: 1,
            failure,
            output: output.unwrap_or_default(),
            raw_output: String::new(),
            cleaned: false,
            validation: Verdict::default(),
            sources: Vec::new(),
            prompt_sha256: String::new(),
            usage: None,
            judge: None,
            started_at: OffsetDateTime::UNIX_EPOCH,
            duration_ms: 0,
        }))
    }

    fn told(payloads: Vec<Payload>) -> Vec<Event> {
        let entries = payloads.into_iter().zip(1..);
        let journal = entries
            .map(|(payload, seq)| Entry {
                seq,
                occurred_at: OffsetDateTime::UNIX_EPOCH,
                payload,
            })
            .collect();
        let run = Run::of_journal(journal);
        run.journal().iter().flat_map(|entry| of(&run, entry)).collect()
    }

    #[test]
    fn every_entry_is_told_at_its_own_place() {
        let told = told(vec![started(), attempt("a", None), attempt("b", Some(json!("x")))]);
        let places: Vec<_> = told.iter().map(|it| it.cursor).collect();
        assert_eq!(places, [1, 2, 3]);
        assert!(matches!(
            told[0].what,
            What::Status {
                status: Status::Pending,
                ..
            }
        ));
        assert!(matches!(&told[2].what, What::Recorded(it) if it.seq == 3 && it.attempt.stage == "b"));
    }

    #[test]
    fn an_attempt_that_waits_pauses_the_run_and_a_decision_lets_it_go_on() {
        let Payload::Attempt(mut waiting) = attempt("a", Some(json!("x"))) else {
            panic!("an attempt");
        };
        waiting.validation.result = CheckResult::Pending;
        let decision = Decision {
            of: waiting.of_try(),
            decision: Ruling::Pass,
            by: UserId::generate(),
            notes: "fine".into(),
            output: None,
            form: None,
        };
        let told = told(vec![
            started(),
            Payload::Attempt(waiting),
            Payload::Decision(Box::new(decision.clone())),
            Payload::Finished(Finished { failure: None }),
        ]);
        let places: Vec<_> = told.iter().map(|it| it.cursor).collect();
        assert_eq!(
            places,
            [1, 1, 2, 2, 3, 4],
            "resuming loses neither of two that came together"
        );
        assert!(matches!(&told[1].what, What::Recorded(it) if it.attempt.is_open() && it.decided.is_none()));
        assert!(matches!(&told[3].what, What::Decided(it) if *it == decision));
        let statuses: Vec<_> = [2, 4, 5]
            .into_iter()
            .map(|n| match &told[n].what {
                What::Status { status, .. } => *status,
                other => panic!("{other:?} is no status"),
            })
            .collect();
        assert_eq!(statuses, [Status::Paused, Status::Running, Status::Completed]);
        assert!(matches!(
            &told[5].what,
            What::Status { outputs: Some(outputs), .. } if outputs["a"] == "x"
        ));
    }

    #[test]
    fn an_end_says_how() {
        let passed = vec![started(), attempt("a", Some(json!("x"))), attempt("b", None)];
        let end = |payload: Payload| told([passed.clone(), vec![payload]].concat()).pop().unwrap().what;
        let What::Status {
            status,
            failure,
            outputs,
        } = end(Payload::Finished(Finished { failure: None }))
        else {
            panic!("a status");
        };
        assert_eq!((status, failure), (Status::Completed, None));
        assert_eq!(
            Value::Object(outputs.unwrap()),
            json!({"a": "x"}),
            "of the last stage that passed"
        );
        let failed = Failure::new(FailureClass::Timeout, "late");
        let What::Status {
            status,
            failure,
            outputs,
        } = end(Payload::Finished(Finished {
            failure: Some(failed.clone()),
        }))
        else {
            panic!("a status");
        };
        assert_eq!((status, failure, outputs), (Status::Failed, Some(failed), None));
        let cancelled = Cancelled {
            by: UserId::generate(),
            reason: String::new(),
            interrupted: None,
        };
        assert!(matches!(
            end(Payload::Cancelled(cancelled)),
            What::Status {
                status: Status::Cancelled,
                ..
            }
        ));
    }
}
