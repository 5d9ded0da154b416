//! The claims of the two kinds of token, and the identity that a service signs its own with.
//!
//! A user's token comes from core-service and says who calls. A service's token says which service calls, and for which
//! user it acts. Issuer, audience and keys of the two are apart, so one is never taken for the other.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    clock::SharedClock,
    ids::{SessionId, UserId},
    keys::SigningKey,
};

/// The audience of users' tokens.
pub const USER_AUDIENCE: &str = "studios";
/// The audience of services' tokens.
pub const SERVICE_AUDIENCE: &str = "studios-internal";
/// The only role whose tokens are accepted.
pub const USER_ROLE: &str = "authenticated";

/// How long a service's token lives.
const SERVICE_LIFETIME: Duration = Duration::from_mins(1);
/// How long it is used again; the rest of its life is for the way to the peer and for clocks that differ.
const SERVICE_REUSE: Duration = Duration::from_secs(30);
/// Tokens kept for using again.
const SERVICE_TOKENS: usize = 4096;

/// What a user's token says. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserClaims {
    /// Who made it.
    pub iss: String,
    /// The user.
    pub sub: UserId,
    /// [`USER_AUDIENCE`].
    pub aud: String,
    /// When it ends.
    pub exp: i64,
    /// When it was made.
    pub iat: i64,
    /// The session that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// The user's e-mail address, where he has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// [`USER_ROLE`].
    pub role: String,
    /// How surely it is the user: `aal1` by a password, `aal2` by a second factor besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aal: Option<String>,
}

/// What a service's token says. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceClaims {
    /// The service that made it.
    pub iss: String,
    /// The same service.
    pub sub: String,
    /// [`SERVICE_AUDIENCE`].
    pub aud: String,
    /// The user that the service acts for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<UserId>,
    /// When it ends.
    pub exp: i64,
    /// When it was made.
    pub iat: i64,
}

/// A service as its peers know it: its name, and the key that they verify its tokens with.
pub struct ServiceIdentity {
    name: String,
    key: SigningKey,
    clock: SharedClock,
    minted: Mutex<HashMap<Option<UserId>, Minted>>,
}

struct Minted {
    token: String,
    until: i64,
}

impl ServiceIdentity {
    /// The service of this name, with its key.
    pub fn new(name: impl Into<String>, key: SigningKey, clock: SharedClock) -> Self {
        Self {
            name: name.into(),
            key,
            clock,
            minted: Mutex::default(),
        }
    }

    /// The service's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A token for calling a peer, acting for a user where one is named. It is good for at least half a minute more.
    pub fn token_for(&self, user: Option<UserId>) -> String {
        let now = self.clock.now().unix_timestamp();
        if let Some(minted) = self.minted().get(&user)
            && now < minted.until
        {
            return minted.token.clone();
        }
        let token = self.key.sign(&ServiceClaims {
            iss: self.name.clone(),
            sub: self.name.clone(),
            aud: SERVICE_AUDIENCE.into(),
            act: user,
            exp: now + SERVICE_LIFETIME.as_secs().cast_signed(),
            iat: now,
        });
        let mut minted = self.minted();
        if minted.len() >= SERVICE_TOKENS {
            minted.retain(|_, it| now < it.until);
        }
        if minted.len() < SERVICE_TOKENS {
            let until = now + SERVICE_REUSE.as_secs().cast_signed();
            minted.insert(
                user,
                Minted {
                    token: token.clone(),
                    until,
                },
            );
        }
        token
    }

    fn minted(&self) -> std::sync::MutexGuard<'_, HashMap<Option<UserId>, Minted>> {
        self.minted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ServiceIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceIdentity")
            .field("name", &self.name)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use time::OffsetDateTime;

    use super::*;
    use crate::clock::FakeClock;

    #[test]
    fn a_minted_token_is_used_again_for_its_user_and_not_for_long() {
        let clock = Arc::new(FakeClock::new(OffsetDateTime::UNIX_EPOCH));
        let identity = ServiceIdentity::new("execution-service", SigningKey::generate(), clock.clone());
        let (one, two) = (Some(UserId::generate()), Some(UserId::generate()));
        let token = identity.token_for(one);
        assert_eq!(identity.token_for(one), token);
        assert_ne!(identity.token_for(two), token);
        assert_ne!(identity.token_for(None), token);
        clock.advance(SERVICE_REUSE);
        assert_ne!(identity.token_for(one), token);
    }

    #[test]
    fn tokens_kept_are_bounded() {
        let clock = Arc::new(FakeClock::new(OffsetDateTime::UNIX_EPOCH));
        let identity = ServiceIdentity::new("execution-service", SigningKey::generate(), clock.clone());
        for _ in 0..SERVICE_TOKENS {
            let user = Some(UserId::generate());
            identity.minted().insert(
                user,
                Minted {
                    token: String::new(),
                    until: 30,
                },
            );
        }
        identity.token_for(None);
        assert_eq!(identity.minted().len(), SERVICE_TOKENS);
        clock.advance(SERVICE_REUSE);
        identity.token_for(None);
        assert_eq!(identity.minted().len(), 1);
    }
}
