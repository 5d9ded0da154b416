//! Reads the end of the outbox, once for all followers of this process, and only while there is one.
//!
//! On a connection of its own it listens for the hints that publishing gives. Between them the connection is pinged: a
//! listening session answers a ping after the notifications that came before it, so the answer proves that nothing is
//! missing, and costs no transaction. Whether hints come through is proved again and again, by one of its own. While it is
//! not, and behind a pooler that lends sessions to others, who must not hear what this one listens for, it asks instead.

use std::{sync::Arc, time::Duration};

use service_kit::{
    db::WorkerTx,
    error::{Error, Result},
};
use sqlx::{
    Acquire, Connection, PgConnection, PgPool,
    postgres::{PgListener, PgPoolOptions},
};
use tokio::{
    sync::{Notify, broadcast},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Published, store};

/// How often the database is heard of at least.
pub(super) const BEAT: Duration = Duration::from_millis(200);

/// How old what a heartbeat says may be. Who follows adds this to his own patience.
pub(super) const FRESH: Duration = Duration::from_millis(250);

/// How long the database may take to answer, before another connection is tried.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often it is proved that hints come through.
const PROOF: Duration = Duration::from_secs(15);

/// How long after a lost connection another one is opened, at least and at most.
const PAUSE_MS: std::ops::Range<u64> = 300..700;

/// How many events are read at a time.
const PAGE: usize = 500;

/// How much news a follower may leave unread before he has to read the outbox himself.
const BACKLOG: usize = 256;

/// What is new at the outbox's end.
#[derive(Clone, Debug)]
pub(super) enum News {
    /// All events after a position up to another one.
    Events {
        after: i64,
        up_to: i64,
        events: Arc<[Published]>,
    },
    /// Nothing after the position was committed until at most [`FRESH`] ago.
    Beat { up_to: i64 },
    /// What came before is another history.
    Reset { position: i64 },
}

/// The end of the outbox, as this process's followers learn of it.
#[derive(Clone, Debug)]
pub struct Tail(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    pool: PgPool,
    news: broadcast::Sender<News>,
    wanted: Notify,
    stopping: CancellationToken,
}

impl Tail {
    /// Over the background work's connections; [`run`](Self::run) reads. Followers are ended when `stopping` fires.
    pub fn new(pool: PgPool, stopping: CancellationToken) -> Self {
        Self(Arc::new(Shared {
            pool,
            news: broadcast::Sender::new(BACKLOG),
            wanted: Notify::new(),
            stopping,
        }))
    }

    /// Reads for the followers until the process is to stop.
    pub async fn run(self) {
        let stopping = &self.0.stopping;
        let mut is_well = true;
        loop {
            while self.0.news.receiver_count() == 0 {
                if stopping.run_until_cancelled(self.0.wanted.notified()).await.is_none() {
                    return;
                }
            }
            match stopping.run_until_cancelled(Box::pin(self.read(&mut is_well))).await {
                None => return,
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    if std::mem::take(&mut is_well) {
                        tracing::warn!(error = %error, "outbox not read");
                    }
                    sleep(Duration::from_millis(rand::random_range(PAUSE_MS))).await;
                }
            }
        }
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<News> {
        let news = self.0.news.subscribe();
        self.0.wanted.notify_one();
        news
    }

    pub(super) async fn stopped(&self) {
        self.0.stopping.cancelled().await;
    }

    /// The transaction in which a follower reads for himself.
    pub(super) async fn transaction(&self) -> Result<WorkerTx> {
        WorkerTx::begin(&self.0.pool, "outbox.catch_up").await
    }

    /// Reads while somebody follows.
    async fn read(&self, is_well: &mut bool) -> Result<()> {
        let mut line = Line::open(&self.0.pool).await?;
        let mut position = line.newest().await?;
        if !std::mem::replace(is_well, true) {
            tracing::info!("outbox read again");
        }
        while self.0.news.receiver_count() > 0 {
            let is_hinted = line.wait().await?;
            let begun = Instant::now();
            if is_hinted || line.is_deaf() || line.ping().await? {
                self.read_on(&mut line, &mut position).await?;
            }
            if begun.elapsed() <= FRESH {
                self.tell(News::Beat { up_to: position });
            }
            line.prove().await?;
        }
        Ok(())
    }

