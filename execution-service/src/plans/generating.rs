//! Making an attempt: asks the model, reads what it writes while it comes, and records what came of it.
//!
//! An attempt has one deadline, whoever is asked within it; it begins anew once, when a process takes over what another had begun.
//! What always holds: an attempt is recorded by the instance that owns it, once, with its modules or without any; what a model
//! was or may have been paid for is counted in the same commit. Neither the record nor a log line nor a span holds anything that the
//! user or the model wrote.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Map;
use service_kit::{
    clock::SharedClock,
    db::{self, WorkerTx},
    error,
    lifecycle::Lifecycle,
    telemetry,
};
use time::OffsetDateTime;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{
    Deadline, Late, Outline, Prompt, abandoning, claiming,
    engine_store::{self, Claimed, Facts},
    live::{Live, Publisher},
    prompt,
    reading::{Cut, Failed, Reading},
    wish::Bounded,
};
use crate::{
    engine::{
        failure::FailureClass,
        journal::{ModelUse, Source},
        request,
    },
    worker::{Engine, Lease, Question},
};

/// How many attempts a process makes at a time; further ones wait in the database.
const MOST: usize = 512;
/// How many of the documents' passages a plan is made from.
const PASSAGES: u32 = 12;
/// How long to wait before asking again a database that did not answer.
const PAUSE: Duration = Duration::from_millis(250);
/// An attempt that was taken over so often is given up: it has begun anew once.
const MAX_TAKEOVERS: i16 = 2;

/// Has plans written, as long as its lifecycle lets it.
#[derive(Clone)]
pub struct Generator {
    engine: Arc<Engine>,
    clock: SharedClock,
    lifecycle: Lifecycle,
    places: Arc<Semaphore>,
    live: Live,
    claim_now: Arc<Notify>,
}

/// Room for an attempt, under a lease.
pub(super) struct Room {
    lease: Lease,
    _place: OwnedSemaphorePermit,
}

impl Room {
    /// The instance whose room it is.
    pub(super) const fn instance(&self) -> i32 {
        self.lease.instance
    }
}

/// What came of an attempt.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The plan.
    Success(Outline),
    /// Why there is none: the class, and a stable word within it.
    Failure(FailureClass, String),
}

/// An attempt as it is recorded.
#[derive(Debug)]
pub(super) struct Recorded {
    pub outcome: Outcome,
    pub duration: Duration,
    /// Empty where no prompt was made.
    pub prompt_sha256: String,
    pub metadata: Metadata,
}

/// What an attempt's record says besides its columns. Nothing in it is text that somebody wrote.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Metadata {
    /// What was kept of the texts.
    pub input: Input,
    /// When it was.
    pub timing: Timing,
    /// What was clamped.
    pub normalization: Normalization,
    /// What the models took.
    pub provider: Spent,
}

/// What was kept of the texts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Input {
    /// Of the topic.
    pub topic: Kept,
    /// Of the notes.
    pub notes: Kept,
}

/// What was kept of a text.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Kept {
    /// Whether something was cut off.
    pub truncated: bool,
    /// How long it was.
    pub original_length: usize,
}

impl From<&Bounded> for Kept {
    fn from(text: &Bounded) -> Self {
        Self {
            truncated: text.truncated,
            original_length: text.original_length,
        }
    }
}

/// When an attempt was.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Timing {
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    /// When it ended.
    #[serde(with = "time::serde::rfc3339")]
    pub finished_at: OffsetDateTime,
}

/// How many minutes were brought into their range.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Normalization {
    /// Of modules.
    pub modules_clamped: usize,
    /// Of tasks.
    pub tasks_clamped: usize,
}

/// What the models took, all that were asked.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Spent {
    /// Tokens.
    pub tokens: Tokens,
    /// What they cost, in millionths of a US dollar.
    pub cost_micros: u64,
    /// The model that was asked last.
    pub model: String,
    /// Whether a provider may bill more than that.
    pub billing_uncertain: bool,
}

/// Tokens by the providers' count.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Tokens {
    /// Read.
    pub input: u64,
    /// Written.
    pub output: u64,
}

impl Spent {
    /// Adds what a call took.
    fn add(&mut self, used: &ModelUse) {
        self.tokens.input = self.tokens.input.saturating_add(used.input_tokens);
        self.tokens.output = self.tokens.output.saturating_add(used.output_tokens);
        self.cost_micros = self.cost_micros.saturating_add(used.cost_micros);
        self.billing_uncertain |= used.billing_uncertain;
    }
}

impl Generator {
    /// Begins to claim attempts, with the engine's lease and models.
    pub fn open(engine: Arc<Engine>, clock: SharedClock, lifecycle: Lifecycle) -> Self {
        let generator = Self {
            engine,
            clock,
            lifecycle,
            places: Arc::new(Semaphore::new(MOST)),
            live: Live::default(),
            claim_now: Arc::default(),
        };
        let (claims, looks) = (claiming::keep(generator.clone()), abandoning::keep(generator.clone()));
        generator.lifecycle.spawn("plans.claim", claims);
        generator.lifecycle.spawn("plans.abandon", looks);
        generator
    }

