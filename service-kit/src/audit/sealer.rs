//! The sealer of a schema's log: one at a time over all replicas, it puts what was committed into the companies' chains.
//!
//! A link that it adds comes after all that were committed when it looked, so the order of a chain is that of the commits, from
//! one look to the next. It trusts a head only where it has its own signature: a forged one stops that chain, and is told.

use std::{collections::BTreeMap, time::Duration};

use sqlx::{PgPool, types::Uuid};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use tracing::{Dispatch, instrument::WithSubscriber};

use super::{
    chain::{self, AuditKeys, Hash, Head},
    entry::Entry,
    store::{self, NewLinks, Schema},
};
use crate::{clock::SharedClock, db::WorkerTx, error::Result, ids::CompanyId, keys::KeyRing};

/// How long it waits before it looks again.
const EVERY: Duration = Duration::from_millis(500);

/// How many entries it seals in a transaction.
const BATCH: i64 = 2000;

/// Seals the log of a schema.
pub struct Sealer {
    schema: Schema,
    pool: PgPool,
    ring: KeyRing,
    clock: SharedClock,
}

impl Sealer {
    /// The sealer of a schema, over the pool of its worker's role.
    pub fn new(schema: Schema, pool: PgPool, ring: &KeyRing, clock: SharedClock) -> Self {
        Self {
            schema,
            pool,
            ring: ring.clone(),
            clock,
        }
    }

    /// Seals until it is told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let sealing = async {
            loop {
                // Twice a second would be two traces a second.
                let sealed = self.seal().with_subscriber(Dispatch::none()).await;
                match sealed {
                    Ok(count) if count >= BATCH.unsigned_abs() => continue,
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!(error = ?error, log = self.schema.name(), "the audit log is not sealed");
                    }
                }
                tokio::time::sleep(EVERY).await;
            }
        };
        stop.run_until_cancelled(sealing).await;
    }

    /// Seals what is there, and says how many links it added.
    async fn seal(&self) -> Result<u64> {
        let mut tx = WorkerTx::begin(&self.pool, "audit.seal").await?;
        if !store::may_seal(&mut tx, self.schema).await? {
            return Ok(0);
        }
        let entries = store::pending(&mut tx, self.schema, BATCH).await?;
        if entries.is_empty() {
            return Ok(0);
        }
        let mut chains: BTreeMap<Uuid, Vec<Entry>> = BTreeMap::new();
        for entry in entries {
            chains.entry(chain_of(&entry)).or_default().push(entry);
        }
        let ids: Vec<_> = chains.keys().copied().collect();
        let heads = store::heads(&mut tx, self.schema, &ids).await?;
        let heads: BTreeMap<_, _> = heads.into_iter().map(|it| (it.chain, it)).collect();
        let now = self.clock.now();
        // Anew each time: the ring may have been renewed, and another replica have signed with its newest key.
        let keys = AuditKeys::of(&self.ring);
        let (mut links, mut ends) = (NewLinks::default(), Vec::new());
        for (chain, entries) in &chains {
            match self.extend(&keys, *chain, heads.get(chain), entries, now, &mut links) {
                Some(end) => ends.push(end),
                None => {
                    tracing::error!(chain = %chain, log = self.schema.name(), "the head of an audit chain is forged");
                }
            }
        }
        store::add_links(&mut tx, self.schema, &links).await?;
        store::set_heads(&mut tx, self.schema, &ends).await?;
        tx.commit().await?;
        Ok(links.seq.len() as u64)
    }

    /// Adds a chain's new links, and gives its new head; nothing where the old one is forged.
    fn extend(
        &self,
        keys: &AuditKeys,
        chain: Uuid,
        head: Option<&Head>,
        entries: &[Entry],
        now: OffsetDateTime,
        links: &mut NewLinks,
    ) -> Option<Head> {
        let mut hash: Option<Hash> = None;
        let mut seq = 0;
        if let Some(head) = head {
            if !head.holds(self.schema, keys.public()) {
                return None;
            }
            hash = head.hash.as_slice().try_into().ok();
            seq = head.seq;
        }
        for entry in entries {
            seq += 1;
            let next = chain::link(hash.as_ref(), seq, &entry.digest());
            links.chain.push(chain);
            links.seq.push(seq);
            links.entry.push(entry.id);
            links.hash.push(next.to_vec());
            hash = Some(next);
        }
        hash.map(|hash| keys.sign(self.schema, chain, seq, &hash, now))
    }
}

/// A company's own chain, or the nil UUID's.
fn chain_of(entry: &Entry) -> Uuid {
    entry.company_id.map_or_else(Uuid::nil, CompanyId::as_uuid)
}
