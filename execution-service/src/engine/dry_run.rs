//! A run that calls nothing and costs nothing: the real state is driven with outputs that are given, or that another run had.
//!
//! Prompts are rendered and checks are made as in a run; routes, maps and waits are real; times pass at once. A check that
//! needs a model is taken as passed, and said to be unmade. Where an output is needed that is not there, it stops and says
//! where. It always ends: transitions, items and tries are bounded, and so are its steps.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use service_kit::ids::UserId;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    action::{Action, Call},
    check::{self, Checked, Seen},
    context::Context,
    definition::{Definition, Kind, Stage},
    failure::{Failure, FailureClass},
    journal::{
        AttemptFailure, AttemptPayload, CheckResult, Decision, Entry, Intent, Payload, Ruling, Signal, Source,
        StageTry, Started, Verdict,
    },
    replay,
    request::{Prompt, Renderer},
    state::{Given, State},
    waiting::Waiting,
};

/// The most steps of a dry run.
const MAX_STEPS: usize = 5_000;

/// What takes the place of everything outside.
#[derive(Debug, Clone, Copy)]
pub enum Answers<'a> {
    /// Outputs and decisions that are made up.
    Given(&'a Sample),
    /// Those of another run, by stage, visit, item and try.
    Recorded(&'a [Entry]),
}

/// Outputs and decisions that are made up.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// By stage, the outputs in the order in which they are needed: over visits, items and tries. A text is a model's answer as
    /// it comes; of a wait for a signal, what comes with it.
    pub outputs: BTreeMap<String, Vec<Value>>,
    /// By stage, what people decide, in that order; where none is left, they let it pass.
    pub decisions: BTreeMap<String, Vec<Ruling>>,
}

/// What a dry run did.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// Its steps.
    pub steps: Vec<Step>,
    /// How it ended.
    pub end: End,
}

/// A try of a stage that was not made.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The try.
    pub of: StageTry,
    /// The model that would be asked, if one would.
    pub model: Option<String>,
    /// The variables it has.
    pub inputs: Map<String, Value>,
    /// What would be sent: prompt, query, question or request; nothing where it cannot be rendered or there is none.
    pub prompt: Option<Prompt>,
    /// The output as later stages see it.
    pub output: Value,
    /// What the check said.
    pub check: Verdict,
    /// Why it fails, if it does.
    pub failure: Option<AttemptFailure>,
    /// The stage the run is at after it; nothing at its end.
    pub next: Option<String>,
}

/// How a dry run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum End {
    /// Well.
    Completed {
        /// The output of the last stage that passed, under its name.
        outputs: Map<String, Value>,
    },
    /// With a failure.
    Failed(Failure),
    /// It could not go on.
    Stopped(Stop),
}

/// Why a dry run could not go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// An output is needed that is not there.
    #[error("no output is given for {0}")]
    NoOutput(StageTry),
    /// A signal is waited for that is not there, without a deadline.
    #[error("no signal is given for {0}")]
    NoSignal(StageTry),
    /// It goes on for too long.
    #[error("a dry run has at most {MAX_STEPS} steps")]
    TooLong,
}

/// Runs a definition dry.
pub fn dry_run(definition: &Definition, inputs: &Map<String, Value>, answers: Answers<'_>) -> Trace {
    let mut run = Run {
        given: Given { definition, inputs },
        state: State::new(definition),
        seq: 0,
        now: OffsetDateTime::UNIX_EPOCH,
        answers,
        used: BTreeMap::new(),
        decided: BTreeMap::new(),
        steps: Vec::new(),
    };
    let end = run.carry();
    Trace { steps: run.steps, end }
}

struct Run<'a> {
    given: Given<'a>,
    state: State,
    seq: i64,
    now: OffsetDateTime,
    answers: Answers<'a>,
    /// By stage, how many of the outputs are used.
    used: BTreeMap<String, usize>,
    /// By stage, how many of the decisions are used.
    decided: BTreeMap<String, usize>,
    steps: Vec<Step>,
}

/// An output, with what else another run had of it.
struct Answer {
    output: Value,
    failure: Option<AttemptFailure>,
    sources: Vec<Source>,
}

impl<'a> Run<'a> {
    fn carry(&mut self) -> End {
        self.apply(Payload::Started(Started {
            execution_id: Uuid::nil().into(),
            workflow_id: Uuid::nil().into(),
            version_id: Uuid::nil().into(),
            workflow_version: 0,
            inputs_sha256: String::new(),
            depth: 0,
        }));
        // Each step takes some entries beside its attempt: an announcement, decisions.
        for _ in 0..4 * MAX_STEPS {
            if self.steps.len() > MAX_STEPS {
                break;
            }
            let Some(action) = self.state.actions(self.given).into_iter().next() else {
                break;
            };
            if let Some(end) = self.carry_out(action) {
                return end;
            }
        }
        End::Stopped(Stop::TooLong)
    }

