//! What is put together into one statement: equal start keys folded, in the order of the executions, none twice.

use std::collections::{HashMap, HashSet};

use service_kit::{
    error::Error,
    ids::{CompanyId, ExecutionId, UserId},
};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{NewRun, Record, Recorded, Started, Times};
use crate::{access::Allowance, worker::store::writes::Named};

/// Something to make durable, with whom it has to be said to.
#[derive(Debug)]
pub(super) struct Item {
    pub work: Work,
    /// Fires when the instance that asks has no lease any more.
    pub lost: CancellationToken,
    /// Whether it may be done already: the connection was lost over it.
    pub doubtful: bool,
}

#[derive(Debug)]
pub(super) enum Work {
    Start(Box<NewRun>, oneshot::Sender<Started>, Vec<Item>),
    Record(Box<Record>, oneshot::Sender<Recorded>),
}

impl Item {
    pub(super) fn start(new: NewRun, lost: CancellationToken, reply: oneshot::Sender<Started>) -> Self {
        Self {
            work: Work::Start(Box::new(new), reply, Vec::new()),
            lost,
            doubtful: false,
        }
    }

    pub(super) fn record(record: Record, lost: CancellationToken, reply: oneshot::Sender<Recorded>) -> Self {
        Self {
            work: Work::Record(Box::new(record), reply),
            lost,
            doubtful: false,
        }
    }

    pub(super) fn execution(&self) -> ExecutionId {
        match &self.work {
            Work::Start(new, ..) => new.execution,
            Work::Record(record, _) => record.fence.execution,
        }
    }

    /// Whose plan a start needs room in.
    pub(super) fn limit(&self) -> Option<(CompanyId, Allowance)> {
        let Work::Start(new, ..) = &self.work else { return None };
        Some((new.company, new.allowance?))
    }

    pub(super) fn is_keyed(&self) -> bool {
        self.key().is_some()
    }

    fn key(&self) -> Option<Key> {
        let Work::Start(new, ..) = &self.work else { return None };
        let key = new.key.as_ref()?;
        Some((new.company, new.started_by, key.method.clone(), key.key.clone()))
    }

    /// Says that it is durable. `times` are a start's.
    pub(super) fn written(self, times: Option<Times>) {
        match (self.work, times) {
            (Work::Record(_, reply), _) => {
                let _gone = reply.send(Recorded::Written);
            }
            (Work::Start(new, reply, followers), Some(times)) => {
                if let Some(key) = &new.key {
                    let named = Named {
                        execution: new.execution,
                        body_hash: key.body_hash.clone(),
                    };
                    for follower in followers {
                        follower.meets(&named);
                    }
                }
                let _gone = reply.send(Started::Written(times));
            }
            (Work::Start(_, reply, _), None) => {
                let error = Error::internal("a start was written without its times");
                let _gone = reply.send(Started::Failed(error));
            }
        }
    }

    /// Says that the run is not the writer's any more.
    pub(super) fn fenced(self) {
        if let Work::Record(_, reply) = self.work {
            let _gone = reply.send(Recorded::Fenced);
        }
    }

    /// Says to a start, and to those with the same key, which run the key names.
    pub(super) fn meets(self, named: &Named) {
        let Work::Start(new, reply, followers) = self.work else {
            return;
        };
        let same = new.key.is_some_and(|key| key.body_hash == named.body_hash);
        let answer = if same {
            Started::Existing(named.execution)
        } else {
            Started::KeyReused
        };
        let _gone = reply.send(answer);
        for follower in followers {
            follower.meets(named);
        }
    }

    /// Says that it was not written; gives back those that waited for it to be.
    pub(super) fn refused(self, error: Error) -> Vec<Self> {
        match self.work {
            Work::Record(record, reply) => {
                let _gone = reply.send(Recorded::Refused(record));
                Vec::new()
            }
            Work::Start(_, reply, followers) => {
                let _gone = reply.send(Started::Failed(error));
                followers
            }
        }
    }

    /// Says to a start, and to those with the same key, that it failed.
    pub(super) fn failed(self, why: &dyn Fn() -> Error) {
        if let Work::Start(_, reply, followers) = self.work {
            let _gone = reply.send(Started::Failed(why()));
            for follower in followers {
                follower.failed(why);
            }
        }
    }

    /// Says that its instance has lost its lease; gives back those that waited for it to be written.
    fn expired(self) -> Vec<Self> {
        if let Work::Record(..) = self.work {
            self.fenced();
            return Vec::new();
        }
        self.refused(super::out_of_reach())
    }
}

type Key = (CompanyId, UserId, String, String);

/// Answers for those whose instance has no lease any more, and gives back the others.
pub(super) fn leased(items: Vec<Item>) -> Vec<Item> {
    let mut leased = Vec::with_capacity(items.len());
    for item in items {
        if item.lost.is_cancelled() {
            leased.extend(self::leased(item.expired()));
        } else {
            leased.push(item);
        }
    }
    leased
}

/// Puts starts behind the first one with the same key, which answers for them.
pub(super) fn folded(items: Vec<Item>) -> Vec<Item> {
    let mut first: HashMap<Key, usize> = HashMap::new();
    let mut folded: Vec<Item> = Vec::with_capacity(items.len());
    for item in items {
        if let Some(key) = item.key() {
            if let Some(&at) = first.get(&key) {
                let Work::Start(_, _, followers) = &mut folded[at].work else {
                    unreachable!("only starts have keys");
                };
                followers.push(item);
                continue;
            }
            first.insert(key, folded.len());
        }
        folded.push(item);
    }
    folded
}

/// Batches of at most so many, in one order everywhere, so that two writers never wait for each other; no execution twice in one.
/// The first one comes last.
pub(super) fn batches(mut items: Vec<Item>, most: usize) -> Vec<Vec<Item>> {
    let mut batches = Vec::new();
    while !items.is_empty() {
        let mut seen = HashSet::with_capacity(items.len().min(most));
        let (mut batch, later): (Vec<_>, Vec<_>) = items
            .into_iter()
            .partition(|item| seen.len() < most && seen.insert(item.execution()));
        batch.sort_by_key(Item::execution);
        batches.push(batch);
        items = later;
    }
    batches.reverse();
    batches
}

/// A batch's starts, those of the records' children among them, and records.
pub(super) fn split(batch: &[Item]) -> (Vec<&NewRun>, Vec<&Record>) {
    let mut starts = Vec::new();
    let mut records = Vec::new();
    for item in batch {
        match &item.work {
            Work::Start(new, ..) => starts.push(&**new),
            Work::Record(record, _) => {
                starts.extend(&record.children);
                records.push(&**record);
            }
        }
    }
    (starts, records)
}

#[cfg(test)]
mod tests;