    /// Reads all that comes after the position.
    async fn read_on(&self, line: &mut Line, position: &mut i64) -> Result<()> {
        loop {
            let Some(page) = line.page(*position).await? else {
                *position = line.newest().await?;
                tracing::warn!(position, "the outbox has another history");
                self.tell(News::Reset { position: *position });
                return Ok(());
            };
            if let Some(last) = page.events.last() {
                let after = std::mem::replace(position, last.position);
                self.tell(News::Events {
                    after,
                    up_to: *position,
                    events: page.events.into(),
                });
            }
            if page.is_last {
                return Ok(());
            }
        }
    }

    fn tell(&self, news: News) {
        // That nobody follows any more is noticed at the next turn.
        let _ = self.0.news.send(news);
    }
}

/// The connection that listens, or asks.
struct Line {
    listener: PgListener,
    pool: PgPool,
    /// `None` where nothing is listened for.
    proof: Option<Proof>,
}

impl Line {
    async fn open(pool: &PgPool) -> Result<Self> {
        let own = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(PATIENCE)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_lazy_with((*pool.connect_options()).clone());
        let mut listener = PgListener::connect_with(&own).await?;
        listener.eager_reconnect(false);
        let mut line = Self {
            listener,
            pool: pool.clone(),
            proof: None,
        };
        if in_time(line.has_its_own_session()).await? {
            in_time(async { Ok(line.listener.listen(store::CHANNEL).await?) }).await?;
            line.proof = Some(Proof::default());
            line.prove().await?;
        }
        Ok(line)
    }

