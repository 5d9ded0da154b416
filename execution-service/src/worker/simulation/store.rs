//! The database in memory: it does what the writer's, the claimer's and the commands' statements do, with the same fences, and
//! proves at every commit what the journal promises.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::{Map, Value};
use service_kit::ids::{ExecutionId, UserId};
use time::{Duration, OffsetDateTime};

use super::super::{
    Wish,
    plan::Plan,
    store::{Command, claims::Claimed},
    writer::{Ask, End, NewRun, Record, Then},
};
use crate::engine::{
    action::Action,
    definition::Definition,
    journal::{Entry, GENESIS, Hash, Payload, Ruling, Sealed, StageTry, chain},
    state::{Given, State},
};

/// How long an instance's lease lasts.
const LEASE: Duration = Duration::seconds(10);
/// What an answer has in it that the database refuses.
pub(super) const POISON: &str = "poison";

/// What runs as far as the hot row says.
#[derive(Debug)]
pub(super) struct Row {
    pub owner: Option<i32>,
    pub epoch: i32,
    pub seq: i64,
    pub head: Hash,
    /// Never where there is nothing.
    pub run_at: Option<OffsetDateTime>,
    pub commands_seq: i64,
    pub commands_done: i64,
    takeovers: i16,
    asides: i32,
}

/// An execution with its journal.
#[derive(Debug)]
pub(super) struct Execution {
    pub definition: Arc<Definition>,
    pub inputs: Arc<Map<String, Value>>,
    pub parent: Option<ExecutionId>,
    pub status: &'static str,
    pub end: Option<End>,
    pub bytes: Vec<Vec<u8>>,
    pub entries: Vec<Entry>,
    /// Folded from the bytes alone.
    pub folded: State,
    commands: Vec<Command>,
    asks: Vec<Ask>,
    /// By stage, visit and item, how many tries are recorded.
    tries: BTreeMap<(String, u32, u32), u32>,
    /// The visits that stages of the run's own way were tried in.
    visits: BTreeSet<(String, u32)>,
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Written,
    Fenced,
    Refused,
    /// Of a write that was in doubt: it was not done and still can be.
    Open,
}

/// All that lasts.
#[derive(Debug)]
pub(super) struct Store {
    pub now: OffsetDateTime,
    pub instances: BTreeMap<i32, OffsetDateTime>,
    pub runs: BTreeMap<ExecutionId, Row>,
    pub executions: BTreeMap<ExecutionId, Execution>,
    /// Children by the entry that names them.
    named: BTreeMap<ExecutionId, (ExecutionId, StageTry)>,
    /// The server that is called: how often it was asked for what must not be done twice.
    sent: BTreeMap<String, u32>,
    /// Whether the next entries are refused, whatever they are.
    pub refuses: bool,
    /// Writes whose connection is gone and which the database has yet to do.
    pub under_way: Vec<Record>,
    pub definitions: Vec<Arc<Definition>>,
}

impl Execution {
    pub(super) fn given(&self) -> Given<'_> {
        Given {
            definition: &self.definition,
            inputs: &self.inputs,
        }
    }

    /// As a process that reads the journal takes it up.
    pub(super) fn taken_up(&self) -> State {
        let mut state = self.folded.clone();
        state.resumed();
        state
    }

    fn append(&mut self, sealed: &Sealed, head: &mut Hash) {
        let seq = i64::try_from(self.entries.len()).expect("few entries") + 1;
        assert!(!self.folded.is_over(), "an entry after the last one: {sealed:?}");
        assert_eq!(sealed.entry.seq, seq, "a gap or a seq twice");
        *head = chain(head, &sealed.bytes);
        assert_eq!(*head, sealed.hash, "the hash is not that of the order");
        let entry = Entry::open(&sealed.bytes).expect("an entry");
        assert_eq!(entry, sealed.entry, "the bytes say something else");
        if let Some(last) = self.entries.last() {
            assert!(last.occurred_at <= entry.occurred_at, "time goes back");
        }
        if let Some(attempt) = entry.payload.attempt() {
            self.tried(&attempt.of_try());
        }
        let (definition, inputs) = (self.definition.clone(), self.inputs.clone());
        let given = Given {
            definition: &definition,
            inputs: &inputs,
        };
        self.folded.apply(given, &entry);
        self.bytes.push(sealed.bytes.clone());
        self.entries.push(entry);
    }

    fn tried(&mut self, of: &StageTry) {
        let tries = self.tries.entry((of.stage.clone(), of.visit, of.item)).or_default();
        *tries += 1;
        assert_eq!(of.attempt, *tries, "a try twice, or left out: {of}");
        if of.stage != "body" {
            self.visits.insert((of.stage.clone(), of.visit));
        }
        let limit = self.definition.max_transitions() as usize;
        assert!(self.visits.len() <= limit + 1, "beyond the transition limit");
    }
}

