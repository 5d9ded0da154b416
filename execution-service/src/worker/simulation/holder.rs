//! A run as its holder has it in memory: the same steps as `run`, one at a time, each ending where that one would wait.

use std::{collections::VecDeque, sync::Arc};

use serde_json::{Map, Value};
use service_kit::ids::{ExecutionId, UserId};
use time::{Duration, OffsetDateTime};

use super::{
    super::{
        Wish, call,
        plan::{Ending, Plan},
        run::{MAX_FOLLOWING, MAX_TAKEOVERS, SHORT_WAIT},
        store::{Command, claims::Claimed},
        writer::{Ask, End, Fence, NewRun, Record, Then},
    },
    calls,
    store::{Answer, Execution, Store},
};
use crate::engine::{
    action::{Call, StartChild},
    definition::Definition,
    failure::Failure,
    journal::{Entry, Finished, GENESIS, Hash, Payload, Sealed, StageTry, chain},
    state::{Given, State},
};

/// A held run.
#[derive(Debug)]
pub(super) struct Held {
    pub execution: ExecutionId,
    pub definition: Arc<Definition>,
    pub inputs: Arc<Map<String, Value>>,
    pub instance: i32,
    epoch: i32,
    pub state: State,
    seq: i64,
    head: Hash,
    last_at: OffsetDateTime,
    takeovers: i16,
    queue: VecDeque<Command>,
    read: i64,
    taken: i64,
    pub flying: Vec<Flight>,
    /// Tries that have ended and wait for their turn to be recorded.
    pub landed: Vec<StageTry>,
    asks: Vec<Ask>,
    is_shown_paused: bool,
    /// By the clock that never goes back.
    pub wake_at: Option<OffsetDateTime>,
    pub writing: Option<Box<Writing>>,
}

/// Something under way.
#[derive(Debug, Clone)]
pub(super) enum Flight {
    Call(Box<Call>),
    Child(Box<StartChild>),
}

/// A write that is not answered yet.
#[derive(Debug)]
pub(super) struct Writing {
    pub record: Record,
    pub is_doubtful: bool,
    given: usize,
    plan: Plan,
    asks: Vec<Ask>,
    is_paused: bool,
    before: (i64, Hash),
}

/// What a step led to.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The run is held, and waits for what is under way.
    Holds,
    /// It is not held here any more; whether it has ended.
    Over { ended: bool },
    /// None of these was written.
    Refused(Vec<Payload>),
}

impl Flight {
    pub(super) fn of_try(&self) -> StageTry {
        match self {
            Self::Call(call) => call.key.of_try(),
            Self::Child(child) => child.key.of_try(),
        }
    }
}

impl Held {
    /// Takes up what was claimed, from the bytes of its journal alone.
    pub(super) fn load(it: &Execution, claimed: &Claimed, instance: i32) -> Self {
        let mut state = State::new(&it.definition);
        let mut head = GENESIS;
        for bytes in &it.bytes {
            head = chain(&head, bytes);
            state.apply(it.given(), &Entry::open(bytes).expect("an entry"));
        }
        state.resumed();
        assert_eq!(claimed.head, head, "the hash of the journal is not the run's head");
        let last = it.entries.last().expect("a run begins with an entry");
        assert_eq!(claimed.seq, last.seq, "the journal does not end where the run stands");
        Self {
            execution: claimed.execution,
            definition: it.definition.clone(),
            inputs: it.inputs.clone(),
            instance,
            epoch: claimed.epoch,
            asks: Ask::all(&state),
            state,
            seq: claimed.seq,
            head,
            last_at: last.occurred_at,
            takeovers: claimed.takeovers,
            queue: VecDeque::new(),
            read: claimed.commands_done,
            taken: claimed.commands_done,
            flying: Vec::new(),
            landed: Vec::new(),
            is_shown_paused: it.status == "paused",
            wake_at: None,
            writing: None,
        }
    }

