//! Tokens that were verified already, by their SHA-256. Verifying one costs 40 µs, finding it here less than one.
//!
//! An entry is good until its token expires, and never for longer than keys are believed. The number of entries is bounded.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use sha2::{Digest, Sha256};

use super::verifier::Verified;

const SHARDS: usize = 16;
const ENTRIES_PER_SHARD: usize = 4096;

/// A token's hash.
pub(super) type Hash = [u8; 32];

#[derive(Default)]
pub(super) struct TokenCache {
    shards: [Mutex<HashMap<Hash, Entry>>; SHARDS],
}

struct Entry {
    verified: Verified,
    until: i64,
}

impl TokenCache {
    pub(super) fn hash(token: &str) -> Hash {
        Sha256::digest(token).into()
    }

    /// What the token said, if it was verified and is still good at `now`.
    pub(super) fn get(&self, hash: &Hash, now: i64) -> Option<Verified> {
        let shard = self.shard(hash);
        let entry = shard.get(hash)?;
        (now < entry.until).then(|| entry.verified.clone())
    }

    pub(super) fn put(&self, hash: Hash, verified: Verified, until: i64, now: i64) {
        let mut shard = self.shard(&hash);
        if shard.len() >= ENTRIES_PER_SHARD {
            shard.retain(|_, it| now < it.until);
        }
        // All of them alive: forgetting costs their callers one verification each.
        if shard.len() >= ENTRIES_PER_SHARD {
            shard.clear();
        }
        shard.insert(hash, Entry { verified, until });
    }

    fn shard(&self, hash: &Hash) -> MutexGuard<'_, HashMap<Hash, Entry>> {
        let shard = &self.shards[usize::from(hash[0]) % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{auth::Caller, ids::UserId};

    fn verified() -> Verified {
        Verified::User(Caller {
            user: UserId::generate(),
            session: None,
            service: None,
            key: None,
        })
    }

    #[test]
    fn an_entry_is_good_until_its_time_and_for_its_token_only() {
        let cache = TokenCache::default();
        let (hash, verified) = (TokenCache::hash("a.b.c"), verified());
        cache.put(hash, verified.clone(), 100, 0);
        assert_eq!(cache.get(&hash, 99), Some(verified));
        assert_eq!(cache.get(&hash, 100), None);
        assert_eq!(cache.get(&TokenCache::hash("a.b.d"), 99), None);
    }

    #[test]
    fn ten_thousand_users_tokens_are_remembered_at_once() {
        let cache = TokenCache::default();
        let hashes: Vec<_> = (0..10_000).map(|it| TokenCache::hash(&format!("{it}.b.c"))).collect();
        for hash in &hashes {
            cache.put(*hash, verified(), 100, 0);
        }
        assert!(hashes.iter().all(|it| cache.get(it, 99).is_some()));
    }

    #[test]
    fn entries_are_bounded_and_the_expired_ones_go_first() {
        let cache = TokenCache::default();
        let hash = |i: usize| {
            let mut hash = [0; 32];
            hash[1..9].copy_from_slice(&i.to_be_bytes());
            hash
        };
        for i in 0..ENTRIES_PER_SHARD {
            cache.put(hash(i), verified(), if i % 2 == 0 { 10 } else { 1000 }, 0);
        }
        cache.put(hash(usize::MAX), verified(), 1000, 20);
        assert_eq!(cache.shard(&hash(0)).len(), ENTRIES_PER_SHARD / 2 + 1);
        for i in 0..ENTRIES_PER_SHARD {
            cache.put(hash(i), verified(), 1000, 20);
        }
        assert!(cache.shard(&hash(0)).len() <= ENTRIES_PER_SHARD);
    }
}
