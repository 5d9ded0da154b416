//! The keys that verify users' tokens: where they come from, and how long they are believed.
//!
//! Only P-256 keys count, and each with ES256 alone: what algorithm a token names is never asked. A set is believed for
//! ten minutes. An unknown key id fetches a new one, once in a while, so that strangers cannot make us fetch at their rate.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use futures::future::BoxFuture;
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use serde::Deserialize;
use studios_proto::core::{GetJwksRequest, auth_service_client::AuthServiceClient};
use tokio::{sync::Mutex, time::timeout};
use tonic::transport::Channel;

use crate::{
    client,
    clock::SharedClock,
    error::{Error, Result},
    status,
};

/// How long a fetched set, and what it verified, is believed.
pub(super) const BELIEVED: Duration = Duration::from_mins(10);
/// The least time between two fetches because of unknown key ids.
const UNKNOWN_KEY_INTERVAL: Duration = Duration::from_secs(5);
/// The least time between two fetches while no set is believed.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a JSON Web Key Set (RFC 7517) comes from.
pub trait JwksSource: Send + Sync {
    /// The set as it is now, in JSON.
    fn fetch(&self) -> BoxFuture<'_, Result<String>>;
}

/// A set that never changes.
#[derive(Debug, Clone)]
pub struct StaticJwks(pub String);

impl JwksSource for StaticJwks {
    fn fetch(&self) -> BoxFuture<'_, Result<String>> {
        Box::pin(async { Ok(self.0.clone()) })
    }
}

/// core-service's set, asked for over gRPC.
#[derive(Debug, Clone)]
pub struct ClientJwks(AuthServiceClient<Channel>);

impl ClientJwks {
    /// Over a channel to core-service.
    pub fn new(channel: Channel) -> Self {
        Self(AuthServiceClient::new(channel))
    }
}

impl JwksSource for ClientJwks {
    fn fetch(&self) -> BoxFuture<'_, Result<String>> {
        let mut client = self.0.clone();
        Box::pin(async move {
            let answer = client
                .get_jwks(client::call(None, None, GetJwksRequest {}, FETCH_TIMEOUT))
                .await;
            Ok(answer.map_err(status::from_status)?.into_inner().jwks_json)
        })
    }
}

/// A key that verifies signatures, bound to its algorithm.
#[derive(Debug)]
pub(super) struct PublicKey(pub(super) DecodingKey);

impl PublicKey {
    pub(super) const ALGORITHM: Algorithm = Algorithm::ES256;

    /// `None` for a key of another kind or use.
    pub(super) fn of(jwk: &Jwk) -> Option<Self> {
        let AlgorithmParameters::EllipticCurve(point) = &jwk.algorithm else {
            return None;
        };
        let fits = point.curve == EllipticCurve::P256
            && jwk.common.key_algorithm.is_none_or(|it| it == KeyAlgorithm::ES256)
            && jwk
                .common
                .public_key_use
                .as_ref()
                .is_none_or(|it| *it == PublicKeyUse::Signature);
        if fits {
            DecodingKey::from_jwk(jwk).ok().map(Self)
        } else {
            None
        }
    }
}

/// Reads the usable keys of a set.
type Parse<K> = fn(&str) -> Result<HashMap<String, Arc<K>>>;

/// The source's keys as they were last fetched.
pub(super) struct KeyStore<K> {
    source: Arc<dyn JwksSource>,
    parse: Parse<K>,
    clock: SharedClock,
    keys: ArcSwapOption<Keys<K>>,
    /// When the source was last asked; held while it is being asked.
    asked: Mutex<Option<Instant>>,
}

struct Keys<K> {
    by_id: HashMap<String, Arc<K>>,
    fetched: Instant,
}

impl<K> KeyStore<K> {
    pub(super) fn new(source: Arc<dyn JwksSource>, parse: Parse<K>, clock: SharedClock) -> Self {
        Self {
            source,
            parse,
            clock,
            keys: ArcSwapOption::empty(),
            asked: Mutex::default(),
        }
    }

    /// The key of this id, if the source has it.
    ///
    /// # Errors
    /// `Unavailable` while no set can be had.
    pub(super) async fn find(&self, id: &str) -> Result<Option<Arc<K>>> {
        if let Some(key) = self.believed().and_then(|it| it.by_id.get(id).cloned()) {
            return Ok(Some(key));
        }
        let mut asked = self.asked.lock().await;
        // Another request may have fetched it while this one waited.
        let believed = self.believed();
        if let Some(key) = believed.as_ref().and_then(|it| it.by_id.get(id)) {
            return Ok(Some(Arc::clone(key)));
        }
        let interval = if believed.is_some() {
            UNKNOWN_KEY_INTERVAL
        } else {
            RETRY_INTERVAL
        };
        let now = self.clock.monotonic();
        if asked.is_some_and(|it| now.duration_since(it) < interval) {
            return if believed.is_some() {
                Ok(None)
            } else {
                Err(unavailable())
            };
        }
        // Without a set everybody needs this fetch: only once it has ended does it hold up the next. A stranger who asks and
        // gives up at once would keep all others out.
        if believed.is_some() {
            *asked = Some(now);
        }
        let fetched = self.fetch(now).await;
        *asked = Some(now);
        let keys = Arc::new(fetched?);
        let key = keys.by_id.get(id).cloned();
        self.keys.store(Some(keys));
        Ok(key)
    }

    fn believed(&self) -> Option<Arc<Keys<K>>> {
        let now = self.clock.monotonic();
        self.keys
            .load_full()
            .filter(|it| now.duration_since(it.fetched) < BELIEVED)
    }

