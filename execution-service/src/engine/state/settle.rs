//! How a try ends: by its attempt, by what people decide of it, or by nobody's deciding.

use std::sync::Arc;

use serde_json::Value;
use time::OffsetDateTime;

use super::{Given, State, Step, job::Phase, wait::unmade, way::Failed};
use crate::engine::{
    context::Passed,
    definition::{Kind, OnItemFailure, Stage},
    failure::FailureClass,
    journal::{AttemptFailure, AttemptPayload, CheckResult, Decision, StageTry, Verdict},
    waiting::{About, Decided, Waiting},
};

impl State {
    pub(super) fn attempted(&mut self, given: Given<'_>, attempt: &AttemptPayload, at: OffsetDateTime) {
        let of = attempt.of_try();
        let Some(job) = self.job_mut(given.definition, &of) else {
            return;
        };
        let waits = job.phase.waiting().is_some_and(|it| it.about != About::Outcome);
        if waits {
            return;
        }
        match &attempt.failure {
            None if attempt.is_open() => {
                let stage = &given.definition.stages[job.stage];
                let waiting = opened(stage, of, at);
                job.phase = Phase::People(Box::new(waiting), Arc::new(attempt.output.clone()));
            }
            None => self.job_passed(given, &of, Arc::new(attempt.output.clone()), at),
            Some(failure) => self.job_failed(given, &of, failure, &attempt.validation.notes, at),
        }
    }

    pub(super) fn decided(&mut self, given: Given<'_>, decision: &Decision, at: OffsetDateTime) {
        let Some(job) = self.job_mut(given.definition, &decision.of) else {
            return;
        };
        let Phase::People(waiting, output) = &mut job.phase else {
            return;
        };
        match (waiting.decide(decision, at), waiting.about) {
            (Decided::Open, _) => {}
            (Decided::Again, _) => {
                job.phase = Phase::Ready;
                job.round += 1;
            }
            (Decided::Passed, About::Output) => {
                let output = waiting.edited.take().unwrap_or_else(|| output.clone());
                self.job_passed(given, &decision.of, output, at);
            }
            (Decided::Passed, About::Question) => {
                let output = Arc::new(waiting.approved());
                self.job_passed(given, &decision.of, output, at);
            }
            (Decided::Refused, About::Output | About::Question) => {
                self.job_failed(given, &decision.of, &decision.refusal(), &decision.notes, at);
            }
            (ruling, About::Outcome) => job.phase = Phase::Known(Box::new(outcome(waiting, decision, ruling))),
        }
    }

    pub(super) fn expired(&mut self, given: Given<'_>, of: &StageTry, at: OffsetDateTime) {
        let Some(waiting) = self.job_mut(given.definition, of).and_then(|job| job.phase.waiting()) else {
            return;
        };
        if waiting.about == About::Outcome || waiting.policy.expires_after.is_none() {
            return;
        }
        let next = waiting.policy.next_on_expiry.clone();
        if let (Some(name), Step::At(_)) = (next, &self.step) {
            let way = self.to(given.definition, &name);
            return self.go(given, way, at);
        }
        let failure = AttemptFailure::lasting(FailureClass::Timeout, "expired", "nobody decided in time");
        self.job_failed(given, of, &failure, "", at);
    }

    fn job_passed(&mut self, given: Given<'_>, of: &StageTry, output: Arc<Value>, at: OffsetDateTime) {
        match std::mem::replace(&mut self.step, Step::Over) {
            Step::At(job) => {
                let passed = Passed {
                    visit: of.visit,
                    attempt: of.attempt,
                    output,
                };
                let way = self.pass(given, job.stage, passed);
                self.go(given, way, at);
            }
            step => {
                self.step = step;
                self.item_settled(given, of, output, at);
            }
        }
    }

    fn item_settled(&mut self, given: Given<'_>, of: &StageTry, output: Arc<Value>, at: OffsetDateTime) {
        let Step::Fan(fan) = &mut self.step else { return };
        fan.settle(of.item, of.attempt, output);
        if fan.is_done() {
            let (place, passed) = (fan.stage, fan.passed());
            let way = self.pass(given, place, passed);
            self.go(given, way, at);
        }
    }

    fn job_failed(
        &mut self,
        given: Given<'_>,
        of: &StageTry,
        failure: &AttemptFailure,
        notes: &str,
        at: OffsetDateTime,
    ) {
        let Some(place) = self.job_mut(given.definition, of).map(|job| job.stage) else {
            return;
        };
        let stage = &given.definition.stages[place];
        let execution = self.execution;
        let Some(job) = self.job_mut(given.definition, of) else {
            return;
        };
        if job.try_again(stage, &super::ask::key(execution, stage, job), failure, notes, at) {
            return;
        }
        let Step::Fan(fan) = &self.step else {
            let failed = Failed {
                place,
                visit: of.visit,
                kept: Vec::new(),
            };
            let way = self.fail(given, failed, failure);
            return self.go(given, way, at);
        };
        let lets_go = matches!(&given.definition.stages[fan.stage].kind,
            Kind::Map(it) if it.on_item_failure == OnItemFailure::Null);
        if lets_go {
            return self.item_settled(given, of, Arc::new(Value::Null), at);
        }
        let failed = Failed {
            place: fan.stage,
            visit: fan.visit,
            kept: fan.kept(given.definition),
        };
        let failure = AttemptFailure {
            message: format!("item {}: {}", of.item, failure.message),
            ..failure.clone()
        };
        let way = self.fail(given, failed, &failure);
        self.go(given, way, at);
    }
}

/// What people are asked of an attempt that waits for them.
fn opened(stage: &Stage, of: StageTry, since: OffsetDateTime) -> Waiting {
    let (about, policy) = if let Kind::Approval(approval) = &stage.kind {
        (About::Question, approval.policy.clone())
    } else {
        (About::Output, stage.validation.policy().cloned().unwrap_or_default())
    };
    Waiting::new(of, about, Arc::new(policy), since)
}

/// The attempt of a try whose outcome a person told.
fn outcome(waiting: &Waiting, decision: &Decision, ruling: Decided) -> AttemptPayload {
    let mut attempt = unmade(&waiting.of, waiting.since);
    if ruling == Decided::Refused {
        let message = match &*decision.notes {
            "" => "a person said that it failed".to_owned(),
            notes => format!("a person said that it failed: {notes}"),
        };
        attempt.failure = Some(AttemptFailure::lasting(
            FailureClass::ProviderError,
            "outcome_unknown",
            message,
        ));
        return attempt;
    }
    attempt.output = waiting.edited.as_deref().cloned().unwrap_or_default();
    attempt.validation = Verdict {
        result: CheckResult::Pass,
        notes: decision.notes.clone(),
    };
    attempt
}
