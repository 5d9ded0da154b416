//! Rate limits: a replica's own, and those that all replicas share.

use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use studios_tests::{
    deployment::Deployment,
    model::{Model, Reply},
    refusal::assert_reason,
    tenant::{PASSWORD, Tenant},
    world::World,
};
use tonic::{Code, Status};
use tonic_types::StatusExt;
use uuid::Uuid;

const SIGN_IN: &str = "studios.core.v1.AuthService/SignIn";
const REFRESH: &str = "studios.core.v1.AuthService/Refresh";
const PROFILE: &str = "studios.core.v1.UserService/GetProfile";
const START: &str = "studios.execution.v1.ExecutionService/StartExecution";

fn settings(pairs: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    pairs.iter().map(|(key, value)| (*key, (*value).to_owned())).collect()
}

/// How long a refusal says to wait.
fn wait(status: &Status) -> Duration {
    let info = status.get_details_retry_info().expect("it says when to try again");
    info.retry_delay.expect("and how long that is")
}

/// A call by JSON as a proxy in front of the gateway makes it for a client; returns the HTTP status, `retry-after` and the body.
async fn post(world: &World, path: &str, body: &Value, client: &str, token: Option<&str>) -> (u16, Option<u64>, Value) {
    let mut request = reqwest::Client::new()
        .post(world.url(path))
        .header("x-forwarded-for", client)
        .json(body);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let response = request.send().await.expect("the gateway answers");
    let retry_after = response
        .headers()
        .get("retry-after")
        .map(|it| it.to_str().unwrap().parse().unwrap());
    (
        response.status().as_u16(),
        retry_after,
        response.json().await.expect("it is JSON"),
    )
}

#[tokio::test]
async fn a_user_over_his_limit_is_told_when_to_come_again() {
    let limits = settings(&[("STUDIOS_CORE_LIMITS_USER", "20/m burst 3")]);
    let deployment = Deployment::start(&limits, &[]).await;
    let world = deployment.world().await;
    let (one, other) = (Tenant::user(&world).await, Tenant::user(&world).await);
    for _ in 0..3 {
        world.ok(PROFILE, json!({}), &one.token).await;
    }
    let status = world.refused(PROFILE, json!({}), &one.token).await;
    assert_reason(&status, Code::ResourceExhausted, "RATE_LIMITED_USER");
    assert!(
        (Duration::from_millis(1)..=Duration::from_secs(3)).contains(&wait(&status)),
        "{:?}",
        wait(&status)
    );
    world.ok(PROFILE, json!({}), &other.token).await;
    let acting = world.service_token(Some(&one.user));
    world.ok(PROFILE, json!({}), &acting).await;

    let (http, retry_after, body) = post(&world, PROFILE, &json!({}), "192.0.2.1", Some(&one.token)).await;
    assert_eq!((http, &body["code"]), (429, &json!("resource_exhausted")), "{body}");
    assert!((1..=3).contains(&retry_after.unwrap()), "{retry_after:?}");
}

#[tokio::test]
async fn an_address_over_its_limit_is_refused_by_the_gateway_and_its_neighbour_is_not() {
    let limits = settings(&[
        ("STUDIOS_GATEWAY_LIMITS_ADDRESS", "1/h burst 2"),
        ("STUDIOS_GATEWAY_TRUSTED_PROXIES", "127.0.0.0/8"),
    ]);
    let deployment = Deployment::start(&limits, &[]).await;
    let world = deployment.world().await;
    let user = Tenant::user(&world).await;
    let get = async |client: &str| post(&world, PROFILE, &json!({}), client, Some(&user.token)).await;
    assert_eq!(get("192.0.2.1").await.0, 200);
    assert_eq!(get("192.0.2.1").await.0, 200);
    let (http, retry_after, body) = get("192.0.2.1").await;
    assert_eq!(
        (http, &body["details"][1]["debug"]["reason"]),
        (429, &json!("RATE_LIMITED_ADDRESS")),
        "{body}"
    );
    assert!((3_500..=3_600).contains(&retry_after.unwrap()), "{retry_after:?}");
    assert_eq!(get("192.0.2.2").await.0, 200);
}

#[tokio::test]
async fn a_service_limits_the_address_that_the_gateway_tells() {
    let limits = settings(&[
        ("STUDIOS_CORE_LIMITS_ADDRESS", "1/h burst 2"),
        ("STUDIOS_GATEWAY_TRUSTED_PROXIES", "127.0.0.0/8"),
    ]);
    let deployment = Deployment::start(&limits, &[]).await;
    let world = deployment.world().await;
    let user = Tenant::user(&world).await;
    let get = async |client: &str| post(&world, PROFILE, &json!({}), client, Some(&user.token)).await.0;
    let answers = [
        get("2001:db8::1").await,
        get("2001:db8::2").await,
        get("2001:db8::3").await,
    ];
    assert_eq!(answers, [200, 200, 429], "one /64 is one client");
    assert_eq!(get("2001:db8:0:1::1").await, 200);
    for _ in 0..5 {
        world.ok(PROFILE, json!({}), &user.token).await;
    }
}

