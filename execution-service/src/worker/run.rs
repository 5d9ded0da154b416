//! One held run: from stage to stage until it ends, waits long, loses its lease, or the service stops.
//!
//! What always holds: a stage's result is durable before what follows from it begins; what was decided is written in the commit
//! of the entry that it follows from; what must not happen twice is announced in a commit before it is done; when the lease is
//! lost, the run stops at once and writes nothing. Several tries of a run may be under way, but one task writes its entries.

use std::{ops::ControlFlow, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use serde_json::{Map, Value};
use service_kit::telemetry;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep_until};
use tracing::Instrument;

use super::{
    Lease, Shared, Wish,
    call::{self, Came, Ended, Try},
    children::{self, Begun},
    commands::{Asked, Commands},
    flows,
    held::Place,
    live::Publisher,
    load,
    plan::{Ending, Plan},
    scene::{Ground, Scene},
    store::claims::Claimed,
    writer::{Ask, End, Fence, NewRun, Record, Recorded, Then},
};
use crate::{
    engine::{
        action::{Call, StartChild},
        definition::Kind,
        failure::Failure,
        journal::{AttemptPayload, Finished, FlowRun, Hash, Of, Payload, Sealed, StageTry, canonical},
    },
    providers::clean,
};

/// A run that has to wait longer than this is given back.
pub(super) const SHORT_WAIT: Duration = Duration::from_secs(2);
/// How long calls in flight may go on when the service is to stop.
const DRAIN: Duration = Duration::from_secs(5);
/// After so many take-overs without a new entry the attempt counts as failed: it may be what kills its process.
pub(super) const MAX_TAKEOVERS: i16 = 5;
/// The longest message of a failed run, in bytes.
const MAX_MESSAGE_BYTES: usize = 4_096;
/// The most entries that follow from one without anything being done for them; what follows from those waits for the commit.
pub(super) const MAX_FOLLOWING: usize = 64;

/// A held run.
pub(super) struct Run {
    scene: Scene,
    lease: Lease,
    epoch: i32,
    commands: Commands,
    live: Arc<Publisher>,
    flying: Flying,
    /// What people are asked, as it stands in the database.
    asks: Vec<Ask>,
    /// Whether the execution's row says that it waits for people.
    is_shown_paused: bool,
    /// Whether something may have ended that it has not looked at since.
    looks_again: bool,
    /// When something is to be done by itself.
    wake_at: Option<Instant>,
    /// Since the service is to stop: until when calls in flight may go on.
    drained_at: Option<Instant>,
    /// Keeps the run among the held ones.
    _place: Place,
}

/// What is under way for a run.
#[derive(Default)]
struct Flying {
    landing: FuturesUnordered<BoxFuture<'static, Landed>>,
    tries: Vec<StageTry>,
}

/// How something that was under way ended.
enum Landed {
    Attempt(Box<AttemptPayload>),
    Child(Box<Begun>),
    Run(FlowRun),
    /// It is not known what was done.
    Unknown(StageTry),
}

/// What became of entries.
enum Outcome {
    /// They are durable, and the run goes on here.
    GoesOn,
    /// The run is not held here any more.
    Over,
    /// The database refuses one of them; none was written.
    Refused(Vec<Payload>),
}

/// Whether the run is still held here.
type Step = ControlFlow<()>;

/// Runs a run that was just started.
pub(super) fn begin(lease: Lease, ground: Ground, started: &[Sealed], place: Place) {
    spawn(Scene::begun(ground, started), lease, 0, 0, place);
}

/// Goes on with a run that was claimed.
pub(super) fn take_up(shared: Arc<Shared>, lease: Lease, claimed: Claimed, place: Place) {
    let task = shared.clone();
    let lost = lease.lost.clone();
    let load = async move {
        let Some(scene) = load::scene(&shared, lease.instance, &claimed).await else {
            return aside(&shared, &lease, &claimed).await;
        };
        spawn(scene, lease, claimed.epoch, claimed.commands_done, place);
    };
    task.lifecycle.spawn("engine.load", async move {
        let _lost = lost.run_until_cancelled(load).await;
    });
}

/// Gives a run back that cannot be continued by this version, so that another may try.
async fn aside(shared: &Shared, lease: &Lease, claimed: &Claimed) {
    let record = Record {
        fence: Fence {
            execution: claimed.execution,
            instance: lease.instance,
            epoch: claimed.epoch,
            seq: claimed.seq,
        },
        entries: Vec::new(),
        head: claimed.head.clone(),
        stage: claimed.stage.clone(),
        status: None,
        commands_seen: claimed.commands_seq,
        commands_done: claimed.commands_done,
        children: Vec::new(),
        asks: None,
        then: Then::PutAside { cut: false },
    };
    let _fenced = shared.writer.record(record, &lease.lost).await;
}

