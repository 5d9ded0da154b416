//! Verifies tokens: signature, issuer, audience, times, and that a token is of the kind that its key makes.
//!
//! The key id decides the kind. A peer's key verifies that peer's service tokens and nothing else; any other id must be in
//! the issuer's key set, and verifies users' tokens and nothing else. A token that names another issuer which is configured is
//! for that one's keys alone ([`External`]).

use std::{collections::HashMap, sync::Arc, time::Duration};

use jsonwebtoken::{Header, Validation, decode, decode_header, jwk::ThumbprintHash};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    Caller, External,
    api_keys::{self, ApiKeys, Secret},
    cache::TokenCache,
    jwks::{self, BELIEVED, JwksSource, KeyStore, PublicKey},
    revocations::Revocations,
};
use crate::{
    clock::SharedClock,
    error::{Error, Result},
    ids::UserId,
    keys::Jwk,
    token::{SERVICE_AUDIENCE, ServiceClaims, USER_ROLE, UserClaims},
};

/// Longer ones are not looked at.
const TOKEN_BYTES: usize = 8 * 1024;
/// How far a peer's clock may be ahead of ours.
const SKEW: Duration = Duration::from_secs(5);

const INVALID: Error = Error::Unauthenticated("TOKEN_INVALID");
const EXPIRED: Error = Error::Unauthenticated("TOKEN_EXPIRED");

/// Whose tokens of users are accepted.
pub struct UserTokens {
    /// The one issuer.
    pub issuer: String,
    /// The audience that they must name.
    pub audience: String,
    /// The issuer's keys.
    pub keys: Arc<dyn JwksSource>,
}

/// A service whose tokens are accepted.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// The public half of its key.
    pub key: Jwk,
}

/// What a token proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verified {
    /// A user calls.
    User(Caller),
    /// A service calls.
    Service {
        /// Its name.
        name: Arc<str>,
        /// The user that it acts for.
        user: Option<UserId>,
    },
}

/// Verifies the tokens of one issuer's users and of some peers.
pub struct Verifier {
    users: KeyStore<PublicKey>,
    user_rules: Validation,
    peers: HashMap<String, PeerKey>,
    api_keys: Option<ApiKeys>,
    revocations: Arc<Revocations>,
    external: Option<External>,
    cache: TokenCache,
    clock: SharedClock,
}

struct PeerKey {
    name: Arc<str>,
    key: PublicKey,
    rules: Validation,
}

impl Verifier {
    /// For the users of one issuer and these peers.
    ///
    /// # Errors
    /// `Invalid`: a peer's key is not a P-256 one for signing.
    pub fn new(users: UserTokens, peers: impl IntoIterator<Item = Peer>, clock: SharedClock) -> Result<Self> {
        Ok(Self {
            user_rules: rules(&users.issuer, &users.audience),
            users: KeyStore::new(users.keys, jwks::parse, clock.clone()),
            peers: peers.into_iter().map(peer_key).collect::<Result<_>>()?,
            api_keys: None,
            revocations: Arc::new(Revocations::new(clock.clone())),
            external: None,
            cache: TokenCache::default(),
            clock,
        })
    }

    /// The same, and API keys too.
    #[must_use]
    pub fn with_api_keys(self, api_keys: ApiKeys) -> Self {
        Self {
            api_keys: Some(api_keys),
            ..self
        }
    }

    /// The same, that refuses the tokens of these sessions.
    #[must_use]
    pub fn refusing(mut self, revocations: Arc<Revocations>) -> Self {
        self.revocations = revocations;
        self
    }

    /// The same, that accepts the tokens of other issuers too.
    #[must_use]
    pub fn accepting(mut self, external: External) -> Self {
        self.external = Some(external);
        self
    }

    /// What a token proves.
    ///
    /// # Errors
    /// `Unauthenticated` with the reasons `TOKEN_INVALID`, `TOKEN_EXPIRED`, `SESSION_ENDED` and `API_KEY_INVALID`; `Unavailable`
    /// while the issuer's keys cannot be had.
    pub async fn verify(&self, token: &str) -> Result<Verified> {
        let verified = self.verified(token).await?;
        if let Verified::User(Caller {
            session: Some(session), ..
        }) = &verified
            && self.revocations.contains(*session)
        {
            return Err(Error::Unauthenticated("SESSION_ENDED"));
        }
        Ok(verified)
    }

