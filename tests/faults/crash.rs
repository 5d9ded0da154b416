//! kill -9 of the execution-service in the middle of its work.

use std::time::Duration;

use serde_json::{Value, json};
use studios_tests::{
    deployment::Deployment,
    model::{Model, Reply},
    tenant::Tenant,
    world::PATIENCE,
};

const RUNS: i64 = 200;
const IN_FLIGHT: usize = 150;
const STAGES: [&str; 3] = ["one", "two", "three"];

/// How often the service is killed: once, or in a soak as often as it says.
fn kills() -> u32 {
    std::env::var("STUDIOS_KILLS")
        .ok()
        .and_then(|it| it.parse().ok())
        .unwrap_or(1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_run_survives_a_kill_with_its_calls_in_flight() {
    let model = Model::start(|_, _| Reply::text("fine").after(Duration::from_secs(2))).await;
    let mut deployment = Deployment::start(&[], &model.settings()).await;
    let world = deployment.world().await;
    let admin = world.admin().await;
    let it = Tenant::with_studio(&world).await;
    sqlx::query("update core.companies set plan = 'enterprise'")
        .execute(&admin)
        .await
        .unwrap();
    it.add_stub_model(&world).await;
    let stages: Vec<Value> = STAGES
        .iter()
        .map(|name| json!({ "name": name, "llm": { "model": "stub", "prompt": "go" } }))
        .collect();
    let workflow = it.add_workflow(&world, "Slow", json!(stages)).await;
    for _ in 0..RUNS {
        it.start(&world, &workflow, json!({})).await;
    }
    for _ in 0..kills() {
        tokio::time::timeout(PATIENCE, model.until_in_flight(IN_FLIGHT))
            .await
            .expect("enough calls are in flight");
        assert!(model.in_flight() >= IN_FLIGHT);
        deployment.crash_execution();
    }

    let ended = async {
        loop {
            let open: i64 = sqlx::query_scalar("select count(*) from execution.executions where finished_at is null")
                .fetch_one(&admin)
                .await
                .unwrap();
            if open == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("every run ends");

    let statuses: Vec<(String, i64)> = sqlx::query_as("select status, count(*) from execution.executions group by 1")
        .fetch_all(&admin)
        .await
        .unwrap();
    assert_eq!(statuses, [("completed".to_owned(), RUNS)]);
    let paths: Vec<(String, i64)> = sqlx::query_as(
        "select path, count(*) from (
             select string_agg(stage || visit || attempt || outcome, ' ' order by seq) as path
             from execution.journal where kind = 'attempt' group by execution_id) paths
         group by 1",
    )
    .fetch_all(&admin)
    .await
    .unwrap();
    let expected = STAGES.map(|stage| format!("{stage}11succeeded")).join(" ");
    assert_eq!(
        paths,
        [(expected, RUNS)],
        "an attempt is recorded twice or a stage is skipped"
    );
    let left: i64 = sqlx::query_scalar("select count(*) from execution.runs")
        .fetch_one(&admin)
        .await
        .unwrap();
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_told_to_stop_hands_its_runs_to_the_next_at_once() {
    let model =
        Model::start(|n, _| Reply::text("fine").after(Duration::from_secs(if n == 0 { 3600 } else { 0 }))).await;
    let mut deployment = Deployment::start(&[], &model.settings()).await;
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    it.add_stub_model(&world).await;
    let stage = json!({ "name": "only", "timeout": "3600s", "llm": { "model": "stub", "prompt": "go" } });
    let workflow = it.add_workflow(&world, "Slow", json!([stage])).await;
    let execution = it.start(&world, &workflow, json!({})).await;
    tokio::time::timeout(PATIENCE, model.until_in_flight(1))
        .await
        .expect("the call is in flight");
    let process = deployment.execution.take().expect("it is alive");
    assert!(
        tokio::task::spawn_blocking(move || process.end("TERM")).await.unwrap(),
        "it exits with 0"
    );
    deployment.crash_execution();
    let world = world.moved(&deployment.execution_url());
    let ended = tokio::time::timeout(Duration::from_secs(8), world.finished(&execution, &it.token)).await;
    assert_eq!(
        ended.expect("nobody waits for the dead one's lease")["status"],
        "EXECUTION_STATUS_COMPLETED"
    );
}
