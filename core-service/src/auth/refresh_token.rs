//! Refresh tokens: 32 bytes for the client, their SHA-256 for the database.
//!
//! The first of a session is random. Each later one is a keyed hash of the one before, so that a client that lost an answer can
//! be given the same one again, though nobody keeps it.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use service_kit::{error::Error, keys::KeyRing};
use sha2::{Digest, Sha256};

/// What the key of the keyed hash is for, in the key ring's terms.
const PURPOSE: &str = "core.refresh-tokens";

/// A refresh token. Whoever has it has the session.
#[derive(Clone, PartialEq, Eq)]
pub struct RefreshToken([u8; 32]);

impl RefreshToken {
    /// A new one.
    pub fn generate() -> Self {
        Self(rand::random())
    }

    /// The one that follows it; another one under another key ring.
    #[must_use]
    pub fn successor(&self, keys: &KeyRing) -> Self {
        Self::tagged(&keys.mac(PURPOSE, &self.0))
    }

    /// Those that may follow it already: a key ring that has turned since has more than one.
    pub fn successors(&self, keys: &KeyRing) -> impl Iterator<Item = Self> {
        keys.mac_each(PURPOSE, &self.0)
            .into_iter()
            .map(|mac| Self::tagged(&mac))
    }

    fn tagged(mac: &[u8]) -> Self {
        Self(*mac.last_chunk().expect("a tag of SHA-256 stands at the end"))
    }

    /// What is stored of it. A fast hash will do: nobody guesses 32 such bytes.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }

    /// As the client keeps it.
    pub fn expose(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

impl FromStr for RefreshToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bytes = URL_SAFE_NO_PAD
            .decode(text)
            .ok()
            .and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or(Error::Unauthenticated("REFRESH_TOKEN_INVALID"))
    }
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefreshToken(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_what_it_writes() {
        let token = RefreshToken::generate();
        assert_eq!(token.expose().len(), 43);
        assert_eq!(token.expose().parse::<RefreshToken>().unwrap(), token);
        assert_ne!(RefreshToken::generate(), token);
        assert!(!format!("{token:?}").contains(&token.expose()));
    }

    #[test]
    fn a_successor_follows_from_the_token_and_the_key_ring() {
        let (token, keys) = (RefreshToken::generate(), KeyRing::generate());
        let next = token.successor(&keys);
        assert_eq!(token.successor(&keys), next);
        assert_ne!(next.successor(&keys), next);
        assert_ne!(token.successor(&KeyRing::generate()), next);
        assert_ne!(RefreshToken::generate().successor(&keys), next);
        let (old, new) = ("01".repeat(32), "02".repeat(32));
        let ring = |text: &str| KeyRing::parse(text).unwrap();
        let either: Vec<_> = token.successors(&ring(&format!("{new},{old}"))).collect();
        assert_eq!(either, [&new, &old].map(|it| token.successor(&ring(it))));
    }

    #[test]
    fn what_is_no_token_is_unauthenticated() {
        let short = URL_SAFE_NO_PAD.encode([0; 31]);
        for text in ["x", "====", &short, &"A".repeat(44), &"+".repeat(43)] {
            let refused = text.parse::<RefreshToken>();
            assert!(
                matches!(refused, Err(Error::Unauthenticated("REFRESH_TOKEN_INVALID"))),
                "{text}"
            );
        }
    }
}
