//! What happens, one thing at a time: people ask, calls end, holders work and fail.

use std::{collections::BTreeMap, ops::AddAssign};

use serde_json::json;
use service_kit::ids::{ExecutionId, UserId};
use time::{Duration, OffsetDateTime, macros::datetime};
use uuid::Uuid;

use super::{
    super::{Wish, store::claims::Claimed, writer::Then},
    calls,
    dice::Dice,
    holder::{self, Flight, Held, Outcome},
    shapes::{self, PEOPLE, SIGNAL},
    store::{Answer, Store},
};
use crate::engine::{
    action::Action,
    definition::Rank,
    fork::{Begin, fork},
    journal::{Hash, Payload, Ruling},
    waiting::{About, Person},
};

/// How many things happen before all is calm.
const STEPS: u64 = 400;
/// How many runs people start.
const RUNS: usize = 6;
/// With so many runs no child is begun any more.
const MOST: usize = 40;
/// How many things may happen until all runs have ended.
const CALM: usize = 20_000;
/// How long a holder works without a renewal.
const TRUST: Duration = Duration::seconds(7);

/// What a seed came to.
#[derive(Debug, Default)]
pub(super) struct Told {
    runs: usize,
    entries: usize,
    completed: usize,
    take_overs: usize,
    fenced: usize,
    doubts: usize,
    refused: usize,
    children: usize,
    forks: usize,
}

/// A process.
#[derive(Debug)]
struct Process {
    instance: i32,
    trusted_until: OffsetDateTime,
    is_stopped: bool,
    /// How far its clock is off.
    skew: Duration,
    held: BTreeMap<ExecutionId, Held>,
}

/// Everything.
pub(super) struct World {
    dice: Dice,
    store: Store,
    processes: Vec<Process>,
    is_calm: bool,
    started: usize,
    told: Told,
}

fn person(n: u128) -> UserId {
    Uuid::from_u128(n).into()
}

impl AddAssign for Told {
    fn add_assign(&mut self, more: Self) {
        self.runs += more.runs;
        self.entries += more.entries;
        self.completed += more.completed;
        self.take_overs += more.take_overs;
        self.fenced += more.fenced;
        self.doubts += more.doubts;
        self.refused += more.refused;
        self.children += more.children;
        self.forks += more.forks;
    }
}

impl Told {
    /// Whether what is to be survived has happened at all.
    pub(super) fn proves_something(&self, seeds: u64) {
        assert!(seeds > 0 && self.entries > self.runs, "nothing was tried");
        if seeds >= 20 {
            for happened in [
                self.completed,
                self.take_overs,
                self.fenced,
                self.doubts,
                self.refused,
                self.children,
                self.forks,
            ] {
                assert!(happened > 0, "in {seeds} seeds something never happened: {self:?}");
            }
        }
    }
}

impl World {
    pub(super) fn of(seed: u64) -> Self {
        let mut dice = Dice::of(seed);
        let count = 1 + dice.place(4);
        let definitions = shapes::workflows(&mut dice, count);
        let mut store = Store::new(datetime!(2025-06-01 12:00 UTC), definitions);
        let processes = (0..2).map(|_| Process::new(&mut store)).collect();
        Self {
            dice,
            store,
            processes,
            is_calm: false,
            started: 0,
            told: Told::default(),
        }
    }

    pub(super) fn run(mut self) -> Told {
        for _ in 0..STEPS {
            self.happen();
        }
        self.calm();
        self.store.prove_all();
        let all = self.store.executions.values();
        self.told.runs = self.store.executions.len();
        self.told.entries = all.clone().map(|it| it.entries.len()).sum();
        self.told.completed = all.clone().filter(|it| it.status == "completed").count();
        self.told.children = all.filter(|it| it.parent.is_some()).count();
        self.told
    }