    fn carry_out(&mut self, action: Action) -> Option<End> {
        match action {
            Action::Complete { outputs } => return Some(End::Completed { outputs }),
            Action::Fail(failure) => return Some(End::Failed(failure)),
            Action::Intend(call) | Action::LookUp(call) => self.apply(Payload::Intent(Intent {
                of: call.key.of_try(),
                effect: String::new(),
            })),
            Action::Call(call) => return self.call(&call),
            Action::StartChild(start) => {
                let of = start.key.of_try();
                let Some(answer) = self.answer(&of) else {
                    return Some(End::Stopped(Stop::NoOutput(of)));
                };
                let stage = self.stage(&of);
                let checked = checked(stage, answer, None);
                self.step(of, start.inputs, (None, None), checked);
            }
            Action::AwaitPerson(waiting) => self.decide(&waiting),
            Action::AwaitTime { of, alarm } => {
                self.now = self.now.max(alarm.at);
                self.recorded(of, *alarm.record);
            }
            Action::AwaitSignal { of, name, alarm } => match (self.answer(&of), alarm) {
                (Some(answer), _) => self.apply(Payload::Signal(Box::new(Signal {
                    name,
                    payload: answer.output,
                    by: None,
                }))),
                (None, Some(alarm)) => {
                    self.now = self.now.max(alarm.at);
                    self.recorded(of, *alarm.record);
                }
                (None, None) => return Some(End::Stopped(Stop::NoSignal(of))),
            },
            Action::Record(payload) => match payload.of_try() {
                Some(of) => self.recorded(of, *payload),
                None => self.apply(*payload),
            },
            Action::AwaitChild { of, .. } => return Some(End::Stopped(Stop::NoOutput(of))),
            Action::AwaitRun { call, .. } => return Some(End::Stopped(Stop::NoOutput(call.key.of_try()))),
            Action::AwaitResume { .. } => return Some(End::Stopped(Stop::TooLong)),
        }
        None
    }

    fn call(&mut self, call: &Call) -> Option<End> {
        let of = call.key.of_try();
        let stage = &self.given.definition.stages[call.stage];
        let answer = match &stage.kind {
            Kind::Approval(_) => Answer {
                output: Value::Null,
                failure: None,
                sources: Vec::new(),
            },
            _ => match self.answer(&of) {
                Some(answer) => answer,
                None => return Some(End::Stopped(Stop::NoOutput(of))),
            },
        };
        let state = self.state.clone();
        let context = state.context_for(self.given, &of);
        let renderer = Renderer {
            context: &context,
            mapped: &call.inputs,
            notes: &call.notes,
        };
        let (prompt, checked) = match replay::render(&renderer, stage, &answer.sources) {
            Ok(prompt) => {
                let checked = match &stage.kind {
                    Kind::Approval(_) => asked(&prompt),
                    _ => checked(stage, answer, Some(&context)),
                };
                (Some(prompt), checked)
            }
            Err(failure) => (None, failed(failure)),
        };
        let inputs = prompt
            .as_ref()
            .map_or_else(|| call.inputs.clone(), |it| it.inputs.clone());
        self.step(of, inputs, (call.model.clone(), prompt), checked);
        None
    }

    /// Records a try and what it came to.
    fn step(
        &mut self,
        of: StageTry,
        inputs: Map<String, Value>,
        (model, prompt): (Option<String>, Option<Prompt>),
        checked: Checked,
    ) {
        let attempt = AttemptPayload {
            stage: of.stage.clone(),
            visit: of.visit,
            item: of.item,
            attempt: of.attempt,
            failure: checked.failure.clone(),
            output: checked.output.clone(),
            raw_output: String::new(),
            cleaned: checked.cleaned,
            validation: checked.verdict.clone(),
            sources: Vec::new(),
            prompt_sha256: String::new(),
            usage: None,
            judge: None,
            started_at: self.now,
            duration_ms: 0,
        };
        self.apply(Payload::Attempt(Box::new(attempt)));
        self.steps.push(Step {
            of,
            model,
            inputs,
            prompt,
            output: checked.output,
            check: checked.verdict,
            failure: checked.failure,
            next: self.place(),
        });
    }

    /// Records an attempt that follows from the entries before.
    fn recorded(&mut self, of: StageTry, payload: Payload) {
        let attempt = payload.attempt().cloned();
        self.apply(payload);
        if let Some(attempt) = attempt {
            self.steps.push(Step {
                of,
                model: None,
                inputs: Map::new(),
                prompt: None,
                output: attempt.output,
                check: attempt.validation,
                failure: attempt.failure,
                next: self.place(),
            });
        }
    }

