//! What passes for a token, and everything that must not.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use jsonwebtoken::{Algorithm, EncodingKey, encode};
use serde_json::json;
use time::OffsetDateTime;

use super::*;
use crate::{
    auth::StaticJwks,
    clock::FakeClock,
    ids::SessionId,
    keys::SigningKey,
    token::{ServiceIdentity, USER_AUDIENCE},
};

const NOW: i64 = 1_800_000_000;
const ISSUER: &str = "https://studios.example";

struct World {
    verifier: Verifier,
    clock: Arc<FakeClock>,
    users: SigningKey,
    execution: ServiceIdentity,
    user: UserId,
    session: SessionId,
}

fn world() -> World {
    let clock = Arc::new(FakeClock::new(OffsetDateTime::from_unix_timestamp(NOW).unwrap()));
    let (users, key) = (SigningKey::generate(), SigningKey::generate());
    let jwks = json!({ "keys": [users.public_jwk()] }).to_string();
    let tokens = UserTokens {
        issuer: ISSUER.into(),
        audience: USER_AUDIENCE.into(),
        keys: Arc::new(StaticJwks(jwks)),
    };
    let peer = Peer {
        name: "execution-service".into(),
        key: key.public_jwk(),
    };
    World {
        verifier: Verifier::new(tokens, [peer], clock.clone()).unwrap(),
        execution: ServiceIdentity::new("execution-service", key, clock.clone()),
        clock,
        users,
        user: UserId::generate(),
        session: SessionId::generate(),
    }
}

impl World {
    fn claims(&self) -> Value {
        json!({
            "iss": ISSUER, "sub": self.user, "aud": USER_AUDIENCE, "exp": NOW + 300, "iat": NOW,
            "session_id": self.session, "role": USER_ROLE,
        })
    }