impl Store {
    pub(super) fn new(now: OffsetDateTime, definitions: Vec<Definition>) -> Self {
        Self {
            now,
            instances: BTreeMap::new(),
            runs: BTreeMap::new(),
            executions: BTreeMap::new(),
            named: BTreeMap::new(),
            sent: BTreeMap::new(),
            refuses: false,
            under_way: Vec::new(),
            definitions: definitions.into_iter().map(Arc::new).collect(),
        }
    }

    pub(super) fn register(&mut self) -> i32 {
        let instance = i32::try_from(self.instances.len()).expect("few") + 1;
        self.instances.insert(instance, self.now + LEASE);
        instance
    }

    /// Whether the instance had its lease still.
    pub(super) fn renew(&mut self, instance: i32) -> bool {
        let until = self.instances.get_mut(&instance).expect("it is registered");
        let holds = *until > self.now;
        if holds {
            *until = self.now + LEASE;
        }
        holds
    }

    fn is_dead(&self, instance: i32) -> bool {
        self.instances[&instance] <= self.now
    }

    pub(super) fn claimable(&self) -> Vec<ExecutionId> {
        let due = self.runs.iter().filter(|(_, row)| match row.owner {
            None => row.run_at.is_some_and(|at| at <= self.now),
            Some(owner) => self.is_dead(owner),
        });
        due.map(|(execution, _)| *execution).collect()
    }

    pub(super) fn claim(&mut self, instance: i32, execution: ExecutionId) -> Claimed {
        let row = self.runs.get_mut(&execution).expect("it is claimable");
        row.takeovers = (row.takeovers + i16::from(row.owner.is_some())).min(100);
        row.owner = Some(instance);
        row.epoch += 1;
        self.claimed(execution)
    }

    /// Claims what the instance owns already.
    pub(super) fn reclaim(&mut self, instance: i32, execution: ExecutionId) -> Claimed {
        let row = self.runs.get_mut(&execution).expect("it is there");
        assert_eq!(row.owner, Some(instance));
        row.takeovers = (row.takeovers + 1).min(100);
        row.epoch += 1;
        self.claimed(execution)
    }

    fn claimed(&mut self, execution: ExecutionId) -> Claimed {
        let it = self.executions.get_mut(&execution).expect("every run is an execution");
        if it.status == "pending" {
            it.status = "running";
        }
        let row = &self.runs[&execution];
        Claimed {
            execution,
            epoch: row.epoch,
            takeovers: row.takeovers,
            seq: row.seq,
            head: row.head.to_vec(),
            stage: String::new(),
            commands_seq: row.commands_seq,
            commands_done: row.commands_done,
        }
    }

    pub(super) fn owned(&self, instance: i32) -> Vec<ExecutionId> {
        let owned = self.runs.iter().filter(|(_, row)| row.owner == Some(instance));
        owned.map(|(execution, _)| *execution).collect()
    }

    pub(super) fn start(&mut self, new: &NewRun) {
        let place = usize::try_from(new.workflow.as_uuid().as_u128() - 1).expect("a place");
        let definition = self.definitions[place].clone();
        let mut execution = Execution {
            folded: State::new(&definition),
            definition,
            inputs: Arc::new(serde_json::from_str(&new.inputs).expect("an object")),
            parent: new.parent,
            status: if new.owner.is_some() { "running" } else { "pending" },
            end: None,
            bytes: Vec::new(),
            entries: Vec::new(),
            commands: Vec::new(),
            asks: Vec::new(),
            tries: BTreeMap::new(),
            visits: BTreeSet::new(),
        };
        let mut head = GENESIS;
        for sealed in &new.entries {
            execution.append(sealed, &mut head);
        }
        let row = Row {
            owner: new.owner,
            epoch: 0,
            seq: new.last().entry.seq,
            head,
            run_at: Some(self.now),
            commands_seq: 0,
            commands_done: 0,
            takeovers: 0,
            asides: 0,
        };
        assert!(
            self.executions.insert(new.execution, execution).is_none(),
            "a run twice"
        );
        self.runs.insert(new.execution, row);
    }