    fn decide(&mut self, waiting: &Waiting) {
        let place = self.decided.entry(waiting.of.stage.clone()).or_default();
        let given = match self.answers {
            Answers::Given(sample) => {
                let decisions = sample.decisions.get(&waiting.of.stage);
                let ruling = decisions.and_then(|it| it.get(*place)).copied();
                *place += 1;
                Decision {
                    of: waiting.of.clone(),
                    decision: ruling.unwrap_or(Ruling::Pass),
                    by: nobody(waiting.approvals.len()),
                    notes: String::new(),
                    output: None,
                    form: None,
                }
            }
            Answers::Recorded(journal) => {
                let of_it = |entry: &'a Entry| entry.payload.decision().filter(|it| it.of == waiting.of);
                let recorded = journal.iter().filter_map(of_it).nth(waiting.approvals.len());
                recorded.cloned().unwrap_or_else(|| Decision {
                    of: waiting.of.clone(),
                    decision: Ruling::Pass,
                    by: nobody(waiting.approvals.len()),
                    notes: String::new(),
                    output: None,
                    form: None,
                })
            }
        };
        self.apply(Payload::Decision(Box::new(given)));
        let next = self.place();
        if let Some(step) = self.steps.iter_mut().rev().find(|step| step.of == waiting.of) {
            step.next = next;
        }
    }

    fn answer(&mut self, of: &StageTry) -> Option<Answer> {
        match self.answers {
            Answers::Given(sample) => {
                let used = self.used.entry(of.stage.clone()).or_default();
                let output = sample.outputs.get(&of.stage)?.get(*used)?.clone();
                *used += 1;
                Some(Answer {
                    output,
                    failure: None,
                    sources: Vec::new(),
                })
            }
            Answers::Recorded(journal) => {
                let mut attempts = journal.iter().filter_map(|entry| entry.payload.attempt());
                let attempt = attempts.find(|attempt| attempt.is(of))?;
                // An answer that did not pass its check is checked again: the check may be another one now.
                let said = !attempt.raw_output.is_empty();
                Some(Answer {
                    output: if said {
                        Value::from(&*attempt.raw_output)
                    } else {
                        attempt.output.clone()
                    },
                    failure: attempt.failure.clone().filter(|_| !said),
                    sources: attempt.sources.clone(),
                })
            }
        }
    }

    fn stage(&self, of: &StageTry) -> &'a Stage {
        let place = self.given.definition.position(&of.stage);
        &self.given.definition.stages[place.unwrap_or(0)]
    }

    fn place(&self) -> Option<String> {
        self.state
            .stages(self.given.definition)
            .first()
            .map(|it| (*it).to_owned())
    }

    fn apply(&mut self, payload: Payload) {
        self.seq += 1;
        let entry = Entry {
            seq: self.seq,
            occurred_at: self.now,
            payload,
        };
        self.state.apply(self.given, &entry);
    }
}

/// Who decides in a dry run: each time somebody else.
fn nobody(place: usize) -> UserId {
    Uuid::from_u128(place as u128 + 1).into()
}

/// An output after the checks of its stage that need no model.
fn checked(stage: &Stage, answer: Answer, context: Option<&Context<'_>>) -> Checked {
    if let Some(failure) = answer.failure {
        return failed(failure);
    }
    let seen = Seen {
        context,
        sources: &answer.sources,
    };
    let text = match &answer.output {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let checked = match &stage.kind {
        Kind::Llm(_) => check::answer(stage, &text, seen),
        _ => check::value(stage, answer.output, &text, seen),
    };
    if !checked.is_to_judge() {
        return checked;
    }
    Checked {
        failure: None,
        verdict: Verdict {
            result: CheckResult::Unchecked,
            notes: "no model was asked to judge".into(),
        },
        ..checked
    }
}

/// A question that waits for people.
fn asked(question: &Prompt) -> Checked {
    Checked {
        output: serde_json::json!({ "question": question.prompt }),
        verdict: Verdict {
            result: CheckResult::Pending,
            notes: String::new(),
        },
        failure: None,
        cleaned: false,
    }
}

fn failed(failure: AttemptFailure) -> Checked {
    let result = if failure.class == FailureClass::Validation {
        CheckResult::Error
    } else {
        CheckResult::Unchecked
    };
    Checked {
        output: Value::Null,
        verdict: Verdict {
            result,
            notes: String::new(),
        },
        failure: Some(failure),
        cleaned: false,
    }
}

#[cfg(test)]
mod tests;