    /// Room for one more attempt, if there is some and nothing is about to stop.
    pub(super) fn room(&self) -> Option<Room> {
        if self.lifecycle.soft().is_cancelled() {
            return None;
        }
        let lease = self.engine.lease()?;
        let place = self.places.clone().try_acquire_owned().ok()?;
        Some(Room { lease, _place: place })
    }

    /// How many more attempts there is room for.
    pub(super) fn rooms(&self) -> usize {
        self.places.available_permits()
    }

    /// Makes an attempt that is reserved for this instance.
    pub(super) fn begin(&self, run: Claimed, room: Room) {
        let span = tracing::info_span!(
            "plan.attempt",
            otel.name = "plan.attempt",
            plan = %run.plan,
            version = run.version,
            attempt = run.attempt,
            company = %run.company,
            correlation_id = run.correlation_id,
        );
        let span = telemetry::span_with_parent(&run.trace_context, span);
        let task = self.clone().make(run, room).instrument(span);
        self.lifecycle.spawn("plans.attempt", task);
    }

    /// Claims what there is now.
    pub(super) fn nudge(&self) {
        self.claim_now.notify_one();
    }

    pub(super) const fn live(&self) -> &Live {
        &self.live
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(super) fn stopping(&self) -> CancellationToken {
        self.lifecycle.soft()
    }

    /// Fires when something may be there to claim.
    pub(super) async fn nudged(&self) {
        self.claim_now.notified().await;
    }

    async fn make(self, run: Claimed, room: Room) {
        // Dropped after the commit, so that whoever hears that it is over finds what came of it.
        let publisher = self.live.publish(run.plan);
        let lost = room.lease.lost.clone();
        let instance = room.instance();
        let stopping = self.lifecycle.soft();
        let made = tokio::select! {
            biased;
            () = lost.cancelled() => return,
            () = stopping.cancelled() => return self.give_back(&run, instance).await,
            made = self.attempt(&run, &publisher) => made,
        };
        let Some(recorded) = made else { return };
        if let Outcome::Failure(class, reason) = &recorded.outcome {
            tracing::warn!(class = %class, reason, "a plan was not written");
        }
        let _lost = lost.run_until_cancelled(self.record(&run, instance, recorded)).await;
    }

    /// What comes of the attempt; nothing where its plan is gone.
    async fn attempt(&self, run: &Claimed, publisher: &Publisher) -> Option<Recorded> {
        let facts = self.facts(run).await?;
        let deadline = Deadline::start();
        let mut attempt = Made {
            generator: self,
            run,
            facts: &facts,
            deadline: &deadline,
            publisher,
            prompt_sha256: String::new(),
            spent: Spent::default(),
        };
        attempt.spent.model.clone_from(&facts.means.model);
        // What was under way may have been paid for.
        attempt.spent.billing_uncertain = run.takeovers > 0;
        let started_at = self.clock.now();
        let written = if run.takeovers >= MAX_TAKEOVERS {
            Err(Failed::late("taken_over"))
        } else {
            attempt.write().await
        };
        let Made {
            prompt_sha256, spent, ..
        } = attempt;
        let normalization = written.as_ref().map_or_else(
            |_| Normalization::default(),
            |outline| Normalization {
                modules_clamped: outline.modules_clamped(),
                tasks_clamped: outline.tasks_clamped(),
            },
        );
        Some(Recorded {
            outcome: match written {
                Ok(outline) => Outcome::Success(outline),
                Err(Failed { class, reason, .. }) => Outcome::Failure(class, reason),
            },
            duration: deadline.elapsed(),
            prompt_sha256,
            metadata: Metadata {
                input: Input {
                    topic: (&facts.wish.topic).into(),
                    notes: (&facts.wish.notes).into(),
                },
                timing: Timing {
                    started_at,
                    finished_at: self.clock.now(),
                },
                normalization,
                provider: spent,
            },
        })
    }

    /// What the attempt is made from. Waits for a database that is away.
    async fn facts(&self, run: &Claimed) -> Option<Facts> {
        loop {
            match db::with(self.engine.pool(), async |it| engine_store::facts(it, run).await).await {
                Ok(facts) => return facts,
                Err(error) => {
                    tracing::warn!(error = %error, "a plan could not be read");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Records the attempt. A database that is away is asked again: if it had done it, it says that there is nothing to do. A plan
    /// that it refuses it would refuse again.
    async fn record(&self, run: &Claimed, instance: i32, mut recorded: Recorded) {
        loop {
            let done = db::retry("plans.record", || self.record_once(run, instance, &recorded)).await;
            let Err(error) = done else { return };
            if matches!(
                (&error, &recorded.outcome),
                (error::Error::Internal(_), Outcome::Success(_))
            ) {
                // The detail of the error would hold the row.
                tracing::error!(error = %error, "a plan cannot be stored");
                recorded.outcome = Outcome::Failure(FailureClass::ProviderError, "not_stored".into());
                recorded.metadata.normalization = Normalization::default();
                continue;
            }
            tracing::warn!(error = %error, "an attempt at a plan could not be recorded");
            sleep(PAUSE).await;
        }
    }

    async fn record_once(&self, run: &Claimed, instance: i32, recorded: &Recorded) -> error::Result<()> {
        let mut tx = WorkerTx::begin(self.engine.pool(), "plans.record").await?;
        engine_store::record(&mut tx, run, instance, recorded).await?;
        tx.commit().await
    }

    /// Lets another process make the attempt.
    async fn give_back(&self, run: &Claimed, instance: i32) {
        let given = db::with(self.engine.pool(), async |it| {
            engine_store::give_back(it, run, instance).await
        });
        if let Err(error) = given.await {
            tracing::warn!(error = %error, "an attempt at a plan could not be given back; it is taken over");
        }
    }
}

/// An attempt while it is made.
struct Made<'a> {
    generator: &'a Generator,
    run: &'a Claimed,
    facts: &'a Facts,
    deadline: &'a Deadline,
    publisher: &'a Publisher,
    prompt_sha256: String,
    spent: Spent,
}

impl Made<'_> {
    async fn write(&mut self) -> Result<Outline, Failed> {
        let passages = self.passages().await?;
        let prompt = Prompt::of(&self.facts.wish, &passages);
        self.prompt_sha256 = prompt.sha256();
        let (first, second) = (&self.facts.means.model, &self.facts.means.fallback_model);
        match self.ask(first, &prompt, &passages).await {
            Err(failed) if !second.is_empty() && failed.may_fall_back() && !self.deadline.left().is_zero() => {
                tracing::info!(class = %failed.class, reason = failed.reason, "another model is asked for a plan");
                self.publisher.restart();
                self.ask(second, &prompt, &passages).await
            }
            asked => asked,
        }
    }

    /// What the studio's documents say of it, read as the plan's owner, who asked for that.
    async fn passages(&self) -> Result<Vec<Source>, Failed> {
        let Facts {
            studio,
            owner,
            wish,
            means,
        } = self.facts;
        if !means.use_documents {
            return Ok(Vec::new());
        }
        let query = format!("{} {}", wish.topic.text, wish.notes.text);
        let found = self.generator.engine.passages(*owner, *studio, query.trim(), PASSAGES);
        let found = tokio::select! {
            found = self.deadline.within(found) => found.map_err(|Late| Failed::late("retrieval"))?,
            failed = self.unwanted() => return Err(failed),
        };
        Ok(found?)
    }

    async fn ask(&mut self, model: &str, prompt: &Prompt, passages: &[Source]) -> Result<Outline, Failed> {
        model.clone_into(&mut self.spent.model);
        let ready = self.generator.engine.model(self.run.company, model);
        let ready = self.deadline.within(ready).await??;
        let reading = Reading::new(self.deadline, |module| self.publisher.module(module));
        let delta = |text: &str| reading.take(text);
        let key = format!("{}/{}/{}", self.run.plan, self.run.version, self.run.attempt);
        let none = Map::new();
        let question = Question {
            name: model,
            prompt: request::Prompt {
                inputs: Map::new(),
                system: prompt.system.clone(),
                prompt: prompt.text.clone(),
            },
            schema: Some(prompt::schema()),
            sources: passages,
            config: &none,
            // The attempt's own deadline may be extended while the model writes.
            deadline: self.deadline.latest(),
            session: key.clone(),
            key,
            overrides: &none,
        };
        let answer = ready.answer(question, &delta, self.run.takeovers > 0);
        match reading.until(answer, self.unwanted()).await {
            Ok(answered) => {
                self.spent.add(&answered.usage);
                match answered.failure {
                    Some(failure) => Err(failure.into()),
                    None => Ok(reading.finish()?),
                }
            }
            Err(cut) => {
                let sent = prompt.system.len() + prompt.text.len();
                self.spent.add(&ready.cut(sent, reading.came()));
                match cut {
                    Cut::Late => Err(Late.into()),
                    Cut::TooLong => Ok(reading.finish()?),
                    Cut::Unwanted(failed) => Err(failed),
                }
            }
        }
    }

    /// Fires when nobody can want the plan any more, with what becomes of the attempt.
    async fn unwanted(&self) -> Failed {
        let Facts { studio, owner, .. } = self.facts;
        tokio::select! {
            () = self.publisher.abandoned() => Failed::lasting("plan_gone"),
            () = abandoning::out_of_reach(self.generator.engine(), *owner, *studio) => Failed::lasting("access_lost"),
        }
    }
}
