//! Where workflows and executions are: in a studio, which they never leave.
//!
//! So what was looked up once holds, and saves every call on them a round trip before the caller's place in that studio is even
//! asked for. It opens nothing: whether the caller may see the studio, and whether the thing is still there, is found
//! anew each time.

use std::hash::Hash;

use moka::{policy::EvictionPolicy, sync::Cache};
use service_kit::{
    error::Result,
    ids::{ExecutionId, StudioId, WorkflowId},
};

/// How many of each are remembered: those used last.
const CAPACITY: u64 = 50_000;

/// The studios of the workflows and executions that were used last.
#[derive(Debug)]
pub struct Places {
    /// Of workflows.
    pub workflows: Remembered<WorkflowId>,
    /// Of executions.
    pub executions: Remembered<ExecutionId>,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            workflows: Remembered::new(CAPACITY),
            executions: Remembered::new(CAPACITY),
        }
    }
}

/// The studios of one kind of thing.
#[derive(Debug)]
pub struct Remembered<K: Hash + Eq + Send + Sync + 'static>(Cache<K, StudioId>);

impl<K: Copy + Hash + Eq + Send + Sync + 'static> Remembered<K> {
    /// Those used last. By how often they are used, as is the cache's wont, what is new would not be let in beside what was
    /// asked for often and is over.
    fn new(capacity: u64) -> Self {
        let cache = Cache::builder().max_capacity(capacity);
        Self(cache.eviction_policy(EvictionPolicy::lru()).build())
    }

    /// The thing's studio, looked up where it is not known; `None` where there is no such thing.
    pub async fn find(
        &self,
        id: K,
        look_up: impl Future<Output = sqlx::Result<Option<StudioId>>>,
    ) -> Result<Option<StudioId>> {
        if let Some(studio) = self.0.get(&id) {
            return Ok(Some(studio));
        }
        let found = look_up.await?;
        if let Some(studio) = found {
            self.0.insert(id, studio);
        }
        Ok(found)
    }

    /// Remembers what was just made.
    pub fn put(&self, id: K, studio: StudioId) {
        self.0.insert(id, studio);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_found_is_not_looked_up_again_and_what_was_not_is() {
        let (places, id, studio) = (Places::default(), WorkflowId::generate(), StudioId::generate());
        assert_eq!(places.workflows.find(id, async { Ok(None) }).await.unwrap(), None);
        for looked_up in [Some(studio), None] {
            let found = places.workflows.find(id, async { Ok(looked_up) }).await.unwrap();
            assert_eq!(found, Some(studio));
        }
    }

    #[tokio::test]
    async fn what_is_new_is_remembered_beside_what_was_asked_for_often() {
        const SOME: u64 = 100;
        let (places, studio) = (Remembered::new(SOME), StudioId::generate());
        for _ in 0..SOME {
            let old = ExecutionId::generate();
            places.put(old, studio);
            for _ in 0..10 {
                assert_eq!(places.find(old, async { Ok(None) }).await.unwrap(), Some(studio));
            }
        }
        let new: Vec<_> = (0..SOME / 2).map(|_| ExecutionId::generate()).collect();
        for &id in &new {
            places.put(id, studio);
            places.0.run_pending_tasks();
        }
        for &id in &new {
            assert_eq!(places.find(id, async { Ok(None) }).await.unwrap(), Some(studio));
        }
    }
}
