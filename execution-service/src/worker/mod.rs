//! The worker: runs executions. It only calls, waits and records; what comes next is decided by [`crate::engine::next`].
//!
//! A process is an instance with a lease (`lease`); a run belongs to an instance at an epoch, and one task carries it from
//! stage to stage in memory (`run`). All that lasts goes through one writer (`writer`), fenced by owner and epoch: what a
//! process that was given up still wants to write finds nothing to write to. Runs that nobody holds, because they waited,
//! found no room, or lost their process, are claimed (`claim`). So any process may die at any time, and at most the calls
//! it had in flight are made again.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use serde_json::{Map, Value};
use service_kit::{
    audit::Prepared,
    clock::SharedClock,
    error::{Error, Result},
    ids::{CompanyId, ExecutionId, StudioId, UserId, VersionId, WorkflowId},
    keys::KeyRing,
    lifecycle::Lifecycle,
};
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use tokio::{
    sync::{Notify, Semaphore},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use url::Url;

use crate::{
    access::{Allowance, CoreClient},
    aside::Aside,
    connections::Open,
    engine::{
        definition::Definition,
        journal::{self, Entry, GENESIS, Payload, Sealed},
    },
    pieces::Pieces,
    providers::Providers,
};

mod asking;
mod call;
mod children;
mod claim;
mod commands;
mod connection;
mod connections;
mod definitions;
mod flows;
mod held;
mod hints;
mod lease;
mod live;
mod load;
mod models;
mod plan;
mod poll;
mod rehearsal;
mod retrieval;
mod run;
mod scene;
#[cfg(test)]
mod simulation;
mod spending;
mod store;
mod upkeep;
mod vectors;
pub mod writer;

pub(crate) use call::{Question, Ready};
pub use commands::Wish;
pub use flows::CalledBack;
pub use live::{Follower, Live, LiveEvent, LiveWhat, UnderWay};

use connections::{Connections, Note};
use definitions::Definitions;
use held::Held;
use hints::Hints;
use lease::CurrentLease;
pub(crate) use lease::Lease;
use models::Models;
pub use rehearsal::TryStage;
use scene::Ground;
use spending::Spending;
use store::Facts;
pub(crate) use store::quotas::spend;
pub use writer::Times;
use writer::{NewKey, NewRun, Started, Writer};

/// How many runs are loaded from the database at a time.
const LOADERS: usize = 4;
/// How long the last hint may take, when the service stops.
const FAREWELL: Duration = Duration::from_secs(1);

/// What the engine is opened with.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Connections as the role of the engine. Four more are opened: the writer's, the lease's, the claimer's and the hints'.
    pub pool: PgPool,
    /// Where other replicas reach this process.
    pub address: String,
    /// How many executions this process holds at a time; further ones wait in the database.
    pub max_running: u32,
    /// Where rendering and checking run.
    pub aside: Aside,
    /// The way to ActivePieces.
    pub pieces: Pieces,
    /// The root key ring: secrets of connections, call-backs.
    pub keys: KeyRing,
    /// Where others reach the gateway; without it nothing calls back.
    pub public_url: Option<Url>,
}

/// A run to start.
#[derive(Debug, Clone)]
pub struct Start {
    /// Its id.
    pub execution: ExecutionId,
    /// The company it belongs to.
    pub company: CompanyId,
    /// The studio it belongs to.
    pub studio: StudioId,
    /// The workflow.
    pub workflow: WorkflowId,
    /// The version it is pinned to.
    pub version_id: VersionId,
    /// That version's number.
    pub version_number: i32,
    /// What that version does.
    pub definition: Arc<Definition>,
    /// What it is started with.
    pub inputs: Map<String, Value>,
    /// Who starts it; it acts as this user.
    pub started_by: UserId,
    /// Where it begins.
    pub origin: Origin,
    /// Makes a repeated start answer with the first execution.
    pub key: Option<StartKey>,
    /// The W3C traceparent of the request; may be empty.
    pub trace_context: String,
    /// The entry of the audit log that is written with it.
    pub audit: Option<Prepared>,
    /// What its company's plan leaves room in, or it is not made.
    pub allowance: Allowance,
}

/// Where a run begins.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// At its first stage, with nothing.
    Fresh,
    /// Where another one was, with outputs of its.
    Fork(Box<journal::Forked>),
}

/// What makes a repeated start name the same run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartKey {
    /// The method that was called.
    pub method: &'static str,
    /// The caller's name for the request.
    pub key: String,
    /// The hash of the request.
    pub body_hash: [u8; 32],
}

/// What became of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartOutcome {
    /// It is durable, since these times.
    Started(ExecutionId, Times),
    /// The same key named this run already.
    Existing(ExecutionId),
}

/// Runs executions, as long as its lifecycle lets it.
#[derive(Debug)]
pub struct Engine {
    shared: Arc<Shared>,
}