fn spawn(scene: Scene, lease: Lease, epoch: i32, commands_done: i64, place: Place) {
    let ground = scene.ground.clone();
    let shared = ground.shared.clone();
    let facts = &ground.facts;
    let execution = facts.execution;
    let live = shared.live.publish(execution);
    live.recorded(scene.seq, |_| false);
    let span = tracing::info_span!(
        parent: None,
        "execution",
        otel.name = "execution",
        execution = %execution,
        company = %facts.company,
        user = %facts.started_by,
    );
    let span = telemetry::span_with_parent(&facts.trace_context, span);
    let commands = Commands::new(shared.pool.clone(), execution, place.commands.clone(), commands_done);
    let asks = Ask::all(&scene.state);
    let mut run = Run {
        is_shown_paused: facts.paused,
        scene,
        lease,
        epoch,
        commands,
        live: Arc::new(live),
        flying: Flying::default(),
        asks,
        looks_again: false,
        wake_at: None,
        drained_at: None,
        _place: place,
    };
    let task = async move {
        let lost = run.lease.lost.clone();
        let carried = AssertUnwindSafe(lost.run_until_cancelled(run.carry())).catch_unwind();
        if carried.await.is_err() {
            // It stays ours and is found again: as a run that was taken over, so it does not do it for ever.
            tracing::error!(execution = %execution, "a run panicked");
        }
    };
    shared.lifecycle.spawn("engine.run", task.instrument(span));
}

impl Run {
    async fn carry(&mut self) {
        let mut step = match self.commands.announced(&self.scene.state).await {
            Some(asked) => self.answer(asked).await,
            None => self.look_around().await,
        };
        while step.is_continue() {
            step = self.step().await;
        }
    }

    /// What a run is taken up with: what it waited for may have come meanwhile.
    async fn look_around(&mut self) -> Step {
        self.looks_again = false;
        let plan = self.plan();
        let mut ended = Vec::new();
        for (call, since) in plan.flows {
            if let Some(outcome) = flows::ended(&self.scene.ground, &call).await {
                self.make(call, Some(Ended { outcome, since }));
            }
        }
        for (of, child) in &plan.awaited {
            if let Some(attempt) = children::ended(&self.scene.ground, of, *child).await {
                ended.push(Payload::Attempt(Box::new(attempt)));
            }
        }
        self.record(ended).await
    }

    async fn step(&mut self) -> Step {
        let soft = self.scene.ground.shared.lifecycle.soft();
        let hard = self.scene.ground.shared.lifecycle.hard();
        let wake_at = self.wake_at;
        let drained_at = self.drained_at;
        tokio::select! {
            biased;
            Some(landed) = self.flying.landing.next() => self.land(landed).await,
            asked = self.commands.next(&self.scene.state) => self.answer(asked).await,
            () = sleep_until(wake_at.unwrap_or_else(Instant::now)), if wake_at.is_some() => self.look_around().await,
            () = soft.cancelled(), if drained_at.is_none() => {
                self.drained_at = Some(Instant::now() + DRAIN);
                self.record(Vec::new()).await
            }
            () = hard.cancelled(), if drained_at.is_some() => self.give_back_cut().await,
            () = sleep_until(drained_at.unwrap_or_else(Instant::now)), if drained_at.is_some() => self.give_back_cut().await,
        }
    }

    /// Takes what has landed, and what else has meanwhile.
    async fn land(&mut self, landed: Landed) -> Step {
        let mut all = vec![landed];
        while let Some(Some(more)) = self.flying.landing.next().now_or_never() {
            all.push(more);
        }
        let mut payloads = Vec::with_capacity(all.len());
        let mut begun = Vec::new();
        for landed in all {
            match landed {
                Landed::Attempt(attempt) => {
                    self.flying.tries.retain(|it| !attempt.is(it));
                    payloads.push(Payload::Attempt(attempt));
                }
                Landed::Run(run) => {
                    self.flying.tries.retain(|it| *it != run.of);
                    // It may have ended before this is recorded.
                    self.looks_again = true;
                    payloads.push(Payload::FlowRun(run));
                }
                Landed::Unknown(of) => {
                    self.flying.tries.retain(|it| *it != of);
                    payloads.push(Payload::Unknown(Of { of }));
                }
                Landed::Child(child) => {
                    let Begun { run, entry } = *child;
                    let of = entry.of_try();
                    self.flying.tries.retain(|it| Some(it) != of.as_ref());
                    payloads.push(entry);
                    begun.push(run);
                }
            }
        }
        self.record_with(payloads, begun).await
    }

