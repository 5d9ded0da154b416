//! The tries of an execution's stages, from its journal. Prompts are not stored: they are rendered again.

use std::ops::Range;

use serde::Serialize;
use serde_json::{Map, Value, json};
use service_kit::{auth::Caller, db::TenantTx, error::Result, ids::ExecutionId, page::Page};
use sqlx::PgConnection;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{enter, journal_store, not_found};
use crate::{
    App,
    engine::{
        action::Action,
        definition::{Definition, Kind, Policy, Stage},
        failure::FailureClass,
        journal::{AttemptFailure, AttemptPayload, CheckResult, Decision, Entry, Payload, Ruling},
        replay::{self, ReplayError},
        request::Prompt,
        state::{Given, State},
    },
};

/// The most text of the attempts that are listed at once, in bytes, but for the last two.
const MAX_TEXT_BYTES: usize = 2 << 20;

/// Which attempts to list.
#[derive(Clone, Debug, Serialize)]
pub(super) struct AttemptFilter {
    /// The execution.
    pub execution: ExecutionId,
    /// Only of this stage.
    pub stage: Option<String>,
}

/// A recorded attempt with its prompt.
#[derive(Clone, Debug)]
pub(super) struct Recorded {
    pub seq: i64,
    pub attempt: AttemptPayload,
    /// Empty where none was sent, or where it cannot be rendered any more.
    pub prompt: Prompt,
    /// What people decided, and when that was recorded, as far as it is told.
    pub decisions: Vec<(OffsetDateTime, Decision)>,
    /// The one among them that settled it.
    pub settled_by: Option<usize>,
}

impl Recorded {
    /// An attempt of which nothing more is told.
    pub(super) const fn alone(attempt: AttemptPayload, prompt: Prompt) -> Self {
        Self {
            seq: 0,
            attempt,
            prompt,
            decisions: Vec::new(),
            settled_by: None,
        }
    }

    /// The last decision settles that it passes, with the last output that was put in the place of its own, or that a question has.
    fn pass(&mut self, is_question: bool) {
        self.settled_by = self.decisions.len().checked_sub(1);
        self.attempt.validation.result = CheckResult::Pass;
        self.tell_notes();
        if is_question {
            let decisions: Vec<Value> = self.decisions.iter().map(|(at, it)| approved(*at, it)).collect();
            self.attempt.output = json!({ "approved": true, "decisions": decisions });
            return;
        }
        let edited = self.decisions.iter().rev().find_map(|(_, it)| it.output.clone());
        if let Some(output) = edited {
            self.attempt.output = output;
        }
    }

    /// The last decision settles that it does not.
    fn fail(&mut self, failure: AttemptFailure) {
        self.settled_by = self.decisions.len().checked_sub(1);
        self.attempt.validation.result = CheckResult::Fail;
        self.tell_notes();
        self.attempt.failure = Some(failure);
    }

    fn tell_notes(&mut self) {
        if let Some((_, last)) = self.decisions.last() {
            self.attempt.validation.notes.clone_from(&last.notes);
        }
    }
}

/// Lists an execution's attempts in the order they were recorded: as many as were asked for, or one more than their text
/// allows.
pub(super) async fn list(
    app: &App,
    caller: &Caller,
    filter: &AttemptFilter,
    page: &Page<i64>,
) -> Result<Vec<Recorded>> {
    let access = enter(app, caller, filter.execution).await?;
    let mut tx = TenantTx::begin(&app.pool, "executions.list_attempts", &access.claims).await?;
    let seqs = journal_store::attempt_seqs(&mut tx, filter, page).await?;
    let mut run = Run::open(&mut tx, filter.execution).await?;
    let mut later = Vec::new();
    if let Some(last) = seqs.last() {
        run.read_up_to(&mut tx, *last).await?;
        later = journal_store::settling(&mut tx, filter.execution, *last).await?;
    }
    // Rendering takes time that no connection should wait for.
    drop(tx);
    let rendered = app.aside.run(move || run.recorded_at(&seqs, &later));
    Ok(rendered.await)
}

/// A run's state, as far as it was folded.
#[derive(Clone, Debug)]
pub(super) struct Fold(State);

/// An execution's journal, as far as it was read, with what its prompts are rendered from.
pub(super) struct Run {
    execution: ExecutionId,
    definition: Option<Definition>,
    inputs: Map<String, Value>,
    journal: Vec<Entry>,
}

impl Run {
    /// Opens it, nothing of the journal read.
    pub(super) async fn open(tx: &mut PgConnection, execution: ExecutionId) -> Result<Self> {
        let pinned = journal_store::pinned(tx, execution)
            .await?
            .ok_or_else(|| not_found(execution))?;
        Ok(Self {
            execution,
            definition: pinned.definition,
            inputs: pinned.inputs,
            journal: Vec::new(),
        })
    }

    /// Reads what follows in the journal up to a place.
    pub(super) async fn read_up_to(&mut self, tx: &mut PgConnection, last: i64) -> Result<()> {
        let new = journal_store::entries(tx, self.execution, self.last_seq(), last).await?;
        self.journal.extend(new);
        Ok(())
    }