    fn given(&self) -> Given<'_> {
        Given {
            definition: &self.definition,
            inputs: &self.inputs,
        }
    }

    fn append(&mut self, payload: Payload, now: OffsetDateTime) -> Sealed {
        let entry = Entry {
            seq: self.seq + 1,
            occurred_at: now.max(self.last_at),
            payload,
        };
        let sealed = entry.seal(&self.head);
        (self.seq, self.head, self.last_at) = (sealed.entry.seq, sealed.hash, sealed.entry.occurred_at);
        let given = Given {
            definition: &self.definition,
            inputs: &self.inputs,
        };
        self.state.apply(given, &sealed.entry);
        sealed
    }

    fn plan(&self, now: OffsetDateTime) -> Plan {
        let flying = self.flying.iter().map(Flight::of_try);
        let tries: Vec<StageTry> = flying.chain(self.landed.iter().cloned()).collect();
        let actions = self.state.actions_beyond(self.given(), |of| tries.contains(of));
        Plan::of(actions, &self.definition, now)
    }

    /// How the executions ended that it waits for.
    pub(super) fn ended(&self, store: &Store, now: OffsetDateTime) -> Vec<Payload> {
        let awaited = self.plan(now).awaited.into_iter();
        awaited
            .filter_map(|(of, child)| calls::child_ended(&of, &store.executions[&child], now))
            .collect()
    }

    pub(super) fn read_commands(&mut self, store: &Store) {
        let unread = store.unread(self.execution, self.read);
        self.read = unread.last().map_or(self.read, |last| last.seq);
        self.queue.extend(unread);
    }

    /// The next command that means something.
    pub(super) fn take(&mut self) -> Option<(UserId, Wish)> {
        while let Some(command) = self.queue.pop_front() {
            self.taken = command.seq;
            let wish = Wish::read(&command.kind, &command.payload).expect("it was written so");
            if wish.fits(&self.state) {
                return Some((command.issued_by, wish));
            }
        }
        None
    }

    /// The entry that a command is; none of what only makes it look around.
    pub(super) fn entry(&self, by: UserId, wish: Wish) -> Option<Payload> {
        wish.entry(by, self.flying.first().map(|it| it.of_try().stage))
    }

    /// Makes entries and what follows from them ready to be written. Where there is nothing to write, goes on at once.
    pub(super) fn write(&mut self, store: &mut Store, payloads: Vec<Payload>, begun: Vec<NewRun>, now: OffsetDateTime) {
        let before = (self.seq, self.head);
        let given = payloads.len();
        let mut entries: Vec<Sealed> = payloads.into_iter().map(|it| self.append(it, now)).collect();
        let mut plan = self.plan(now);
        while entries.len() < given + MAX_FOLLOWING {
            let Some(payload) = plan.follows.take().or_else(|| self.crashed(&plan, now)) else {
                break;
            };
            entries.push(self.append(payload, now));
            plan = self.plan(now);
        }
        let then = match self.ending(&mut plan, &mut entries, now) {
            Some(end) => Then::End(end),
            None => self.goes_on(&plan, now),
        };
        let is_over = matches!(then, Then::End(_));
        let keeps = matches!(then, Then::Keep);
        let is_paused = !is_over && !self.flies() && plan.rests() && plan.waits_for_people();
        let asks = if plan.asks && !is_over {
            Ask::all(&self.state)
        } else {
            Vec::new()
        };
        let mut record = self.progress(then);
        record.fence.seq = before.0;
        record.children = begun;
        if !is_over && is_paused != self.is_shown_paused {
            record.status = Some(if is_paused { "paused" } else { "running" });
        }
        record.asks = (asks != self.asks).then(|| asks.clone());
        let is_silent = entries.is_empty() && record.status.is_none() && record.asks.is_none();
        record.entries = entries;
        if is_silent && keeps {
            self.begin(store, plan, now);
            return;
        }
        self.writing = Some(Box::new(Writing {
            record,
            is_doubtful: false,
            given,
            plan,
            asks,
            is_paused,
            before,
        }));
    }

    /// Goes on after the answer to what was being written.
    pub(super) fn answered(&mut self, store: &mut Store, answer: Answer, now: OffsetDateTime) -> Outcome {
        let writing = *self.writing.take().expect("something is written");
        match answer {
            Answer::Fenced => return Outcome::Over { ended: false },
            Answer::Refused => {
                let payloads = writing.record.entries.into_iter().take(writing.given);
                let payloads = payloads.map(|sealed| sealed.entry.payload).collect();
                self.take_back(store, writing.before);
                return Outcome::Refused(payloads);
            }
            Answer::Written => {}
            Answer::Open => {
                self.writing = Some(Box::new(writing));
                return Outcome::Holds;
            }
        }
        if self.seq > writing.before.0 {
            self.takeovers = 0;
        }
        self.asks = writing.asks;
        self.is_shown_paused = writing.is_paused;
        let ended = matches!(writing.record.then, Then::End(_));
        let it = &store.executions[&self.execution];
        if it.entries.last().is_some_and(|last| last.seq == self.seq) {
            let mut mine = self.state.clone();
            mine.resumed();
            assert_eq!(
                format!("{mine:?}"),
                format!("{:?}", it.taken_up()),
                "held and folded differ"
            );
        }
        if !matches!(writing.record.then, Then::Keep) {
            return Outcome::Over { ended };
        }
        self.begin(store, writing.plan, now);
        Outcome::Holds
    }

    fn take_back(&mut self, store: &Store, (seq, head): (i64, Hash)) {
        let it = &store.executions[&self.execution];
        let place = usize::try_from(seq).expect("from 1");
        self.state = State::after(it.given(), &it.entries[..place]);
        self.state.resumed();
        self.last_at = it.entries[place - 1].occurred_at;
        (self.seq, self.head) = (seq, head);
    }

    /// Gives the run back, or puts it aside, with what is under way cut.
    pub(super) fn let_go(&self, then: Then, forgets_commands: bool) -> Record {
        let mut record = self.progress(then);
        if forgets_commands {
            record.commands_done = 0;
        }
        record
    }

    fn crashed(&mut self, plan: &Plan, now: OffsetDateTime) -> Option<Payload> {
        let call = plan.calls.first().filter(|_| self.takeovers >= MAX_TAKEOVERS)?;
        self.takeovers = 0;
        Some(Payload::Attempt(Box::new(calls::crashed(&call.key.of_try(), now))))
    }

    fn ending(&mut self, plan: &mut Plan, entries: &mut Vec<Sealed>, now: OffsetDateTime) -> Option<End> {
        let over = self.state.is_over();
        let ending = plan.end.take().or_else(|| over.then_some(Ending::Over))?;
        Some(match ending {
            Ending::Completed(outputs) => {
                entries.push(self.append(Payload::Finished(Finished { failure: None }), now));
                self.end("completed", Some(&outputs), None)
            }
            Ending::Failed(failure) => {
                let finished = Finished {
                    failure: Some(failure.clone()),
                };
                entries.push(self.append(Payload::Finished(finished), now));
                self.end("failed", None, Some(failure))
            }
            Ending::Over => self.end("cancelled", None, None),
        })
    }

    fn end(&self, status: &'static str, outputs: Option<&Map<String, Value>>, failure: Option<Failure>) -> End {
        End {
            status,
            outputs: outputs.map(|outputs| serde_json::to_string(outputs).expect("string keys")),
            failure_class: failure.as_ref().map(|failure| failure.class.as_str()),
            failure_message: failure.map(|failure| failure.message),
            at: self.last_at,
        }
    }

    fn goes_on(&self, plan: &Plan, now: OffsetDateTime) -> Then {
        let wait = plan.wake_at.map(|at| until(at, now));
        let is_busy = self.flies() || !plan.rests();
        let is_short = wait.is_some_and(|wait| wait <= SHORT_WAIT);
        if is_busy || is_short || plan.follows.is_some() {
            return Then::Keep;
        }
        Then::GiveBack { wait, cut: false }
    }

    /// Whether anything is under way.
    fn flies(&self) -> bool {
        !self.flying.is_empty() || !self.landed.is_empty()
    }

    fn begin(&mut self, store: &mut Store, plan: Plan, now: OffsetDateTime) {
        let at = if plan.follows.is_some() {
            Some(Duration::ZERO)
        } else {
            plan.wake_at.map(|at| until(at, now).try_into().expect("not for ever"))
        };
        self.wake_at = at.map(|wait| store.now + wait);
        for call in plan.calls {
            if call.intended {
                store.take(self.execution, &call.key.of_try());
            }
            self.flying.push(Flight::Call(Box::new(call)));
        }
        let children = plan.children.into_iter().map(|child| Flight::Child(Box::new(child)));
        self.flying.extend(children);
    }

    fn progress(&self, then: Then) -> Record {
        Record {
            fence: Fence {
                execution: self.execution,
                instance: self.instance,
                epoch: self.epoch,
                seq: self.seq,
            },
            entries: Vec::new(),
            head: self.head.to_vec(),
            stage: String::new(),
            status: None,
            commands_seen: self.taken,
            commands_done: self.taken,
            children: Vec::new(),
            asks: None,
            then,
        }
    }
}

/// What is tried in place of payloads that were refused: of attempts the same and then without what may be the reason.
pub(super) fn again(refused: Vec<Payload>) -> Vec<[Payload; 2]> {
    let attempts = refused.into_iter().filter_map(|payload| match payload {
        Payload::Attempt(attempt) => Some(attempt),
        _ => None,
    });
    attempts
        .map(|attempt| {
            let substitute = Box::new(call::unrecordable(&attempt));
            [Payload::Attempt(attempt), Payload::Attempt(substitute)]
        })
        .collect()
}

fn until(at: OffsetDateTime, now: OffsetDateTime) -> std::time::Duration {
    std::time::Duration::try_from(at - now).unwrap_or_default()
}
