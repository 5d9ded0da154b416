//! Following an execution: what the journal says from a cursor on, then what comes, until the end.
//!
//! Durable events come from the journal alone, in its order and each once. The process that runs the execution says at once
//! when there is more to read, and tells what is not in the journal; of an execution that another process runs, the journal
//! is read again and again. Whoever loses his access is cut off within [`ACCESS_INTERVAL`]; when the process stops, watchers
//! are told to resume elsewhere.

use std::{sync::Arc, time::Duration};

use futures::{Stream, TryStreamExt, stream};
use service_kit::{
    auth::Caller,
    db::TenantTx,
    error::{Error, Result},
    ids::ExecutionId,
};
use tokio::{
    sync::broadcast::error::RecvError,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    attempts::Run,
    enter,
    events::{self, Event, What},
};
use crate::{
    App,
    access::Access,
    worker::{Follower, LiveEvent, StageTry, UnderWay},
};

/// How often a watcher's access is checked.
const ACCESS_INTERVAL: Duration = Duration::from_secs(10);
/// How often the journal of an execution is read that is run elsewhere.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How often it is read when this process says what there is to read; the run may go elsewhere.
const SAFETY_INTERVAL: Duration = Duration::from_secs(2);

/// The events of an execution after a cursor, until its end.
///
/// # Errors
/// `NotFound` where the caller may not see it, also later, when he loses his access; `Unavailable` when the process stops.
pub(super) async fn watch(
    app: Arc<App>,
    caller: Caller,
    id: ExecutionId,
    after: i64,
) -> Result<impl Stream<Item = Result<Event>> + Send + 'static> {
    let watcher = Watcher::open(app, caller, id, after).await?;
    let batches = stream::try_unfold(watcher, async |mut watcher: Watcher| {
        let events = watcher.next().await?;
        Ok::<_, Error>(events.map(|events| (stream::iter(events.into_iter().map(Ok)), watcher)))
    });
    Ok(batches.try_flatten())
}

struct Watcher {
    app: Arc<App>,
    caller: Caller,
    id: ExecutionId,
    /// Where the caller wants to go on.
    after: i64,
    access: Access,
    next_check: Instant,
    run: Run,
    /// How many of the run's entries have been told of, or need not be.
    told: usize,
    /// Whether the caller knows that the run has begun.
    begun: bool,
    follower: Follower,
    stopping: CancellationToken,
}

impl Watcher {
    async fn open(app: Arc<App>, caller: Caller, id: ExecutionId, after: i64) -> Result<Self> {
        let access = enter(&app, &caller, id).await?;
        // Followed before the journal is read: what happens meanwhile waits in the follower.
        let follower = app.engine.live().follow(id);
        let mut tx = TenantTx::begin(&app.pool, "executions.watch", &access.claims).await?;
        let mut run = Run::open(&mut tx, id).await?;
        run.read_up_to(&mut tx, i64::MAX).await?;
        Ok(Self {
            after,
            access,
            next_check: Instant::now() + ACCESS_INTERVAL,
            run,
            told: 0,
            begun: after > 1,
            follower,
            stopping: app.lifecycle.soft(),
            app,
            caller,
            id,
        })
    }

    /// What comes next; nothing after the end.
    async fn next(&mut self) -> Result<Option<Vec<Event>>> {
        loop {
            let mut events = self.tell_entries();
            if let Some(under_way) = self.follower.under_way.take() {
                self.tell_under_way(under_way, &mut events);
            }
            if !events.is_empty() {
                return Ok(Some(events));
            }
            if self.run.has_ended() {
                return Ok(None);
            }
            let interval = if *self.follower.seq.borrow() == 0 {
                POLL_INTERVAL
            } else {
                SAFETY_INTERVAL
            };
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => return Err(stopping()),
                () = sleep_until(self.next_check) => self.check_access().await?,
                // The sender lives as long as its follower.
                _ = self.follower.seq.changed() => self.read().await?,
                event = self.follower.events.recv() => match event {
                    Ok(event) => {
                        if let Some(events) = self.tell_live(event).await? {
                            return Ok(Some(events));
                        }
                    }
                    Err(RecvError::Lagged(_) | RecvError::Closed) => {
                        self.follower = self.app.engine.live().follow(self.id);
                        self.read().await?;
                    }
                },
                () = sleep(interval) => self.read().await?,
            }
        }
    }

    async fn check_access(&mut self) -> Result<()> {
        self.access = enter(&self.app, &self.caller, self.id).await?;
        self.next_check = Instant::now() + ACCESS_INTERVAL;
        Ok(())
    }

    async fn read(&mut self) -> Result<()> {
        let mut tx = TenantTx::begin(&self.app.pool, "executions.watch", &self.access.claims).await?;
        self.run.read_up_to(&mut tx, i64::MAX).await
    }

    /// The entries that were read and not told of yet.
    fn tell_entries(&mut self) -> Vec<Event> {
        let mut told = Vec::new();
        for entry in &self.run.journal()[self.told..] {
            if entry.seq <= self.after {
                continue;
            }
            if let Some(attempt) = entry.payload.attempt()
                && !std::mem::replace(&mut self.begun, true)
            {
                told.push(events::running(entry.seq - 1, attempt.started_at));
            }
            told.extend(events::of(&self.run, entry));
        }
        self.told = self.run.journal().len();
        told
    }

    /// What follows from an ephemeral event; nothing if the journal has gone past it.
    async fn tell_live(&mut self, event: LiveEvent) -> Result<Option<Vec<Event>>> {
        let (LiveEvent::Started { after, .. } | LiveEvent::Delta { after, .. }) = event;
        if after > self.run.last_seq() {
            self.read().await?;
        }
        let mut told = self.tell_entries();
        if after == self.run.last_seq() {
            match event {
                LiveEvent::Started { of, at, after } => self.tell_started(of, at, after, &mut told),
                LiveEvent::Delta { of, at, after, text } => {
                    told.push(Event {
                        cursor: after,
                        time: at,
                        what: What::Delta {
                            of,
                            text,
                            so_far: false,
                        },
                    });
                }
            }
        }
        Ok(Some(told).filter(|it| !it.is_empty()))
    }

    /// What was under way when following began.
    fn tell_under_way(&mut self, under_way: UnderWay, told: &mut Vec<Event>) {
        let UnderWay { of, since, after, text } = under_way;
        if after != self.run.last_seq() {
            return;
        }
        self.tell_started(of.clone(), since, after, told);
        if !text.is_empty() {
            told.push(Event {
                cursor: after,
                time: since,
                what: What::Delta { of, text, so_far: true },
            });
        }
    }

    fn tell_started(&mut self, of: StageTry, at: time::OffsetDateTime, after: i64, told: &mut Vec<Event>) {
        if !std::mem::replace(&mut self.begun, true) {
            told.push(events::running(after, at));
        }
        told.push(Event {
            cursor: after,
            time: at,
            what: What::Started(of),
        });
    }
}

fn stopping() -> Error {
    Error::Unavailable {
        reason: "STOPPING",
        message: "this process is stopping; watch again after the last cursor".into(),
        retry_after: Some(Duration::from_secs(1)),
    }
}
