//! Operator tokens: those of who runs the installation, made on the machine that has the root key ring.
//!
//! A token is `op_studios_`, what it says as base64url of JSON, a dot, and a MAC of that under the key ring. It is no JWT and no API
//! key, so neither is ever taken for it; it lives for an hour at most; and it is taken at the service's own port alone, never from a
//! gateway, which says whom it calls for.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::types::Uuid;

use crate::{
    clock::SharedClock,
    error::{Error, Result},
    keys::KeyRing,
    limits::CLIENT_ADDRESS,
};

/// The longest that a token may live.
pub const LONGEST: Duration = Duration::from_hours(1);

const PREFIX: &str = "op_studios_";
const PURPOSE: &str = "operator.tokens";
const AUDIENCE: &str = "studios-operator";
const NAME_CHARS: usize = 100;
const REFUSED: Error = Error::Unauthenticated("OPERATOR_TOKEN_REQUIRED");

/// Who runs the installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// What he is called, by his own word.
    pub name: Arc<str>,
    /// The id that follows from the name.
    pub id: Uuid,
}

impl Operator {
    /// The operator of this name.
    pub fn named(name: &str) -> Self {
        let digest = Sha256::digest(format!("studios.operator {name}"));
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        Self {
            name: name.into(),
            id: uuid::Builder::from_custom_bytes(bytes).into_uuid(),
        }
    }

    /// The operator that the layer found.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<Self> {
        request.extensions().get().cloned().ok_or(REFUSED)
    }
}

#[derive(Serialize, Deserialize)]
struct Claims {
    aud: String,
    sub: String,
    iat: i64,
    exp: i64,
}

/// Makes and checks operators' tokens.
#[derive(Clone)]
pub struct OperatorTokens {
    ring: KeyRing,
    clock: SharedClock,
}

impl OperatorTokens {
    /// Under a key ring.
    pub fn new(ring: KeyRing, clock: SharedClock) -> Self {
        Self { ring, clock }
    }

    /// A token for an operator; it lives as long as is asked for, and no longer than [`LONGEST`].
    pub fn mint(&self, name: &str, lifetime: Duration) -> String {
        let now = self.clock.now().unix_timestamp();
        let claims = Claims {
            aud: AUDIENCE.into(),
            sub: name.chars().take(NAME_CHARS).collect(),
            iat: now,
            exp: now + lifetime.min(LONGEST).as_secs().cast_signed(),
        };
        let said = BASE64URL.encode(serde_json::to_vec(&claims).expect("claims are plain data"));
        let mac = BASE64URL.encode(self.ring.mac(PURPOSE, said.as_bytes()));
        format!("{PREFIX}{said}.{mac}")
    }

    /// Who calls with this token and these headers.
    ///
    /// # Errors
    /// `Unauthenticated` with the reasons `OPERATOR_TOKEN_REQUIRED` and `TOKEN_EXPIRED`.
    pub(super) fn verify(&self, token: &str, headers: &HeaderMap) -> Result<Operator> {
        if headers.contains_key(CLIENT_ADDRESS) {
            return Err(REFUSED);
        }
        let (said, mac) = token
            .strip_prefix(PREFIX)
            .and_then(|it| it.split_once('.'))
            .ok_or(REFUSED)?;
        let mac = BASE64URL.decode(mac).map_err(|_| REFUSED)?;
        if !self.ring.verify_mac(PURPOSE, said.as_bytes(), &mac) {
            return Err(REFUSED);
        }
        let claims = BASE64URL.decode(said).map_err(|_| REFUSED)?;
        let claims: Claims = serde_json::from_slice(&claims).map_err(|_| REFUSED)?;
        let now = self.clock.now().unix_timestamp();
        if claims.aud != AUDIENCE || claims.exp - claims.iat > LONGEST.as_secs().cast_signed() {
            return Err(REFUSED);
        }
        if claims.exp <= now {
            return Err(Error::Unauthenticated("TOKEN_EXPIRED"));
        }
        Ok(Operator::named(&claims.sub))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use time::OffsetDateTime;

    use super::*;
    use crate::clock::FakeClock;

    #[test]
    fn a_token_holds_for_its_time_under_its_ring_and_never_by_a_gateway() {
        let clock = Arc::new(FakeClock::new(OffsetDateTime::UNIX_EPOCH));
        let tokens = OperatorTokens::new(KeyRing::generate(), clock.clone());
        let none = HeaderMap::new();
        let token = tokens.mint("ada", Duration::from_mins(15));
        assert_eq!(tokens.verify(&token, &none).unwrap(), Operator::named("ada"));
        assert_ne!(Operator::named("ada").id, Operator::named("eve").id);

        let other = OperatorTokens::new(KeyRing::generate(), clock.clone());
        let mut forged = token.clone();
        forged.replace_range(15..16, if &token[15..16] == "x" { "y" } else { "x" });
        for (checks, token) in [(&other, &token), (&tokens, &forged), (&tokens, &token[..40].to_owned())] {
            assert!(
                matches!(checks.verify(token, &none), Err(Error::Unauthenticated(_))),
                "{token}"
            );
        }
        let mut relayed = HeaderMap::new();
        relayed.insert(CLIENT_ADDRESS, HeaderValue::from_static("127.0.0.1"));
        assert!(tokens.verify(&token, &relayed).is_err());

        clock.advance(Duration::from_mins(15));
        assert!(matches!(
            tokens.verify(&token, &none),
            Err(Error::Unauthenticated("TOKEN_EXPIRED"))
        ));
        let long = tokens.mint("ada", Duration::from_hours(48));
        clock.advance(LONGEST);
        assert!(tokens.verify(&long, &none).is_err(), "an hour is the most");
    }
}
