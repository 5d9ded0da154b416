//! Refresh tokens: 32 random bytes for the client, their SHA-256 for the database.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use service_kit::error::Error;
use sha2::{Digest, Sha256};

/// A refresh token. Whoever has it has the session.
#[derive(Clone, PartialEq, Eq)]
pub struct RefreshToken([u8; 32]);

impl RefreshToken {
    /// A new one.
    pub fn generate() -> Self {
        Self(rand::random())
    }

    /// What is stored of it. A fast hash will do: nobody guesses 32 random bytes.
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