    fn happen(&mut self) {
        let place = self.dice.place(self.processes.len());
        match self.dice.below(100) {
            0..5 => self.start(place),
            5..17 => self.ask(),
            17..20 => self.fork(),
            20..22 => self.processes[place].crash(&mut self.store),
            22..24 => self.processes[place].is_stopped = true,
            24..26 => self.go_on(place),
            26..28 => self.jump(place),
            28..29 => self.leave(place),
            29..30 => self.store.refuses = true,
            30..32 => self.arrive(),
            32..40 => self.pass_time(),
            40..50 => self.claim(place),
            50..52 => self.search(place),
            52..53 => self.stop_left_behind(),
            _ => self.work(place),
        }
        self.keep_leases();
    }

    fn start(&mut self, place: usize) {
        if self.started >= RUNS || self.processes[place].is_stopped {
            return;
        }
        self.started += 1;
        let process = &self.processes[place];
        let owner = self.dice.percent(70).then_some(process.instance);
        let workflow = self.dice.place(self.store.definitions.len());
        let new = calls::new_run(&mut self.dice, workflow, (owner, None, 0), None, self.store.now);
        self.store.start(&new);
        self.born(place, new.execution, owner.is_some());
    }

    /// Takes up a run that was born owned, unless the answer to its start was lost.
    fn born(&mut self, place: usize, execution: ExecutionId, is_owned: bool) {
        if !is_owned || self.dice.percent(10) {
            return;
        }
        let row = &self.store.runs[&execution];
        let claimed = Claimed {
            execution,
            epoch: row.epoch,
            takeovers: 0,
            seq: row.seq,
            head: row.head.to_vec(),
            stage: String::new(),
            commands_seq: 0,
            commands_done: 0,
        };
        self.take_up(place, &claimed);
    }

    fn fork(&mut self) {
        let all: Vec<ExecutionId> = self.store.executions.keys().copied().collect();
        let Some(source) = self.dice.any(&all).filter(|_| self.started < 2 * RUNS) else {
            return;
        };
        let it = &self.store.executions[&source];
        let from = self.dice.pick(&it.definition.stages).name.clone();
        let begin = if self.dice.percent(50) {
            Begin::Failed
        } else {
            Begin::Stage(&from)
        };
        let last = it.entries.last().expect("it has begun").clone();
        let head: Hash = it.bytes.iter().fold(crate::engine::journal::GENESIS, |head, bytes| {
            crate::engine::journal::chain(&head, bytes)
        });
        let Ok(forked) = fork(it.given(), &it.entries, &head, begin, &it.definition) else {
            return;
        };
        assert_eq!(forked.source_seq, last.seq);
        let place = self.store.definitions.iter().position(|known| *known == it.definition);
        let inputs = serde_json::Value::Object((*it.inputs).clone()).to_string();
        let place = place.expect("it is one of them");
        let mut new = calls::new_run(&mut self.dice, place, (None, None, 0), Some(forked), self.store.now);
        new.inputs = inputs;
        self.store.start(&new);
        self.started += 1;
        self.told.forks += 1;
    }

    /// Somebody asks something of a run.
    fn ask(&mut self) {
        let live: Vec<ExecutionId> = self.store.runs.keys().copied().collect();
        let Some(execution) = self.dice.any(&live) else { return };
        let by = 1 + u128::from(self.dice.below(6));
        let reason = String::new();
        // What he sees may be old: then nobody asks first whether he may.
        let may = self.dice.percent(90);
        let wish = match self.dice.below(20) {
            0 => Wish::Cancel { reason },
            1 => Wish::Pause { reason },
            2..6 => Wish::Resume {},
            6..10 => Wish::Signal {
                name: SIGNAL.to_owned(),
                payload: json!(self.dice.below(9)),
            },
            10..12 => match self.waits(execution, by, true) {
                Some((of, _)) => Wish::Delegate {
                    of,
                    to: person(1 + u128::from(self.dice.below(6))),
                },
                None => return,
            },
            _ => match self.waits(execution, by, may) {
                Some((of, about)) => Wish::Decide {
                    of,
                    decision: match about {
                        About::Outcome => *self.dice.pick(&[Ruling::Pass, Ruling::Fail, Ruling::Again]),
                        _ => *self.dice.pick(&[Ruling::Pass, Ruling::Pass, Ruling::Fail]),
                    },
                    notes: "so".to_owned(),
                    output: self.dice.percent(30).then(|| json!("edited")),
                    form: None,
                },
                None => return,
            },
        };
        self.store.command(execution, person(by), &wish);
    }

