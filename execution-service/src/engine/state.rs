//! Where an execution is: the journal folded entry by entry, and what follows from it.
//!
//! The cost of an entry, and of the answer to what comes next, does not grow with the number of entries before.
//!
//! What always holds: the same journal gives the same answer, on any machine and at any time (times come from entries, jitter
//! from a hash of the attempt's key); after a terminal entry, and before the started one, nothing is decided; tries are
//! numbered from 1 within a visit (and item) without gaps; a run goes from stage to stage at most as often as its transition
//! limit says; what was announced and has no attempt is never called a second time unless a person decided so; an entry that
//! nothing waits for changes nothing; every definition, a bad one too, leads to an answer.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use serde_json::{Map, Value};
use service_kit::ids::ExecutionId;
use time::OffsetDateTime;

use self::{
    fan::FanOut,
    job::{Job, Phase},
    way::Way,
};
use super::{
    action::{Action, Call},
    context::{Context, Passed},
    definition::{Definition, Kind},
    failure::Failure,
    journal::{Entry, Forked, Kept, Paused, Payload, Signal, StageTry},
    waiting::Waiting,
};

#[cfg(test)]
pub(super) use self::tries::{FIRST_BACKOFF, MAX_BACKOFF, MAX_RETRY_AFTER};

mod ask;
mod fan;
mod job;
mod settle;
mod tries;
mod wait;
mod way;

/// How many signals that nobody waits for yet are kept; who sends more is refused.
pub const MAX_SIGNALS: usize = 1_000;

/// What an execution was started with; the same one through all of its state's life.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// The version it is pinned to.
    pub definition: &'a Definition,
    /// Its inputs.
    pub inputs: &'a Map<String, Value>,
}

/// An execution after some entries of its journal.
#[derive(Debug, Clone)]
pub struct State {
    execution: Option<ExecutionId>,
    depth: u32,
    /// Whether nothing has followed the first entry.
    fresh: bool,
    transitions: u32,
    /// By a stage's place, how often the run has come to it.
    visits: Vec<u32>,
    /// By a stage's place, whether a map runs it.
    bodies: Vec<bool>,
    /// By a stage's place, its last output that counts.
    passed: Vec<Option<Passed>>,
    last_passed: Option<usize>,
    signals: BTreeMap<String, VecDeque<Value>>,
    /// How many those are.
    signals_kept: usize,
    paused: Option<(Paused, OffsetDateTime)>,
    /// Items of a map that were paid for in another execution, until the map is come to.
    kept: Vec<Kept>,
    /// The stage whose failure is the run's, with the items that had passed if it is a map.
    failed_at: Option<(usize, Vec<Kept>)>,
    /// What it had when it last came to the stage that is watched for.
    watched: Option<(usize, Option<Box<Arrival>>)>,
    step: Step,
}

/// What a run had when it came to a stage.
#[derive(Debug, Clone)]
pub(super) struct Arrival {
    /// By a stage's place, how often the run had come to it before.
    pub(super) visits: Vec<u32>,
    /// By a stage's place, its last output that counted.
    pub(super) passed: Vec<Option<Passed>>,
    /// The stage that had passed last.
    pub(super) last_passed: Option<usize>,
}

/// Where a run stands.
#[derive(Debug, Clone)]
enum Step {
    Before,
    At(Box<Job>),
    Fan(Box<FanOut>),
    Complete,
    Fail(Failure),
    Over,
}

impl State {
    /// Before the first entry.
    pub fn new(definition: &Definition) -> Self {
        let stages = definition.stages.len();
        let mut bodies = vec![false; stages];
        for stage in &definition.stages {
            if let Kind::Map(fan) = &stage.kind
                && let Some(body) = definition.position(&fan.stage)
            {
                bodies[body] = true;
            }
        }
        Self {
            execution: None,
            depth: 0,
            fresh: false,
            transitions: 0,
            visits: vec![0; stages],
            bodies,
            passed: vec![None; stages],
            last_passed: None,
            signals: BTreeMap::new(),
            signals_kept: 0,
            paused: None,
            kept: Vec::new(),
            failed_at: None,
            watched: None,
            step: Step::Before,
        }
    }

    /// After these entries, the first of which is the journal's first.
    pub fn after(given: Given<'_>, journal: &[Entry]) -> Self {
        let mut state = Self::new(given.definition);
        for entry in journal {
            state.apply(given, entry);
        }
        state
    }

