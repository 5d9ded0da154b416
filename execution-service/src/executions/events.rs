//! What happened to an execution, as watchers are told it: durable events from the journal, ephemeral ones from the process
//! that runs it.
//!
//! A cursor is the place of a journal entry. Ephemeral events carry that of the entry before them, and so does what an entry
//! says before its last word: going on after any event's cursor loses no durable one.

use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::{
    Status,
    attempts::{Fold, Recorded, Run},
};
use crate::engine::{
    failure::Failure,
    journal::{Entry, Payload, StageTry, passed},
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
    /// An entry that speaks for itself: neither an attempt nor a start or an end.
    Noted(Box<Payload>),
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

    /// Whether it says that the run goes on.
    pub(super) const fn says_running(&self) -> bool {
        matches!(
            self,
            Self::Status {
                status: Status::Running,
                ..
            }
        )
    }
}

/// Where a run stood after the entries that were told of.
#[derive(Debug)]
pub(super) struct Course {
    /// None where its version is gone.
    fold: Option<Fold>,
    /// Whether it waited for people, or until somebody lets it go on.
    rests: bool,
}

impl Course {
    /// Before the first entry.
    pub(super) fn of(run: &Run) -> Self {
        Self {
            fold: run.fold(),
            rests: false,
        }
    }

    /// Goes on by an entry that need not be told of, or was; says whether the run began or ceased to rest with it.
    pub(super) fn pass(&mut self, run: &Run, entry: &Entry) -> Option<Status> {
        let rests = match &mut self.fold {
            Some(fold) => {
                run.apply(fold, entry);
                run.rests(fold)
            }
            None => match &entry.payload {
                Payload::Attempt(attempt) => attempt.is_open(),
                Payload::Paused(_) => true,
                Payload::Decision(_) | Payload::Resumed(_) => false,
                _ => self.rests,
            },
        };
        let changed = std::mem::replace(&mut self.rests, rests) != rests;
        changed.then_some(if rests { Status::Paused } else { Status::Running })
    }

    fn outputs(&self, run: &Run) -> Map<String, Value> {
        match &self.fold {
            Some(fold) => run.outputs(fold),
            None => outputs(run.journal()),
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

/// What the entry says that follows on a course, which goes on by it.
pub(super) fn of(run: &Run, course: &mut Course, entry: &Entry) -> Vec<Event> {
    // What came out stands before the end: the end changes nothing of it.
    let mut said = match &entry.payload {
        Payload::Started(_) => vec![What::status(Status::Pending)],
        Payload::Attempt(_) => {
            let recorded = run.recorded(entry.seq).map(|it| What::Recorded(Box::new(it)));
            recorded.into_iter().collect()
        }
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
                outputs: Some(course.outputs(run)),
            },
        }],
        Payload::Forked(_)
        | Payload::Intent(_)
        | Payload::Unknown(_)
        | Payload::Child(_)
        | Payload::FlowRun(_)
        | Payload::Decision(_)
        | Payload::Delegated(_)
        | Payload::Reminded(_)
        | Payload::Escalated(_)
        | Payload::Expired(_)
        | Payload::Signal(_)
        | Payload::Paused(_)
        | Payload::Resumed(_) => vec![What::Noted(Box::new(entry.payload.clone()))],
    };
    let changed = course.pass(run, entry);
    said.extend(changed.filter(|_| !entry.payload.is_terminal()).map(What::status));
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
        definition::Definition,
        failure::FailureClass,
        journal::{
            AttemptFailure, AttemptPayload, Cancelled, CheckResult, Decision, Finished, Paused, Resumed, Ruling,
            Started, Verdict,
        },
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
        told_of(None, payloads)
    }

    fn told_of(definition: Option<Definition>, payloads: Vec<Payload>) -> Vec<Event> {
        let entries = payloads.into_iter().zip(1..);
        let journal = entries
            .map(|(payload, seq)| Entry {
                seq,
                occurred_at: OffsetDateTime::UNIX_EPOCH,
                payload,
            })
            .collect();
        all_of(&Run::of_journal(definition, journal))
    }

    fn all_of(run: &Run) -> Vec<Event> {
        let mut course = Course::of(run);
        run.journal()
            .iter()
            .flat_map(|entry| of(run, &mut course, entry))
            .collect()
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
        assert!(matches!(&told[1].what, What::Recorded(it) if it.attempt.is_open() && it.decisions.is_empty()));
        assert!(matches!(&told[3].what, What::Noted(it) if it.decision() == Some(&decision)));
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
    fn a_run_rests_until_the_last_one_who_must_has_decided_and_while_it_is_paused() {
        let stages = json!({ "stages": [{ "name": "a", "kind": "approval", "question": "q", "required": 2 }] });
        let definition: Definition = serde_json::from_value(stages).unwrap();
        let Payload::Attempt(mut waiting) = attempt("a", Some(json!("x"))) else {
            panic!("an attempt");
        };
        waiting.validation.result = CheckResult::Pending;
        let pass = || {
            Payload::Decision(Box::new(Decision {
                of: waiting.of_try(),
                decision: Ruling::Pass,
                by: UserId::generate(),
                notes: String::new(),
                output: None,
                form: None,
            }))
        };
        let by = UserId::generate();
        let paused = Payload::Paused(Paused {
            by: Some(by),
            reason: String::new(),
        });
        let told = told_of(
            Some(definition),
            vec![
                started(),
                paused,
                Payload::Resumed(Resumed { by }),
                Payload::Attempt(waiting.clone()),
                pass(),
                pass(),
                Payload::Finished(Finished { failure: None }),
            ],
        );
        let statuses: Vec<_> = told
            .iter()
            .filter_map(|it| match &it.what {
                What::Status { status, .. } => Some((it.cursor, *status)),
                _ => None,
            })
            .collect();
        assert_eq!(
            statuses,
            [
                (1, Status::Pending),
                (2, Status::Paused),
                (3, Status::Running),
                (4, Status::Paused),
                (6, Status::Running),
                (7, Status::Completed)
            ]
        );
        let What::Status { outputs, .. } = &told.last().unwrap().what else {
            panic!("a status");
        };
        assert_eq!(outputs.as_ref().unwrap()["a"]["approved"], true);
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