#[tokio::test]
async fn sign_ins_are_counted_over_all_replicas_and_whether_the_account_exists_does_not_show() {
    let limits = settings(&[("STUDIOS_CORE_LIMITS_SIGN_IN", "1/m burst 20")]);
    let deployment = Deployment::start(&limits, &[]).await;
    let other = deployment.another_core();
    let here = deployment.world().await;
    let there = deployment.world().await.with_core(&other.url());
    let user = Tenant::user(&here).await;
    for email in [user.email.clone(), "nobody@example.com".to_owned()] {
        let wrong = json!({ "email": email, "password": "a wrong password" });
        for world in [&here, &there, &here, &there] {
            let status = world.call(SIGN_IN, wrong.clone(), None).await.unwrap_err();
            assert_reason(&status, Code::Unauthenticated, "CREDENTIALS_WRONG");
        }
        for world in [&here, &there] {
            let status = world.call(SIGN_IN, wrong.clone(), None).await.unwrap_err();
            assert_reason(&status, Code::ResourceExhausted, "RATE_LIMITED_SIGN_IN");
            let wait = wait(&status);
            assert!(
                (240..=300).contains(&wait.as_secs()) && wait.subsec_nanos() == 0,
                "{wait:?}"
            );
        }
        let right = json!({ "email": email, "password": PASSWORD });
        let status = there.call(SIGN_IN, right, None).await.unwrap_err();
        assert_reason(&status, Code::ResourceExhausted, "RATE_LIMITED_SIGN_IN");
    }
}

#[tokio::test]
async fn attempts_that_succeed_cost_less_than_those_that_fail() {
    let limits = settings(&[("STUDIOS_CORE_LIMITS_SIGN_IN", "1/h burst 9")]);
    let deployment = Deployment::start(&limits, &[]).await;
    let world = deployment.world().await;
    let user = Tenant::user(&world).await;
    let right = json!({ "email": user.email, "password": PASSWORD });
    for _ in 0..5 {
        world.call(SIGN_IN, right.clone(), None).await.unwrap();
    }
    let status = world.call(SIGN_IN, right, None).await.unwrap_err();
    assert_reason(&status, Code::ResourceExhausted, "RATE_LIMITED_SIGN_IN");
}

#[tokio::test]
async fn an_attack_on_an_account_does_not_lock_its_owner_out() {
    let limits = settings(&[
        ("STUDIOS_CORE_LIMITS_SIGN_IN", "1/m burst 10"),
        ("STUDIOS_CORE_LIMITS_SIGN_IN_ACCOUNT", "1/m burst 30"),
        ("STUDIOS_GATEWAY_TRUSTED_PROXIES", "127.0.0.0/8"),
    ]);
    let deployment = Deployment::start(&limits, &[]).await;
    let world = deployment.world().await;
    let user = Tenant::user(&world).await;
    let right = json!({ "email": user.email, "password": PASSWORD });
    let wrong = json!({ "email": user.email, "password": "a wrong password" });
    let from = async |client: &str, body: &Value| post(&world, SIGN_IN, body, client, None).await.0;

    // From one address: the owner signs in from another.
    let attack = [from("198.51.100.1", &wrong).await, from("198.51.100.1", &wrong).await];
    assert_eq!(attack, [401, 401]);
    for _ in 0..20 {
        assert_eq!(from("198.51.100.1", &wrong).await, 429);
    }
    assert_eq!(from("192.0.2.7", &right).await, 200);

    // From many: the account is closed to strangers, and open from where its owner was.
    let mut refused = false;
    for last in 2..10 {
        refused |= from(&format!("198.51.100.{last}"), &wrong).await == 429;
    }
    assert!(refused);
    assert_eq!(from("203.0.113.9", &right).await, 429, "an address that nobody knows");
    assert_eq!(from("192.0.2.7", &right).await, 200);
}

