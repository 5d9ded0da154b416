//! What every call pays before anything else happens: tokens verified, made and kept, and secrets sealed and opened.

use std::{hint::black_box, sync::Arc, time::Duration};

use criterion::{BatchSize, Criterion};
use serde_json::json;
use service_kit::{
    auth::{StaticJwks, UserTokens, Verifier},
    clock::{Clock, FakeClock, SystemClock},
    ids::{SessionId, UserId},
    keys::{KeyRing, SigningKey},
    token::{ServiceIdentity, USER_AUDIENCE, USER_ROLE, UserClaims},
};
use tokio::runtime::{Builder, Runtime};

const ISSUER: &str = "https://studios.example";

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .sample_size(50)
        .configure_from_args();
    user_tokens(&mut criterion);
    service_tokens(&mut criterion);
    key_ring(&mut criterion);
    criterion.final_summary();
}

fn user_tokens(criterion: &mut Criterion) {
    let key = SigningKey::generate();
    let verifier = verifier(&key);
    let claims = claims();
    let runtime = runtime();
    let mut group = criterion.benchmark_group("verify a user's token");
    group.bench_function("first time", |bencher| {
        // A signature has a random part, so each is a token that the verifier has not seen.
        bencher.to_async(&runtime).iter_batched(
            || key.sign(&claims),
            |token| {
                let verifier = &verifier;
                async move { verifier.verify(&token).await.expect("the token is good") }
            },
            BatchSize::SmallInput,
        );
    });
    let token = key.sign(&claims);
    group.bench_function("again", |bencher| {
        bencher
            .to_async(&runtime)
            .iter(async || verifier.verify(black_box(&token)).await.expect("the token is good"));
    });
    group.finish();
}

fn service_tokens(criterion: &mut Criterion) {
    let clock = Arc::new(FakeClock::new(SystemClock.now()));
    let identity = ServiceIdentity::new("execution-service", SigningKey::generate(), clock.clone());
    let user = Some(UserId::generate());
    let mut group = criterion.benchmark_group("a service's token");
    group.bench_function("minted", |bencher| {
        bencher.iter(|| {
            // By then the token before is not used again.
            clock.advance(Duration::from_mins(1));
            identity.token_for(black_box(user))
        });
    });
    group.bench_function("used again", |bencher| {
        bencher.iter(|| identity.token_for(black_box(user)));
    });
    group.finish();
}

fn key_ring(criterion: &mut Criterion) {
    let ring = KeyRing::generate();
    let (purpose, context) = ("signing key", b"018f0000-0000-7000-8000-000000000001");
    let secret = SigningKey::generate().to_pkcs8();
    let sealed = ring.seal(purpose, context, &secret);
    let mut group = criterion.benchmark_group("key ring, a private key");
    group.bench_function("seal", |bencher| {
        bencher.iter(|| ring.seal(purpose, context, black_box(&secret)));
    });
    group.bench_function("open", |bencher| {
        bencher.iter(|| {
            ring.open(purpose, context, black_box(&sealed))
                .expect("the ring opens what it sealed")
        });
    });
    group.finish();
}

fn verifier(key: &SigningKey) -> Verifier {
    let tokens = UserTokens {
        issuer: ISSUER.into(),
        audience: USER_AUDIENCE.into(),
        keys: Arc::new(StaticJwks(json!({ "keys": [key.public_jwk()] }).to_string())),
    };
    Verifier::new(tokens, [], Arc::new(SystemClock)).expect("there is no peer whose key could be wrong")
}

fn claims() -> UserClaims {
    let now = SystemClock.now().unix_timestamp();
    UserClaims {
        iss: ISSUER.into(),
        sub: UserId::generate(),
        aud: USER_AUDIENCE.into(),
        exp: now + 3600,
        iat: now,
        session_id: Some(SessionId::generate()),
        email: Some("ada@studios.example".into()),
        role: USER_ROLE.into(),
        aal: None,
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime without network needs nothing of the machine")
}
