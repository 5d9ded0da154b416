//! The writer: the one task that makes starts and progress durable, over one connection of its own.
//!
//! What is finished while a commit is under way is gathered and written by the next one; no timer, so a lone run waits for
//! nothing. What always holds: an answer `Written` means that it is durable; nothing is written twice, also when the
//! connection is lost over a commit, because then the hot row is locked and looked at before anything is written again; a
//! bad entry fails alone, its neighbours in the batch are unharmed; while the database is away items wait, as long as
//! their instance has its lease.

use std::time::Duration;

use service_kit::{
    error::{Error, Result},
    ids::ExecutionId,
};
use sqlx::{Connection, PgPool, error::DatabaseError};
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{
    connection::{OwnConnection, Trouble},
    store::writes::{self, Fate, NewRun, Record},
};

/// How many items may wait; more than runs can be held, as each waits for one.
const QUEUE: usize = 4_096;
/// The most items in one commit.
const BATCH: usize = 64;
/// How long to wait before trying again when the database is away.
const PAUSE: Duration = Duration::from_millis(200);

/// Something to make durable.
#[derive(Debug)]
pub(super) enum Write {
    /// A new run.
    Start(Box<NewRun>, CancellationToken, oneshot::Sender<Started>),
    /// A run's progress, its end or its being given back.
    Record(Box<Record>, CancellationToken, oneshot::Sender<Recorded>),
}

/// What became of a start.
#[derive(Debug)]
pub(super) enum Started {
    /// It is durable.
    Written,
    /// Its key names this run already.
    Existing(ExecutionId),
    /// Its key names a run that was asked for differently.
    KeyReused,
    /// It was not written.
    Failed(Error),
}

/// What became of a run's progress.
#[derive(Debug)]
pub(super) enum Recorded {
    /// It is durable.
    Written,
    /// The run is not this instance's any more; nothing was written.
    Fenced,
    /// The database refuses what stands in it; nothing was written.
    Refused,
}

/// The way to the writer.
#[derive(Debug, Clone)]
pub(super) struct Writer(mpsc::Sender<Write>);

impl Writer {
    /// A writer and its task. After `done` it writes what is queued, and ends.
    pub(super) fn new(pool: PgPool, done: CancellationToken) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (sender, queue) = mpsc::channel(QUEUE);
        (
            Self(sender),
            Task {
                queue,
                connection: OwnConnection::new(pool),
            }
            .run(done),
        )
    }

    /// Starts a run. `lost` fires when the instance that asks has no lease any more.
    pub(super) async fn start(&self, new: NewRun, lost: &CancellationToken) -> Started {
        let (reply, answer) = oneshot::channel();
        match self.0.send(Write::Start(Box::new(new), lost.clone(), reply)).await {
            Ok(()) => answer.await.unwrap_or_else(|_| Started::Failed(stopping())),
            Err(_) => Started::Failed(stopping()),
        }
    }

    /// Records a run's progress. `lost` fires when the instance that asks has no lease any more.
    pub(super) async fn record(&self, record: Record, lost: &CancellationToken) -> Recorded {
        let (reply, answer) = oneshot::channel();
        match self.0.send(Write::Record(Box::new(record), lost.clone(), reply)).await {
            Ok(()) => answer.await.unwrap_or(Recorded::Fenced),
            Err(_) => Recorded::Fenced,
        }
    }
}

fn stopping() -> Error {
    Error::Unavailable {
        reason: "SHUTTING_DOWN",
        message: "the service is stopping".into(),
        retry_after: Some(Duration::from_secs(1)),
    }
}

struct Task {
    queue: mpsc::Receiver<Write>,
    connection: OwnConnection,
}

struct Pending {
    record: Box<Record>,
    lost: CancellationToken,
    reply: oneshot::Sender<Recorded>,
}