#[tokio::test]
async fn registrations_are_limited_by_address_and_refreshes_by_session() {
    let limits = settings(&[
        ("STUDIOS_CORE_LIMITS_REGISTER", "1/h burst 2"),
        ("STUDIOS_CORE_LIMITS_REFRESH", "1/h burst 2"),
        ("STUDIOS_GATEWAY_TRUSTED_PROXIES", "127.0.0.0/8"),
    ]);
    let deployment = Deployment::start(&limits, &[]).await;
    let world = deployment.world().await;
    let register = async |client: &str| {
        let email = format!("{}@example.com", Uuid::now_v7().simple());
        let body = json!({ "email": email, "password": PASSWORD, "fullName": "Test User" });
        post(&world, "studios.core.v1.AuthService/Register", &body, client, None).await
    };
    assert_eq!(register("192.0.2.1").await.0, 200);
    let (_, _, session) = register("192.0.2.1").await;
    assert_eq!(register("192.0.2.1").await.0, 429);
    assert_eq!(register("192.0.2.2").await.0, 200);

    let mut token = session["refreshToken"].clone();
    for _ in 0..2 {
        let renewed = world
            .call(REFRESH, json!({ "refreshToken": token }), None)
            .await
            .unwrap();
        token = renewed["refreshToken"].clone();
    }
    let status = world
        .call(REFRESH, json!({ "refreshToken": token }), None)
        .await
        .unwrap_err();
    assert_reason(&status, Code::ResourceExhausted, "RATE_LIMITED_REFRESH");
}

#[tokio::test]
async fn limits_can_be_switched_off() {
    let keys = [
        "STUDIOS_LIMITS_USER",
        "STUDIOS_LIMITS_ADDRESS",
        "STUDIOS_LIMITS_SIGN_IN",
        "STUDIOS_LIMITS_SIGN_IN_ACCOUNT",
        "STUDIOS_LIMITS_SIGN_IN_ADDRESS",
        "STUDIOS_LIMITS_REGISTER",
        "STUDIOS_LIMITS_REFRESH",
        "STUDIOS_LIMITS_STARTS",
    ];
    let deployment = Deployment::start(&settings(&keys.map(|key| (key, "off"))), &[]).await;
    let world = deployment.world().await;
    let user = Tenant::user(&world).await;
    let reads = join_all((0..600).map(|_| world.call(PROFILE, json!({}), Some(&user.token)))).await;
    assert!(reads.iter().all(Result::is_ok));
    let wrong = json!({ "email": user.email, "password": "a wrong password" });
    for _ in 0..15 {
        let status = world.call(SIGN_IN, wrong.clone(), None).await.unwrap_err();
        assert_reason(&status, Code::Unauthenticated, "CREDENTIALS_WRONG");
    }
    let counted: i64 = sqlx::query_scalar("select count(*) from core.rate_limits")
        .fetch_one(&world.admin().await)
        .await
        .unwrap();
    assert_eq!(counted, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_together_start_no_more_than_a_company_may() {
    const RATE: f64 = 20.0;
    const BURST: f64 = 40.0;
    let model = Model::start(|_, _| Reply::text("fine")).await;
    let limits = settings(&[("STUDIOS_EXECUTION_LIMITS_STARTS", "20/s burst 40")]);
    let deployment = Deployment::start(&limits, &model.settings()).await;
    let other = deployment.another_execution();
    let here = deployment.world().await;
    let there = deployment.world().await.moved(&other.url());
    let it = Tenant::with_studio(&here).await;
    it.add_stub_model(&here).await;
    let stage = json!([{ "name": "only", "llm": { "model": "stub", "prompt": "go" } }]);
    let workflow = it.add_workflow(&here, "One", stage).await;
    let start = async |world: &World, request: Uuid| {
        let body = json!({ "workflowId": workflow, "requestId": request.to_string() });
        world.call(START, body, Some(&it.token)).await
    };

    let requests: Vec<Uuid> = (0..300).map(|_| Uuid::now_v7()).collect();
    let began = tokio::time::Instant::now();
    let answers = join_all(requests.iter().enumerate().map(|(i, request)| {
        let world = if i % 2 == 0 { &here } else { &there };
        start(world, *request)
    }))
    .await;
    let took = began.elapsed();
    let made = answers.iter().filter(|it| it.is_ok()).count();
    let allowed = BURST + RATE * took.as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "it is a few hundred")]
    let is_within = made as f64 <= allowed && made >= 10;
    assert!(is_within, "{made} of {allowed} in {took:?}");
    for refused in answers.iter().filter_map(|it| it.as_ref().err()) {
        assert_reason(refused, Code::ResourceExhausted, "RATE_LIMITED_STARTS");
        assert!(wait(refused) > Duration::ZERO);
    }

    // Of those that were made, all can be asked for again while others are refused.
    let first = answers.iter().position(Result::is_ok).unwrap();
    let again = join_all((0..100).map(|_| start(&here, requests[first]))).await;
    for answer in &again {
        let answer = answer.as_ref().expect("it was made");
        assert_eq!(answer["id"], answers[first].as_ref().unwrap()["id"]);
    }
}