    /// Makes a command an entry.
    async fn answer(&mut self, Asked { by, wish }: Asked) -> Step {
        // What ended while it was paused was told to a run that looked at nothing.
        self.looks_again |= wish == Wish::Resume {};
        let interrupted = self.flying.tries.first().map(|it| it.stage.clone());
        let Some(payload) = wish.entry(by, interrupted) else {
            return self.look_around().await;
        };
        match self.write(vec![payload], Vec::new()).await {
            Outcome::GoesOn => Step::Continue(()),
            Outcome::Over => Step::Break(()),
            Outcome::Refused(_) => {
                let cut = !self.flying.tries.is_empty();
                let mut record = self.progress(Then::PutAside { cut });
                // Nothing is done by it: who looks at the run again finds the wish still there.
                record.commands_done = 0;
                self.let_go(record).await
            }
        }
    }

    /// Records entries and what follows from them; without any, only what follows from the journal.
    async fn record(&mut self, payloads: Vec<Payload>) -> Step {
        self.record_with(payloads, Vec::new()).await
    }

    async fn record_with(&mut self, payloads: Vec<Payload>, begun: Vec<NewRun>) -> Step {
        let refused = match self.write(payloads, begun).await {
            Outcome::GoesOn => return Step::Continue(()),
            Outcome::Over => return Step::Break(()),
            Outcome::Refused(refused) => refused,
        };
        // One of them is refused: each alone, and that one without what may be the reason. What was no attempt follows anew.
        let attempts = refused.into_iter().filter_map(|payload| match payload {
            Payload::Attempt(attempt) => Some(attempt),
            _ => None,
        });
        let attempts: Vec<_> = attempts.collect();
        // Those whose turn has not come are not begun anew meanwhile.
        self.flying
            .tries
            .extend(attempts.iter().map(|attempt| attempt.of_try()));
        for attempt in attempts {
            self.flying.tries.retain(|it| !attempt.is(it));
            let substitute = call::unrecordable(&attempt);
            for attempt in [attempt, Box::new(substitute)] {
                match self.write(vec![Payload::Attempt(attempt)], Vec::new()).await {
                    Outcome::GoesOn => break,
                    Outcome::Over => return Step::Break(()),
                    Outcome::Refused(_) => {}
                }
            }
        }
        match self.write(Vec::new(), Vec::new()).await {
            Outcome::GoesOn => Step::Continue(()),
            Outcome::Over => Step::Break(()),
            Outcome::Refused(_) => {
                let record = self.progress(Then::PutAside { cut: false });
                self.let_go(record).await
            }
        }
    }

    /// Gives the run back at once, with its calls in flight cut.
    async fn give_back_cut(&mut self) -> Step {
        let record = self.progress(Then::GiveBack {
            wait: Some(Duration::ZERO),
            cut: true,
        });
        self.let_go(record).await
    }

    async fn let_go(&mut self, record: Record) -> Step {
        let writer = &self.scene.ground.shared.writer;
        let _fenced = writer.record(record, &self.lease.lost).await;
        Step::Break(())
    }

    fn plan(&self) -> Plan {
        let ground = &self.scene.ground;
        let tries = &self.flying.tries;
        let actions = self.scene.state.actions_beyond(ground.given(), |of| tries.contains(of));
        Plan::of(actions, &ground.definition, ground.now())
    }

