//! Sessions that end while replicas of both services hold tokens of theirs to be good.

use std::time::Duration;

use serde_json::{Value, json};
use studios_tests::{
    deployment::Deployment,
    refusal::assert_reason,
    tenant::{PASSWORD, Tenant},
    world::{PATIENCE, World},
};
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;

const AUTH: &str = "studios.core.v1.AuthService";
const ACCOUNT: &str = "studios.core.v1.AccountService";
const PROFILE: &str = "studios.core.v1.UserService/GetProfile";
const WORKFLOWS: &str = "studios.execution.v1.WorkflowService/ListWorkflows";

/// How long a token of an ended session may still open anything.
const FELT_WITHIN: Duration = Duration::from_secs(1);

/// Calls until it is refused, and returns how long after `since` the last call began that was not.
async fn until_refused(world: &World, method: &str, body: &Value, token: &str, since: Instant) -> Duration {
    let refused = async {
        let mut last = Duration::ZERO;
        loop {
            let begun = since.elapsed();
            match world.call(method, body.clone(), Some(token)).await {
                Ok(_) => last = begun,
                Err(status) => {
                    assert_reason(&status, Code::Unauthenticated, "SESSION_ENDED");
                    return last;
                }
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, refused).await.expect("it is refused at some time")
}

#[tokio::test]
async fn a_session_that_ends_is_out_within_a_second_on_every_replica() {
    let deployment = Deployment::start(&[], &[]).await;
    let (core, execution) = (deployment.another_core(), deployment.another_execution());
    let first = deployment.world().await;
    let second = deployment.world().await.moved(&execution.url()).with_core(&core.url());
    let user = Tenant::with_studio(&first).await;
    let studio = json!({ "studioId": user.studio });
    let sign_in = json!({ "email": user.email, "password": PASSWORD });
    let session = first.call(&format!("{AUTH}/SignIn"), sign_in, None).await.unwrap();
    let token = session["accessToken"].as_str().unwrap();
    for world in [&first, &second] {
        world.ok(PROFILE, json!({}), token).await;
        world.ok(WORKFLOWS, studio.clone(), token).await;
    }
    let ended = Instant::now();
    first
        .ok(&format!("{ACCOUNT}/RevokeOtherSessions"), json!({}), &user.token)
        .await;
    let (nothing, ended) = (json!({}), &ended);
    let felt = futures::join!(
        until_refused(&first, PROFILE, &nothing, token, *ended),
        until_refused(&second, PROFILE, &nothing, token, *ended),
        until_refused(&first, WORKFLOWS, &studio, token, *ended),
        until_refused(&second, WORKFLOWS, &studio, token, *ended),
    );
    for felt in [felt.0, felt.1, felt.2, felt.3] {
        assert!(felt < FELT_WITHIN, "{felt:?}");
    }
    // Replicas that start later have not heard it, and are told.
    let (core, execution) = (deployment.another_core(), deployment.another_execution());
    let third = deployment.world().await.moved(&execution.url()).with_core(&core.url());
    let began = Instant::now();
    for (method, body) in [(PROFILE, &nothing), (WORKFLOWS, &studio)] {
        assert!(until_refused(&third, method, body, token, began).await < FELT_WITHIN);
        third.ok(method, body.clone(), &user.token).await;
    }
}

/// How often each is measured, and how far the medians may be apart for that: `STUDIOS_TIMING_SAMPLES`, 25 where it is not set.
fn samples() -> (u32, f64) {
    let asked = std::env::var("STUDIOS_TIMING_SAMPLES").ok();
    match asked.map(|it| it.parse().expect("a number")) {
        Some(many) if many >= 1000 => (many, 0.05),
        Some(few) => (few, 0.25),
        None => (25, 0.25),
    }
}

#[tokio::test]
async fn an_unknown_user_takes_as_long_as_a_wrong_password() {
    let off = [
        "STUDIOS_CORE_LIMITS_SIGN_IN",
        "STUDIOS_CORE_LIMITS_SIGN_IN_ACCOUNT",
        "STUDIOS_CORE_LIMITS_SIGN_IN_ADDRESS",
        "STUDIOS_CORE_LIMITS_MAIL",
        "STUDIOS_CORE_LIMITS_MAIL_ADDRESS",
    ]
    .map(|it| (it, "off".to_owned()));
    let deployment = Deployment::start(&off, &[]).await;
    let world = deployment.world().await;
    let user = Tenant::user(&world).await;
    let unknown = format!("unknown-{}", user.email);
    let (samples_each, noise) = samples();
    for method in ["SignIn", "RequestPasswordReset"] {
        let mut samples = [Vec::new(), Vec::new()];
        for _ in 0..samples_each {
            for (email, taken) in [&user.email, &unknown].into_iter().zip(&mut samples) {
                let body = match method {
                    "SignIn" => json!({ "email": email, "password": "not the password" }),
                    _ => json!({ "email": email }),
                };
                let begun = Instant::now();
                let _ = world.call(&format!("{AUTH}/{method}"), body, None).await;
                taken.push(begun.elapsed());
            }
        }
        let [known, unknown] = samples.map(|mut it| {
            it.sort();
            it[it.len() / 2]
        });
        let (less, more) = (known.min(unknown), known.max(unknown));
        assert!(
            more < less.mul_f64(1.0 + noise) + Duration::from_millis(1),
            "{method}: {known:?} and {unknown:?}"
        );
    }
}
