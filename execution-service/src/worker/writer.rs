//! The writer: the one task that makes starts and progress durable, over one connection of its own.
//!
//! What is finished while a commit is under way is gathered and written by the next one, starts and progress together; no
//! timer, so a lone run waits for nothing. What always holds: an answer `Written` means that it is durable; nothing is written
//! twice, also when the connection is lost over a commit, because then what was written is read again, under the hot rows'
//! locks, before anything else is tried; a bad entry fails alone, found by halving the batch, and its neighbours are unharmed;
//! while the database is away progress waits, as long as its instance has its lease, and starts fail.

use std::{iter, time::Duration};

use service_kit::{
    error::{Error, Result},
    ids::ExecutionId,
};
use sqlx::{Connection, PgPool};
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{
    connection::{OwnConnection, Trouble},
    store::{quotas, writes},
};
use crate::access::Allowance;

mod ask;
mod batch;
mod items;

pub use ask::Ask;
use batch::{Item, Work};
pub use items::{End, Fence, NewKey, NewRun, Record, Then, Times, Used};

/// How many items may wait; more than runs can be held, as each waits for one.
const QUEUE: usize = 4_096;
/// The most items in one commit.
const BATCH: usize = 256;
/// How long to wait before trying again when the database is away.
const PAUSE: Duration = Duration::from_millis(200);

/// What became of a start.
#[derive(Debug)]
pub enum Started {
    /// It is durable.
    Written(Times),
    /// Its key names this run already.
    Existing(ExecutionId),
    /// Its key names a run that was asked for differently.
    KeyReused,
    /// It was not written, or it is not known whether it was.
    Failed(Error),
}

/// What became of a run's progress.
#[derive(Debug)]
pub enum Recorded {
    /// It is durable.
    Written,
    /// The run is not this instance's any more; nothing was written.
    Fenced,
    /// The database refuses what stands in it; nothing was written.
    Refused(Box<Record>),
}

/// The way to the writer.
#[derive(Debug, Clone)]
pub struct Writer(mpsc::Sender<Item>);

impl Writer {
    /// A writer and its task. After `done` it writes what is queued, and ends.
    pub fn new(pool: PgPool, done: CancellationToken) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let connection = OwnConnection::new(pool);
        (Self(sender), Task { queue, connection }.run(done))
    }

    /// Starts a run. `lost` fires when the instance that asks has no lease any more.
    pub async fn start(&self, new: NewRun, lost: &CancellationToken) -> Started {
        let (reply, answer) = oneshot::channel();
        match self.0.send(Item::start(new, lost.clone(), reply)).await {
            Ok(()) => answer.await.unwrap_or_else(|_| Started::Failed(stopping())),
            Err(_) => Started::Failed(stopping()),
        }
    }

    /// Records a run's progress. `lost` fires when the instance that asks has no lease any more.
    pub async fn record(&self, record: Record, lost: &CancellationToken) -> Recorded {
        let (reply, answer) = oneshot::channel();
        match self.0.send(Item::record(record, lost.clone(), reply)).await {
            Ok(()) => answer.await.unwrap_or(Recorded::Fenced),
            Err(_) => Recorded::Fenced,
        }
    }
}

fn stopping() -> Error {
    unavailable("SHUTTING_DOWN", "the service is stopping")
}

fn out_of_reach() -> Error {
    unavailable("DATABASE_UNAVAILABLE", "the database cannot be reached")
}

fn ran_out() -> Error {
    Error::Aborted {
        reason: "CONCURRENT_UPDATE",
        message: "the key ran out just now; try again".into(),
    }
}

fn unavailable(reason: &'static str, message: &'static str) -> Error {
    Error::Unavailable {
        reason,
        message: message.into(),
        retry_after: Some(Duration::from_secs(1)),
    }
}

struct Task {
    queue: mpsc::Receiver<Item>,
    connection: OwnConnection,
}

impl Task {
    async fn run(mut self, done: CancellationToken) {
        let mut items = Vec::with_capacity(BATCH);
        loop {
            if items.is_empty() {
                tokio::select! {
                    biased;
                    received = self.queue.recv_many(&mut items, BATCH) => if received == 0 { return },
                    () = done.cancelled() => self.queue.close(),
                }
            } else {
                sleep(PAUSE).await;
                // Starts among them are not to wait for a database that is away.
                items.extend(iter::from_fn(|| self.queue.try_recv().ok()).take(BATCH));
            }
            items = self.write(items).await;
        }
    }

    /// Writes them; gives back those that have to wait for the database.
    async fn write(&mut self, items: Vec<Item>) -> Vec<Item> {
        let (doubtful, mut items): (Vec<_>, Vec<_>) = batch::leased(items).into_iter().partition(|item| item.doubtful);
        match self.settle(doubtful).await {
            Ok(open) => items.extend(open),
            Err((trouble, doubtful)) => {
                items.extend(doubtful);
                return kept_waiting(items, &trouble);
            }
        }
        let mut batches = batch::batches(batch::folded(items), BATCH);
        while let Some(batch) = batches.pop() {
            let batch = batch::leased(batch);
            match self.write_batch(batch).await {
                Ok(()) => {}
                Err((Trouble::Conflict(_), batch)) => batches.push(batch),
                Err((Trouble::Refused(error), batch)) => batches.extend(halves(batch, error)),
                Err((trouble, mut batch)) => {
                    for item in &mut batch {
                        item.doubtful = matches!(trouble, Trouble::Unknown(_));
                    }
                    batch.extend(batches.into_iter().flatten());
                    return kept_waiting(batch, &trouble);
                }
            }
        }
        Vec::new()
    }

