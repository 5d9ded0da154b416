//! The providers behind companies' connections, made when they are first called and remembered while they are used: a breaker
//! and limits are of no use if every call has its own.

use std::{fmt, sync::Arc, time::Duration};

use moka::{ops::compute::Op, policy::EvictionPolicy, sync::Cache};
use service_kit::ids::ConnectionId;

use super::{Provider, guarded::Standing};

/// How many connections are remembered.
const CAPACITY: u64 = 10_000;
/// How long one is remembered that is not called; longer than a call can take and a breaker can be open.
const IDLE: Duration = Duration::from_hours(2);

/// A connection's provider.
#[derive(Clone)]
pub(super) struct Connected {
    /// Which version of the connection it was made of.
    revision: i64,
    pub provider: Arc<dyn Provider>,
    pub standing: Arc<Standing>,
}

/// The providers of connections.
pub(super) struct ConnectedProviders {
    known: Cache<ConnectionId, Connected>,
}

impl Default for ConnectedProviders {
    fn default() -> Self {
        let known = Cache::builder().max_capacity(CAPACITY).time_to_idle(IDLE);
        Self {
            known: known.eviction_policy(EvictionPolicy::lru()).build(),
        }
    }
}

impl fmt::Debug for ConnectedProviders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectedProviders").finish_non_exhaustive()
    }
}

impl ConnectedProviders {
    /// The connection's provider as of this revision or a newer one: who asks for an older one has read it before it changed.
    pub(super) fn get_or_make(
        &self,
        key: ConnectionId,
        revision: i64,
        make: impl FnOnce() -> (Arc<dyn Provider>, Arc<Standing>),
    ) -> Arc<dyn Provider> {
        if let Some(known) = self.known.get(&key).filter(|it| it.revision >= revision) {
            return known.provider;
        }
        let made = self.known.entry(key).and_compute_with(|known| match known {
            Some(known) if known.value().revision >= revision => Op::Nop,
            _ => {
                let (provider, standing) = make();
                Op::Put(Connected {
                    revision,
                    provider,
                    standing,
                })
            }
        });
        let entry = made.into_entry().expect("it was there or has been put there");
        entry.into_value().provider
    }

    /// What is known of the connection.
    pub(super) fn get(&self, key: ConnectionId) -> Option<Connected> {
        self.known.get(&key)
    }
}