    async fn verified(&self, token: &str) -> Result<Verified> {
        if token.len() > TOKEN_BYTES {
            return Err(INVALID);
        }
        let now = self.clock.now().unix_timestamp();
        let hash = TokenCache::hash(token);
        if let Some(verified) = self.cache.get(&hash, now) {
            return Ok(verified);
        }
        if let Some(keys) = self.api_keys.as_ref().filter(|_| Secret::looks_like(token)) {
            let key = keys.find(token).await?;
            let until = key.expires_at.unwrap_or(i64::MAX).min(now + api_keys::BELIEVED_S);
            let verified = Verified::User(Caller {
                user: key.id,
                session: None,
                service: None,
                key: Some(Arc::new(key)),
            });
            self.cache.put(hash, verified.clone(), until, now);
            return Ok(verified);
        }
        let header = decode_header(token).map_err(|_| INVALID)?;
        let elsewhere = self.external.as_ref().and_then(|it| Some((it, it.named(token)?)));
        let (verified, expires) = if let Some((external, issuer)) = elsewhere {
            no_extensions(&header)?;
            let (caller, expires) = external.verify(issuer, token, &header).await?;
            (Verified::User(caller), expires)
        } else {
            match self.peers.get(key_id(&header)?) {
                Some(peer) => service(token, peer, now)?,
                None => self.user(token, key_id(&header)?, now).await?,
            }
        };
        let until = expires.min(now + BELIEVED.as_secs().cast_signed());
        self.cache.put(hash, verified.clone(), until, now);
        Ok(verified)
    }

    async fn user(&self, token: &str, key_id: &str, now: i64) -> Result<(Verified, i64)> {
        let key = self.users.find(key_id).await?.ok_or(INVALID)?;
        let claims: UserClaims = claims(token, &key, &self.user_rules, now)?;
        if claims.role != USER_ROLE {
            return Err(INVALID);
        }
        let caller = Caller {
            user: claims.sub,
            session: claims.session_id,
            service: None,
            key: None,
        };
        Ok((Verified::User(caller), claims.exp))
    }
}

fn service(token: &str, peer: &PeerKey, now: i64) -> Result<(Verified, i64)> {
    let claims: ServiceClaims = claims(token, &peer.key, &peer.rules, now)?;
    if *claims.sub != *peer.name {
        return Err(INVALID);
    }
    Ok((
        Verified::Service {
            name: peer.name.clone(),
            user: claims.act,
        },
        claims.exp,
    ))
}

fn peer_key(peer: Peer) -> Result<(String, PeerKey)> {
    let key = PublicKey::of(&peer.key).zip(peer.key.thumbprint(ThumbprintHash::SHA256).ok());
    let (key, id) = key.ok_or_else(|| Error::invalid(&peer.name, "must have a public P-256 key for signing"))?;
    let rules = rules(&peer.name, SERVICE_AUDIENCE);
    Ok((
        id,
        PeerKey {
            name: peer.name.into(),
            key,
            rules,
        },
    ))
}

/// Critical extensions are none that we know, and so must be refused (RFC 7515 §4.1.11).
fn no_extensions(header: &Header) -> Result<()> {
    if header.crit.is_some() { Err(INVALID) } else { Ok(()) }
}

fn key_id(header: &Header) -> Result<&str> {
    no_extensions(header)?;
    header.kid.as_deref().ok_or(INVALID)
}

fn rules(issuer: &str, audience: &str) -> Validation {
    let mut rules = Validation::new(PublicKey::ALGORITHM);
    rules.set_issuer(&[issuer]);
    rules.set_audience(&[audience]);
    rules.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
    // Times are compared with our clock, below.
    rules.validate_exp = false;
    rules
}

fn claims<T: DeserializeOwned>(token: &str, key: &PublicKey, rules: &Validation, now: i64) -> Result<T> {
    let claims: Value = decode(token, &key.0, rules).map_err(|_| INVALID)?.claims;
    if claims
        .get("nbf")
        .is_some_and(|it| it.as_i64().is_none_or(|it| it > now + SKEW.as_secs().cast_signed()))
    {
        return Err(INVALID);
    }
    if claims["exp"].as_i64().ok_or(INVALID)? <= now {
        return Err(EXPIRED);
    }
    serde_json::from_value(claims).map_err(|_| INVALID)
}

#[cfg(test)]
mod tests;