    /// Makes entries durable together with what they decide, and begins what is to be done.
    async fn write(&mut self, payloads: Vec<Payload>, begun: Vec<NewRun>) -> Outcome {
        let (seq, head) = (self.scene.seq, self.scene.head);
        let given = payloads.len();
        let mut entries: Vec<Sealed> = payloads.into_iter().map(|payload| self.scene.append(payload)).collect();
        let mut plan = self.plan();
        while entries.len() < given + MAX_FOLLOWING {
            let Some(payload) = plan.follows.take().or_else(|| self.crashed(&plan)) else {
                break;
            };
            entries.push(self.scene.append(payload));
            plan = self.plan();
        }
        let end = self.ending(&mut plan, &mut entries);
        let then = match &end {
            Some(end) => Then::End(end.clone()),
            None => self.goes_on(&plan),
        };
        let keeps = matches!(then, Then::Keep);
        let is_over = end.is_some();
        let mut record = self.progress(then);
        record.fence.seq = seq;
        record.children = begun;
        let is_paused = !is_over && self.flying.tries.is_empty() && plan.rests() && plan.waits_for_people();
        if !is_over && is_paused != self.is_shown_paused {
            record.status = Some(if is_paused { "paused" } else { "running" });
        }
        let asks = if plan.asks && !is_over {
            Ask::all(&self.scene.state)
        } else {
            Vec::new()
        };
        if asks != self.asks {
            record.asks = Some(asks.clone());
        }
        let is_silent = entries.is_empty() && record.status.is_none() && record.asks.is_none();
        record.entries = entries;
        if !(is_silent && keeps) {
            let has_children = !record.children.is_empty();
            match self.scene.ground.shared.writer.record(record, &self.lease.lost).await {
                Recorded::Written => {
                    if self.scene.seq > seq {
                        self.scene.takeovers = 0;
                    }
                    if has_children {
                        self.scene.ground.shared.claim_now.notify_one();
                        self.scene.ground.shared.hints.due();
                    }
                }
                Recorded::Fenced => return Outcome::Over,
                Recorded::Refused(record) => {
                    let payloads = record
                        .entries
                        .into_iter()
                        .take(given)
                        .map(|sealed| sealed.entry.payload);
                    return self.take_back(seq, head, payloads.collect()).await;
                }
            }
            self.asks = asks;
            self.is_shown_paused = is_paused;
            let tries = &self.flying.tries;
            let is_flying = |of: &StageTry| !is_over && tries.contains(of);
            self.live.recorded(self.scene.seq, is_flying);
        }
        if is_over {
            self.flying = Flying::default();
            let ground = &self.scene.ground;
            let has = |of: fn(&Kind) -> bool| ground.definition.stages.iter().any(|it| of(&it.kind));
            let has_children = has(|it| matches!(it, Kind::Workflow(_)));
            if has(|it| matches!(it, Kind::Activepieces(_))) {
                flows::stop(ground).await;
            }
            children::tell(&ground.shared, ground, has_children).await;
        }
        if !keeps {
            return Outcome::Over;
        }
        self.begin(plan);
        Outcome::GoesOn
    }

    /// What is recorded of a call in place of making it, where it may be what kills its process.
    fn crashed(&mut self, plan: &Plan) -> Option<Payload> {
        let call = plan.calls.first().filter(|_| self.scene.takeovers >= MAX_TAKEOVERS)?;
        let stage = self.scene.ground.stage(call.stage);
        let crashed = if call.intended && matches!(stage.kind, Kind::Activepieces(_)) {
            // Its start may have been sent.
            Payload::Unknown(Of { of: call.key.of_try() })
        } else {
            let attempt = call::crashed(&self.scene.ground, call, self.scene.takeovers);
            Payload::Attempt(Box::new(attempt))
        };
        self.scene.takeovers = 0;
        Some(crashed)
    }

    /// How the run ends, if it does; its last entry is added.
    fn ending(&mut self, plan: &mut Plan, entries: &mut Vec<Sealed>) -> Option<End> {
        let over = self.scene.state.is_over();
        let ending = plan.end.take().or_else(|| over.then_some(Ending::Over))?;
        Some(match ending {
            Ending::Completed(outputs) => {
                entries.push(self.scene.append(Payload::Finished(Finished { failure: None })));
                self.end("completed", Some(outputs), None)
            }
            Ending::Failed(failure) => {
                let failure = storable(failure);
                entries.push(self.scene.append(Payload::Finished(Finished {
                    failure: Some(failure.clone()),
                })));
                self.end("failed", None, Some(failure))
            }
            Ending::Over => self.end("cancelled", None, None),
        })
    }

    fn end(&self, status: &'static str, outputs: Option<Map<String, Value>>, failure: Option<Failure>) -> End {
        End {
            status,
            outputs: outputs.map(|outputs| String::from_utf8(canonical(&outputs)).expect("JSON is UTF-8")),
            failure_class: failure.as_ref().map(|failure| failure.class.as_str()),
            failure_message: failure.map(|failure| failure.message),
            at: self.scene.last_at,
        }
    }