    /// Answers for what was done after all, or cannot be done any more, and gives back what is still open; everything where the
    /// database does not say.
    async fn settle(&mut self, doubtful: Vec<Item>) -> Result<Vec<Item>, (Trouble, Vec<Item>)> {
        if doubtful.is_empty() {
            return Ok(doubtful);
        }
        let (starts, records) = batch::split(&doubtful);
        let read = self
            .connection
            .with(async |connection| {
                let mut transaction = connection.begin().await?;
                let standing = writes::standing(&mut transaction, &records).await?;
                let done = writes::done(&mut transaction, &starts, &records).await?;
                transaction.commit().await?;
                Ok((standing, done))
            })
            .await;
        let (standing, done) = match read {
            Ok(read) => read,
            Err(trouble) => return Err((trouble, doubtful)),
        };
        let mut open = Vec::new();
        for mut item in doubtful {
            item.doubtful = false;
            let lasts = match &item.work {
                Work::Start(..) => true,
                Work::Record(record, _) => standing.contains(&record.fence),
            };
            match done.get(&item.execution()) {
                Some(times) => item.written(*times),
                None if lasts => open.push(item),
                None => item.fenced(),
            }
        }
        Ok(open)
    }

    /// Writes a batch in one statement, and answers; gives it back where that was not possible.
    async fn write_batch(&mut self, batch: Vec<Item>) -> Result<(), (Trouble, Vec<Item>)> {
        let (starts, records) = batch::split(&batch);
        let written = self
            .connection
            .with(async |connection| writes::write(connection, &starts, &records).await)
            .await;
        let done = match written {
            Ok(done) => done,
            Err(trouble) => return Err((trouble, batch)),
        };
        let mut met = Vec::new();
        for item in batch {
            match done.get(&item.execution()) {
                Some(times) => item.written(*times),
                None if matches!(item.work, Work::Start(..)) => met.push(item),
                None => item.fenced(),
            }
        }
        if !met.is_empty() {
            self.meet(met).await;
        }
        Ok(())
    }

    /// Answers for starts that met what was there: another run with their key, their own first try, or the end of what their
    /// company's plan lets it start.
    async fn meet(&mut self, met: Vec<Item>) {
        let (starts, _) = batch::split(&met);
        let limited: Vec<_> = starts.iter().filter_map(|new| Some((*new, new.allowance?))).collect();
        let read = self
            .connection
            .with(async |connection| {
                let done = writes::done(connection, &starts, &[]).await?;
                let named = writes::named(connection, &starts).await?;
                Ok((done, named, quotas::used(connection, &limited).await?))
            })
            .await;
        for item in met {
            match &read {
                Err(_) => item.failed(&out_of_reach),
                Ok((done, named, used)) => match (done.get(&item.execution()), named.get(&item.execution())) {
                    (Some(times), _) => item.written(*times),
                    (None, Some(named)) => item.meets(named),
                    (None, None) => {
                        let why = item
                            .limit()
                            .and_then(|(company, allowed)| Some((*used.get(&company)?, allowed)));
                        let keyed = item.is_keyed();
                        item.failed(&|| match why {
                            Some((used, allowed)) if !keyed || used.leaves_none(allowed) => used_up(used, allowed),
                            _ => ran_out(),
                        });
                    }
                },
            }
        }
    }
}

/// Why the plan left no room for a start. Where meanwhile it does, it was a run that has ended since.
fn used_up(used: Used, allowed: Allowance) -> Error {
    if used.starts >= allowed.executions_per_month {
        let most = allowed.executions_per_month;
        Error::ResourceExhausted {
            reason: "EXECUTION_QUOTA_EXCEEDED",
            message: format!(
                "the company's plan lets it start {most} executions a month (UTC), and none is left of them"
            ),
            retry_after: None,
        }
    } else {
        let (most, now) = (allowed.concurrent_executions, used.at_work);
        Error::ResourceExhausted {
            reason: "CONCURRENCY_QUOTA_EXCEEDED",
            message: format!("the company's plan lets {most} executions work at the same time; {now} do"),
            retry_after: None,
        }
    }
}

/// What a refused batch is tried again as: its halves, the first one last, until what is refused stands alone.
fn halves(mut batch: Vec<Item>, error: sqlx::Error) -> Vec<Vec<Item>> {
    let half = batch.split_off(batch.len() / 2);
    if !batch.is_empty() {
        return vec![half, batch];
    }
    let mut error = Some(error);
    let freed = half.into_iter().flat_map(|item| {
        let error = error.take().expect("it stands alone");
        tracing::warn!(execution = %item.execution(), error = %error, "refused by the database");
        item.refused(error.into())
    });
    batch::batches(batch::folded(freed.collect()), BATCH)
}

/// What goes on waiting while the database is away: everything but starts, which nobody can have seen yet.
fn kept_waiting(items: Vec<Item>, trouble: &Trouble) -> Vec<Item> {
    tracing::warn!(items = items.len(), error = %trouble, "the writer waits for the database");
    if !matches!(trouble, Trouble::Away(_)) {
        return items;
    }
    let (failed, waiting): (Vec<_>, Vec<_>) = items
        .into_iter()
        .partition(|item| matches!(item.work, Work::Start(..)) && !item.doubtful);
    for item in failed {
        item.failed(&out_of_reach);
    }
    waiting
}