    /// Something of the run that waits for this person; for anybody where it is not asked whether he may.
    fn waits(
        &mut self,
        execution: ExecutionId,
        by: u128,
        may: bool,
    ) -> Option<(crate::engine::journal::StageTry, About)> {
        let who = Person {
            id: person(by),
            rank: Rank::Admin,
            started_run: by == 1,
        };
        let it = &self.store.executions[&execution];
        let open = it
            .folded
            .waiting()
            .filter(|waiting| !may || waiting.may_decide(who).is_ok());
        let open: Vec<_> = open.map(|waiting| (waiting.of.clone(), waiting.about)).collect();
        (!open.is_empty()).then(|| self.dice.pick(&open).clone())
    }

    fn pass_time(&mut self) {
        let ms = match self.dice.below(20) {
            0 => 3_600_000,
            1..4 => self.dice.below(120_000),
            _ => self.dice.below(3_000),
        };
        self.pass(Duration::milliseconds(i64::try_from(ms).expect("small")));
    }

    /// Time passes, in which whoever is not stopped renews its lease.
    fn pass(&mut self, time: Duration) {
        let end = self.store.now + time;
        while self.store.now < end {
            self.store.now = end.min(self.store.now + Duration::seconds(2));
            self.keep_leases();
        }
    }

    fn keep_leases(&mut self) {
        for process in &mut self.processes {
            // Now and then the database does not answer for longer than a lease lasts.
            if !process.is_stopped && (self.is_calm || !self.dice.percent(2)) {
                process.keep_lease(&mut self.store);
            }
        }
    }

    /// A stopped process goes on: at first as if nothing had been.
    fn go_on(&mut self, place: usize) {
        if !self.processes[place].is_stopped {
            return;
        }
        for _ in 0..self.dice.below(4) {
            self.work(place);
        }
        self.processes[place].is_stopped = false;
    }

    fn jump(&mut self, place: usize) {
        let minutes = i64::try_from(self.dice.below(20)).expect("small") - 10;
        self.processes[place].skew = Duration::minutes(minutes);
    }

    /// A process is told to stop: it gives everything back, and another one comes.
    fn leave(&mut self, place: usize) {
        if self.processes[place].is_stopped {
            return;
        }
        for held in std::mem::take(&mut self.processes[place].held).into_values() {
            if held.writing.is_none() {
                let then = Then::GiveBack {
                    wait: Some(std::time::Duration::ZERO),
                    cut: !held.flying.is_empty(),
                };
                self.store.write(&held.let_go(then, false));
            }
        }
        self.processes[place].crash(&mut self.store);
    }

    /// A write arrives whose connection is gone.
    fn arrive(&mut self) {
        if !self.store.under_way.is_empty() {
            let place = self.dice.place(self.store.under_way.len());
            let record = self.store.under_way.remove(place);
            self.store.write(&record);
        }
    }

    fn claim(&mut self, place: usize) {
        if self.processes[place].is_stopped {
            return;
        }
        let instance = self.processes[place].instance;
        for execution in self.store.claimable() {
            self.told.take_overs += usize::from(self.store.runs[&execution].owner.is_some());
            let claimed = self.store.claim(instance, execution);
            // Now and then nobody hears that it was claimed.
            if self.is_calm || !self.dice.percent(10) {
                self.take_up(place, &claimed);
            }
        }
    }