    /// Whether the run is kept, and until when it is given back otherwise.
    fn goes_on(&self, plan: &Plan) -> Then {
        let stops = self.stops();
        let wait = plan.wake_at.map(|at| until(at, self.scene.ground.now()));
        let is_busy = !self.flying.tries.is_empty() || (!stops && !plan.rests());
        let is_short = !stops && wait.is_some_and(|wait| wait <= SHORT_WAIT);
        let has_to_look = self.looks_again && !stops;
        if is_busy || is_short || has_to_look || plan.follows.is_some() {
            return Then::Keep;
        }
        Then::GiveBack {
            wait: if plan.rests() && !self.looks_again {
                wait
            } else {
                Some(Duration::ZERO)
            },
            cut: false,
        }
    }

    /// Whether nothing new is to be begun here.
    fn stops(&self) -> bool {
        self.drained_at.is_some() || self.scene.ground.shared.lifecycle.soft().is_cancelled()
    }

    /// Begins what is to be done, and notes when to look again.
    fn begin(&mut self, plan: Plan) {
        let now = self.scene.ground.now();
        let at = plan.wake_at.map(|at| until(at, now));
        let at = if plan.follows.is_some() || self.looks_again {
            Some(Duration::ZERO)
        } else {
            at
        };
        self.wake_at = at.map(|wait| Instant::now() + wait);
        if self.stops() {
            return;
        }
        for call in plan.calls {
            self.make(call, None);
        }
        for child in plan.children {
            self.bear(child);
        }
    }

    fn make(&mut self, call: Call, ended: Option<Ended>) {
        let ground = self.scene.ground.clone();
        let of = call.key.of_try();
        if ended.is_none() {
            self.live.started(of.clone(), ground.now());
        }
        let span = tracing::info_span!(
            target: telemetry::TRACES_ONLY,
            "stage",
            otel.name = format!("stage {}", of.stage),
            stage = of.stage,
            visit = of.visit,
            item = of.item,
            attempt = of.attempt,
        );
        let a_try = Try {
            ground,
            state: self.scene.state.clone(),
            call,
            live: Some(self.live.clone()),
            may_repeat: self.scene.takeovers > 0,
            ended,
        };
        let itself = of.clone();
        let landed = a_try.perform().map(|came| match came {
            Came::Attempt(attempt) => Landed::Attempt(attempt),
            Came::Run(run) => Landed::Run(run),
            Came::Unknown => Landed::Unknown(itself),
        });
        self.flying.tries.push(of);
        self.flying.landing.push(Box::pin(landed.instrument(span)));
    }

    fn bear(&mut self, child: StartChild) {
        let ground = self.scene.ground.clone();
        self.flying.tries.push(child.key.of_try());
        self.flying.landing.push(Box::pin(async move {
            match children::begin(&ground, child).await {
                Ok(begun) => Landed::Child(Box::new(begun)),
                Err(attempt) => Landed::Attempt(Box::new(attempt)),
            }
        }));
    }

    /// Goes back to where the journal stands.
    async fn take_back(&mut self, seq: i64, head: Hash, refused: Vec<Payload>) -> Outcome {
        let ground = self.scene.ground.clone();
        let folded = async {
            let mut connection = ground.shared.pool.acquire().await?;
            load::fold(&mut connection, &ground, seq, head).await
        };
        match Box::pin(folded).await {
            Ok((state, last_at)) => {
                self.scene.state = Arc::new(state);
                (self.scene.seq, self.scene.head, self.scene.last_at) = (seq, head, last_at);
                Outcome::Refused(refused)
            }
            Err(error) => {
                // It stays ours and is found again.
                tracing::error!(execution = %ground.facts.execution, error = %error, "a run could not be read again");
                Outcome::Over
            }
        }
    }

    fn progress(&self, then: Then) -> Record {
        let ground = &self.scene.ground;
        let fence = Fence {
            execution: ground.facts.execution,
            instance: self.lease.instance,
            epoch: self.epoch,
            seq: self.scene.seq,
        };
        let stages = self.scene.state.stages(&ground.definition);
        Record {
            fence,
            entries: Vec::new(),
            head: self.scene.head.to_vec(),
            stage: stages.first().map(|stage| (*stage).to_owned()).unwrap_or_default(),
            status: None,
            commands_seen: self.commands.taken,
            commands_done: self.commands.taken,
            children: Vec::new(),
            asks: None,
            then,
        }
    }
}

fn until(at: OffsetDateTime, now: OffsetDateTime) -> Duration {
    Duration::try_from(at - now).unwrap_or_default()
}

fn storable(Failure { class, message }: Failure) -> Failure {
    let (mut message, _) = clean::storable(&message);
    message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
    Failure { class, message }
}
