//! Two replicas of execution-service over one database.

use std::time::Duration;

use serde_json::{Value, json};
use studios_tests::{
    deployment::Deployment,
    model::{Model, Reply},
    tenant::Tenant,
    world::PATIENCE,
};

const EXECUTIONS: &str = "studios.execution.v1.ExecutionService";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_watched_and_cancelled_from_a_replica_that_does_not_hold_it() {
    let delay = |n: usize| Duration::from_secs(if n == 0 { 1 } else { 3600 });
    let model = Model::start(move |n, _| Reply::text("fine").after(delay(n))).await;
    let deployment = Deployment::start(&[], &model.settings()).await;
    let other = deployment.another_execution();
    let holder = deployment.world().await;
    let it = Tenant::with_studio(&holder).await;
    it.add_stub_model(&holder).await;
    let stages: Vec<Value> = ["one", "two"]
        .iter()
        .map(|name| json!({ "name": name, "timeout": "3600s", "llm": { "model": "stub", "prompt": "go" } }))
        .collect();
    let workflow = it.add_workflow(&holder, "Two", json!(stages)).await;
    let execution = it.start(&holder, &workflow, json!({})).await;

    let elsewhere = holder.moved(&other.url());
    let watch = json!({ "id": execution });
    let mut events = elsewhere
        .stream(&format!("{EXECUTIONS}/WatchExecution"), watch, &it.token)
        .await;
    let first = async {
        loop {
            let event = events.next().await.unwrap().expect("the run goes on");
            if event["attemptRecorded"]["attempt"]["stage"] == "one" {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, first)
        .await
        .expect("the attempt is seen");
    tokio::time::timeout(PATIENCE, model.until_in_flight(1))
        .await
        .expect("the second call is in flight");
    let cancel = json!({ "id": execution, "reason": "enough" });
    elsewhere
        .ok(&format!("{EXECUTIONS}/CancelExecution"), cancel, &it.token)
        .await;
    let rest = tokio::time::timeout(PATIENCE, events.rest())
        .await
        .expect("the stream ends")
        .unwrap();
    let last = rest.last().expect("the end is an event");
    assert_eq!(last["statusChanged"]["status"], "EXECUTION_STATUS_CANCELLED");
    assert_eq!(model.in_flight(), 0, "the call is aborted");
}