    /// Does a write whose fence holds.
    pub(super) fn write(&mut self, record: &Record) -> Answer {
        let fence = &record.fence;
        let Some(row) = self.runs.get_mut(&fence.execution) else {
            return Answer::Fenced;
        };
        if (row.owner, row.epoch, row.seq) != (Some(fence.instance), fence.epoch, fence.seq) {
            return Answer::Fenced;
        }
        let is_poisoned = |sealed: &Sealed| {
            let attempt = sealed.entry.payload.attempt();
            attempt.is_some_and(|it| it.raw_output == POISON)
        };
        if record.entries.iter().any(is_poisoned) {
            return Answer::Refused;
        }
        if !record.entries.is_empty() && std::mem::take(&mut self.refuses) {
            return Answer::Refused;
        }
        let it = self
            .executions
            .get_mut(&fence.execution)
            .expect("every run is an execution");
        for sealed in &record.entries {
            it.append(sealed, &mut row.head);
            if let Payload::Child(child) = &sealed.entry.payload {
                let of = (fence.execution, child.of.clone());
                assert!(self.named.insert(child.execution_id, of).is_none(), "a child twice");
            }
        }
        assert_eq!(record.head, row.head, "the head is not the last entry's");
        let goes_on = record.seq_after() > row.seq;
        row.seq = record.seq_after();
        row.commands_done = row.commands_done.max(record.commands_done);
        row.takeovers = match &record.then {
            _ if goes_on => 0,
            Then::GiveBack { cut: true, .. } | Then::PutAside { cut: true } => row.takeovers.max(1),
            _ => row.takeovers,
        };
        if goes_on {
            row.asides = 0;
        }
        let wait = match &record.then {
            Then::Keep | Then::End(_) => None,
            Then::GiveBack { wait, .. } => Some(wait.map(|it| Duration::try_from(it).expect("not for ever"))),
            Then::PutAside { .. } => {
                row.asides += i32::from(!goes_on);
                Some(Some(Duration::minutes(1 << (row.asides - 1).clamp(0, 5))))
            }
        };
        if let Some(wait) = wait {
            row.owner = None;
            row.run_at = if row.commands_seq > record.commands_seen {
                Some(self.now)
            } else {
                wait.map(|wait| self.now + wait)
            };
        }
        it.status = record.status.unwrap_or(it.status);
        if let Some(asks) = &record.asks {
            it.asks.clone_from(asks);
        }
        if let Then::End(end) = &record.then {
            assert!(it.folded.is_over(), "it ends without its last entry");
            it.status = end.status;
            it.end = Some(end.clone());
            self.runs.remove(&fence.execution);
        }
        for child in &record.children {
            self.start(child);
        }
        self.prove(fence.execution);
        Answer::Written
    }

    /// What became of a write in doubt, once nothing of its run is under way any more.
    pub(super) fn settle(&mut self, record: &Record) -> Answer {
        let fence = record.fence;
        let (mine, others) = std::mem::take(&mut self.under_way)
            .into_iter()
            .partition(|it| it.fence.execution == fence.execution);
        self.under_way = others;
        for record in mine {
            self.write(&record);
        }
        if let Some(last) = record.entries.last() {
            let count = usize::try_from(last.entry.seq).expect("from 1");
            let written = self
                .executions
                .get(&fence.execution)
                .and_then(|it| it.bytes.get(..count))
                .map(|entries| entries.iter().fold(GENESIS, |head, bytes| chain(&head, bytes)));
            if written == Some(last.hash) {
                return Answer::Written;
            }
        }
        let stands = self
            .runs
            .get(&fence.execution)
            .is_some_and(|row| (row.owner, row.epoch, row.seq) == (Some(fence.instance), fence.epoch, fence.seq));
        if stands { Answer::Open } else { Answer::Fenced }
    }

    /// Leaves a command; false where the run has ended.
    pub(super) fn command(&mut self, execution: ExecutionId, by: UserId, wish: &Wish) -> bool {
        let Some(row) = self.runs.get_mut(&execution) else {
            return false;
        };
        row.commands_seq += 1;
        if row.owner.is_none() {
            row.run_at = Some(self.now);
        }
        let (kind, payload) = wish.row();
        let it = self.executions.get_mut(&execution).expect("every run is an execution");
        it.commands.push(Command {
            seq: row.commands_seq,
            kind: kind.to_owned(),
            payload,
            issued_by: by,
        });
        true
    }