    /// Finds what the process owns and does not hold.
    fn search(&mut self, place: usize) {
        let process = &self.processes[place];
        if process.is_stopped {
            return;
        }
        let instance = process.instance;
        let owned = self.store.owned(instance).into_iter();
        let forgotten: Vec<_> = owned.filter(|it| !process.held.contains_key(it)).collect();
        for execution in forgotten {
            let claimed = self.store.reclaim(instance, execution);
            self.take_up(place, &claimed);
        }
    }

    fn take_up(&mut self, place: usize, claimed: &Claimed) {
        let process = &mut self.processes[place];
        let execution = claimed.execution;
        let held = Held::load(&self.store.executions[&execution], claimed, process.instance);
        process.held.insert(execution, held);
        if claimed.commands_seq > claimed.commands_done && self.obey(place, execution) {
            return;
        }
        self.look_around(place, execution);
    }

    fn stop_left_behind(&mut self) {
        for execution in self.store.left_behind() {
            let reason = "left behind".to_owned();
            self.store.command(execution, person(1), &Wish::Cancel { reason });
        }
    }

    /// One of the process's runs goes one step further.
    fn work(&mut self, place: usize) {
        let held: Vec<ExecutionId> = self.processes[place].held.keys().copied().collect();
        let Some(execution) = self.dice.any(&held) else { return };
        self.step(place, execution);
    }

    fn held(&mut self, place: usize, execution: ExecutionId) -> &mut Held {
        self.processes[place].held.get_mut(&execution).expect("it is held")
    }

    fn clock(&self, place: usize) -> OffsetDateTime {
        self.store.now + self.processes[place].skew
    }

    /// Whether there was anything to do.
    fn step(&mut self, place: usize, execution: ExecutionId) -> bool {
        let held = self.held(place, execution);
        if held.writing.is_some() {
            self.submit(place, execution);
            return true;
        }
        let (wake_at, is_flying) = (held.wake_at, !held.flying.is_empty());
        let is_due = wake_at.is_some_and(|at| at <= self.store.now);
        if is_flying && self.dice.percent(60) {
            self.land(place, execution);
        } else if self.obey(place, execution) {
        } else if is_due {
            self.look_around(place, execution);
        } else if is_flying {
            self.land(place, execution);
        } else {
            return false;
        }
        true
    }

    fn look_around(&mut self, place: usize, execution: ExecutionId) {
        let now = self.clock(place);
        let ended = self.processes[place].held[&execution].ended(&self.store, now);
        self.write(place, execution, ended, Vec::new());
    }

    /// Reads the run's commands and takes the next one; whether there is one.
    fn obey(&mut self, place: usize, execution: ExecutionId) -> bool {
        let held = self.processes[place].held.get_mut(&execution).expect("it is held");
        held.read_commands(&self.store);
        let Some((by, wish)) = held.take() else { return false };
        match held.entry(by, wish) {
            Some(payload) => self.write(place, execution, vec![payload], Vec::new()),
            None => self.look_around(place, execution),
        }
        true
    }

    fn land(&mut self, place: usize, execution: ExecutionId) {
        let is_full = self.store.executions.len() >= MOST;
        let now = self.clock(place);
        let (dice, held) = (
            &mut self.dice,
            self.processes[place].held.get_mut(&execution).expect("it is held"),
        );
        let (mut payloads, mut begun) = (Vec::new(), Vec::new());
        for _ in 0..=dice.below(2) {
            if held.flying.is_empty() {
                break;
            }
            let flight = held.flying.remove(dice.place(held.flying.len()));
            payloads.push(match flight {
                Flight::Call(call) => calls::landed(dice, &call, &held.definition, self.is_calm, now),
                Flight::Child(child) => match calls::child(dice, execution, &child, is_full, now) {
                    Ok((run, entry)) => {
                        begun.push(run);
                        entry
                    }
                    Err(attempt) => attempt,
                },
            });
        }
        self.write(place, execution, payloads, begun);
    }

