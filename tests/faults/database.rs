//! The database goes away and comes back in the middle of everything.

use std::time::Duration;

use serde_json::{Value, json};
use studios_tests::{
    deployment::Deployment,
    model::{Model, Reply},
    tenant::Tenant,
    world::PATIENCE,
};

const RUNS: i64 = 40;
const STAGES: [&str; 3] = ["one", "two", "three"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_survive_that_every_connection_is_cut_again_and_again() {
    let model = Model::start(|_, _| Reply::text("fine").after(Duration::from_millis(400))).await;
    let deployment = Deployment::start(&[], &model.settings()).await;
    let world = deployment.world().await;
    let admin = world.admin().await;
    let it = Tenant::with_studio(&world).await;
    it.add_stub_model(&world).await;
    let stages: Vec<Value> = STAGES
        .iter()
        .map(|name| json!({ "name": name, "llm": { "model": "stub", "prompt": "go" } }))
        .collect();
    let workflow = it.add_workflow(&world, "Cut", json!(stages)).await;
    for _ in 0..RUNS {
        it.start(&world, &workflow, json!({})).await;
    }
    let mut cut = 0;
    for _ in 0..10 {
        cut += sqlx::query_scalar::<_, i64>(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity
             where datname = current_database() and usename like 'studios_%'",
        )
        .fetch_one(&admin)
        .await
        .unwrap();
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    assert!(cut > 10, "only {cut} connections were cut");
    let ended = async {
        let open = "select count(*) from execution.executions where finished_at is null";
        while sqlx::query_scalar::<_, i64>(open).fetch_one(&admin).await.unwrap() > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("every run ends");
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
    assert_eq!(paths, [(expected, RUNS)]);
    // Whoever calls now is served again.
    world
        .until("studios.core.v1.UserService/GetProfile", json!({}), &it.token, |_| true)
        .await;
}
