//! Passwords and their hashes: argon2id at the parameters OWASP recommends, away from the threads that serve calls.
//!
//! A hash costs some 20 ms of a processor and 19 MiB. As many run at a time as there are processors, so many callers as
//! [`WAITING`] may wait, and more are told to come back. A check without a stored hash takes as long as one with.

use std::{ops::RangeInclusive, sync::Arc, thread, time::Duration};

use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use secrecy::{ExposeSecret, SecretString};
use service_kit::error::{Error, Result, Violations};
use tokio::{sync::Semaphore, task};

/// Callers that wait or are served, at most.
const WAITING: usize = 1024;

const CHOSEN: RangeInclusive<usize> = 10..=256;
const GIVEN: RangeInclusive<usize> = 1..=256;

/// A password as it was typed.
#[derive(Clone, Debug)]
pub struct Password(SecretString);

impl Password {
    /// Reads one that is to be used from now on: 10 to 256 characters.
    pub fn chosen(violations: &mut Violations, field: &str, text: &str) -> Option<Self> {
        Self::read(violations, field, text, CHOSEN)
    }

    /// Reads one that is to be compared.
    pub fn given(violations: &mut Violations, field: &str, text: &str) -> Option<Self> {
        Self::read(violations, field, text, GIVEN)
    }

    fn read(violations: &mut Violations, field: &str, text: &str, length: RangeInclusive<usize>) -> Option<Self> {
        if length.contains(&text.chars().count()) {
            return Some(Self(text.into()));
        }
        violations.add(
            field,
            format!("must have {} to {} characters", length.start(), length.end()),
        );
        None
    }
}

/// Makes and checks hashes.
pub struct Passwords {
    waiting: Semaphore,
    running: Arc<Semaphore>,
    nobodys: Arc<str>,
}

impl Passwords {
    /// Hashes once, to have what unknown users' passwords are compared with.
    pub async fn new() -> Result<Self> {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let mut passwords = Self {
            waiting: Semaphore::new(WAITING),
            running: Arc::new(Semaphore::new(processors)),
            nobodys: "".into(),
        };
        let random = Password(hex::encode(rand::random::<[u8; 32]>()).into());
        passwords.nobodys = passwords.hash(&random).await?.into();
        Ok(passwords)
    }

    /// The hash to store, a PHC string that names its parameters.
    pub async fn hash(&self, password: &Password) -> Result<String> {
        let password = password.clone();
        let hash = self.run(move || {
            let hash = Argon2::default().hash_password(password.0.expose_secret().as_bytes());
            hash.map(|it| it.to_string())
        });
        hash.await?.map_err(|error| Error::internal(error.to_string()))
    }

    /// Whether the password is the one that was hashed; never where there is no hash.
    pub async fn verify(&self, password: &Password, hash: Option<&str>) -> Result<bool> {
        let password = password.clone();
        let known = hash.is_some();
        let hash = hash.map_or_else(|| Arc::clone(&self.nobodys), Arc::from);
        let matches = self.run(move || {
            let password = password.0.expose_secret().as_bytes();
            Argon2::default().verify_password(password, &*hash).is_ok()
        });
        Ok(matches.await? && known)
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let _place = self.waiting.try_acquire().map_err(|_| Error::Unavailable {
            reason: "SIGN_IN_BUSY",
            message: "too many are signing in at the moment".into(),
            retry_after: Some(Duration::from_secs(5)),
        })?;
        let turn = Arc::clone(&self.running)
            .acquire_owned()
            .await
            .map_err(Error::internal)?;
        let done = task::spawn_blocking(move || {
            // The turn goes with the work: a caller that gives up does not end it.
            let _turn = turn;
            work()
        });
        done.await.map_err(Error::internal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password(text.into())
    }

    #[test]
    fn a_chosen_password_has_10_to_256_characters() {
        for (text, fits) in [
            ("a".repeat(9), false),
            ("ä".repeat(10), true),
            ("ä".repeat(256), true),
            ("a".repeat(257), false),
        ] {
            let mut violations = Violations::new();
            assert_eq!(Password::chosen(&mut violations, "password", &text).is_some(), fits);
            assert_eq!(violations.finish().is_ok(), fits);
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        assert!(!format!("{:?}", password("open sesame")).contains("sesame"));
    }

    #[tokio::test]
    async fn only_the_password_that_was_hashed_matches() {
        let passwords = Passwords::new().await.unwrap();
        let hash = passwords.hash(&password("correct horse")).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(passwords.verify(&password("correct horse"), Some(&hash)).await.unwrap());
        assert!(!passwords.verify(&password("Correct horse"), Some(&hash)).await.unwrap());
        assert!(
            !passwords
                .verify(&password("correct horse"), Some("damaged"))
                .await
                .unwrap()
        );
        assert!(!passwords.verify(&password("correct horse"), None).await.unwrap());
    }

    #[tokio::test]
    async fn whoever_finds_no_place_to_wait_is_told_to_come_back() {
        let passwords = Passwords::new().await.unwrap();
        let _taken = passwords
            .waiting
            .acquire_many(u32::try_from(WAITING).unwrap())
            .await
            .unwrap();
        let refused = passwords.verify(&password("x"), None).await;
        assert!(matches!(
            refused,
            Err(Error::Unavailable {
                reason: "SIGN_IN_BUSY",
                ..
            })
        ));
    }
}