    /// Goes on by the entry that follows.
    pub fn apply(&mut self, given: Given<'_>, entry: &Entry) {
        let at = entry.occurred_at;
        let fresh = std::mem::take(&mut self.fresh);
        match (&entry.payload, &self.step) {
            (Payload::Started(started), Step::Before) => {
                self.execution = Some(started.execution_id);
                self.depth = started.depth;
                self.fresh = true;
                self.begin(given, at);
            }
            (_, Step::Before | Step::Over) | (Payload::Started(_), _) => {}
            (Payload::Cancelled(_) | Payload::Finished(_), _) => self.step = Step::Over,
            (Payload::Forked(forked), _) => {
                if fresh {
                    self.go_on_from(given, forked, at);
                }
            }
            (Payload::Attempt(attempt), _) => self.attempted(given, attempt, at),
            (Payload::Decision(decision), _) => self.decided(given, decision, at),
            (Payload::Expired(it), _) => self.expired(given, &it.of, at),
            (Payload::Intent(intent), _) => self.at(given, &intent.of, |job, _| {
                if matches!(job.phase, Phase::Ready) {
                    job.phase = Phase::Intended;
                }
            }),
            (Payload::Unknown(it), _) => self.at(given, &it.of, |job, of| {
                if matches!(job.phase, Phase::Intended | Phase::Lost | Phase::Run(_)) {
                    job.phase = Phase::outcome(of.clone(), at);
                }
            }),
            (Payload::FlowRun(it), _) => self.at(given, &it.of, |job, _| {
                if matches!(job.phase, Phase::Intended | Phase::Lost) {
                    job.phase = Phase::Run(at);
                }
            }),
            (Payload::Child(child), _) => self.at(given, &child.of, |job, _| {
                if matches!(job.phase, Phase::Ready) {
                    job.phase = Phase::Child(child.execution_id);
                }
            }),
            (Payload::Delegated(it), _) => self.at_waiting(given, &it.of, |waiting| waiting.delegate(it.by, it.to)),
            (Payload::Reminded(it), _) => self.at_waiting(given, &it.of, |waiting| waiting.reminded = true),
            (Payload::Escalated(it), _) => self.at_waiting(given, &it.of, |waiting| waiting.escalated = true),
            (Payload::Signal(signal), _) => self.signalled(given, signal, at),
            (Payload::Paused(paused), _) => {
                self.paused.get_or_insert_with(|| (paused.clone(), at));
            }
            (Payload::Resumed(_), _) => self.paused = None,
        }
    }

    /// Says that this process made none of the calls that were announced so far: they are looked up, and not made.
    pub fn resumed(&mut self) {
        for job in self.jobs_mut() {
            if matches!(job.phase, Phase::Intended) {
                job.phase = Phase::Lost;
            }
        }
    }

    /// What comes next. Several actions where a stage fans out, which are handed out until they are recorded; none once the
    /// execution has ended.
    pub fn actions(&self, given: Given<'_>) -> Vec<Action> {
        self.actions_beyond(given, |_| false)
    }

    /// The same without what is under way already.
    pub fn actions_beyond(&self, given: Given<'_>, is_under_way: impl Fn(&StageTry) -> bool) -> Vec<Action> {
        match &self.step {
            Step::Before | Step::Over => return Vec::new(),
            Step::Complete => {
                return vec![Action::Complete {
                    outputs: self.outputs(given),
                }];
            }
            Step::Fail(failure) => return vec![Action::Fail(failure.clone())],
            Step::At(_) | Step::Fan(_) => {}
        }
        if let Some((paused, since)) = &self.paused {
            return vec![Action::AwaitResume {
                by: paused.by,
                reason: paused.reason.clone(),
                since: *since,
            }];
        }
        let wanted = self.jobs().filter(|job| !is_under_way(&job.of_try(given.definition)));
        wanted.map(|job| self.action(given, job)).collect()
    }

    /// The call that this try is or was, if it is at hand, whether or not the run is paused.
    pub fn call(&self, given: Given<'_>, of: &StageTry) -> Option<Call> {
        self.jobs()
            .find(|job| job.is(given.definition, of))
            .map(|job| self.call_of(given, job))
    }

    /// What a stage can see now.
    pub fn context<'a>(&'a self, given: Given<'a>) -> Context<'a> {
        Context::over(given.definition, given.inputs, &self.passed)
    }

    /// What this try can see: in a map also its item.
    pub fn context_for<'a>(&'a self, given: Given<'a>, of: &StageTry) -> Context<'a> {
        let context = self.context(given);
        match &self.step {
            Step::Fan(fan) if fan.is_of(given.definition, of) => match fan.items.get(of.item as usize) {
                Some(item) => context.with_item(of.item, item),
                None => context,
            },
            _ => context,
        }
    }

    /// What waits for people.
    pub fn waiting(&self) -> impl Iterator<Item = &Waiting> {
        self.jobs().filter_map(|job| job.phase.waiting())
    }

    /// What waits for people with the output that does; null where that is not known.
    pub fn waiting_outputs(&self) -> impl Iterator<Item = (&Waiting, &Value)> {
        self.jobs().filter_map(|job| match &job.phase {
            Phase::People(waiting, output) => Some((&**waiting, &**output)),
            _ => None,
        })
    }

    /// The stages that the run is at: none before its first and after its last one.
    pub fn stages<'a>(&'a self, definition: &'a Definition) -> Vec<&'a str> {
        let place = match &self.step {
            Step::At(job) => Some(job.stage),
            Step::Fan(fan) => Some(fan.stage),
            _ => None,
        };
        place.map(|place| &*definition.stages[place].name).into_iter().collect()
    }

    /// Whether its journal has ended.
    pub const fn is_over(&self) -> bool {
        matches!(self.step, Step::Over)
    }