    fn write(
        &mut self,
        place: usize,
        execution: ExecutionId,
        payloads: Vec<Payload>,
        begun: Vec<super::super::writer::NewRun>,
    ) {
        let now = self.clock(place);
        let held = self.processes[place].held.get_mut(&execution).expect("it is held");
        held.write(&mut self.store, payloads, begun, now);
        if held.writing.is_some() && (self.is_calm || self.dice.percent(70)) {
            self.submit(place, execution);
        }
    }

    /// The database does what is written, or does not, or does and does not say so, or does it later.
    fn submit(&mut self, place: usize, execution: ExecutionId) {
        let held = self.processes[place].held.get_mut(&execution).expect("it is held");
        let writing = held.writing.as_mut().expect("something is written");
        let mut answer = Answer::Open;
        if writing.is_doubtful {
            answer = self.store.settle(&writing.record);
            writing.is_doubtful = false;
        }
        if answer == Answer::Open {
            let chance = if self.is_calm { 99 } else { self.dice.below(100) };
            self.told.doubts += usize::from(chance < 15);
            match chance {
                0..5 => {}
                5..10 => {
                    self.store.write(&writing.record);
                }
                10..15 => self.store.under_way.push(writing.record.clone()),
                _ => answer = self.store.write(&writing.record),
            }
            writing.is_doubtful = answer == Answer::Open;
        }
        self.answered(place, execution, answer);
    }

    fn answered(&mut self, place: usize, execution: ExecutionId, answer: Answer) {
        let now = self.clock(place);
        let held = self.processes[place].held.get_mut(&execution).expect("it is held");
        match held.answered(&mut self.store, answer, now) {
            Outcome::Holds => {}
            Outcome::Over { ended } => {
                self.told.fenced += usize::from(answer == Answer::Fenced);
                self.processes[place].held.remove(&execution);
                if ended && (self.is_calm || self.dice.percent(80)) {
                    self.tell(execution);
                }
            }
            Outcome::Refused(refused) => {
                self.told.refused += 1;
                self.try_each(place, execution, refused);
            }
        }
    }

    /// What was refused together is tried one by one; a command that was refused is put aside with its run.
    fn try_each(&mut self, place: usize, execution: ExecutionId, refused: Vec<Payload>) {
        let is_command = refused
            .iter()
            .any(|it| it.attempt().is_none() && !matches!(it, Payload::Unknown(_) | Payload::Child(_)));
        if is_command {
            return self.put_aside(place, execution, true);
        }
        let again = holder::again(refused);
        let held = self.processes[place].held.get_mut(&execution).expect("it is held");
        held.landed = again.iter().filter_map(|[first, _]| first.of_try()).collect();
        for tries in again {
            if let Some(held) = self.processes[place].held.get_mut(&execution) {
                held.landed.retain(|it| tries[0].of_try().as_ref() != Some(it));
            }
            for payload in tries {
                match self.write_now(place, execution, vec![payload]) {
                    Some(Answer::Refused) => {}
                    Some(_) => break,
                    None => return,
                }
            }
        }
        if self.write_now(place, execution, Vec::new()) == Some(Answer::Refused) {
            self.put_aside(place, execution, false);
        }
    }

    /// Writes without anything between; none where the run is not held any more.
    fn write_now(&mut self, place: usize, execution: ExecutionId, payloads: Vec<Payload>) -> Option<Answer> {
        let now = self.clock(place);
        let held = self.processes[place].held.get_mut(&execution)?;
        held.write(&mut self.store, payloads, Vec::new(), now);
        let Some(writing) = &held.writing else {
            return Some(Answer::Written);
        };
        let answer = self.store.write(&writing.record);
        match held.answered(&mut self.store, answer, now) {
            Outcome::Over { ended } => {
                self.processes[place].held.remove(&execution);
                if ended {
                    self.tell(execution);
                }
                None
            }
            Outcome::Holds | Outcome::Refused(_) => Some(answer),
        }
    }

    fn put_aside(&mut self, place: usize, execution: ExecutionId, forgets_commands: bool) {
        if let Some(held) = self.processes[place].held.remove(&execution) {
            let cut = !held.flying.is_empty();
            self.store.write(&held.let_go(Then::PutAside { cut }, forgets_commands));
        }
    }

