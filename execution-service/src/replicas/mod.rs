//! What the replicas tell each other: events of a run from the one that holds it, for watchers at another.
//!
//! A watcher keeps its own access check and reads durable events from the journal itself. From the holder come hints that
//! there is more to read, and what is not in the journal; so nothing durable is lost or repeated whatever becomes of the
//! stream. A replica tells of what it holds and of nothing else, so nothing is forwarded in circles. Only tokens of this
//! service open the door, acting for the user who watches.

mod api;
mod convert;
mod remote;
mod store;

use std::collections::VecDeque;

use futures::{Stream, stream};
use service_kit::{
    auth::Caller,
    error::{Error, Result},
    ids::ExecutionId,
};
use tokio::sync::broadcast::error::RecvError;

pub use self::{api::Api, remote::Replicas};
pub(crate) use self::{
    remote::{Heard, Remote},
    store::holder,
};
use crate::{
    App, executions,
    worker::{Follower, LiveEvent, UnderWay},
};

/// What the holder of a run tells.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Told {
    /// The place of the last durable entry.
    pub seq: i64,
    /// What happened besides.
    pub event: Option<LiveEvent>,
}

/// Tells a user what happens to a run that is held here, as long as it is. He knows the journal up to `after`.
///
/// # Errors
/// `NotFound` where he may not see it; `FailedPrecondition` with the reason `NOT_HELD` where it is not held here.
async fn follow(
    app: &App,
    caller: &Caller,
    id: ExecutionId,
    after: i64,
) -> Result<impl Stream<Item = Told> + Send + 'static> {
    executions::enter(app, caller, id).await?;
    let live = app.engine.live().clone();
    let mut teller = Teller {
        follower: live.follow(id),
        follow: Box::new(move || live.follow(id)),
        after,
        waiting: VecDeque::new(),
    };
    let Some(seq) = teller.follower.held_at() else {
        return Err(Error::FailedPrecondition {
            reason: "NOT_HELD",
            message: "this replica does not hold the execution".into(),
        });
    };
    teller.waiting.push_back(Told { seq, event: None });
    teller.tell_under_way(seq);
    Ok(stream::unfold(teller, async |mut teller| {
        let told = teller.next().await?;
        Some((told, teller))
    }))
}

struct Teller {
    follower: Follower,
    follow: Box<dyn Fn() -> Follower + Send>,
    after: i64,
    waiting: VecDeque<Told>,
}

impl Teller {
    /// What comes next; nothing once the run is not held here any more.
    async fn next(&mut self) -> Option<Told> {
        loop {
            if let Some(told) = self.waiting.pop_front() {
                return Some(told);
            }
            tokio::select! {
                biased;
                // The sender lives as long as its follower.
                _ = self.follower.seq.changed() => {
                    let seq = (*self.follower.seq.borrow_and_update())?;
                    return Some(Told { seq, event: None });
                }
                event = self.follower.events.recv() => match event {
                    Ok(event) => {
                        let seq = self.follower.held_at()?;
                        return Some(Told { seq, event: Some(event) });
                    }
                    Err(RecvError::Lagged(_) | RecvError::Closed) => {
                        self.follower = (self.follow)();
                        let seq = self.follower.held_at()?;
                        self.tell_under_way(seq);
                    }
                },
            }
        }
    }

    fn tell_under_way(&mut self, seq: i64) {
        let after = self.after;
        let under_way = std::mem::take(&mut self.follower.under_way).into_iter();
        let events = under_way.filter(|it| it.after >= after).flat_map(UnderWay::into_events);
        self.waiting.extend(events.map(|event| Told {
            seq,
            event: Some(event),
        }));
    }
}
