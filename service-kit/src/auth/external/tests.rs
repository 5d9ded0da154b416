//! What passes for a token of another issuer, and everything that must not.

use std::sync::Mutex;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use jsonwebtoken::{EncodingKey, encode};
use serde_json::json;
use time::OffsetDateTime;

use super::*;
use crate::{
    auth::{JwksSource, UserTokens, Verified, Verifier},
    clock::FakeClock,
    config::Reader,
    keys::SigningKey,
    outbound::OutboundConfig,
};

const NOW: i64 = 1_800_000_000;
const ACME: &str = "https://login.acme.example";
const BASE: &str = "https://base.example/auth/v1";
const SECRET: &str = "a secret of more than thirty-two bytes";

/// Makes a user of every identity, and counts.
#[derive(Default)]
struct Everybody(Mutex<Vec<(Identity, UserId)>>);

impl Identities for Everybody {
    fn resolve<'i>(&'i self, identity: &'i Identity) -> BoxFuture<'i, Result<UserId>> {
        let mut known = self.0.lock().unwrap();
        let found = known
            .iter()
            .find(|(it, _)| (&it.issuer, &it.subject) == (&identity.issuer, &identity.subject));
        let user = found.map_or_else(UserId::generate, |(_, user)| *user);
        known.push((identity.clone(), user));
        Box::pin(async move { Ok(user) })
    }
}

struct Set(Mutex<(String, usize)>);

impl JwksSource for Set {
    fn fetch(&self) -> BoxFuture<'_, Result<String>> {
        let mut set = self.0.lock().unwrap();
        set.1 += 1;
        let answer = set.0.clone();
        Box::pin(async move { Ok(answer) })
    }
}

struct World {
    verifier: Verifier,
    identities: Arc<Everybody>,
    set: Arc<Set>,
    clock: Arc<FakeClock>,
    acme: SigningKey,
    own: SigningKey,
}

fn world() -> World {
    let clock = Arc::new(FakeClock::new(OffsetDateTime::from_unix_timestamp(NOW).unwrap()));
    let (acme, own) = (SigningKey::generate(), SigningKey::generate());
    let flags = [
        ("issuers_acme_issuer", ACME),
        ("issuers_acme_audience", "studios"),
        ("issuers_acme_jwks_url", "http://127.0.0.1:9/keys"),
        ("issuers_base_issuer", BASE),
        ("issuers_base_secret", SECRET),
        ("issuers_base_supabase", "true"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()));
    let config = ExternalConfig::read(&mut Reader::load(&["STUDIOS_TEST_"], None, &flags), "studios");
    let outbound = Outbound::new(&OutboundConfig::default()).unwrap();
    let identities = Arc::new(Everybody::default());
    let mut external = External::new(&config, &outbound, identities.clone(), clock.clone());
    let jwks = json!({ "keys": [acme.public_jwk()] }).to_string();
    let set = Arc::new(Set(Mutex::new((jwks, 0))));
    external.issuers.get_mut(ACME).unwrap().keys = Some(KeyStore::new(set.clone(), keys::parse, clock.clone()));
    let users = UserTokens {
        issuer: "studios".into(),
        audience: "studios".into(),
        keys: Arc::new(crate::auth::StaticJwks(
            json!({ "keys": [own.public_jwk()] }).to_string(),
        )),
    };
    World {
        verifier: Verifier::new(users, [], clock.clone()).unwrap().accepting(external),
        identities,
        set,
        clock,
        acme,
        own,
    }
}

fn claims(issuer: &str, audience: &str, changes: &Value) -> Value {
    let mut claims = json!({ "iss": issuer, "sub": "3f0a", "aud": audience, "exp": NOW + 300, "iat": NOW, "role": "authenticated",
        "email": "ada@example.com", "user_metadata": { "full_name": "Ada", "email_verified": true } });
    claims
        .as_object_mut()
        .unwrap()
        .extend(changes.as_object().unwrap().clone());
    claims
}

