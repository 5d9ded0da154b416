//! Streams that break off, stall or say nonsense, and processes that die while somebody watches.

use std::time::Duration;

use serde_json::{Value, json};
use studios_tests::{
    call::Events,
    deployment::Deployment,
    model::{Driver, END, Model, Reply, said},
    tenant::Tenant,
    world::{PATIENCE, World},
};
use tokio::time::timeout;

const EXECUTIONS: &str = "studios.execution.v1.ExecutionService";

fn stage(name: &str) -> Value {
    json!({ "name": name, "timeout": "600s", "llm": { "model": "stub", "prompt": "{{ inputs.case }}" } })
}

async fn attempts(world: &World, it: &Tenant, execution: &str) -> Vec<Value> {
    let body = json!({ "executionId": execution });
    let page = world.ok(&format!("{EXECUTIONS}/ListAttempts"), body, &it.token).await;
    page["attempts"].as_array().unwrap().clone()
}

async fn next(events: &mut Events) -> Value {
    let event = timeout(PATIENCE, events.next()).await.expect("an event comes");
    event.unwrap().expect("the run goes on")
}

/// A model whose first answer a test writes, and whose others are `fine`.
async fn written_once() -> (Driver, Model) {
    let (driver, first) = Reply::driven();
    let model = Model::start(move |n, _| if n == 0 { first.clone() } else { Reply::text("fine") }).await;
    (driver, model)
}

