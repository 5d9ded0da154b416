//! What is exported and logged holds no secret, and a caller's text makes no line of its own.

use serde_json::{Value, json};
use studios_tests::{
    deployment::Deployment,
    mail::mail,
    otlp::Receiver,
    tenant::{PASSWORD, SECRET, Tenant},
};

const LINE: &str = "Pier\n{\"level\":\"ERROR\",\"message\":\"forged-line-7d1e\"}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_in_anything_that_is_exported_and_no_text_forges_a_line_of_the_log() {
    let receiver = Receiver::start().await;
    let telemetry = [
        ("STUDIOS_OTLP_ENDPOINT", receiver.url().to_string()),
        ("STUDIOS_LOG", "debug".to_owned()),
    ];
    let deployment = Deployment::start(&telemetry, &[]).await;
    let world = deployment.world().await;
    let it = Tenant::make(&world).await;
    let key = it.add_key(&world, "Canary", &["*:read"]).await.1;
    let list = "studios.core.v1.StudioService/ListStudios";
    world.ok(list, json!({}), &key).await;
    let reset = json!({ "email": it.email });
    world
        .call("studios.core.v1.AuthService/RequestPasswordReset", reset, None)
        .await
        .unwrap();
    let code = mail(&world, &it.email, "Set a new password").await.code().to_owned();
    let wrong = json!({ "email": it.email, "password": "wrong-password-canary-51c2" });
    world
        .call("studios.core.v1.AuthService/SignIn", wrong, None)
        .await
        .unwrap_err();
    let forged = json!({ "studio": { "companyId": it.company, "name": LINE, "businessArea": "BUSINESS_AREA_HR" } });
    // Whether it is taken does not matter here.
    let _ = world
        .call("studios.core.v1.StudioService/CreateStudio", forged, Some(&it.token))
        .await;
    let trace = "5bf92f3577b34da6a3ce929d0e0e4737";
    let answer = reqwest::Client::new()
        .post(world.url(list))
        .bearer_auth(&it.token)
        .header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"))
        .header("user-agent", "canary-agent\tforged-line-7d1e")
        .json(&json!({ "companyId": it.company }))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    // What came before has been sent when this has, or is in the log.
    receiver
        .until(trace, |spans| spans.iter().any(|it| it.service == "core-service"))
        .await;

    let mut lines: Vec<String> = Vec::new();
    let execution = deployment.execution.as_ref().unwrap();
    for process in [&deployment.core, execution, &deployment.gateway] {
        for line in process.log() {
            let parsed: Result<Value, _> = serde_json::from_str(&line);
            assert!(parsed.is_ok_and(|it| it["message"] != "forged-line-7d1e"), "{line}");
            lines.push(line);
        }
    }
    assert!(lines.len() > 20, "the services say what they do");
    lines.push(format!("{:?}", receiver.all()));
    let secrets = [
        ("a password", PASSWORD),
        ("a wrong password", "wrong-password-canary-51c2"),
        ("a connection's secret", SECRET),
        ("an API key", &key),
        ("a mail's code", &code),
        ("an access token", &it.token),
        ("a refresh token", &it.refresh_token),
        ("an address", &it.email),
    ];
    for (what, secret) in secrets {
        let found: Vec<_> = lines.iter().filter(|line| line.contains(secret)).collect();
        assert!(found.is_empty(), "{what} is told: {found:?}");
    }
}