    /// A token of the issuer with some claims changed; a null takes one out.
    fn token(&self, changes: &Value) -> String {
        let mut claims = self.claims();
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => claims.as_object_mut().unwrap().remove(name),
                value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
            };
        }
        self.users.sign(&claims)
    }

    async fn reason(&self, token: &str) -> &'static str {
        match self.verifier.verify(token).await {
            Err(Error::Unauthenticated(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }
}

/// A token with any header at all, signed or not.
fn forged(header: &Value, claims: &Value, sign: impl Fn(&str) -> String) -> String {
    let part = |it: &Value| BASE64URL.encode(it.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let signature = sign(&message);
    format!("{message}.{signature}")
}

#[tokio::test]
async fn a_users_token_proves_user_and_session() {
    let world = world();
    let caller = Caller {
        user: world.user,
        session: Some(world.session),
        service: None,
        key: None,
    };
    let token = world.token(&json!({}));
    for _ in 0..2 {
        assert_eq!(
            world.verifier.verify(&token).await.unwrap(),
            Verified::User(caller.clone())
        );
    }
}

#[tokio::test]
async fn a_services_token_proves_service_and_whom_it_acts_for() {
    let world = world();
    for user in [None, Some(world.user)] {
        let verified = world.verifier.verify(&world.execution.token_for(user)).await.unwrap();
        assert_eq!(
            verified,
            Verified::Service {
                name: "execution-service".into(),
                user
            }
        );
    }
}

#[tokio::test]
async fn a_token_ends_on_time_also_when_it_was_verified_before() {
    let world = world();
    let token = world.token(&json!({}));
    world.clock.advance(Duration::from_secs(299));
    assert!(world.verifier.verify(&token).await.is_ok());
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.reason(&token).await, "TOKEN_EXPIRED");
    let service = world.execution.token_for(None);
    world.clock.advance(Duration::from_mins(1));
    assert_eq!(world.reason(&service).await, "TOKEN_EXPIRED");
}

#[tokio::test]
async fn a_token_for_somebody_or_something_else_is_refused() {
    let world = world();
    for changes in [
        json!({"iss": "https://elsewhere.example"}),
        json!({"iss": null}),
        json!({"aud": "studios-internal"}),
        json!({"aud": null}),
        json!({"exp": null}),
        json!({"exp": "tomorrow"}),
        json!({"sub": null}),
        json!({"sub": "not-a-uuid"}),
        json!({"role": "anon"}),
        json!({"role": null}),
        json!({"nbf": NOW + 60}),
    ] {
        assert_eq!(world.reason(&world.token(&changes)).await, "TOKEN_INVALID", "{changes}");
    }
    let stranger = SigningKey::generate().sign(&world.claims());
    assert_eq!(world.reason(&stranger).await, "TOKEN_INVALID");
}

#[tokio::test]
async fn neither_kind_of_token_passes_for_the_other() {
    let world = world();
    // The issuer's key signs a service's claims, and a peer's key a user's.
    let service = json!({
        "iss": "execution-service", "sub": "execution-service", "aud": SERVICE_AUDIENCE,
        "act": world.user, "exp": NOW + 60, "iat": NOW,
    });
    assert_eq!(world.reason(&world.users.sign(&service)).await, "TOKEN_INVALID");
    let key = SigningKey::generate();
    let peer = Peer {
        name: "execution-service".into(),
        key: key.public_jwk(),
    };
    let users = UserTokens {
        issuer: ISSUER.into(),
        audience: USER_AUDIENCE.into(),
        keys: Arc::new(StaticJwks(json!({ "keys": [] }).to_string())),
    };
    let verifier = Verifier::new(users, [peer], world.clock.clone()).unwrap();
    assert!(verifier.verify(&key.sign(&world.claims())).await.is_err());
    assert!(verifier.verify(&key.sign(&service)).await.is_ok());
}

#[tokio::test]
async fn a_peers_key_speaks_for_that_peer_only() {
    let world = world();
    let key = SigningKey::generate();
    let peers = [("one", key.public_jwk()), ("two", SigningKey::generate().public_jwk())];
    let peers = peers.map(|(name, key)| Peer { name: name.into(), key });
    let users = UserTokens {
        issuer: ISSUER.into(),
        audience: USER_AUDIENCE.into(),
        keys: Arc::new(StaticJwks(String::new())),
    };
    let verifier = Verifier::new(users, peers, world.clock.clone()).unwrap();
    let named = |iss: &str, sub: &str| {
        key.sign(&json!({"iss": iss, "sub": sub, "aud": SERVICE_AUDIENCE, "exp": NOW + 60, "iat": NOW}))
    };
    assert!(verifier.verify(&named("one", "one")).await.is_ok());
    for (iss, sub) in [("two", "two"), ("one", "two"), ("two", "one")] {
        assert!(verifier.verify(&named(iss, sub)).await.is_err(), "{iss} {sub}");
    }
}

#[tokio::test]
async fn the_algorithm_is_the_keys_and_never_the_tokens() {
    let world = world();
    let kid = world.users.kid();
    let none = forged(&json!({"alg": "none", "kid": kid}), &world.claims(), |_| String::new());
    assert_eq!(world.reason(&none).await, "TOKEN_INVALID");

    // The public key is public: who knows it must not sign with it as if it were a shared secret.
    let jwk = serde_json::to_value(world.users.public_jwk()).unwrap();
    let coordinate = |name: &str| BASE64URL.decode(jwk[name].as_str().unwrap()).unwrap();
    let point = [vec![4], coordinate("x"), coordinate("y")].concat();
    for secret in [point, jwk.to_string().into_bytes()] {
        let header = Header {
            kid: Some(kid.into()),
            ..Header::new(Algorithm::HS256)
        };
        let token = encode(&header, &world.claims(), &EncodingKey::from_secret(&secret)).unwrap();
        assert_eq!(world.reason(&token).await, "TOKEN_INVALID");
    }
}

#[tokio::test]
async fn a_header_that_asks_for_more_than_we_know_is_refused() {
    let world = world();
    let signed = |header: &Value| {
        let message = forged(header, &world.claims(), |_| String::new());
        let genuine = world.users.sign(&world.claims());
        // A signature over another header never fits; what is refused here is refused before it is checked.
        format!("{message}{}", genuine.rsplit('.').next().unwrap())
    };
    for header in [
        json!({"alg": "ES256", "kid": world.users.kid(), "crit": ["b64"], "b64": false}),
        json!({"alg": "ES256"}),
        json!({"alg": "ES256", "kid": "unknown"}),
        json!({"alg": "ES256", "jwk": SigningKey::generate().public_jwk()}),
    ] {
        assert_eq!(world.reason(&signed(&header)).await, "TOKEN_INVALID", "{header}");
    }
}

#[tokio::test]
async fn what_is_no_token_is_refused() {
    let world = world();
    let token = world.token(&json!({}));
    let (head, signature) = token.rsplit_once('.').unwrap();
    let flipped = if signature.starts_with('A') { "B" } else { "A" };
    for text in [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        &format!("{head}."),
        &format!("{head}.{flipped}{}", &signature[1..]),
        &format!("{token}="),
        &format!("{token}.x"),
        &"x".repeat(TOKEN_BYTES + 1),
    ] {
        assert_eq!(world.reason(text).await, "TOKEN_INVALID", "{text}");
    }
}
