//! Waiting for an execution's end without watching it.

use std::time::Duration;

use serde_json::{Value, json};
use studios_tests::{
    deployment::Deployment,
    model::{Model, Reply},
    refusal::fields,
    tenant::Tenant,
    world::{PATIENCE, World},
};
use tokio::time::{Instant, timeout};

const WAIT: &str = "studios.execution.v1.ExecutionService/WaitExecution";

async fn slow_run(world: &World) -> (Tenant, String) {
    let it = Tenant::with_studio(world).await;
    it.add_stub_model(world).await;
    let stage = json!({ "name": "say", "llm": { "model": "stub", "prompt": "go" } });
    let workflow = it.add_workflow(world, "Slow", json!([stage])).await;
    let execution = it.start(world, &workflow, json!({})).await;
    (it, execution)
}

async fn wait(world: &World, it: &Tenant, execution: &str, at_most: &str) -> Value {
    world
        .ok(WAIT, json!({ "id": execution, "timeout": at_most }), &it.token)
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_is_answered_at_the_end_or_when_his_time_is_over_on_every_replica() {
    let (driver, reply) = Reply::driven();
    let replies = std::sync::Mutex::new(Some(reply));
    let model = Model::start(move |_, _| replies.lock().unwrap().take().expect("one call")).await;
    let deployment = Deployment::start(&[], &model.settings()).await;
    let world = deployment.world().await;
    let (it, execution) = slow_run(&world).await;
    let other = deployment.another_execution();
    let elsewhere = deployment.world().await.moved(&other.url());
    timeout(PATIENCE, model.until_in_flight(1)).await.unwrap();

    for place in [&world, &elsewhere] {
        let asked = Instant::now();
        let running = wait(place, &it, &execution, "0.3s").await;
        assert_eq!(running["status"], "EXECUTION_STATUS_RUNNING", "{running}");
        assert!(asked.elapsed() >= Duration::from_millis(300));
    }
    let waiting = async {
        let (here, there) = tokio::join!(
            wait(&world, &it, &execution, "40s"),
            wait(&elsewhere, &it, &execution, "40s")
        );
        [here, there]
    };
    let end = async {
        driver.say("done").await;
        driver.finish().await;
    };
    let (ended, ()) = timeout(PATIENCE, async { tokio::join!(waiting, end) }).await.unwrap();
    for it in ended {
        assert_eq!(it["status"], "EXECUTION_STATUS_COMPLETED", "{it}");
        assert_eq!(it["outputs"]["say"], "done", "{it}");
    }
    let at_once = Instant::now();
    wait(&world, &it, &execution, "40s").await;
    assert!(
        at_once.elapsed() < Duration::from_secs(5),
        "what has ended is not waited for"
    );
    let negative = world
        .refused(WAIT, json!({ "id": execution, "timeout": "-1s" }), &it.token)
        .await;
    assert_eq!(fields(&negative), ["timeout"]);
}
