//! Tokens of other issuers, such as Supabase Auth: who signed them decides which keys may verify them, and each key has one
//! algorithm. An HMAC secret verifies HS256 alone and never comes out of a key set; what a token says of where its key is
//! (`jku`, `x5u`, `jwk`) is never looked at. Who a subject is, is core-service's to say: the first token makes his profile.

mod config;
mod keys;

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, dangerous, decode};
use serde_json::Value;

use self::keys::BoundKey;
pub use self::{
    config::{ExternalConfig, IssuerConfig},
    keys::IssuerKeys,
};
use super::{Caller, jwks::KeyStore};
use crate::{
    clock::SharedClock,
    error::{Error, Result},
    ids::UserId,
    outbound::Outbound,
    token::USER_ROLE,
};

const INVALID: Error = Error::Unauthenticated("TOKEN_INVALID");
const EXPIRED: Error = Error::Unauthenticated("TOKEN_EXPIRED");

/// How far an issuer's clock may be off.
const LEEWAY: Duration = Duration::from_secs(5);
const SUBJECT_BYTES: usize = 255;

/// Who somebody is at another issuer, as a verified token says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The issuer.
    pub issuer: String,
    /// Who it is there.
    pub subject: String,
    /// His e-mail address. It identifies nobody.
    pub email: Option<String>,
    /// Whether the issuer says that it is proved.
    pub email_verified: bool,
    /// His name.
    pub full_name: Option<String>,
}

/// Who knows the users behind identities.
pub trait Identities: Send + Sync {
    /// The user behind an identity, made when it is first seen.
    fn resolve<'i>(&'i self, identity: &'i Identity) -> BoxFuture<'i, Result<UserId>>;
}

/// The other issuers whose tokens are accepted.
pub struct External {
    issuers: HashMap<String, Issuer>,
    identities: Arc<dyn Identities>,
    clock: SharedClock,
}

struct Issuer {
    config: IssuerConfig,
    secret: Option<DecodingKey>,
    keys: Option<KeyStore<BoundKey>>,
}

impl External {
    /// These issuers, whose key sets are fetched by `outbound`.
    pub fn new(
        config: &ExternalConfig,
        outbound: &Outbound,
        identities: Arc<dyn Identities>,
        clock: SharedClock,
    ) -> Self {
        let issuers = config.issuers().map(|it| {
            let keys = it.jwks_url.clone().map(|url| {
                let source = Arc::new(IssuerKeys::new(outbound.clone(), url));
                KeyStore::new(source, keys::parse, clock.clone())
            });
            let issuer = Issuer {
                secret: it.secret(),
                keys,
                config: it.clone(),
            };
            (it.issuer.clone(), issuer)
        });
        Self {
            issuers: issuers.collect(),
            identities,
            clock,
        }
    }

    /// The one whom a token names, which it may do wrongly.
    pub(super) fn named(&self, token: &str) -> Option<&str> {
        if self.issuers.is_empty() {
            return None;
        }
        let claims = dangerous::insecure_decode::<Value>(token).ok()?.claims;
        let (name, _) = self.issuers.get_key_value(claims.get("iss")?.as_str()?)?;
        Some(name)
    }

    /// Whom a token of this issuer proves, and until when.
    pub(super) async fn verify(&self, issuer: &str, token: &str, header: &Header) -> Result<(Caller, i64)> {
        let issuer = self.issuers.get(issuer).ok_or(INVALID)?;
        let claims = issuer.claims(token, header).await?;
        let now = self.clock.now().unix_timestamp();
        let leeway = LEEWAY.as_secs().cast_signed();
        if let Some(from) = claims.get("nbf")
            && from.as_f64().is_none_or(|it| it > seconds(now + leeway))
        {
            return Err(INVALID);
        }
        let expires = whole(claims.get("exp").ok_or(INVALID)?)
            .ok_or(INVALID)?
            .saturating_add(leeway);
        if expires <= now {
            return Err(EXPIRED);
        }
        let identity = issuer.identity(&claims)?;
        let user = self.identities.resolve(&identity).await?;
        let caller = Caller {
            user,
            session: None,
            service: None,
            key: None,
        };
        Ok((caller, expires))
    }
}

impl Issuer {
    /// What a token says, once its signature, its issuer and its audience are found to be right.
    async fn claims(&self, token: &str, header: &Header) -> Result<Value> {
        let found;
        let (key, algorithm) = if header.alg == Algorithm::HS256 {
            (self.secret.as_ref().ok_or(INVALID)?, Algorithm::HS256)
        } else {
            let keys = self.keys.as_ref().ok_or(INVALID)?;
            found = keys.find(header.kid.as_deref().ok_or(INVALID)?).await?.ok_or(INVALID)?;
            (&found.key, found.algorithm)
        };
        let mut rules = Validation::new(algorithm);
        rules.set_issuer(&[&self.config.issuer]);
        rules.set_audience(&[&self.config.audience]);
        rules.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        // Times are compared with our clock.
        rules.validate_exp = false;
        Ok(decode(token, key, &rules).map_err(|_| INVALID)?.claims)
    }

    fn identity(&self, claims: &Value) -> Result<Identity> {
        if self.config.supabase && claims.get("role").and_then(Value::as_str) != Some(USER_ROLE) {
            return Err(INVALID);
        }
        let text = |of: &Value, name: &str| {
            let text = of.get(name)?.as_str()?.trim();
            (!text.is_empty()).then(|| text.to_owned())
        };
        let subject = text(claims, "sub")
            .filter(|it| it.len() <= SUBJECT_BYTES)
            .ok_or(INVALID)?;
        // What Supabase's users may write themselves is good for a name and for nothing else.
        let own = claims.get("user_metadata").unwrap_or(&Value::Null);
        let full_name = text(claims, "name")
            .or_else(|| text(own, "full_name"))
            .or_else(|| text(own, "name"));
        Ok(Identity {
            issuer: self.config.issuer.clone(),
            subject,
            email: text(claims, "email"),
            email_verified: claims.get("email_verified") == Some(&Value::Bool(true)),
            full_name,
        })
    }
}

/// Whole seconds; an issuer may write them with a fraction.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a fraction is cut, and too large a number is the largest"
)]
fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_f64().map(|it| it.floor() as i64))
}

#[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^52")]
fn seconds(at: i64) -> f64 {
    at as f64
}

#[cfg(test)]
mod tests;