    /// Whether the connection has the same session all the time, and another one has not. A transaction pooler lends the
    /// session that one has just given back to the next who asks, or each in turn.
    async fn has_its_own_session(&mut self) -> Result<bool> {
        let own = self.session().await?;
        for _ in 0..3 {
            let mut tx = WorkerTx::begin(&self.pool, "outbox.session").await?;
            let another = store::session(&mut tx).await?;
            tx.commit().await?;
            if another == own || self.session().await? != own {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn session(&mut self) -> Result<i32> {
        let mut tx = self.listener.begin().await?;
        let session = store::session(&mut tx).await?;
        tx.commit().await?;
        Ok(session)
    }

    /// Waits for a hint, and no longer than for a beat; says whether one came.
    async fn wait(&mut self) -> Result<bool> {
        let Ok(heard) = timeout(BEAT, self.listener.try_recv()).await else {
            return Ok(false);
        };
        let Some(first) = heard? else {
            return Err(Error::internal("the connection is lost"));
        };
        let is_hint = self.is_hint(first.payload());
        Ok(self.drain() | is_hint)
    }

    /// Whether the database has to be asked, because hints are not known to come through.
    fn is_deaf(&self) -> bool {
        self.proof.as_ref().is_none_or(|it| !it.holds(Instant::now()))
    }

    /// Hears the database answer; says whether a hint came before that.
    async fn ping(&mut self) -> Result<bool> {
        in_time(async { Ok(self.listener.acquire().await?.ping().await?) }).await?;
        Ok(self.drain())
    }

    fn drain(&mut self) -> bool {
        let mut is_hinted = false;
        while let Some(next) = self.listener.next_buffered() {
            is_hinted |= self.is_hint(next.payload());
        }
        is_hinted
    }

    fn is_hint(&mut self, heard: &str) -> bool {
        self.proof.as_mut().is_some_and(|it| it.is_hint(heard))
    }

    /// Begins a proof that hints come through, if it is time. The hint is given on another connection, as all others are.
    async fn prove(&mut self) -> Result<()> {
        if let Some(word) = self.proof.as_mut().and_then(|it| it.begin(Instant::now())) {
            in_time(async {
                let mut tx = WorkerTx::begin(&self.pool, "outbox.prove").await?;
                store::hint(&mut tx, &word).await?;
                tx.commit().await
            })
            .await?;
        }
        Ok(())
    }

    async fn newest(&mut self) -> Result<i64> {
        in_time(async {
            let mut tx = self.listener.begin().await?;
            let newest = store::newest(&mut tx).await?;
            tx.commit().await?;
            Ok(newest)
        })
        .await
    }

    async fn page(&mut self, after: i64) -> Result<Option<Page>> {
        in_time(async {
            let mut tx = self.listener.begin().await?;
            let page = Page::read(&mut tx, after).await?;
            tx.commit().await?;
            Ok(page)
        })
        .await
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(PATIENCE, work).await.unwrap_or(Err(Error::DeadlineExceeded))
}

/// Whether hints come through: a proof was heard, and the last one was or still may be.
#[derive(Debug, Default)]
struct Proof {
    was_heard: bool,
    /// What is to be heard, until it is.
    word: Option<String>,
    begun: Option<Instant>,
}

impl Proof {
    /// The word of the next proof, if it is time for one.
    fn begin(&mut self, now: Instant) -> Option<String> {
        if self.begun.is_some_and(|begun| now < begun + PROOF) {
            return None;
        }
        self.was_heard &= self.word.is_none();
        self.begun = Some(now);
        self.word = Some(Uuid::now_v7().to_string());
        self.word.clone()
    }

    fn holds(&self, now: Instant) -> bool {
        let is_late = self.word.is_some() && self.begun.is_some_and(|begun| now >= begun + PATIENCE);
        self.was_heard && !is_late
    }

    /// Whether what was heard is a hint, and not the word of a proof, this process's or another's.
    fn is_hint(&mut self, heard: &str) -> bool {
        if self.word.as_deref() == Some(heard) {
            self.word = None;
            self.was_heard = true;
        }
        heard.is_empty()
    }
}

/// Some events after a position.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) events: Vec<Published>,
    /// Whether there were no more when it was read.
    pub(super) is_last: bool,
}

impl Page {
    /// `None` where it cannot be said what came after the position: it is no longer kept, or of another history.
    pub(super) async fn read(connection: &mut PgConnection, after: i64) -> Result<Option<Self>> {
        let limit = i64::try_from(PAGE + 1).unwrap_or(i64::MAX);
        let rows = store::from(connection, after, limit).await?;
        Ok(Self::after(after, rows))
    }

    /// From the events that stand from that position on. The newest event is always kept, so none stand there only where
    /// there has never been one; and before the first one ever is position 0.
    fn after(after: i64, mut rows: Vec<Published>) -> Option<Self> {
        let is_last = rows.len() <= PAGE;
        match rows.first().map(|it| it.position) {
            Some(first) if first == after => drop(rows.remove(0)),
            Some(first) if after == 0 && first == 1 => {}
            None if after == 0 => {}
            _ => return None,
        }
        Some(Self { events: rows, is_last })
    }
}

#[cfg(test)]
mod tests {
    use service_kit::ids::CompanyId;

    use super::*;

    fn rows(positions: impl IntoIterator<Item = i64>) -> Vec<Published> {
        let published = |position| Published {
            position,
            company: CompanyId::generate(),
            event: None,
        };
        positions.into_iter().map(published).collect()
    }

    fn after(after: i64, positions: impl IntoIterator<Item = i64>) -> Option<(Vec<i64>, bool)> {
        let page = Page::after(after, rows(positions))?;
        Some((page.events.iter().map(|it| it.position).collect(), page.is_last))
    }

    #[test]
    fn a_page_begins_after_an_event_that_is_kept() {
        assert_eq!(after(7, [7, 9, 12]), Some((vec![9, 12], true)));
        assert_eq!(after(7, [7]), Some((vec![], true)));
        assert_eq!(after(0, []), Some((vec![], true)));
        assert_eq!(after(0, [1, 2]), Some((vec![1, 2], true)));
    }

    #[test]
    fn what_came_after_an_event_that_is_gone_is_not_known() {
        for (position, kept) in [(7, vec![9, 12]), (7, vec![]), (0, vec![3, 4])] {
            assert_eq!(after(position, kept), None);
        }
    }

    #[test]
    fn a_full_page_is_not_the_last() {
        let most = i64::try_from(PAGE).unwrap();
        assert!(!after(0, 1..=most + 1).unwrap().1);
        assert!(after(0, 1..=most).unwrap().1);
        assert!(!after(5, 5..=5 + most).unwrap().1);
    }

    #[test]
    fn hints_are_believed_in_while_the_proofs_are_heard() {
        let now = Instant::now();
        let mut proof = Proof::default();
        let first = proof.begin(now).unwrap();
        assert!(!proof.holds(now) && proof.begin(now).is_none());
        assert!(!proof.is_hint("another's word") && !proof.holds(now));
        assert!(proof.is_hint("") && !proof.holds(now));
        assert!(!proof.is_hint(&first) && proof.holds(now));
        let next = now + PROOF;
        let second = proof.begin(next).unwrap();
        assert!(proof.holds(next), "the word may still come");
        assert!(!proof.holds(next + PATIENCE));
        assert!(!proof.is_hint(&first));
        let last = next + PROOF;
        let third = proof.begin(last).unwrap();
        assert!(!proof.holds(last));
        assert!(!proof.is_hint(&second) && !proof.holds(last));
        assert!(!proof.is_hint(&third) && proof.holds(last));
    }
}
