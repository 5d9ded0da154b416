//! The tokens that mails carry: 32 bytes that follow from the mail's id under the key ring, and their SHA-256 for the database.

use std::{fmt, str::FromStr, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use service_kit::{error::Error, ids::MailId, keys::KeyRing};
use sha2::{Digest, Sha256};

/// What the key of the keyed hash is for, in the key ring's terms.
const PURPOSE: &str = "core.mail-tokens";

const INVALID: Error = Error::Unauthenticated("MAIL_TOKEN_INVALID");

/// What a token does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Purpose {
    /// Proves a user's address.
    Verification,
    /// Sets a new password.
    PasswordReset,
    /// Makes another address the user's.
    EmailChange,
}

impl Purpose {
    /// How long a token for it is good.
    pub const fn lifetime(self) -> Duration {
        match self {
            Self::Verification | Self::EmailChange => Duration::from_hours(24),
            Self::PasswordReset => Duration::from_hours(1),
        }
    }
}

/// A token of a mail.
#[derive(Clone, PartialEq, Eq)]
pub struct MailToken([u8; 32]);

impl MailToken {
    /// That of a mail.
    pub(super) fn of(keys: &KeyRing, mail: MailId) -> Self {
        let mac = keys.mac(PURPOSE, mail.as_uuid().as_bytes());
        Self(*mac.last_chunk().expect("a tag of SHA-256 stands at the end"))
    }

    /// What is stored of it.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }

    /// As the mail has it.
    pub(super) fn expose(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

impl FromStr for MailToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bytes = URL_SAFE_NO_PAD.decode(text.trim()).ok();
        bytes.and_then(|it| it.try_into().ok()).map(Self).ok_or(INVALID)
    }
}

impl fmt::Debug for MailToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MailToken(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mails_token_is_always_the_same_and_no_other_mails() {
        let (keys, mail) = (KeyRing::generate(), MailId::generate());
        let token = MailToken::of(&keys, mail);
        assert_eq!(token, MailToken::of(&keys, mail));
        assert_eq!(token.expose().parse::<MailToken>().unwrap(), token);
        assert_ne!(token, MailToken::of(&keys, MailId::generate()));
        assert_ne!(token, MailToken::of(&KeyRing::generate(), mail));
        assert!(!format!("{token:?}").contains(&token.expose()));
        assert!("x".parse::<MailToken>().is_err());
    }
}
