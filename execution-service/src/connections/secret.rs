//! Secrets of connections: sealed for their row and for nothing else, shown nowhere.

use secrecy::{ExposeSecret, SecretString};
use service_kit::{
    ids::{CompanyId, ConnectionId},
    keys::{KeyError, KeyRing},
};

/// What the key ring derives the sealing key for.
const PURPOSE: &str = "execution.connections.secret";
/// How many characters a secret must have for its last ones to say nothing of the rest.
const HINTED: usize = 20;
/// How many of them are shown.
const HINT: usize = 4;

/// A key, a password, or the value of a header.
#[derive(Clone, Debug)]
pub struct Secret(SecretString);

impl Secret {
    /// The secret itself, for whoever sends it.
    pub const fn value(&self) -> &SecretString {
        &self.0
    }

    /// What it is told by; empty where it is short.
    pub fn hint(&self) -> String {
        let secret = self.0.expose_secret();
        let count = secret.chars().count();
        if count < HINTED {
            return String::new();
        }
        secret.chars().skip(count - HINT).collect()
    }

    /// Seals it for its row.
    pub fn seal(&self, keys: &KeyRing, company: CompanyId, id: ConnectionId) -> Vec<u8> {
        keys.seal(PURPOSE, &context(company, id), self.0.expose_secret().as_bytes())
    }

    /// Opens what was sealed for this row.
    ///
    /// # Errors
    /// It was sealed for another row, was changed, or with a key that the ring does not hold any more.
    pub fn open(keys: &KeyRing, company: CompanyId, id: ConnectionId, sealed: &[u8]) -> Result<Self, KeyError> {
        let plain = keys.open(PURPOSE, &context(company, id), sealed)?;
        let text = std::str::from_utf8(&plain).map_err(|_| KeyError::Forged)?;
        Ok(Self(text.to_owned().into()))
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

/// What binds a sealed secret to its row.
fn context(company: CompanyId, id: ConnectionId) -> Vec<u8> {
    [company.as_uuid().into_bytes(), id.as_uuid().into_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "sk-canary-0123456789-abcd";

    #[test]
    fn a_secret_opens_in_its_own_row_alone() {
        let keys = KeyRing::generate();
        let (company, other) = (CompanyId::generate(), CompanyId::generate());
        let (id, another) = (ConnectionId::generate(), ConnectionId::generate());
        let sealed = Secret::from(SECRET.to_owned()).seal(&keys, company, id);
        assert!(!sealed.windows(6).any(|it| it == b"canary"));
        let open = |company, id, sealed: &[u8]| Secret::open(&keys, company, id, sealed);
        assert_eq!(open(company, id, &sealed).unwrap().value().expose_secret(), SECRET);
        for wrong in [
            open(other, id, &sealed),
            open(company, another, &sealed),
            open(company, id, &sealed[1..]),
            open(company, id, &[]),
        ] {
            assert!(wrong.is_err());
        }
        let elsewhere = Secret::open(&KeyRing::generate(), company, id, &sealed);
        assert_eq!(elsewhere.unwrap_err(), KeyError::Unknown);
    }

    #[test]
    fn a_secret_says_nothing_of_itself_but_the_end_of_a_long_one() {
        let secret = Secret::from(SECRET.to_owned());
        assert_eq!(secret.hint(), "abcd");
        assert!(!format!("{secret:?}").contains("canary"));
        assert_eq!(Secret::from("short-password".to_owned()).hint(), "");
    }
}
