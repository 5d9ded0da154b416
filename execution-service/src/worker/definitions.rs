//! The definitions of versions that run. A version never changes, so what was read once holds.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use service_kit::ids::VersionId;

use crate::engine::definition::Definition;

/// How many stages are kept in all: an expression of one may take a hundred kilobytes once it was used.
const MAX_STAGES: usize = 2_048;

/// The definitions that were used last.
#[derive(Debug, Default)]
pub(super) struct Definitions(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    by_version: HashMap<VersionId, Arc<Definition>>,
    /// In the order they came, with the number of their stages.
    order: VecDeque<(VersionId, usize)>,
    stages: usize,
}

impl Definitions {
    pub(super) fn get(&self, version: VersionId) -> Option<Arc<Definition>> {
        self.lock().by_version.get(&version).cloned()
    }

    pub(super) fn put(&self, version: VersionId, definition: Arc<Definition>) {
        let mut kept = self.lock();
        let stages = definition.stages.len().max(1);
        if kept.by_version.insert(version, definition).is_none() {
            kept.order.push_back((version, stages));
            kept.stages += stages;
        }
        while kept.stages > MAX_STAGES
            && let Some((oldest, stages)) = kept.order.pop_front()
        {
            kept.by_version.remove(&oldest);
            kept.stages -= stages;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_when_there_are_too_many() {
        let definitions = Definitions::default();
        let versions: Vec<_> = (0..=MAX_STAGES).map(|_| VersionId::generate()).collect();
        for version in &versions {
            definitions.put(*version, Arc::default());
            definitions.put(*version, Arc::default());
        }
        assert!(definitions.get(versions[0]).is_none());
        assert!(versions[1..].iter().all(|version| definitions.get(*version).is_some()));
    }
}