/// What all tasks of the engine work with.
struct Shared {
    pool: PgPool,
    aside: Aside,
    providers: Arc<Providers>,
    core: Arc<CoreClient>,
    clock: SharedClock,
    lifecycle: Lifecycle,
    writer: Writer,
    lease: CurrentLease,
    held: Held,
    live: Live,
    definitions: Definitions,
    models: Models,
    spending: Arc<Spending>,
    connections: Connections,
    loaders: Semaphore,
    /// There may be something to claim.
    claim_now: Notify,
    /// A held run may have a command.
    poll_now: Notify,
    hints: Hints,
    pieces: Pieces,
    keys: KeyRing,
    public_url: OnceLock<Url>,
    /// A flow may be due to be looked at.
    flows_changed: Notify,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Takes a lease and begins to claim and run executions.
    ///
    /// # Errors
    /// `Unavailable` where the database does not answer.
    pub async fn open(
        config: EngineConfig,
        providers: Arc<Providers>,
        core: Arc<CoreClient>,
        clock: SharedClock,
        lifecycle: Lifecycle,
    ) -> Result<Arc<Self>> {
        let done = CancellationToken::new();
        let held = Held::new(usize::try_from(config.max_running).unwrap_or(usize::MAX));
        let (lease, keep_lease) = lease::take(config.pool.clone(), config.address, held.clone(), done.clone()).await?;
        let (writer, write) = Writer::new(config.pool.clone(), done.clone());
        let pool = config.pool.clone();
        let shared = Arc::new(Shared {
            pool: config.pool,
            aside: config.aside,
            providers,
            core,
            clock,
            lifecycle: lifecycle.clone(),
            writer,
            lease,
            held,
            live: Live::default(),
            definitions: Definitions::default(),
            models: Models::new(pool.clone()),
            spending: Spending::new(pool.clone()),
            connections: Connections::new(pool, config.keys.clone(), &lifecycle),
            loaders: Semaphore::new(LOADERS),
            claim_now: Notify::new(),
            poll_now: Notify::new(),
            hints: Hints::default(),
            pieces: config.pieces,
            keys: config.keys,
            public_url: config.public_url.map_or_else(OnceLock::new, OnceLock::from),
            flows_changed: Notify::new(),
        });
        lifecycle.spawn("engine.lease", keep_lease);
        lifecycle.spawn("engine.writer", write);
        let claimed = CancellationToken::new();
        lifecycle.spawn("engine.claim", claim::keep(shared.clone(), claimed.clone()));
        lifecycle.spawn("engine.commands", poll::keep(shared.clone()));
        lifecycle.spawn("engine.hints.send", hints::send(shared.clone()));
        lifecycle.spawn("engine.hints.listen", hints::listen(shared.clone()));
        lifecycle.spawn("engine.flows", flows::watch::keep(shared.clone()));
        lifecycle.spawn("engine.upkeep", upkeep::keep(shared.clone()));
        lifecycle.spawn("engine.vectors", vectors::keep(shared.clone()));
        lifecycle.spawn("engine.drain", drain(shared.clone(), claimed, done));
        Ok(Arc::new(Self { shared }))
    }

    /// Starts a run; it is durable when this answers, and goes on whether or not anybody waits for the answer.
    ///
    /// # Errors
    /// `Invalid` on `request_id` for a key that named another request, or on `inputs` that cannot be stored; `Unavailable`
    /// while the database does not answer or the service stops.
    pub async fn start(&self, start: Start) -> Result<StartOutcome> {
        let shared = self.shared.clone();
        let task = self.shared.lifecycle.spawn(
            "engine.start",
            async move { shared.start(start).await }.in_current_span(),
        );
        task.await.map_err(Error::internal)?
    }

    /// What a version does, where that is known here.
    pub fn definition(&self, version: VersionId) -> Option<Arc<Definition>> {
        self.shared.definitions.get(version)
    }

    /// Notes how a test of a connection went: the step that failed, and in words.
    pub fn note_health(&self, open: &Open, failed: Option<(&str, &str)>) {
        self.shared.connections.note(Note {
            company: open.company,
            connection: open.id,
            failure: failed.map(|(step, words)| ("provider_error".into(), step.into(), words.into())),
        });
    }

    /// Looks at an execution's commands now.
    pub fn nudge(&self, execution: ExecutionId) {
        poll::nudge(&self.shared, execution);
    }

    /// What runs here tell those who watch.
    pub fn live(&self) -> &Live {
        &self.shared.live
    }
}