/// Starts a run of one stage whose call is under way.
async fn under_way(deployment: &Deployment, model: &Model) -> (World, Tenant, String) {
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    it.add_stub_model(&world).await;
    let workflow = it.add_workflow(&world, "Write", json!([stage("write")])).await;
    let execution = it.start(&world, &workflow, json!({ "case": "go" })).await;
    timeout(PATIENCE, model.until_in_flight(1))
        .await
        .expect("the call is made");
    (world, it, execution)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_model_sends_in_place_of_a_whole_stream_is_the_class_of_its_failure() {
    let part = said("par");
    let cases: Vec<(&str, Reply, &str, bool, &str)> = vec![
        (
            "closed early",
            Reply::stream(part.clone()),
            "PROVIDER_ERROR",
            true,
            "par",
        ),
        (
            "a mark without a reason",
            Reply::stream(format!("{part}data: [DONE]\n\n")),
            "PROVIDER_ERROR",
            true,
            "par",
        ),
        (
            "an error in band",
            Reply::stream(format!(
                "{part}data: {{\"error\":{{\"type\":\"overloaded_error\"}}}}\n\n"
            )),
            "PROVIDER_ERROR",
            true,
            "par",
        ),
        (
            "a limit in band",
            Reply::stream(format!(
                "{part}data: {{\"error\":{{\"type\":\"rate_limit_error\"}}}}\n\n"
            )),
            "RATE_LIMIT",
            true,
            "par",
        ),
        (
            "a filter",
            Reply::stream(format!("{part}{}", END.replace("\"stop\"", "\"content_filter\""))),
            "VALIDATION",
            false,
            "par",
        ),
        (
            "a page",
            Reply::raw(200, "<html>sign in</html>").header("content-type", "text/html"),
            "PROVIDER_ERROR",
            true,
            "<html>sign in</html>",
        ),
        (
            "overloaded",
            Reply::raw(529, r#"{"error":{"message":"Overloaded"}}"#),
            "PROVIDER_ERROR",
            false,
            r#"{"error":{"message":"Overloaded"}}"#,
        ),
    ];
    let (silent, hangs) = Reply::driven();
    let (mute, stalls) = Reply::driven();
    let (broken, cut) = Reply::driven();
    let cases = [
        cases,
        vec![
            ("comments for ever", hangs, "TIMEOUT", true, ""),
            ("silence after a piece", stalls, "TIMEOUT", true, "par"),
            ("a cut in mid event", cut, "PROVIDER_ERROR", true, "par"),
        ],
    ]
    .concat();
    let replies = cases.clone();
    let model = Model::start(move |_, request| {
        let asked = request["messages"][0]["content"].as_str().unwrap_or_default();
        let found = replies.iter().find(|it| it.0 == asked);
        found.map_or_else(|| Reply::text("fine"), |it| it.1.clone())
    })
    .await;
    let mut settings = model.settings();
    for key in [
        "STUDIOS_EXECUTION_PROVIDERS_STUB_FIRST_TOKEN_TIMEOUT",
        "STUDIOS_EXECUTION_PROVIDERS_STUB_IDLE_TIMEOUT",
    ] {
        settings.push((key, "2s".to_owned()));
    }
    let deployment = Deployment::start(&[], &settings).await;
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    it.add_stub_model(&world).await;
    let mut one = stage("only");
    one["retryLimit"] = json!(0);
    let workflow = it.add_workflow(&world, "One", json!([one])).await;
    let writing = async {
        mute.say("par").await;
        broken.send(format!("{}data: {{\"choi", said("par"))).await;
        broken.cut().await;
        mute.hung_up().await;
    };
    let keeping_alive = async {
        // It says something all the time, and nothing of use.
        while timeout(Duration::from_millis(20), silent.hung_up()).await.is_err() {
            silent.send(": keep-alive\n\n").await;
        }
    };
    let running = async {
        for (case, _, class, billing_uncertain, raw) in &cases {
            let execution = it.start(&world, &workflow, json!({ "case": case })).await;
            let ended = world.finished(&execution, &it.token).await;
            assert_eq!(
                ended["failure"]["class"],
                format!("FAILURE_CLASS_{class}"),
                "{case}: {ended}"
            );
            let made = attempts(&world, &it, &execution).await;
            assert_eq!(made.len(), 1, "{case}");
            assert_eq!(
                (&made[0]["billingUncertain"], &made[0]["rawOutput"]),
                (&json!(billing_uncertain), &json!(raw)),
                "{case}"
            );
        }
    };
    timeout(PATIENCE, async { tokio::join!(writing, keeping_alive, running) })
        .await
        .expect("every run ends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_holder_is_killed_is_watched_to_its_end_from_another_replica() {
    let (driver, model) = written_once().await;
    let mut deployment = Deployment::start(&[], &model.settings()).await;
    let (world, it, execution) = under_way(&deployment, &model).await;
    let other = deployment.another_execution();
    let elsewhere = world.moved(&other.url());
    let watch = json!({ "id": execution });
    let mut events = elsewhere
        .stream(&format!("{EXECUTIONS}/WatchExecution"), watch, &it.token)
        .await;
    driver.say("half an ans").await;
    let mut seen = Vec::new();
    loop {
        let event = next(&mut events).await;
        let is_delta = event["outputDelta"]["text"] == "half an ans";
        seen.push(event);
        if is_delta {
            break;
        }
    }
    deployment.execution.take().expect("it is alive").kill();
    timeout(PATIENCE, driver.hung_up())
        .await
        .expect("its call dies with it");
    seen.extend(timeout(PATIENCE, events.rest()).await.expect("the run ends").unwrap());

    let durable: Vec<_> = seen
        .iter()
        .filter(|it| it["stageStarted"].is_null() && it["outputDelta"].is_null())
        .map(|it| {
            (
                it["cursor"].as_str().unwrap(),
                it["statusChanged"]["status"].as_str().unwrap_or("attempt"),
            )
        })
        .collect();
    assert_eq!(
        durable,
        [
            ("1", "EXECUTION_STATUS_PENDING"),
            ("1", "EXECUTION_STATUS_RUNNING"),
            ("2", "attempt"),
            ("3", "EXECUTION_STATUS_COMPLETED")
        ],
        "nothing durable is lost or told twice"
    );
    let made = attempts(&elsewhere, &it, &execution).await;
    assert_eq!(
        (&made[0]["rawOutput"], &made[0]["billingUncertain"]),
        (&json!("fine"), &json!(true)),
        "the call that died may be billed"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_cut_by_a_shutdown_may_be_billed_and_its_attempt_says_so() {
    let (driver, model) = written_once().await;
    let mut deployment = Deployment::start(&[], &model.settings()).await;
    let (world, it, execution) = under_way(&deployment, &model).await;
    driver.say("half an ans").await;
    let process = deployment.execution.take().expect("it is alive");
    let ended = tokio::task::spawn_blocking(move || process.end("TERM"));
    timeout(PATIENCE, driver.hung_up()).await.expect("the call is cut");
    assert!(ended.await.unwrap(), "it exits with 0");
    deployment.crash_execution();
    let world = world.moved(&deployment.execution_url());
    let ended = world.finished(&execution, &it.token).await;
    assert_eq!(ended["status"], "EXECUTION_STATUS_COMPLETED", "{ended}");
    let made = attempts(&world, &it, &execution).await;
    assert_eq!(made.len(), 1);
    assert_eq!(made[0]["billingUncertain"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_hangs_up_on_a_model_that_is_writing() {
    let (driver, model) = written_once().await;
    let deployment = Deployment::start(&[], &model.settings()).await;
    let (world, it, execution) = under_way(&deployment, &model).await;
    driver.say("half an ans").await;
    let cancel = json!({ "id": execution, "reason": "enough" });
    world
        .ok(&format!("{EXECUTIONS}/CancelExecution"), cancel, &it.token)
        .await;
    timeout(Duration::from_secs(2), driver.hung_up())
        .await
        .expect("it hangs up within a second, and another for a busy machine");
    let ended = world.finished(&execution, &it.token).await;
    assert_eq!(ended["status"], "EXECUTION_STATUS_CANCELLED");
}