    /// Whether a signal of this name would be lost: nobody waits for it, and no more are kept.
    pub fn loses(&self, signal: &str) -> bool {
        let is_heard = matches!(&self.step, Step::At(job) if job.listens_for(signal));
        !is_heard && self.signals_kept >= MAX_SIGNALS
    }

    /// Whether somebody asked to begin nothing new.
    pub const fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// How many executions it runs within.
    pub const fn depth(&self) -> u32 {
        self.depth
    }

    /// The output of the last stage that passed, under its name.
    pub fn outputs(&self, given: Given<'_>) -> Map<String, Value> {
        let last = self
            .last_passed
            .and_then(|place| Some((place, self.passed[place].as_ref()?)));
        last.map(|(place, passed)| (given.definition.stages[place].name.clone(), (*passed.output).clone()))
            .into_iter()
            .collect()
    }

    /// By a stage's place, its last output that counts.
    pub(super) fn into_passed(self) -> Vec<Option<Passed>> {
        self.passed
    }

    /// Remembers from now on what the run has whenever it comes to a stage.
    pub(super) fn watch(&mut self, place: usize) {
        self.watched = Some((place, None));
    }

    /// What it had when it last came to the stage that is watched for.
    pub(super) fn into_arrival(self) -> Option<Arrival> {
        self.watched.and_then(|(_, arrival)| arrival).map(|it| *it)
    }

    /// The stage whose failure is the run's, with the items that had passed if it is a map.
    pub(super) const fn failed_at(&self) -> Option<&(usize, Vec<Kept>)> {
        self.failed_at.as_ref()
    }

    fn begin(&mut self, given: Given<'_>, at: OffsetDateTime) {
        let first = self.bodies.iter().position(|is_body| !is_body);
        self.go(given, first.map_or(Way::End, Way::First), at);
    }

    fn go_on_from(&mut self, given: Given<'_>, forked: &Forked, at: OffsetDateTime) {
        let fresh = Self {
            execution: self.execution,
            depth: self.depth,
            watched: self.watched.take().map(|(place, _)| (place, None)),
            ..Self::new(given.definition)
        };
        *self = fresh;
        for (name, visits) in &forked.visits {
            if let Some(place) = given.definition.position(name) {
                self.visits[place] = *visits;
            }
        }
        for kept in &forked.kept {
            match given.definition.position(&kept.stage) {
                Some(place) if self.bodies[place] => self.kept.push(kept.clone()),
                Some(place) => {
                    self.passed[place] = Some(Passed {
                        visit: kept.visit,
                        attempt: kept.attempt,
                        output: Arc::new(kept.output.clone()),
                    });
                    self.last_passed = Some(place);
                }
                None => {}
            }
        }
        let way = match given.definition.position(&forked.from_stage) {
            Some(place) if !self.bodies[place] => Way::First(place),
            _ => Way::nowhere(&forked.from_stage),
        };
        self.go(given, way, at);
    }

    fn signalled(&mut self, given: Given<'_>, signal: &Signal, at: OffsetDateTime) {
        if let Step::At(job) = &mut self.step
            && job.hears(given.definition, signal, at)
        {
            return;
        }
        if self.signals_kept < MAX_SIGNALS {
            self.signals_kept += 1;
            let kept = self.signals.entry(signal.name.clone()).or_default();
            kept.push_back(signal.payload.clone());
        }
    }

    fn take_signal(&mut self, name: &str) -> Option<Value> {
        let kept = self.signals.get_mut(name)?;
        let first = kept.pop_front()?;
        self.signals_kept -= 1;
        if kept.is_empty() {
            self.signals.remove(name);
        }
        Some(first)
    }

    fn jobs(&self) -> impl Iterator<Item = &Job> {
        let (one, many) = match &self.step {
            Step::At(job) => (Some(&**job), None),
            Step::Fan(fan) => (None, Some(fan.open.values())),
            _ => (None, None),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    fn jobs_mut(&mut self) -> impl Iterator<Item = &mut Job> {
        let (one, many) = match &mut self.step {
            Step::At(job) => (Some(&mut **job), None),
            Step::Fan(fan) => (None, Some(fan.open.values_mut())),
            _ => (None, None),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    /// The try that is at hand, if it is this one.
    fn job_mut(&mut self, definition: &Definition, of: &StageTry) -> Option<&mut Job> {
        let job = match &mut self.step {
            Step::At(job) => Some(&mut **job),
            Step::Fan(fan) => fan.open.get_mut(&of.item),
            _ => None,
        };
        job.filter(|job| job.is(definition, of))
    }

    fn at(&mut self, given: Given<'_>, of: &StageTry, change: impl FnOnce(&mut Job, &StageTry)) {
        if let Some(job) = self.job_mut(given.definition, of) {
            change(job, of);
        }
    }

    fn at_waiting(&mut self, given: Given<'_>, of: &StageTry, change: impl FnOnce(&mut Waiting)) {
        if let Some(waiting) = self
            .job_mut(given.definition, of)
            .and_then(|job| job.phase.waiting_mut())
        {
            change(waiting);
        }
    }
}

#[cfg(test)]
mod tests;
