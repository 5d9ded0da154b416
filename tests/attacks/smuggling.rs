//! Metadata by which a caller would be taken for somebody else, sent through the gateway.

use serde_json::{Value, json};
use studios_tests::{tenant::Tenant, world::World};

const PROFILE: &str = "studios.core.v1.UserService/GetProfile";

async fn sent(world: &World, headers: &[(&str, String)]) -> (u16, Value) {
    let mut request = reqwest::Client::new()
        .post(world.url(PROFILE))
        .header("content-type", "application/json")
        .body("{}");
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn no_header_makes_a_caller_somebody_else() {
    let world = World::start().await;
    let (it, victim) = (Tenant::user(&world).await, Tenant::user(&world).await);
    let own = ("authorization", format!("Bearer {}", it.token));
    let claims = json!({ "sub": victim.user, "role": "authenticated" }).to_string();
    for (name, value) in [
        ("x-user-id", victim.user.clone()),
        ("x-studios-user", victim.user.clone()),
        ("studios-user", victim.user.clone()),
        ("request.jwt.claims", claims),
        ("x-forwarded-user", victim.email.clone()),
        (
            "x-service-authorization",
            format!("Bearer {}", world.service_token(Some(&victim.user))),
        ),
        ("grpc-metadata-authorization", format!("Bearer {}", victim.token)),
        ("cookie", format!("access_token={}", victim.token)),
    ] {
        let (status, answer) = sent(&world, &[own.clone(), (name, value.clone())]).await;
        assert_eq!((status, &answer["id"]), (200, &json!(it.user)), "{name}");
        let (status, answer) = sent(&world, &[(name, value)]).await;
        assert_eq!(status, 401, "{name}: {answer}");
    }
    // Of two tokens the gateway passes on the first, and a service that is shown two believes neither.
    let twice = [own, ("authorization", format!("Bearer {}", victim.token))];
    let (status, answer) = sent(&world, &twice).await;
    assert_eq!((status, &answer["id"]), (200, &json!(it.user)));
}

#[tokio::test]
async fn a_service_or_operator_token_opens_nothing_at_the_gateway_that_is_internal() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    for (path, token) in [
        (
            "studios.core.v1.AccessService/CheckCompany",
            world.service_token(Some(&it.user)),
        ),
        ("studios.core.v1.OperatorService/SuspendCompany", world.operator_token()),
        ("studios.core.v1.TransferService/ReadDownload", it.token.clone()),
        (
            "studios.execution.v1.ReplicaService/FollowRun",
            world.service_token(Some(&it.user)),
        ),
    ] {
        let answer = reqwest::Client::new()
            .post(world.url(path))
            .bearer_auth(token)
            .json(&json!({ "companyId": it.company }))
            .send()
            .await
            .unwrap();
        assert_eq!(
            answer.status().as_u16(),
            501,
            "{path} is answered like what does not exist"
        );
    }
}
