//! Models that answer badly, slowly or not at all, over a real HTTP server.

use std::time::Duration;

use serde_json::{Value, json};
use studios_tests::{
    deployment::Deployment,
    model::{Model, Reply},
    tenant::Tenant,
    world::{PATIENCE, World},
};

const EXECUTIONS: &str = "studios.execution.v1.ExecutionService";

/// Runs a workflow of one stage on a model and returns the ended execution with its attempts.
async fn run(model: &Model, stage: Value) -> (Value, Vec<Value>) {
    let deployment = Deployment::start(&[], &model.settings()).await;
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    it.add_stub_model(&world).await;
    let workflow = it.add_workflow(&world, "One", json!([stage])).await;
    let execution = it.start(&world, &workflow, json!({})).await;
    let ended = world.finished(&execution, &it.token).await;
    (ended, attempts(&world, &it, &execution).await)
}

async fn attempts(world: &World, it: &Tenant, execution: &str) -> Vec<Value> {
    let page = world
        .ok(
            &format!("{EXECUTIONS}/ListAttempts"),
            json!({ "executionId": execution }),
            &it.token,
        )
        .await;
    page["attempts"].as_array().unwrap().clone()
}

fn stage(retries: u32) -> Value {
    json!({ "name": "only", "retryLimit": retries, "timeout": "2s", "llm": { "model": "stub", "prompt": "go" } })
}

#[tokio::test]
async fn an_answer_that_cannot_be_stored_is_stored_cleaned_and_marked() {
    let body = r#"{"id":"1","object":"chat.completion","model":"stub-1","choices":[{"index":0,"finish_reason":"stop",
        "message":{"role":"assistant","content":"a\u0000b\ud800c"}}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;
    let model = Model::start(move |_, _| Reply::raw(200, body)).await;
    let (ended, made) = run(&model, stage(0)).await;
    assert_eq!(ended["status"], "EXECUTION_STATUS_COMPLETED", "{ended}");
    assert_eq!(made[0]["outputCleaned"], true);
    let raw = made[0]["rawOutput"].as_str().unwrap();
    assert!(
        raw.starts_with('a') && raw.contains('b') && raw.ends_with('c') && !raw.contains('\0'),
        "{raw:?}"
    );
}

#[tokio::test]
async fn a_transient_failure_is_tried_again_and_counted() {
    let model = Model::start(|n, _| match n {
        0 => Reply::raw(503, r#"{"error":{"message":"overloaded"}}"#),
        1 => Reply::raw(
            429,
            r#"{"error":{"type":"rate_limit_error","code":"rate_limit_exceeded","message":"slow down"}}"#,
        )
        .header("retry-after", "1"),
        _ => Reply::text("fine"),
    })
    .await;
    let (ended, made) = run(&model, stage(2)).await;
    assert_eq!(ended["status"], "EXECUTION_STATUS_COMPLETED", "{ended}");
    let classes: Vec<_> = made
        .iter()
        .map(|it| it["failure"]["class"].as_str().unwrap_or("none").to_owned())
        .collect();
    assert_eq!(
        classes,
        ["FAILURE_CLASS_PROVIDER_ERROR", "FAILURE_CLASS_RATE_LIMIT", "none"]
    );
    assert_eq!(
        (&made[2]["inputTokens"], &made[2]["outputTokens"]),
        (&json!("11"), &json!("7"))
    );
    let keys: Vec<_> = model
        .headers()
        .iter()
        .filter_map(|it| it.get("idempotency-key").cloned())
        .collect();
    assert_eq!(keys.len(), 3, "every call carries its key");
}

#[tokio::test]
async fn a_failure_that_no_retry_mends_is_not_tried_again() {
    for (status, body, class, reason) in [
        (
            401,
            r#"{"error":{"message":"bad key"}}"#,
            "FAILURE_CLASS_PROVIDER_ERROR",
            "credentials",
        ),
        (
            400,
            r#"{"error":{"code":"context_length_exceeded","message":"too long"}}"#,
            "FAILURE_CLASS_VALIDATION",
            "context_length",
        ),
        (
            429,
            r#"{"error":{"code":"insufficient_quota","message":"pay"}}"#,
            "FAILURE_CLASS_PROVIDER_ERROR",
            "quota",
        ),
    ] {
        let model = Model::start(move |_, _| Reply::raw(status, body)).await;
        let (ended, made) = run(&model, stage(3)).await;
        assert_eq!(
            (&ended["status"], made.len()),
            (&json!("EXECUTION_STATUS_FAILED"), 1),
            "{status}: {made:#?}"
        );
        assert_eq!(ended["failure"]["class"], class, "{status}");
        assert_eq!(made[0]["failure"]["reason"], reason, "{status}");
    }
}

#[tokio::test]
async fn a_200_that_is_no_answer_is_a_providers_error() {
    for body in [
        "<html>hello</html>",
        r#"{"choices":[]}"#,
        r#"{"type":"error","error":{"message":"no"}}"#,
        "{",
    ] {
        let model = Model::start(move |_, _| Reply::raw(200, body)).await;
        let (ended, _) = run(&model, stage(0)).await;
        assert_eq!(ended["failure"]["class"], "FAILURE_CLASS_PROVIDER_ERROR", "{body}");
    }
}

#[tokio::test]
async fn a_model_that_hangs_is_a_timeout_and_a_cancel_ends_it_at_once() {
    let model = Model::start(|_, _| Reply::text("late").after(Duration::from_hours(1))).await;
    let (ended, made) = run(&model, stage(0)).await;
    assert_eq!(ended["failure"]["class"], "FAILURE_CLASS_TIMEOUT", "{ended}");
    assert_eq!(made[0]["billingUncertain"], true);

    let deployment = Deployment::start(&[], &model.settings()).await;
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    it.add_stub_model(&world).await;
    let slow = json!({ "name": "only", "timeout": "3600s", "llm": { "model": "stub", "prompt": "go" } });
    let workflow = it.add_workflow(&world, "Hangs", json!([slow])).await;
    let execution = it.start(&world, &workflow, json!({})).await;
    tokio::time::timeout(PATIENCE, model.until_in_flight(1))
        .await
        .expect("the call is in flight");
    world
        .ok(
            &format!("{EXECUTIONS}/CancelExecution"),
            json!({ "id": execution, "reason": "enough" }),
            &it.token,
        )
        .await;
    let ended = tokio::time::timeout(Duration::from_secs(3), world.finished(&execution, &it.token)).await;
    assert_eq!(
        ended.expect("the cancel aborts the call")["status"],
        "EXECUTION_STATUS_CANCELLED"
    );
    assert_eq!(model.in_flight(), 0, "the call is aborted");
}