    pub(super) fn unread(&self, execution: ExecutionId, after: i64) -> Vec<Command> {
        let it = &self.executions[&execution];
        let unread = it.commands.iter().filter(|command| command.seq > after);
        unread.cloned().collect()
    }

    /// Children that are to be stopped: their parents ended a minute ago, and nobody told them.
    pub(super) fn left_behind(&self) -> Vec<ExecutionId> {
        let left = self.runs.iter().filter(|(execution, row)| {
            let it = &self.executions[execution];
            let parent = it.parent.map(|parent| &self.executions[&parent]);
            let ended_at = parent.and_then(|it| it.end.as_ref()).map(|end| end.at);
            let is_told = || {
                let mut open = it.commands.iter().filter(|command| command.seq > row.commands_done);
                open.any(|command| command.kind == "cancel")
            };
            ended_at.is_some_and(|at| at < self.now - Duration::minutes(1)) && !is_told()
        });
        left.map(|(execution, _)| *execution).collect()
    }

    /// The server takes a request that must not come twice.
    pub(super) fn take(&mut self, execution: ExecutionId, of: &StageTry) {
        let it = &self.executions[&execution];
        let about = || it.entries.iter().filter(|entry| entry.payload.about() == Some(of));
        let intents = about()
            .filter(|entry| matches!(entry.payload, Payload::Intent(_)))
            .count();
        assert!(intents > 0, "sent and not announced: {of}");
        let again = |entry: &&Entry| entry.payload.decision().is_some_and(|it| it.decision == Ruling::Again);
        let allowed = 1 + about().filter(again).count();
        let sent = self.sent.entry(format!("{execution}/{of}")).or_default();
        *sent += 1;
        assert!(*sent as usize <= allowed, "sent {sent} times: {execution}/{of}");
    }

    /// What holds after every commit: a run that nobody holds is due sometime, or waits for what can come.
    fn prove(&self, execution: ExecutionId) {
        let it = &self.executions[&execution];
        let Some(row) = self.runs.get(&execution) else {
            assert!(it.folded.is_over() && it.end.is_some());
            return;
        };
        assert_eq!(it.end.is_some(), it.folded.is_over());
        if row.owner.is_some() || row.run_at.is_some() {
            return;
        }
        assert!(row.commands_seq <= row.commands_done, "a command wakes nobody");
        let actions = it.taken_up().actions(it.given());
        let hears = actions.iter().any(|it| matches!(it, Action::AwaitSignal { .. }));
        let plan = Plan::of(actions, &it.definition, self.now);
        assert!(
            plan.rests() && plan.follows.is_none() && plan.end.is_none() && plan.wake_at.is_none(),
            "{execution} is lost: {plan:?}"
        );
        assert!(
            plan.waits_for_people() || hears,
            "{execution} waits for nothing: {plan:?}"
        );
        let asks = if plan.asks { Ask::all(&it.folded) } else { Vec::new() };
        assert_eq!(it.asks, asks, "people are asked something else");
    }

    /// What holds in the end: nothing runs any more, every child has its parent, and every parent knows how it ended.
    pub(super) fn prove_all(&self) {
        let open = self.runs.iter().map(|(execution, row)| {
            let it = &self.executions[execution];
            (execution, row, it.taken_up().actions(it.given()))
        });
        let open: Vec<_> = open.collect();
        assert!(open.is_empty(), "these never end: {open:?}");
        for (execution, it) in &self.executions {
            assert!(it.end.is_some(), "{execution} has no end");
            assert!(it.entries.last().is_some_and(|last| last.payload.is_terminal()));
            let named = self.named.get(execution).map(|(parent, _)| *parent);
            assert_eq!(it.parent, named, "{execution} has another parent");
        }
        for (child, (parent, of)) in &self.named {
            assert!(self.executions.contains_key(child), "{child} was never made");
            let parent = &self.executions[parent];
            let knows = parent
                .entries
                .iter()
                .any(|entry| entry.payload.attempt().is_some_and(|it| it.is(of)));
            let gave_up = parent.status != "completed" || of.stage == "body";
            assert!(knows || gave_up, "{of} was never told of {child}");
        }
    }
}
