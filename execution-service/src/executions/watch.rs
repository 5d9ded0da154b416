//! Following an execution: what the journal says from a cursor on, then what comes, until the end.
//!
//! Durable events come from the journal alone, in its order and each once. The process that runs the execution says at once
//! when there is more to read, and tells what is not in the journal: here where it is this one, else over the wire
//! ([`crate::replicas`]); of an execution that nobody tells of, the journal is read again and again. Whoever loses his
//! access is cut off within a second; when the process stops, watchers are told to resume elsewhere.

use std::{sync::Arc, time::Duration};

use futures::{Stream, TryStreamExt, stream};
use service_kit::{
    auth::Caller,
    db::TenantTx,
    error::{Error, Result},
    ids::{ExecutionId, StudioId},
};
use tokio::{
    sync::broadcast::error::RecvError,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    attempts::Run,
    enter,
    events::{self, Course, Event, What},
    not_found,
};
use crate::{
    App,
    access::{Access, hidden_as},
    aside::Aside,
    engine::journal::Payload,
    replicas::{self, Heard, Remote},
    worker::{Follower, LiveEvent, LiveWhat, UnderWay},
};

/// How often a watcher's access is checked.
const ACCESS_INTERVAL: Duration = Duration::from_millis(500);
/// How often the journal of an execution is read of which nobody tells.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How often it is read when somebody says what there is to read; the run may go elsewhere.
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
    let batches = stream::try_unfold(watcher, async |watcher: Watcher| {
        let next = watcher.next().await?;
        Ok::<_, Error>(next.map(|(events, watcher)| (stream::iter(events.into_iter().map(Ok)), watcher)))
    });
    Ok(batches.try_flatten())
}

struct Watcher {
    app: Arc<App>,
    caller: Caller,
    id: ExecutionId,
    studio: StudioId,
    /// Where the caller wants to go on.
    after: i64,
    access: Access,
    next_check: Instant,
    telling: Telling,
    last_read: Instant,
    /// Ephemeral events to be told of after the entries before them.
    waiting: Vec<LiveEvent>,
    follower: Follower,
    remote: Remote,
    stopping: CancellationToken,
}

impl Watcher {
    async fn open(app: Arc<App>, caller: Caller, id: ExecutionId, after: i64) -> Result<Self> {
        let access = enter(&app, &caller, id).await?;
        let studio = access.claims.studio_id.ok_or_else(|| not_found(id))?;
        // Followed before the journal is read: what happens meanwhile waits in the follower.
        let follower = app.engine.live().follow(id);
        let mut tx = TenantTx::begin(&app.pool, "executions.watch", &access.claims).await?;
        let run = Run::open(&mut tx, id).await?;
        drop(tx);
        let mut watcher = Self {
            after,
            access,
            studio,
            next_check: Instant::now() + ACCESS_INTERVAL,
            telling: Telling {
                course: Course::of(&run),
                run,
                told: 0,
                begun: after > 1,
            },
            last_read: Instant::now(),
            waiting: Vec::new(),
            follower,
            remote: Remote::new(caller.user, id),
            stopping: app.lifecycle.soft(),
            app,
            caller,
            id,
        };
        watcher.hear_under_way();
        watcher.read().await?;
        Ok(watcher)
    }

    /// What comes next; nothing after the end.
    async fn next(mut self) -> Result<Option<(Vec<Event>, Self)>> {
        loop {
            if self.waiting.iter().any(|it| it.after > self.telling.last_seq()) {
                self.read().await?;
            }
            let mut events;
            (self.telling, events) = self.telling.entries(&self.app.aside, self.after).await;
            for event in self.waiting.drain(..) {
                self.telling.live(event, &mut events);
            }
            if !events.is_empty() {
                return Ok(Some((events, self)));
            }
            if self.telling.run.has_ended() {
                return Ok(None);
            }
            self.hear().await?;
        }
    }