fn hs256(header: &Header, claims: &Value, secret: &[u8]) -> String {
    encode(header, claims, &EncodingKey::from_secret(secret)).unwrap()
}

impl World {
    async fn refused(&self, token: &str) -> &'static str {
        match self.verifier.verify(token).await {
            Err(Error::Unauthenticated(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    async fn user(&self, token: &str) -> UserId {
        match self.verifier.verify(token).await {
            Ok(Verified::User(Caller {
                user,
                session: None,
                service: None,
                key: None,
            })) => user,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_token_of_a_configured_issuer_proves_its_subject() {
    let world = world();
    let first = world.user(&world.acme.sign(&claims(ACME, "studios", &json!({})))).await;
    let later = world.acme.sign(&claims(ACME, "studios", &json!({ "exp": NOW + 600 })));
    assert_eq!(world.user(&later).await, first);
    let base = hs256(
        &Header::new(Algorithm::HS256),
        &claims(BASE, "authenticated", &json!({})),
        SECRET.as_bytes(),
    );
    assert_ne!(
        world.user(&base).await,
        first,
        "the same subject of another issuer is somebody else"
    );
    let known = world.identities.0.lock().unwrap();
    let (identity, _) = known.last().unwrap();
    assert_eq!(identity.full_name.as_deref(), Some("Ada"));
    assert!(
        !identity.email_verified,
        "what a user may write of himself proves nothing"
    );
}

#[tokio::test]
async fn a_tokens_issuer_audience_times_and_role_must_be_right() {
    let world = world();
    for (changes, reason) in [
        (json!({ "aud": "authenticated" }), "TOKEN_INVALID"),
        (json!({ "aud": ["another", "yet another"] }), "TOKEN_INVALID"),
        (json!({ "exp": NOW - 6 }), "TOKEN_EXPIRED"),
        (json!({ "exp": "soon" }), "TOKEN_INVALID"),
        (json!({ "nbf": NOW + 60 }), "TOKEN_INVALID"),
        (json!({ "sub": "" }), "TOKEN_INVALID"),
        (json!({ "sub": 7 }), "TOKEN_INVALID"),
        (json!({ "sub": "x".repeat(256) }), "TOKEN_INVALID"),
        (json!({ "iss": "https://evil.example" }), "TOKEN_INVALID"),
        (json!({ "iss": BASE }), "TOKEN_INVALID"),
        (json!({ "iss": [ACME] }), "TOKEN_INVALID"),
    ] {
        let token = world.acme.sign(&claims(ACME, "studios", &changes));
        assert_eq!(world.refused(&token).await, reason, "{changes}");
    }
    for fine in [
        json!({ "aud": ["x", "studios"] }),
        json!({ "exp": NOW - 4 }),
        json!({ "nbf": NOW + 4 }),
    ] {
        world.user(&world.acme.sign(&claims(ACME, "studios", &fine))).await;
    }
    for role in ["anon", "service_role"] {
        let changed = claims(BASE, "authenticated", &json!({ "role": role }));
        let token = hs256(&Header::new(Algorithm::HS256), &changed, SECRET.as_bytes());
        assert_eq!(world.refused(&token).await, "TOKEN_INVALID", "{role}");
    }
}

#[tokio::test]
async fn a_key_verifies_its_own_algorithm_and_its_own_issuer_alone() {
    let world = world();
    let good = claims(ACME, "studios", &json!({}));
    // HS256 with the public key as the secret, under the key's own id.
    let jwk = serde_json::to_vec(&world.acme.public_jwk()).unwrap();
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some(world.acme.kid().to_owned());
    for secret in [&jwk[..], b"", SECRET.as_bytes()] {
        assert_eq!(world.refused(&hs256(&header, &good, secret)).await, "TOKEN_INVALID");
    }
    // No algorithm at all.
    for head in [
        json!({ "alg": "none" }),
        json!({ "alg": "none", "kid": world.acme.kid() }),
    ] {
        let token = format!(
            "{}.{}.",
            BASE64URL.encode(head.to_string()),
            BASE64URL.encode(good.to_string())
        );
        assert_eq!(world.refused(&token).await, "TOKEN_INVALID");
    }
    // Our own key, and another issuer's, are nobody's here.
    assert_eq!(world.refused(&world.own.sign(&good)).await, "TOKEN_INVALID");
    let ours = json!({ "iss": "studios", "sub": UserId::generate(), "aud": "studios", "exp": NOW + 300, "iat": NOW, "role": "authenticated" });
    assert_eq!(world.refused(&world.acme.sign(&ours)).await, "TOKEN_INVALID");
    assert_eq!(
        world
            .refused(&world.acme.sign(&claims(BASE, "authenticated", &json!({}))))
            .await,
        "TOKEN_INVALID"
    );
    // A key that the token brings along, or says where it is.
    let evil = SigningKey::generate();
    let head = json!({ "alg": "ES256", "kid": evil.kid(), "jwk": evil.public_jwk(), "jku": "http://127.0.0.1:9/evil" });
    let signed = evil.sign(&good);
    let (_, signature) = signed.rsplit_once('.').unwrap();
    let token = format!(
        "{}.{}.{signature}",
        BASE64URL.encode(head.to_string()),
        BASE64URL.encode(good.to_string())
    );
    assert_eq!(world.refused(&token).await, "TOKEN_INVALID");
    // One that is too long to be looked at.
    let huge = claims(ACME, "studios", &json!({ "padding": "x".repeat(9000) }));
    assert_eq!(world.refused(&world.acme.sign(&huge)).await, "TOKEN_INVALID");
}

#[tokio::test]
async fn an_unknown_key_is_fetched_once_and_then_not_at_the_callers_rate() {
    let world = world();
    world.user(&world.acme.sign(&claims(ACME, "studios", &json!({})))).await;
    let next = SigningKey::generate();
    for _ in 0..50 {
        let unknown = SigningKey::generate().sign(&claims(ACME, "studios", &json!({})));
        assert_eq!(world.refused(&unknown).await, "TOKEN_INVALID");
    }
    assert_eq!(world.set.0.lock().unwrap().1, 1, "fetched just now");
    world.set.0.lock().unwrap().0 = json!({ "keys": [next.public_jwk()] }).to_string();
    world.clock.advance(Duration::from_secs(5));
    world.user(&next.sign(&claims(ACME, "studios", &json!({})))).await;
    for _ in 0..50 {
        let unknown = SigningKey::generate().sign(&claims(ACME, "studios", &json!({})));
        world.refused(&unknown).await;
    }
    assert_eq!(world.set.0.lock().unwrap().1, 2);
    let old = world.acme.sign(&claims(ACME, "studios", &json!({ "exp": NOW + 301 })));
    assert_eq!(world.refused(&old).await, "TOKEN_INVALID", "a key that was taken out");
}

#[test]
fn each_kind_of_key_has_one_algorithm() {
    let es256 = serde_json::to_value(SigningKey::generate().public_jwk()).unwrap();
    let with = |change: &Value| {
        let mut jwk = es256.clone();
        jwk.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let parsed = keys::parse(&json!({ "keys": [jwk] }).to_string()).unwrap();
        parsed.values().next().map(|it| it.algorithm)
    };
    assert_eq!(with(&json!({})), Some(Algorithm::ES256));
    assert_eq!(with(&json!({ "alg": "RS256" })), None);
    assert_eq!(with(&json!({ "use": "enc" })), None);
    let kty = |jwk: Value| keys::parse(&json!({ "keys": [jwk] }).to_string()).unwrap().len();
    assert_eq!(kty(json!({ "kty": "oct", "kid": "k", "k": "c2VjcmV0" })), 0);
    let ed = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "k", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" });
    assert_eq!(kty(ed), 1);
}
