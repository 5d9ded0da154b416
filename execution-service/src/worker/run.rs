//! One held run: from stage to stage until it ends, waits long, loses its lease, or the service stops.
//!
//! What always holds: a stage's result is durable before the next stage begins; what was decided is written in the commit
//! of the entry that it follows from; when the lease is lost, the run stops at once and writes nothing.

use std::{ops::ControlFlow, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use serde_json::{Map, Value};
use service_kit::telemetry;
use tokio::time::sleep;
use tracing::Instrument;

use super::{
    Lease, Shared, call,
    commands::{Asked, Commands, Wish},
    held::Place,
    live::Publisher,
    load,
    scene::Scene,
    store::{Facts, claims::Claimed},
    writer::{End, Fence, Record, Recorded, Then},
};
use crate::{
    engine::{
        definition::Definition,
        failure::Failure,
        journal::{AttemptPayload, Cancelled, Decision, Finished, Payload, Sealed, StageTry, canonical},
        next::{Action, AttemptKey, Call},
    },
    providers::clean,
};

/// A run that has to wait longer than this is given back.
const SHORT_WAIT: Duration = Duration::from_secs(2);
/// How long calls in flight may go on when the service is to stop.
const DRAIN: Duration = Duration::from_secs(5);
/// After so many take-overs without a new entry the attempt counts as failed: it may be what kills its process.
const MAX_TAKEOVERS: i16 = 5;
/// The longest message of a failed run, in bytes.
const MAX_MESSAGE_BYTES: usize = 4_096;

/// A held run.
struct Run {
    scene: Scene,
    lease: Lease,
    epoch: i32,
    commands: Commands,
    live: Publisher,
    /// Keeps the run among the held ones.
    _place: Place,
}

/// What became of an entry.
enum Outcome {
    /// It is durable, and the run goes on here with this.
    GoesOn(Call),
    /// The run is not held here any more.
    Over,
    /// The database refuses the entry.
    Refused,
}

/// The next call, or that the run is not held here any more.
type Step = ControlFlow<(), Call>;

/// Runs a run that was just started.
pub(super) fn begin(
    shared: Arc<Shared>,
    lease: Lease,
    facts: Facts,
    definition: Arc<Definition>,
    started: Sealed,
    place: Place,
) {
    let scene = Scene {
        shared,
        facts,
        definition,
        journal: vec![started.entry],
        head: started.hash,
        takeovers: 0,
    };
    spawn(scene, lease, 0, 0, place);
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
        then: Then::PutAside { cut: false },
    };
    let _fenced = shared.writer.record(record, &lease.lost).await;
}