    /// The place of the last entry that was read; 0 before the first.
    pub(super) fn last_seq(&self) -> i64 {
        self.journal.last().map_or(0, |it| it.seq)
    }

    /// Whether nothing follows what was read.
    pub(super) fn has_ended(&self) -> bool {
        self.journal.last().is_some_and(|it| it.payload.is_terminal())
    }

    /// Lets go of the raw answers among these entries: nothing that comes later is rendered from them.
    pub(super) fn forget_answers(&mut self, entries: Range<usize>) {
        for entry in &mut self.journal[entries] {
            if let Payload::Attempt(attempt) = &mut entry.payload {
                attempt.raw_output = String::new();
            }
        }
    }

    /// What was read of the journal.
    pub(super) fn journal(&self) -> &[Entry] {
        &self.journal
    }

    /// The attempt at a place, if there is one, as it was recorded: nothing is told of what came after it.
    pub(super) fn recorded(&self, seq: i64) -> Option<Recorded> {
        let place = self.journal.binary_search_by_key(&seq, |it| it.seq).ok()?;
        let attempt = self.journal[place].payload.attempt()?.clone();
        Some(Recorded {
            seq,
            ..Recorded::alone(attempt, self.prompt(seq))
        })
    }

    /// The state before the first entry, with what it is of; none where the version is gone.
    pub(super) fn fold(&self) -> Option<Fold> {
        self.definition.as_ref().map(|definition| Fold(State::new(definition)))
    }

    /// Goes on in a fold by an entry.
    pub(super) fn apply(&self, fold: &mut Fold, entry: &Entry) {
        if let Some(definition) = &self.definition {
            fold.0.apply(self.given(definition), entry);
        }
    }

    /// Whether a run that stands so waits for people, or until somebody lets it go on, and for nothing else.
    pub(super) fn rests(&self, fold: &Fold) -> bool {
        if fold.0.is_paused() {
            return true;
        }
        let Some(definition) = &self.definition else {
            return false;
        };
        fold.0.waiting().next().is_some() && fold.0.actions(self.given(definition)).iter().all(is_wait)
    }

    /// The output of the last stage that passed, under its name.
    pub(super) fn outputs(&self, fold: &Fold) -> Map<String, Value> {
        let definition = self.definition.as_ref();
        definition.map_or_else(Map::new, |it| fold.0.outputs(self.given(it)))
    }

    const fn given<'a>(&'a self, definition: &'a Definition) -> Given<'a> {
        Given {
            definition,
            inputs: &self.inputs,
        }
    }

    /// Adds what people decided of an attempt, in what was read or in these entries after it, and what came of that.
    fn settle(&self, recorded: &mut Recorded, later: &[Entry]) {
        if !recorded.attempt.is_open() {
            return;
        }
        let of = recorded.attempt.of_try();
        let stage = self.stage(&of.stage);
        let is_question = stage.is_some_and(|it| matches!(it.kind, Kind::Approval(_)));
        let mut left = stage.map_or(1, needed);
        for entry in self.journal.iter().filter(|it| it.seq > recorded.seq).chain(later) {
            match &entry.payload {
                Payload::Decision(decision) if decision.of == of => {
                    recorded.decisions.push((entry.occurred_at, (**decision).clone()));
                    match decision.decision {
                        Ruling::Fail => return recorded.fail(decision.refusal()),
                        Ruling::Pass => left = left.saturating_sub(1),
                        Ruling::Again => {}
                    }
                    if left == 0 {
                        return recorded.pass(is_question);
                    }
                }
                Payload::Expired(it) if it.of == of => {
                    let failure = AttemptFailure::lasting(FailureClass::Timeout, "expired", "nobody decided in time");
                    recorded.attempt.validation.result = CheckResult::Fail;
                    recorded.attempt.failure = Some(failure);
                    return;
                }
                _ => {}
            }
        }
    }

    fn stage(&self, name: &str) -> Option<&Stage> {
        let definition = self.definition.as_ref()?;
        Some(&definition.stages[definition.position(name)?])
    }

    /// The attempts at these places with what was decided of them, but no more than one beyond what may be listed at once.
    fn recorded_at(&self, seqs: &[i64], later: &[Entry]) -> Vec<Recorded> {
        let mut bytes = 0;
        let mut all = Vec::new();
        for mut recorded in seqs.iter().filter_map(|seq| self.recorded(*seq)) {
            self.settle(&mut recorded, later);
            let full = bytes > MAX_TEXT_BYTES;
            bytes += recorded.attempt.raw_output.len() + recorded.prompt.prompt.len();
            all.push(recorded);
            if full {
                break;
            }
        }
        all
    }

    fn prompt(&self, seq: i64) -> Prompt {
        let Some(definition) = &self.definition else {
            return Prompt::default();
        };
        replay::prompt(definition, &self.inputs, &self.journal, seq).unwrap_or_else(|error| {
            if error == ReplayError::Differs {
                tracing::error!(execution = %self.execution, seq, "a recorded prompt cannot be rendered again");
            }
            Prompt::default()
        })
    }
}

