//! One who follows the outbox: what came after his position, then what comes, and heartbeats while nothing does.
//!
//! He reads the outbox himself until he has caught up with its end, and again when he could not keep pace; otherwise he lives
//! on what the tail reads for all. His cursor is the position of an event, so that he can go on after it later. Who begins anew
//! is told which sessions ended lately: of them he cannot have heard.

use std::{collections::VecDeque, time::Duration};

use service_kit::{
    auth::REMEMBERED,
    error::{Error, Result},
};
use sqlx::PgConnection;
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::Instant,
};

use super::{
    Published, store,
    tail::{FRESH, News, Page, Tail},
};

/// What a follower is told.
#[derive(Clone, Debug)]
pub enum Told {
    /// The next event.
    Event(Published),
    /// No event up to this position is missing, and none was committed after it until a moment ago.
    Heartbeat(i64),
    /// What came before this position can no longer be told; what was derived from it is to be forgotten.
    Reset(i64),
}

/// One who follows.
#[derive(Debug)]
pub struct Follower {
    tail: Tail,
    news: broadcast::Receiver<News>,
    cursor: i64,
    /// Whether there may be events after the cursor that the tail will not tell.
    is_behind: bool,
    told: VecDeque<Told>,
}

impl Follower {
    /// Begins after a position, or with what comes from now on.
    pub async fn open(tail: &Tail, after: Option<i64>) -> Result<Self> {
        // Subscribed before the outbox is read: what happens meanwhile waits there.
        let news = tail.subscribe();
        let mut follower = Self {
            tail: tail.clone(),
            news,
            cursor: after.unwrap_or_default(),
            is_behind: after.is_some(),
            told: VecDeque::new(),
        };
        if after.is_none() {
            let begun = Instant::now();
            let mut tx = tail.transaction().await?;
            let position = store::newest(&mut tx).await?;
            follower.cursor = position;
            follower.tell_ended(&mut tx, position).await?;
            follower.beat(begun);
        }
        Ok(follower)
    }

    /// What comes next.
    ///
    /// # Errors
    /// `Unavailable` when the process stops, or where the database cannot be read.
    pub async fn next(&mut self) -> Result<Told> {
        loop {
            if let Some(told) = self.told.pop_front() {
                return Ok(told);
            }
            if self.is_behind {
                self.catch_up().await?;
                continue;
            }
            tokio::select! {
                biased;
                () = self.tail.stopped() => return Err(stopping()),
                news = self.news.recv() => self.take(news),
            }
        }
    }

    /// Takes what the tail has read. What is missing before it is read from the outbox, and it along with that.
    fn take(&mut self, news: Result<News, RecvError>) {
        match news {
            Ok(News::Events { after, up_to, events }) if after <= self.cursor => {
                let new = events.iter().filter(|it| it.position > self.cursor);
                self.told.extend(new.copied().map(Told::Event));
                self.cursor = self.cursor.max(up_to);
            }
            Ok(News::Beat { up_to }) if up_to <= self.cursor => self.told.push_back(Told::Heartbeat(self.cursor)),
            Ok(News::Events { .. } | News::Beat { .. }) | Err(RecvError::Lagged(_) | RecvError::Closed) => {
                self.is_behind = true;
            }
            Ok(News::Reset { position }) => self.reset(position),
        }
    }

    /// Reads on in the outbox.
    async fn catch_up(&mut self) -> Result<()> {
        let begun = Instant::now();
        let mut tx = self.tail.transaction().await?;
        if let Some(page) = Page::read(&mut tx, self.cursor).await? {
            self.cursor = page.events.last().map_or(self.cursor, |it| it.position);
            self.is_behind = !page.is_last;
            self.told.extend(page.events.into_iter().map(Told::Event));
        } else {
            let newest = store::newest(&mut tx).await?;
            self.reset(newest);
            self.tell_ended(&mut tx, newest).await?;
        }
        if !self.is_behind {
            self.beat(begun);
        }
        Ok(())
    }

    /// Tells of the sessions that ended lately, as of this position; some may be told again.
    async fn tell_ended(&mut self, tx: &mut PgConnection, position: i64) -> Result<()> {
        let ended = store::ended_sessions(tx, REMEMBERED).await?;
        let told = ended.into_iter().map(|it| Told::Event(Published { position, ..it }));
        self.told.extend(told);
        Ok(())
    }

    fn reset(&mut self, position: i64) {
        self.cursor = position;
        self.is_behind = false;
        self.told.push_back(Told::Reset(position));
    }

    /// Tells that nothing was missing in what was read since then, if that is still news.
    fn beat(&mut self, begun: Instant) {
        if begun.elapsed() <= FRESH {
            self.told.push_back(Told::Heartbeat(self.cursor));
        }
    }
}

fn stopping() -> Error {
    Error::Unavailable {
        reason: "STOPPING",
        message: "this process is stopping; follow again after the last position".into(),
        retry_after: Some(Duration::from_millis(100)),
    }
}

#[cfg(test)]
mod tests {
    use service_kit::ids::CompanyId;
    use sqlx::postgres::PgPoolOptions;
    use tokio_util::sync::CancellationToken;

    use super::*;

    fn follower(cursor: i64) -> Follower {
        let pool = PgPoolOptions::new()
            .connect_lazy("postgres://nobody@localhost/none")
            .unwrap();
        let tail = Tail::new(pool, CancellationToken::new());
        Follower {
            news: tail.subscribe(),
            tail,
            cursor,
            is_behind: false,
            told: VecDeque::new(),
        }
    }

    fn events(after: i64, positions: &[i64]) -> News {
        let published = |position: &i64| Published {
            position: *position,
            company: CompanyId::generate(),
            event: None,
        };
        News::Events {
            after,
            up_to: *positions.last().unwrap(),
            events: positions.iter().map(published).collect(),
        }
    }

    fn told(follower: &mut Follower) -> Vec<String> {
        let name = |told| match told {
            Told::Event(event) => format!("event {}", event.position),
            Told::Heartbeat(position) => format!("beat {position}"),
            Told::Reset(position) => format!("reset {position}"),
        };
        follower.told.drain(..).map(name).collect()
    }

    #[tokio::test]
    async fn what_the_tail_has_read_is_told_once_and_in_order() {
        let mut it = follower(5);
        it.take(Ok(events(3, &[4, 5, 6])));
        it.take(Ok(News::Beat { up_to: 6 }));
        it.take(Ok(events(6, &[8])));
        assert_eq!(told(&mut it), ["event 6", "beat 6", "event 8"]);
        it.take(Ok(events(3, &[4, 5, 6])));
        it.take(Ok(News::Beat { up_to: 6 }));
        assert_eq!(
            told(&mut it),
            ["beat 8"],
            "one who is ahead of the tail hears that it lives"
        );
        assert!(!it.is_behind);
    }

    #[tokio::test]
    async fn no_heartbeat_covers_what_was_missed() {
        let gaps = [
            Ok(events(6, &[7])),
            Ok(News::Beat { up_to: 6 }),
            Err(RecvError::Lagged(3)),
        ];
        for gap in gaps {
            let mut it = follower(5);
            it.take(gap);
            assert!(it.is_behind && it.told.is_empty());
            assert_eq!(it.cursor, 5);
        }
    }

    #[tokio::test]
    async fn another_history_begins_where_the_tail_says() {
        let mut it = follower(50);
        it.take(Ok(News::Reset { position: 7 }));
        it.take(Ok(events(7, &[8])));
        assert_eq!(told(&mut it), ["reset 7", "event 8"]);
    }
}