fn spawn(scene: Scene, lease: Lease, epoch: i32, commands_done: i64, place: Place) {
    let shared = scene.shared.clone();
    let execution = scene.facts.execution;
    let live = shared.live.publish(execution);
    live.recorded(scene.seq());
    let span = tracing::info_span!(
        parent: None,
        "execution",
        otel.name = "execution",
        execution = %execution,
        company = %scene.facts.company,
        user = %scene.facts.started_by,
    );
    let span = telemetry::span_with_parent(&scene.facts.trace_context, span);
    let commands = Commands::new(shared.pool.clone(), execution, place.commands.clone(), commands_done);
    let mut run = Run {
        scene,
        lease,
        epoch,
        commands,
        live,
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
        let mut step = match self.scene.next() {
            Some(Action::Call(call)) => Step::Continue(call),
            Some(Action::AwaitPerson(waiting)) => self.await_person(waiting.of).await,
            Some(Action::Complete { .. } | Action::Fail(_)) => self.record(None).await,
            Some(_) => {
                tracing::error!(execution = %self.scene.facts.execution, "a run asks for what is not carried out yet");
                self.put_aside().await
            }
            None => {
                tracing::error!(execution = %self.scene.facts.execution, "an ended journal has a run");
                self.put_aside().await
            }
        };
        while let Step::Continue(call) = step {
            step = self.step(call).await;
        }
    }

    async fn step(&mut self, call: Call) -> Step {
        if let Some(asked) = self.commands.announced(None).await {
            return self.answer(asked, None).await;
        }
        let soft = self.scene.shared.lifecycle.soft();
        if let Some(wait) = self.wait_for(&call) {
            if wait > SHORT_WAIT {
                return self.give_back(Some(wait), call.key.stage).await;
            }
            tokio::select! {
                () = sleep(wait) => {}
                asked = self.commands.next() => return self.answer(asked, None).await,
                () = soft.cancelled() => return self.give_back(Some(wait), call.key.stage).await,
            }
        }
        if soft.is_cancelled() {
            return self.give_back(Some(Duration::ZERO), call.key.stage).await;
        }
        if self.scene.takeovers >= MAX_TAKEOVERS {
            return self.record(Some(call::crashed(&self.scene, &call))).await;
        }
        self.attempt(call).await
    }

    async fn attempt(&mut self, call: Call) -> Step {
        self.live.started(stage_try(&call.key), self.scene.now());
        let span = tracing::info_span!(
            target: telemetry::TRACES_ONLY,
            "stage",
            otel.name = format!("stage {}", call.key.stage),
            stage = call.key.stage,
            visit = call.key.visit,
            attempt = call.key.attempt,
        );
        let lifecycle = &self.scene.shared.lifecycle;
        let (soft, hard) = (lifecycle.soft(), lifecycle.hard());
        let drained = async {
            soft.cancelled().await;
            let _hard = hard.run_until_cancelled(sleep(DRAIN)).await;
        };
        let attempt = tokio::select! {
            biased;
            attempt = Box::pin(call::perform(&self.scene, &call, &self.live)).instrument(span) => attempt,
            asked = self.commands.next() => return self.answer(asked, Some(call.key.stage)).await,
            () = drained => return self.give_back_cut(call.key.stage).await,
        };
        self.record(Some(attempt)).await
    }

    fn wait_for(&self, call: &Call) -> Option<Duration> {
        Duration::try_from(call.not_before? - self.scene.now())
            .ok()
            .filter(|wait| !wait.is_zero())
    }

    /// A run that waits for a person is held only to do what is asked of it.
    async fn await_person(&mut self, waiting: StageTry) -> Step {
        match self.commands.announced(Some(&waiting)).await {
            Some(asked) => self.answer(asked, None).await,
            None => self.give_back(None, waiting.stage).await,
        }
    }

    /// Makes a command an entry. `interrupted` is the stage whose call it cut.
    async fn answer(&mut self, Asked { by, wish }: Asked, interrupted: Option<String>) -> Step {
        let cut = interrupted.is_some();
        let payload = match wish {
            Wish::Cancel { reason } => Payload::Cancelled(Cancelled {
                by,
                reason: clean::storable(&reason).0,
                interrupted,
            }),
            Wish::Decide { of, decision, notes } => Payload::Decision(Box::new(Decision {
                of,
                decision,
                by,
                notes: clean::storable(&notes).0,
                output: None,
                form: None,
            })),
        };
        match self.write(Some(payload)).await {
            Outcome::GoesOn(call) => Step::Continue(call),
            Outcome::Over => Step::Break(()),
            Outcome::Refused => {
                let mut record = self.progress(Vec::new(), self.scene.seq(), String::new(), Then::PutAside { cut });
                // Nothing is done by it: who looks at the run again finds the wish still there.
                record.commands_done = 0;
                self.let_go(record).await
            }
        }
    }

    /// Records an attempt and what follows from it; without one, only what follows from the journal.
    async fn record(&mut self, attempt: Option<AttemptPayload>) -> Step {
        let substitute = attempt.as_ref().map(call::unrecordable);
        for payload in [attempt, substitute] {
            match self
                .write(payload.map(|attempt| Payload::Attempt(Box::new(attempt))))
                .await
            {
                Outcome::GoesOn(call) => return Step::Continue(call),
                Outcome::Over => return Step::Break(()),
                Outcome::Refused => {}
            }
        }
        self.put_aside().await
    }

    /// Gives the run back until then, or until somebody asks something of it.
    async fn give_back(&mut self, wait: Option<Duration>, stage: String) -> Step {
        let then = Then::GiveBack { wait, cut: false };
        let record = self.progress(Vec::new(), self.scene.seq(), stage, then);
        self.let_go(record).await
    }

    /// Gives a run back that cannot be continued here.
    async fn put_aside(&mut self) -> Step {
        let record = self.progress(
            Vec::new(),
            self.scene.seq(),
            String::new(),
            Then::PutAside { cut: false },
        );
        self.let_go(record).await
    }

    /// Gives the run back at once, with its call in flight cut.
    async fn give_back_cut(&mut self, stage: String) -> Step {
        let then = Then::GiveBack {
            wait: Some(Duration::ZERO),
            cut: true,
        };
        let record = self.progress(Vec::new(), self.scene.seq(), stage, then);
        self.let_go(record).await
    }

    async fn let_go(&mut self, record: Record) -> Step {
        let _fenced = self.scene.shared.writer.record(record, &self.lease.lost).await;
        Step::Break(())
    }

    /// Makes an entry durable together with what it decides.
    async fn write(&mut self, payload: Option<Payload>) -> Outcome {
        let (length, head, seq) = (self.scene.journal.len(), self.scene.head, self.scene.seq());
        let mut status = payload.as_ref().and_then(Payload::decision).map(|_| "running");
        let mut entries: Vec<Sealed> = payload.into_iter().map(|payload| self.scene.append(payload)).collect();
        let (then, stage, call) = match self.scene.next() {
            Some(Action::Call(call)) => (self.go_on(&call), call.key.stage.clone(), Some(call)),
            Some(Action::AwaitPerson(waiting)) => {
                status = Some("paused");
                let then = Then::GiveBack { wait: None, cut: false };
                (then, waiting.of.stage, None)
            }
            Some(Action::Complete { outputs }) => {
                entries.push(self.scene.append(Payload::Finished(Finished { failure: None })));
                (self.end("completed", Some(outputs), None), String::new(), None)
            }
            Some(Action::Fail(failure)) => {
                let failure = storable(failure);
                entries.push(self.scene.append(Payload::Finished(Finished {
                    failure: Some(failure.clone()),
                })));
                (self.end("failed", None, Some(failure)), String::new(), None)
            }
            Some(_) => (Then::PutAside { cut: false }, String::new(), None),
            None => (self.end("cancelled", None, None), String::new(), None),
        };
        let goes_on = matches!(then, Then::Keep);
        let mut record = self.progress(entries, seq, stage, then);
        record.status = status;
        match self.scene.shared.writer.record(record, &self.lease.lost).await {
            Recorded::Written => {
                self.scene.takeovers = 0;
                self.live.recorded(self.scene.seq());
                call.filter(|_| goes_on).map_or(Outcome::Over, Outcome::GoesOn)
            }
            Recorded::Fenced => Outcome::Over,
            Recorded::Refused => {
                self.scene.take_back(length, head);
                Outcome::Refused
            }
        }
    }

    fn go_on(&self, call: &Call) -> Then {
        let wait = self.wait_for(call).unwrap_or_default();
        if wait > SHORT_WAIT || self.scene.shared.lifecycle.soft().is_cancelled() {
            Then::GiveBack {
                wait: Some(wait),
                cut: false,
            }
        } else {
            Then::Keep
        }
    }

    fn end(&self, status: &'static str, outputs: Option<Map<String, Value>>, failure: Option<Failure>) -> Then {
        Then::End(End {
            status,
            outputs: outputs.map(|outputs| String::from_utf8(canonical(&outputs)).expect("JSON is UTF-8")),
            failure_class: failure.as_ref().map(|failure| failure.class.as_str()),
            failure_message: failure.map(|failure| failure.message),
            at: self
                .scene
                .journal
                .last()
                .map_or_else(|| self.scene.now(), |last| last.occurred_at),
        })
    }

    fn progress(&self, entries: Vec<Sealed>, seq: i64, stage: String, then: Then) -> Record {
        let (execution, instance) = (self.scene.facts.execution, self.lease.instance);
        let fence = Fence {
            execution,
            instance,
            epoch: self.epoch,
            seq,
        };
        Record {
            fence,
            entries,
            head: self.scene.head.to_vec(),
            stage,
            status: None,
            commands_seen: self.commands.taken,
            commands_done: self.commands.taken,
            then,
        }
    }
}

fn stage_try(key: &AttemptKey) -> StageTry {
    StageTry {
        stage: key.stage.clone(),
        visit: key.visit,
        item: key.item,
        attempt: key.attempt,
    }
}

fn storable(Failure { class, message }: Failure) -> Failure {
    let (mut message, _) = clean::storable(&message);
    message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
    Failure { class, message }
}