impl Task {
    async fn run(mut self, done: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                biased;
                received = self.queue.recv_many(&mut batch, BATCH) => if received == 0 { return },
                () = done.cancelled() => {
                    self.queue.close();
                    continue;
                }
            }
            let mut records = Vec::with_capacity(batch.len());
            for item in batch.drain(..) {
                match item {
                    Write::Start(new, lost, reply) => {
                        let answer = self.start(&new, &lost).await;
                        let _gone = reply.send(answer);
                    }
                    Write::Record(record, lost, reply) => records.push(Pending { record, lost, reply }),
                }
            }
            // In one order everywhere, so that two writers never wait for each other.
            records.sort_by_key(|pending| pending.record.fence.execution);
            self.record_all(records).await;
        }
    }

    async fn start(&mut self, new: &NewRun, lost: &CancellationToken) -> Started {
        let mut may_be_done = false;
        loop {
            let result = self.try_start(new, may_be_done).await;
            match result {
                Ok(answer) => return answer,
                Err(Trouble::Conflict(_)) => {}
                // It met its own first try, which was still under way when it was looked for.
                Err(Trouble::Refused(error)) if may_be_done && is_there_already(&error) => {
                    if pause(lost).await.is_none() {
                        return Started::Failed(Trouble::Unknown(error).into());
                    }
                }
                Err(trouble @ Trouble::Refused(_)) => return Started::Failed(trouble.into()),
                Err(trouble @ Trouble::Away(_)) if !may_be_done => return Started::Failed(trouble.into()),
                Err(trouble) => {
                    may_be_done |= matches!(trouble, Trouble::Unknown(_));
                    tracing::warn!(error = %trouble, "a start waits for the database");
                    if pause(lost).await.is_none() {
                        return Started::Failed(trouble.into());
                    }
                }
            }
        }
    }

    async fn try_start(&mut self, new: &NewRun, may_be_done: bool) -> Result<Started, Trouble> {
        self.connection
            .with(async |connection| {
                if may_be_done && writes::exists(connection, new.execution).await? {
                    return Ok(Started::Written);
                }
                if writes::start(connection, new).await? {
                    return Ok(Started::Written);
                }
                let Some(key) = &new.key else {
                    return Ok(Started::Failed(Error::internal("a start without a key wrote nothing")));
                };
                // Only looked at where the key is taken, so that other starts do not pay for it.
                if writes::forget_expired(connection, new.company, new.started_by, key).await?
                    && writes::start(connection, new).await?
                {
                    return Ok(Started::Written);
                }
                Ok(
                    match writes::keyed(connection, new.company, new.started_by, key).await? {
                        // Its own first try, which was still under way when it was looked for.
                        Some((execution, _)) if execution == new.execution => Started::Written,
                        Some((execution, body_hash)) if body_hash == key.body_hash => Started::Existing(execution),
                        Some(_) => Started::KeyReused,
                        None => Started::Failed(Error::Aborted {
                            reason: "CONCURRENT_UPDATE",
                            message: "the key ran out just now; try again".into(),
                        }),
                    },
                )
            })
            .await
    }

    /// Writes a batch; where the database refuses it, its halves, until what is refused stands alone.
    async fn record_all(&mut self, records: Vec<Pending>) {
        let mut batches = vec![records];
        while let Some(batch) = batches.pop() {
            let Err((error, mut batch)) = self.record_batch(batch).await else {
                continue;
            };
            let half = batch.split_off(batch.len() / 2);
            if batch.is_empty() {
                for pending in half {
                    tracing::warn!(execution = %pending.record.fence.execution, error = %error, "entry refused");
                    let _gone = pending.reply.send(Recorded::Refused);
                }
                continue;
            }
            batches.push(half);
            batches.push(batch);
        }
    }

    /// Writes a batch until it is done, fenced, or refused; gives it back in the last case.
    async fn record_batch(&mut self, mut batch: Vec<Pending>) -> Result<(), (sqlx::Error, Vec<Pending>)> {
        let mut may_be_done = false;
        loop {
            batch = still_leased(batch);
            if batch.is_empty() {
                return Ok(());
            }
            if may_be_done {
                match self.settle(batch).await {
                    Ok(open) => {
                        batch = open;
                        may_be_done = false;
                        continue;
                    }
                    Err(unsettled) => batch = unsettled,
                }
            } else {
                let records: Vec<&Record> = batch.iter().map(|pending| &*pending.record).collect();
                match self
                    .connection
                    .with(async |connection| writes::record(connection, &records).await)
                    .await
                {
                    Ok(written) => {
                        for pending in batch {
                            let done = written.contains(&pending.record.fence.execution);
                            let _gone = pending
                                .reply
                                .send(if done { Recorded::Written } else { Recorded::Fenced });
                        }
                        return Ok(());
                    }
                    Err(Trouble::Conflict(_)) => continue,
                    Err(Trouble::Refused(error)) => return Err((error, batch)),
                    Err(trouble) => {
                        tracing::warn!(runs = batch.len(), error = %trouble, "progress waits for the database");
                        may_be_done = matches!(trouble, Trouble::Unknown(_));
                    }
                }
            }
            let _expired = pause(&batch[0].lost.clone()).await;
        }
    }

    /// Answers for what was done after all, or cannot be done any more, and gives back what is still open; gives back
    /// everything that was not looked at if the database went away again.
    async fn settle(&mut self, batch: Vec<Pending>) -> Result<Vec<Pending>, Vec<Pending>> {
        let mut open = Vec::new();
        let mut rest = batch.into_iter();
        while let Some(pending) = rest.next() {
            let fate = self
                .connection
                .with(async |connection| {
                    let mut transaction = connection.begin().await?;
                    let fate = writes::fate(&mut transaction, &pending.record).await?;
                    transaction.commit().await?;
                    Ok(fate)
                })
                .await;
            match fate {
                Ok(Fate::Open) => open.push(pending),
                Ok(Fate::Done) => drop(pending.reply.send(Recorded::Written)),
                Ok(Fate::Fenced) => drop(pending.reply.send(Recorded::Fenced)),
                Err(_) => {
                    open.push(pending);
                    open.extend(rest);
                    return Err(open);
                }
            }
        }
        Ok(open)
    }
}

fn is_there_already(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(DatabaseError::is_unique_violation)
}

/// Answers for those whose instance has no lease any more, and gives back the others.
fn still_leased(batch: Vec<Pending>) -> Vec<Pending> {
    let (expired, leased): (Vec<_>, Vec<_>) = batch.into_iter().partition(|pending| pending.lost.is_cancelled());
    for pending in expired {
        let _gone = pending.reply.send(Recorded::Fenced);
    }
    leased
}

/// Waits a little; `None` if the lease is lost meanwhile.
async fn pause(lost: &CancellationToken) -> Option<()> {
    lost.run_until_cancelled(sleep(PAUSE)).await
}
