//! The data keys of those who are recorded: one each, sealed under the key ring in a row of its own.
//!
//! A key is kept here only once its row is committed; otherwise what is encrypted with it might outlive it. Where somebody's row
//! is deleted, what was encrypted with his key says nothing any more.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    rand,
};
use serde_json::Value;
use sqlx::{PgConnection, types::Uuid};
use zeroize::Zeroizing;

use super::store::{self, Schema, Subject};
use crate::{
    error::{Error, Result},
    keys::KeyRing,
};

const PURPOSE: &str = "audit.subjects";
const KEPT: usize = 16_384;

/// A subject's key.
#[derive(Clone)]
pub(super) struct DataKey(Arc<Zeroizing<Vec<u8>>>);

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey")
    }
}

impl DataKey {
    fn generate() -> Self {
        let mut key = Zeroizing::new(vec![0; 32]);
        rand::fill(&mut key).expect("the operating system gives random bytes");
        Self(Arc::new(key))
    }

    /// Opens a key's row.
    pub(super) fn open(ring: &KeyRing, subject: Uuid, sealed: &[u8]) -> Result<Self> {
        let key = ring
            .open(PURPOSE, subject.as_bytes(), sealed)
            .map_err(Error::internal)?;
        Ok(Self(Arc::new(key)))
    }

    fn cipher(&self) -> RandomizedNonceKey {
        RandomizedNonceKey::new(&AES_256_GCM, &self.0).expect("the key has AES-256's length")
    }

    /// Encrypts what belongs to an entry.
    pub(super) fn seal(&self, entry: Uuid, personal: &Value) -> Vec<u8> {
        let mut text = personal.to_string().into_bytes();
        let nonce = self
            .cipher()
            .seal_in_place_append_tag(Aad::from(entry.as_bytes()), &mut text)
            .expect("AES-GCM seals what fits in memory");
        [nonce.as_ref().as_slice(), &text].concat()
    }

    /// Decrypts what belongs to an entry; `None` where it is something else.
    pub(super) fn read(&self, entry: Uuid, sealed: &[u8]) -> Option<Value> {
        let (nonce, text) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut text = text.to_vec();
        let opened = self
            .cipher()
            .open_in_place(Nonce::from(nonce), Aad::from(entry.as_bytes()), &mut text);
        serde_json::from_slice(opened.ok()?).ok()
    }
}

/// The keys that are known here.
#[derive(Debug)]
pub(super) struct Subjects {
    schema: Schema,
    ring: KeyRing,
    known: Mutex<HashMap<Uuid, DataKey>>,
}

impl Subjects {
    pub(super) fn new(schema: Schema, ring: KeyRing) -> Self {
        Self {
            schema,
            ring,
            known: Mutex::default(),
        }
    }

    /// A subject's key, if it is known here.
    pub(super) fn known(&self, subject: Uuid) -> Option<DataKey> {
        self.keys().get(&subject).cloned()
    }

    /// A subject's key, made where there is none; the transaction's claims are the subject's.
    pub(super) async fn find_or_make(&self, tx: &mut PgConnection, subject: Uuid) -> Result<DataKey> {
        if let Some(found) = store::subject(tx, self.schema, subject).await? {
            return self.learn(subject, &found);
        }
        let key = DataKey::generate();
        let sealed = self.ring.seal(PURPOSE, subject.as_bytes(), &key.0);
        if store::add_subject(tx, self.schema, subject, &sealed).await? {
            return Ok(key);
        }
        // Another transaction was faster, and is committed by now.
        let found = store::subject(tx, self.schema, subject).await?;
        let found = found.ok_or_else(|| Error::internal("a subject's key came and went"))?;
        self.learn(subject, &found)
    }

    fn learn(&self, subject: Uuid, found: &Subject) -> Result<DataKey> {
        let key = DataKey::open(&self.ring, subject, &found.sealed)?;
        if !found.is_committed {
            return Ok(key);
        }
        let mut known = self.keys();
        if known.len() >= KEPT {
            known.clear();
        }
        known.insert(subject, key.clone());
        Ok(key)
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<Uuid, DataKey>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_encrypted_opens_for_its_entry_and_by_its_key_alone() {
        let (key, entry) = (DataKey::generate(), Uuid::from_u128(1));
        let personal = json!({ "address": "192.0.2.7" });
        let sealed = key.seal(entry, &personal);
        assert_eq!(key.read(entry, &sealed), Some(personal));
        assert_eq!(key.read(Uuid::from_u128(2), &sealed), None);
        assert_eq!(DataKey::generate().read(entry, &sealed), None);
        assert_eq!(key.read(entry, &sealed[..5]), None);
    }
}