impl Shared {
    async fn start(self: Arc<Self>, start: Start) -> Result<StartOutcome> {
        self.spending.require_rest(start.company, &start.allowance).await?;
        let beginning = Beginning::of(
            start.execution,
            (start.workflow, start.version_id, start.version_number),
            &start.inputs,
        )?;
        let (forked, source) = match start.origin {
            Origin::Fresh => (None, None),
            Origin::Fork(forked) => {
                let source = forked.source_execution;
                (Some(forked), Some(source))
            }
        };
        let entries = beginning.seal(&self, forked);
        let lease = self.lease.borrow().clone().filter(|lease| !lease.lost.is_cancelled());
        // Whether the service stops is looked at with the place taken: either the drain waits for it, or it is given up here.
        let place = lease
            .as_ref()
            .and_then(|_| self.held.enter(start.execution))
            .filter(|_| !self.lifecycle.soft().is_cancelled());
        let new = NewRun {
            execution: start.execution,
            company: start.company,
            studio: start.studio,
            workflow: start.workflow,
            version: start.version_id,
            version_number: start.version_number,
            started_by: start.started_by,
            inputs: beginning.text,
            trace_context: start.trace_context.clone(),
            stage: start
                .definition
                .stages
                .first()
                .map(|stage| stage.name.clone())
                .unwrap_or_default(),
            owner: lease.as_ref().filter(|_| place.is_some()).map(|lease| lease.instance),
            entries: entries.clone(),
            key: start.key.map(|key| NewKey {
                method: key.method.to_owned(),
                key: key.key,
                body_hash: key.body_hash.to_vec(),
            }),
            parent: None,
            source,
            audit: start.audit,
            allowance: Some(start.allowance),
        };
        let lost = lease
            .as_ref()
            .map_or_else(|| self.lifecycle.hard(), |lease| lease.lost.clone());
        let times = match self.writer.start(new, &lost).await {
            Started::Written(times) => times,
            Started::Existing(execution) => return Ok(StartOutcome::Existing(execution)),
            Started::KeyReused => return Err(Error::invalid("request_id", "was used for another request")),
            Started::Failed(error) => return Err(error),
        };
        self.definitions.put(start.version_id, start.definition.clone());
        if let (Some(place), Some(lease)) = (place, lease) {
            let facts = Facts {
                execution: start.execution,
                company: start.company,
                studio: start.studio,
                started_by: start.started_by,
                version: start.version_id,
                inputs: Arc::new(beginning.inputs),
                parent: None,
                begun: true,
                paused: false,
                trace_context: start.trace_context,
            };
            let ground = Ground {
                shared: self,
                facts,
                definition: start.definition,
            };
            run::begin(lease, ground, &entries, place);
        } else {
            self.claim_now.notify_one();
            self.hints.due();
        }
        Ok(StartOutcome::Started(start.execution, times))
    }
}

/// What a run begins with.
struct Beginning {
    /// Its inputs as they are stored.
    text: String,
    /// The same as they are read back, so that nothing depends on who holds the run.
    inputs: Map<String, Value>,
    started: journal::Started,
}

impl Beginning {
    /// A run of a version of a workflow, which has a number.
    ///
    /// # Errors
    /// `Invalid` on `inputs` that cannot be stored.
    fn of(
        execution: ExecutionId,
        (workflow, version, number): (WorkflowId, VersionId, i32),
        inputs: &Map<String, Value>,
    ) -> Result<Self> {
        let stored = journal::canonical(inputs);
        let inputs: Map<String, Value> = serde_json::from_slice(&stored).map_err(Error::internal)?;
        let text = String::from_utf8(stored).map_err(Error::internal)?;
        if text.contains("\\u0000") && holds_nul(&Value::Object(inputs.clone())) {
            return Err(Error::invalid("inputs", "must not contain NUL characters"));
        }
        let started = journal::Started {
            execution_id: execution,
            workflow_id: workflow,
            version_id: version,
            workflow_version: number,
            inputs_sha256: hex::encode(Sha256::digest(&text)),
            depth: 0,
        };
        Ok(Self { text, inputs, started })
    }

    /// The same within so many others.
    fn within(mut self, depth: u32) -> Self {
        self.started.depth = depth;
        self
    }

    /// Its first entries.
    fn seal(&self, shared: &Shared, forked: Option<Box<journal::Forked>>) -> Vec<Sealed> {
        let at = shared.clock.now();
        let payloads = [Payload::Started(self.started.clone())]
            .into_iter()
            .chain(forked.map(Payload::Forked));
        let mut entries: Vec<Sealed> = Vec::with_capacity(2);
        for (payload, seq) in payloads.zip(1..) {
            let previous = entries.last().map_or(GENESIS, |last| last.hash);
            let entry = Entry {
                seq,
                occurred_at: at,
                payload,
            };
            entries.push(entry.seal(&previous));
        }
        entries
    }
}

fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(members) => members
            .iter()
            .any(|(key, value)| key.contains('\0') || holds_nul(value)),
        _ => false,
    }
}

/// Once the service stops, `claimed` says that no run comes any more, and all runs are ended or given back, lets the writer
/// and the lease end.
async fn drain(shared: Arc<Shared>, claimed: CancellationToken, done: CancellationToken) {
    shared.lifecycle.soft().cancelled().await;
    claimed.cancelled().await;
    shared.held.none().await;
    // What was given back is due elsewhere.
    shared.hints.due();
    let _late = timeout(FAREWELL, hints::send_now(&shared)).await;
    done.cancel();
}