    /// Waits until something may have happened.
    async fn hear(&mut self) -> Result<()> {
        let is_held_here = self.follower.held_at().is_some();
        if is_held_here {
            self.remote.stop();
        }
        let interval = if is_held_here || self.remote.is_listening() {
            SAFETY_INTERVAL
        } else {
            POLL_INTERVAL
        };
        tokio::select! {
            biased;
            () = self.stopping.cancelled() => Err(stopping()),
            () = sleep_until(self.next_check) => self.check_access().await,
            // The sender lives as long as its follower.
            _ = self.follower.seq.changed() => self.read().await,
            event = self.follower.events.recv() => match event {
                Ok(event) => {
                    self.waiting.push(event);
                    Ok(())
                }
                Err(RecvError::Lagged(_) | RecvError::Closed) => {
                    self.follower = self.app.engine.live().follow(self.id);
                    self.hear_under_way();
                    self.read().await
                }
            },
            heard = self.remote.next() => match heard {
                Heard::Told(told) => {
                    self.waiting.extend(told.event);
                    if told.seq > self.telling.last_seq() {
                        self.read().await?;
                    }
                    Ok(())
                }
                Heard::Over => self.read().await,
            },
            () = sleep_until(self.last_read + interval) => self.read().await,
        }
    }

    async fn check_access(&mut self) -> Result<()> {
        let access = self.app.core.check_studio(self.caller.user, self.studio).await;
        self.access = access.map_err(hidden_as("execution", self.id))?;
        self.next_check = Instant::now() + ACCESS_INTERVAL;
        Ok(())
    }

    /// Reads on in the journal, and sees who could tell of the run if nobody does.
    async fn read(&mut self) -> Result<()> {
        let mut tx = TenantTx::begin(&self.app.pool, "executions.watch", &self.access.claims).await?;
        let run = &mut self.telling.run;
        run.read_up_to(&mut tx, i64::MAX).await?;
        self.last_read = Instant::now();
        if self.follower.held_at().is_none() && self.remote.wants_holder() && !run.has_ended() {
            let holder = replicas::holder(&mut tx, self.id).await?;
            if let Some(address) = holder {
                self.remote.listen(&self.app.replicas, &address, run.last_seq());
            }
        }
        Ok(())
    }

    /// What was under way when following began.
    fn hear_under_way(&mut self) {
        let under_way = std::mem::take(&mut self.follower.under_way).into_iter();
        self.waiting.extend(under_way.flat_map(UnderWay::into_events));
    }
}

/// The journal as far as it was read, and how far it was told.
struct Telling {
    run: Run,
    /// Where the run stood after the entries that have been told of.
    course: Course,
    /// How many of the run's entries have been told of, or need not be.
    told: usize,
    /// Whether the caller knows that the run has begun.
    begun: bool,
}

impl Telling {
    fn last_seq(&self) -> i64 {
        self.run.last_seq()
    }

    /// What the entries say that were read and not told of yet, of those after a place.
    async fn entries(mut self, aside: &Aside, after: i64) -> (Self, Vec<Event>) {
        let new = &self.run.journal()[self.told..];
        if new.iter().any(|it| it.payload.attempt().is_some()) {
            // Their prompts are rendered, and what follows from them is found out, which takes time.
            let tell = move || {
                let events = self.tell(after);
                (self, events)
            };
            return aside.run(tell).await;
        }
        let events = self.tell(after);
        (self, events)
    }

    fn tell(&mut self, after: i64) -> Vec<Event> {
        let mut told = Vec::new();
        for entry in &self.run.journal()[self.told..] {
            if entry.seq <= after {
                self.course.pass(&self.run, entry);
                continue;
            }
            let begun_at = match &entry.payload {
                Payload::Attempt(attempt) => Some(attempt.started_at),
                Payload::Intent(_) | Payload::Child(_) | Payload::FlowRun(_) => Some(entry.occurred_at),
                _ => None,
            };
            if let Some(begun_at) = begun_at
                && !std::mem::replace(&mut self.begun, true)
            {
                told.push(events::running(entry.seq - 1, begun_at));
            }
            let said = events::of(&self.run, &mut self.course, entry);
            self.begun |= said.iter().any(|it| it.what.says_running());
            told.extend(said);
        }
        let all = self.run.journal().len();
        self.run.forget_answers(self.told..all);
        self.told = all;
        told
    }

    /// Tells of an ephemeral event, unless the journal has gone past it.
    fn live(&mut self, event: LiveEvent, told: &mut Vec<Event>) {
        let LiveEvent { of, at, after, what } = event;
        if after != self.last_seq() {
            return;
        }
        let what = match what {
            LiveWhat::Started => What::Started(of),
            LiveWhat::Delta { text, so_far } => What::Delta { of, text, so_far },
        };
        if !std::mem::replace(&mut self.begun, true) {
            told.push(events::running(after, at));
        }
        told.push(Event {
            cursor: after,
            time: at,
            what,
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