/// How many must let an output of the stage pass.
fn needed(stage: &Stage) -> usize {
    match &stage.kind {
        Kind::Approval(approval) => approval.policy.needed(),
        _ => stage.validation.policy().map_or(1, Policy::needed),
    }
}

/// A decision as the output of an approval stage has it.
fn approved(at: OffsetDateTime, decision: &Decision) -> Value {
    let at = at.format(&Rfc3339).unwrap_or_default();
    json!({ "by": decision.by, "notes": decision.notes, "form": decision.form, "at": at })
}

/// Whether nothing is to be done for it now.
const fn is_wait(action: &Action) -> bool {
    match action {
        Action::AwaitChild { .. }
        | Action::AwaitRun { .. }
        | Action::AwaitPerson(_)
        | Action::AwaitSignal { .. }
        | Action::AwaitTime { .. }
        | Action::AwaitResume { .. } => true,
        Action::Call(_)
        | Action::Intend(_)
        | Action::LookUp(_)
        | Action::StartChild(_)
        | Action::Record(_)
        | Action::Complete { .. }
        | Action::Fail(_) => false,
    }
}

#[cfg(test)]
impl Run {
    /// A run of which this was read; without a definition its version is gone.
    pub(super) fn of_journal(definition: Option<Definition>, journal: Vec<Entry>) -> Self {
        Self {
            execution: ExecutionId::generate(),
            definition,
            inputs: Map::new(),
            journal,
        }
    }
}

#[cfg(test)]
mod tests {
    use service_kit::ids::UserId;

    use super::*;
    use crate::engine::journal::{Of, Verdict};

    fn definition(policy: &Value) -> Definition {
        let mut stage = json!({ "name": "ask", "kind": "approval", "question": "q" });
        stage
            .as_object_mut()
            .unwrap()
            .extend(policy.as_object().unwrap().clone());
        serde_json::from_value(json!({ "stages": [stage] })).unwrap()
    }

    fn waiting() -> AttemptPayload {
        let attempt = json!({ "stage": "ask", "visit": 1, "item": 0, "attempt": 1, "output": "as it came",
            "started_at": "1970-01-01T00:00:00.000000Z", "duration_ms": 0 });
        AttemptPayload {
            validation: Verdict {
                result: CheckResult::Pending,
                notes: String::new(),
            },
            ..serde_json::from_value(attempt).unwrap()
        }
    }

    fn decision(ruling: Ruling, output: Option<Value>) -> Payload {
        Payload::Decision(Box::new(Decision {
            of: waiting().of_try(),
            decision: ruling,
            by: UserId::generate(),
            notes: "why".into(),
            output,
            form: None,
        }))
    }

    fn settled(definition: Option<Definition>, rest: Vec<Payload>) -> Recorded {
        let waits = vec![Payload::Attempt(Box::new(waiting()))];
        let entries = waits.into_iter().chain(rest).zip(1..);
        let journal: Vec<Entry> = entries
            .map(|(payload, seq)| Entry {
                seq,
                occurred_at: OffsetDateTime::UNIX_EPOCH,
                payload,
            })
            .collect();
        let later = journal[1..].to_vec();
        let run = Run::of_journal(definition, journal[..1].to_vec());
        run.recorded_at(&[1], &later).remove(0)
    }

    #[test]
    fn an_attempt_waits_until_as_many_as_must_have_let_it_pass() {
        let two = definition(&json!({ "required": 2 }));
        let pass = || decision(Ruling::Pass, None);
        let half = settled(Some(two.clone()), vec![pass()]);
        assert!(half.attempt.is_open() && half.decisions.len() == 1 && half.settled_by.is_none());
        let both = settled(Some(two.clone()), vec![pass(), pass()]);
        assert!(both.attempt.succeeded());
        assert_eq!(
            (both.settled_by, both.attempt.output["approved"].as_bool()),
            (Some(1), Some(true))
        );
        let refused = settled(Some(two), vec![pass(), decision(Ruling::Fail, None)]);
        assert_eq!(
            refused.attempt.failure.map(|it| it.message),
            Some("a person did not let the output pass: why".into())
        );
    }

    #[test]
    fn the_output_that_a_person_put_in_its_place_is_the_one_that_is_told() {
        let edited = settled(None, vec![decision(Ruling::Pass, Some(json!("mended")))]);
        assert_eq!((&edited.attempt.output, edited.settled_by), (&json!("mended"), Some(0)));
        let left = settled(None, vec![decision(Ruling::Pass, None)]);
        assert_eq!(left.attempt.output, "as it came");
    }

    #[test]
    fn what_nobody_decided_in_time_has_failed() {
        let of = waiting().of_try();
        let late = settled(None, vec![Payload::Expired(Of { of })]);
        assert_eq!(late.attempt.failure.map(|it| it.class), Some(FailureClass::Timeout));
    }
}
