//! API keys: what they look like, and who finds out what one may do.
//!
//! A key is `sk_studios_`, forty random characters and six that follow from them, by which a scanner knows a leaked one and a
//! mistyped one is refused without a look-up. What is stored is a MAC under the root key ring. core-service alone knows keys; what
//! it answered is believed for a second at most, so a revoked key is out within that time everywhere.

mod client;
mod scopes;

use std::{fmt, sync::Arc};

use futures::future::BoxFuture;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

pub use client::ClientApiKeys;
pub use scopes::{Scope, Scopes, Verb};

use crate::{
    error::{Error, Result},
    ids::{CompanyId, UserId},
    keys::KeyRing,
};

/// How long an answer about a key is believed, in seconds.
pub(super) const BELIEVED_S: i64 = 1;

const PREFIX: &str = "sk_studios_";
const RANDOM: usize = 40;
const CHECK: usize = 6;
const SHOWN: usize = PREFIX.len() + 6;
const PURPOSE: &str = "core.api_keys";
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The text of a key.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// A new one: 238 random bits.
    pub fn generate() -> Self {
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + RANDOM + CHECK));
        text.push_str(PREFIX);
        for _ in 0..RANDOM {
            text.push(char::from(ALPHABET[rand::random_range(0..ALPHABET.len())]));
        }
        let check = check(&text);
        text.push_str(&check);
        Self(text)
    }

    /// Whether a token is meant as a key.
    pub fn looks_like(token: &str) -> bool {
        token.starts_with(PREFIX)
    }

    /// Reads a key; nothing where it cannot be one.
    pub fn read(text: &str) -> Option<Self> {
        let random = text.strip_prefix(PREFIX)?;
        let is_sane = random.len() == RANDOM + CHECK && random.bytes().all(|it| ALPHABET.contains(&it));
        if !is_sane {
            return None;
        }
        let (key, given) = text.split_at(text.len() - CHECK);
        (check(key) == given).then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// All of it, which is shown once.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Its beginning, by which people tell keys apart.
    pub fn shown(&self) -> &str {
        &self.0[..SHOWN]
    }

    /// What it is stored as.
    pub fn hash(&self, ring: &KeyRing) -> Vec<u8> {
        ring.mac(PURPOSE, self.0.as_bytes())
    }

    /// What it may be stored as: under each key of the ring.
    pub fn hashes(&self, ring: &KeyRing) -> Vec<Vec<u8>> {
        ring.mac_each(PURPOSE, self.0.as_bytes())
    }
}

/// Six characters of base 62 from the first four bytes of the SHA-256.
fn check(text: &str) -> String {
    let digest = Sha256::digest(text);
    let mut number = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    let mut digits = [b'0'; CHECK];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[usize::try_from(number % 62).unwrap_or_default()];
        number /= 62;
    }
    digits.iter().copied().map(char::from).collect()
}

/// What a key may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id, which is that of the user that it acts as.
    pub id: UserId,
    /// Its company.
    pub company: CompanyId,
    /// What it may be used for.
    pub scopes: Scopes,
    /// When it ends, in seconds since 1970.
    pub expires_at: Option<i64>,
}

/// Who knows keys.
pub trait ApiKeySource: Send + Sync {
    /// The key that has one of these hashes, if it may be used.
    fn find(&self, hashes: Vec<Vec<u8>>) -> BoxFuture<'_, Result<Option<ApiKey>>>;
}

/// Finds out what keys may do.
#[derive(Clone)]
pub struct ApiKeys {
    ring: KeyRing,
    source: Arc<dyn ApiKeySource>,
}

impl ApiKeys {
    /// Asks `source`; the ring is the one that the keys are stored under.
    pub fn new(ring: KeyRing, source: Arc<dyn ApiKeySource>) -> Self {
        Self { ring, source }
    }

    /// What the key of this text may do.
    ///
    /// # Errors
    /// `Unauthenticated` with the reason `API_KEY_INVALID`, whatever is wrong with it; `Unavailable` where nobody can say.
    pub(super) async fn find(&self, text: &str) -> Result<ApiKey> {
        const INVALID: Error = Error::Unauthenticated("API_KEY_INVALID");
        let secret = Secret::read(text).ok_or(INVALID)?;
        self.source.find(secret.hashes(&self.ring)).await?.ok_or(INVALID)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_by_its_form_and_a_changed_one_is_none() {
        let key = Secret::generate();
        assert_eq!(Secret::read(key.text()), Some(key.clone()));
        assert_eq!(key.text().len(), 57);
        assert!(key.text().starts_with(key.shown()) && Secret::looks_like(key.text()));
        for i in PREFIX.len()..key.text().len() {
            let mut changed = key.text().as_bytes().to_vec();
            changed[i] = if changed[i] == b'x' { b'y' } else { b'x' };
            assert_eq!(Secret::read(&String::from_utf8(changed).unwrap()), None, "{i}");
        }
        assert_eq!(Secret::read(&key.text()[1..]), None);
        assert_eq!(Secret::read(&format!("{}0", key.text())), None);
        assert!(!format!("{key:?}").contains(&key.text()[20..]));
    }

    #[test]
    fn a_key_is_found_after_the_ring_was_rotated() {
        let (old, new) = ("01".repeat(32), "02".repeat(32));
        let key = Secret::generate();
        let stored = key.hash(&KeyRing::parse(&old).unwrap());
        let rotated = KeyRing::parse(&format!("{new},{old}")).unwrap();
        assert!(key.hashes(&rotated).contains(&stored));
        assert!(!Secret::generate().hashes(&rotated).contains(&stored));
    }
}