    /// Tells the parent, and the children that nobody waits for any more.
    fn tell(&mut self, execution: ExecutionId) {
        if let Some(parent) = self.store.executions[&execution].parent {
            self.store.command(parent, person(1), &Wish::ChildEnded { execution });
        }
        let live = self.store.runs.keys().copied();
        let children: Vec<_> = live
            .filter(|it| self.store.executions[it].parent == Some(execution))
            .collect();
        for child in children {
            let reason = "its parent has ended".to_owned();
            self.store.command(child, person(1), &Wish::Cancel { reason });
        }
    }

    /// Nothing goes wrong any more, and everybody does what is asked of him: every run ends.
    fn calm(&mut self) {
        self.is_calm = true;
        self.store.refuses = false;
        for process in &mut self.processes {
            process.is_stopped = false;
            process.skew = Duration::ZERO;
        }
        for _ in 0..CALM {
            self.keep_leases();
            let mut goes_on = self.go();
            if self.store.runs.is_empty() {
                return;
            }
            goes_on |= !goes_on && self.serve();
            if !goes_on {
                self.pass(Duration::seconds(30));
                self.stop_left_behind();
            }
        }
    }

    /// Both processes do what they can; whether they could do anything.
    fn go(&mut self) -> bool {
        let mut goes_on = false;
        for place in 0..self.processes.len() {
            goes_on |= !self.store.claimable().is_empty();
            self.claim(place);
            self.search(place);
            let held: Vec<ExecutionId> = self.processes[place].held.keys().copied().collect();
            for execution in held {
                goes_on |= self.step(place, execution);
            }
        }
        goes_on
    }

    /// People and signals come for what waits for them; whether anything did.
    fn serve(&mut self) -> bool {
        let mut wishes = Vec::new();
        for (execution, row) in &self.store.runs {
            if row.commands_seq > row.commands_done {
                continue;
            }
            let it = &self.store.executions[execution];
            let state = it.taken_up();
            if state.is_paused() {
                wishes.push((*execution, 1, Wish::Resume {}));
            }
            for action in state.actions(it.given()) {
                match action {
                    Action::AwaitSignal { name, alarm: None, .. } => {
                        let payload = json!(null);
                        wishes.push((*execution, 1, Wish::Signal { name, payload }));
                    }
                    Action::AwaitPerson(waiting) => {
                        let may = |n: &u128| {
                            let who = Person {
                                id: person(*n),
                                rank: Rank::Admin,
                                started_run: *n == 1,
                            };
                            waiting.may_decide(who).is_ok()
                        };
                        // Where all have left it to one another, somebody steps in.
                        let by = (1..=PEOPLE + 4).find(may).unwrap_or(PEOPLE + 5);
                        let wish = Wish::Decide {
                            of: waiting.of.clone(),
                            decision: Ruling::Pass,
                            notes: String::new(),
                            output: None,
                            form: None,
                        };
                        wishes.push((*execution, by, wish));
                    }
                    _ => {}
                }
            }
        }
        for (execution, by, wish) in &wishes {
            self.store.command(*execution, person(*by), wish);
        }
        !wishes.is_empty()
    }
}

impl Process {
    fn new(store: &mut Store) -> Self {
        Self {
            instance: store.register(),
            trusted_until: store.now + TRUST,
            is_stopped: false,
            skew: Duration::ZERO,
            held: BTreeMap::new(),
        }
    }

    /// It dies, and another one comes in its place.
    fn crash(&mut self, store: &mut Store) {
        *self = Self::new(store);
    }

    /// Renews its lease; gives up everything where it has none.
    fn keep_lease(&mut self, store: &mut Store) {
        if store.now < self.trusted_until && store.renew(self.instance) {
            self.trusted_until = store.now + TRUST;
            return;
        }
        let skew = self.skew;
        *self = Self {
            skew,
            ..Self::new(store)
        };
    }
}
