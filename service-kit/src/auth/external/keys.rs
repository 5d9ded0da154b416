//! The keys of another issuer: fetched from where the operator's configuration says, each bound to one algorithm.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use serde::Deserialize;
use url::Url;

use crate::{
    auth::JwksSource,
    error::{Error, Result},
    outbound::{Destination, Outbound, OutboundConfig},
};

const FETCH_TIMEOUT: Duration = Duration::from_secs(4);
/// An issuer has a handful of keys.
const MOST_KEYS: usize = 64;

/// A key that verifies signatures of one algorithm.
#[derive(Debug)]
pub(super) struct BoundKey {
    pub(super) key: DecodingKey,
    pub(super) algorithm: Algorithm,
}

impl BoundKey {
    /// `None` for a key of a kind or use that is not ours.
    fn of(jwk: &Jwk) -> Option<Self> {
        let told = jwk.common.key_algorithm;
        let (own, others): (Algorithm, &[(KeyAlgorithm, Algorithm)]) = match &jwk.algorithm {
            AlgorithmParameters::EllipticCurve(it) if it.curve == EllipticCurve::P256 => {
                (Algorithm::ES256, &[(KeyAlgorithm::ES256, Algorithm::ES256)])
            }
            AlgorithmParameters::EllipticCurve(it) if it.curve == EllipticCurve::P384 => {
                (Algorithm::ES384, &[(KeyAlgorithm::ES384, Algorithm::ES384)])
            }
            AlgorithmParameters::OctetKeyPair(it) if it.curve == EllipticCurve::Ed25519 => {
                (Algorithm::EdDSA, &[(KeyAlgorithm::EdDSA, Algorithm::EdDSA)])
            }
            AlgorithmParameters::RSA(_) => (
                Algorithm::RS256,
                &[
                    (KeyAlgorithm::RS256, Algorithm::RS256),
                    (KeyAlgorithm::RS384, Algorithm::RS384),
                    (KeyAlgorithm::RS512, Algorithm::RS512),
                ],
            ),
            _ => return None,
        };
        let algorithm = match told {
            None => own,
            Some(told) => others.iter().find(|(name, _)| *name == told)?.1,
        };
        let usage = jwk.common.public_key_use.as_ref();
        if usage.is_some_and(|it| *it != PublicKeyUse::Signature) {
            return None;
        }
        let key = DecodingKey::from_jwk(jwk).ok()?;
        Some(Self { key, algorithm })
    }
}

/// A key set at an address of the operator's.
#[derive(Debug)]
pub struct IssuerKeys {
    outbound: Outbound,
    at: Destination,
}

impl IssuerKeys {
    /// How sets are fetched.
    pub const OUTBOUND: OutboundConfig = OutboundConfig {
        connect_timeout: Duration::from_secs(2),
        max_response_bytes: 256 << 10,
        ca: None,
        allow: Vec::new(),
    };

    /// The set at this address of the operator's configuration.
    #[expect(
        clippy::disallowed_methods,
        reason = "the operator's configuration names where an issuer's keys are"
    )]
    pub fn new(outbound: Outbound, url: Url) -> Self {
        Self {
            outbound,
            at: Destination::configured(url),
        }
    }
}

impl JwksSource for IssuerKeys {
    fn fetch(&self) -> BoxFuture<'_, Result<String>> {
        Box::pin(async {
            let answer = self
                .outbound
                .get(&self.at, FETCH_TIMEOUT)
                .await
                .map_err(Error::internal)?;
            if !answer.status.is_success() {
                return Err(Error::internal(format!("the issuer answered {}", answer.status)));
            }
            String::from_utf8(answer.body.to_vec()).map_err(Error::internal)
        })
    }
}

/// The usable keys of a set; what is none of ours is passed over.
pub(super) fn parse(jwks: &str) -> Result<HashMap<String, Arc<BoundKey>>> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    let set: Set = serde_json::from_str(jwks).map_err(Error::internal)?;
    let usable = set.keys.into_iter().take(MOST_KEYS).filter_map(|it| {
        let jwk: Jwk = serde_json::from_value(it).ok()?;
        let key = BoundKey::of(&jwk)?;
        Some((jwk.common.key_id?, Arc::new(key)))
    });
    Ok(usable.collect())
}