    async fn fetch(&self, now: Instant) -> Result<Keys<K>> {
        let answer = timeout(FETCH_TIMEOUT, self.source.fetch())
            .await
            .unwrap_or(Err(Error::DeadlineExceeded));
        let by_id = answer.and_then(|it| (self.parse)(&it)).map_err(|error| {
            tracing::warn!(error = %error, "the keys of access tokens cannot be fetched");
            unavailable()
        })?;
        Ok(Keys { by_id, fetched: now })
    }
}

fn unavailable() -> Error {
    Error::Unavailable {
        reason: "KEYS_UNAVAILABLE",
        message: "access tokens cannot be verified right now".into(),
        retry_after: Some(RETRY_INTERVAL),
    }
}

/// The usable keys of a set; what is none of ours is passed over.
pub(super) fn parse(jwks: &str) -> Result<HashMap<String, Arc<PublicKey>>> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    let set: Set = serde_json::from_str(jwks).map_err(Error::internal)?;
    let usable = set.keys.into_iter().filter_map(|it| {
        let jwk: Jwk = serde_json::from_value(it).ok()?;
        let key = PublicKey::of(&jwk)?;
        Some((jwk.common.key_id?, Arc::new(key)))
    });
    Ok(usable.collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as SyncMutex;

    use serde_json::json;
    use time::OffsetDateTime;

    use super::*;
    use crate::{clock::FakeClock, keys::SigningKey};

    /// Answers with what it was last given, and counts.
    #[derive(Default)]
    struct Scripted {
        jwks: SyncMutex<Option<String>>,
        fetches: SyncMutex<usize>,
    }

    impl Scripted {
        fn publish(&self, keys: &[&SigningKey]) {
            let keys: Vec<_> = keys.iter().map(|it| it.public_jwk()).collect();
            *self.jwks.lock().unwrap() = Some(json!({ "keys": keys }).to_string());
        }

        fn fetches(&self) -> usize {
            *self.fetches.lock().unwrap()
        }
    }

    impl JwksSource for Scripted {
        fn fetch(&self) -> BoxFuture<'_, Result<String>> {
            *self.fetches.lock().unwrap() += 1;
            let answer = self.jwks.lock().unwrap().clone().ok_or(Error::Cancelled);
            Box::pin(async move { answer })
        }
    }

    fn store() -> (KeyStore<PublicKey>, Arc<Scripted>, Arc<FakeClock>) {
        let source = Arc::new(Scripted::default());
        let clock = Arc::new(FakeClock::new(OffsetDateTime::UNIX_EPOCH));
        (KeyStore::new(source.clone(), parse, clock.clone()), source, clock)
    }

    #[tokio::test]
    async fn a_set_is_fetched_once_and_again_when_it_is_no_longer_believed() {
        let (store, source, clock) = store();
        let key = SigningKey::generate();
        source.publish(&[&key]);
        for _ in 0..3 {
            assert!(store.find(key.kid()).await.unwrap().is_some());
        }
        assert_eq!(source.fetches(), 1);
        clock.advance(BELIEVED);
        source.publish(&[]);
        assert!(store.find(key.kid()).await.unwrap().is_none());
        assert_eq!(source.fetches(), 2);
    }

    #[tokio::test]
    async fn unknown_ids_fetch_but_not_at_the_callers_rate() {
        let (store, source, clock) = store();
        let (old, new) = (SigningKey::generate(), SigningKey::generate());
        source.publish(&[&old]);
        assert!(store.find(old.kid()).await.unwrap().is_some());
        source.publish(&[&old, &new]);
        for _ in 0..100 {
            assert!(store.find("made up").await.unwrap().is_none());
        }
        assert_eq!(source.fetches(), 1);
        clock.advance(UNKNOWN_KEY_INTERVAL);
        assert!(store.find(new.kid()).await.unwrap().is_some());
        assert_eq!(source.fetches(), 2);
    }

    #[tokio::test]
    async fn without_a_set_nobody_is_refused_as_a_stranger() {
        let (store, source, clock) = store();
        let key = SigningKey::generate();
        for _ in 0..2 {
            let error = store.find(key.kid()).await.unwrap_err();
            assert!(matches!(
                error,
                Error::Unavailable {
                    reason: "KEYS_UNAVAILABLE",
                    ..
                }
            ));
        }
        assert_eq!(source.fetches(), 1);
        source.publish(&[&key]);
        clock.advance(RETRY_INTERVAL);
        assert!(store.find(key.kid()).await.unwrap().is_some());
    }

    #[test]
    fn only_p256_keys_for_signing_count() {
        let key = |change: fn(&mut serde_json::Value)| {
            let mut jwk = serde_json::to_value(SigningKey::generate().public_jwk()).unwrap();
            change(&mut jwk);
            parse(&json!({ "keys": [jwk] }).to_string()).unwrap().len()
        };
        assert_eq!(key(|_| ()), 1);
        assert_eq!(key(|it| it["alg"] = "HS256".into()), 0);
        assert_eq!(key(|it| it["use"] = "enc".into()), 0);
        assert_eq!(key(|it| it["crv"] = "P-384".into()), 0);
        assert_eq!(key(|it| *it = json!({"kty": "oct", "kid": "k", "k": "c2VjcmV0"})), 0);
        assert_eq!(key(|it| *it = json!("nonsense")), 0);
        assert!(parse("<html>").is_err());
    }
}
