//! Tokens that are wrong, expired, foreign, or of the other kind.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use service_kit::{
    clock::{Clock, SystemClock},
    keys::SigningKey,
};
use studios_tests::{refusal::assert_reason, tenant::Tenant, world::World};
use tonic::Code;
use uuid::Uuid;

const PROFILE: &str = "studios.core.v1.UserService/GetProfile";
const CHECK: &str = "studios.core.v1.AccessService/CheckCompany";

/// The claims of a token that core-service would sign, with these changes.
fn claims(user: &str, changes: &Value) -> Value {
    let now = SystemClock.now().unix_timestamp();
    let mut claims = json!({ "iss": "studios", "sub": user, "aud": "studios", "iat": now, "exp": now + 300, "role": "authenticated",
        "session_id": Uuid::now_v7().to_string() });
    claims
        .as_object_mut()
        .unwrap()
        .extend(changes.as_object().unwrap().clone());
    claims
}

/// core-service's own signing key, which only an operator with the key ring can open.
async fn cores_key(world: &World) -> SigningKey {
    let (kid, sealed): (String, Vec<u8>) =
        sqlx::query_as("select kid, sealed_private_key from core.signing_keys order by signs_from limit 1")
            .fetch_one(&world.admin().await)
            .await
            .unwrap();
    let der = world.keys().open("core.signing_keys", kid.as_bytes(), &sealed).unwrap();
    assert!(
        world.keys().open("core.signing_keys", b"another", &sealed).is_err(),
        "a key is sealed for its row"
    );
    SigningKey::from_pkcs8(&der).unwrap()
}

#[tokio::test]
async fn a_token_is_taken_only_from_its_issuer_for_its_audience_in_its_time() {
    let world = World::start().await;
    let user = Tenant::user(&world).await;
    let key = cores_key(&world).await;
    let now = SystemClock.now().unix_timestamp();
    let good = key.sign(&claims(&user.user, &json!({})));
    world.ok(PROFILE, json!({}), &good).await;
    let expired = key.sign(&claims(&user.user, &json!({ "iat": now - 900, "exp": now - 300 })));
    assert_reason(
        &world.refused(PROFILE, json!({}), &expired).await,
        Code::Unauthenticated,
        "TOKEN_EXPIRED",
    );
    for changes in [
        json!({ "iss": "somebody else" }),
        json!({ "aud": "studios-internal" }),
        json!({ "aud": "another product" }),
        json!({ "sub": "not a user" }),
        json!({ "role": "service_role" }),
    ] {
        let token = key.sign(&claims(&user.user, &changes));
        assert_reason(
            &world.refused(PROFILE, json!({}), &token).await,
            Code::Unauthenticated,
            "TOKEN_INVALID",
        );
    }
    let foreign = SigningKey::generate().sign(&claims(&user.user, &json!({})));
    assert_reason(
        &world.refused(PROFILE, json!({}), &foreign).await,
        Code::Unauthenticated,
        "TOKEN_INVALID",
    );
    let missing = world.call(PROFILE, json!({}), None).await.unwrap_err();
    assert_reason(&missing, Code::Unauthenticated, "TOKEN_MISSING");
    for wrong in ["", "x", "a.b.c", &good[..good.len() - 8]] {
        assert_eq!(
            world.refused(PROFILE, json!({}), wrong).await.code(),
            Code::Unauthenticated,
            "{wrong}"
        );
    }
}

#[tokio::test]
async fn a_tokens_algorithm_is_its_keys_own() {
    let world = World::start().await;
    let user = Tenant::user(&world).await;
    let key = cores_key(&world).await;
    let payload = BASE64_URL_SAFE_NO_PAD.encode(claims(&user.user, &json!({})).to_string());
    for header in [
        json!({ "alg": "none" }),
        json!({ "alg": "HS256", "kid": key.kid() }),
        json!({ "alg": "none", "kid": key.kid() }),
    ] {
        let head = BASE64_URL_SAFE_NO_PAD.encode(header.to_string());
        for signature in ["", "AAAA"] {
            let token = format!("{head}.{payload}.{signature}");
            let status = world.refused(PROFILE, json!({}), &token).await;
            assert_eq!(status.code(), Code::Unauthenticated, "{header}");
        }
    }
}

#[tokio::test]
async fn a_users_token_is_no_service_token_nor_the_other_way_round() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let body = json!({ "companyId": it.company });
    let status = world.refused(CHECK, body.clone(), &it.token).await;
    assert_reason(&status, Code::Unauthenticated, "SERVICE_TOKEN_REQUIRED");
    // Claims of a service's token, signed by the key of users' tokens.
    let now = SystemClock.now().unix_timestamp();
    let service = json!({ "iss": "execution-service", "sub": "execution-service", "aud": "studios-internal", "act": it.user,
        "iat": now, "exp": now + 60 });
    let mixed = cores_key(&world).await.sign(&service);
    assert_eq!(
        world.refused(CHECK, body.clone(), &mixed).await.code(),
        Code::Unauthenticated
    );
    let answer = world.ok(CHECK, body, &world.service_token(Some(&it.user))).await;
    assert_eq!(
        (&answer["role"], &answer["plan"]["code"]),
        (&json!("ROLE_ADMIN"), &json!("free"))
    );
    assert!(
        answer["outboxPosition"].as_str().unwrap().parse::<i64>().unwrap() > 0,
        "making the membership was an event"
    );
}
