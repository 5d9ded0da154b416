//! What must not be done twice, when whoever does it is killed before he has recorded it.

use std::{collections::BTreeMap, time::Duration};

use serde_json::json;
use studios_tests::{
    deployment::Deployment,
    effects::{self, Effects},
    journal,
    model::{Model, Reply},
    tenant::Tenant,
    world::PATIENCE,
};

const GET: &str = "studios.execution.v1.ExecutionService/GetExecution";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_effect_whose_holder_is_killed_before_its_answer_is_not_repeated_and_a_person_says_what_came_of_it() {
    let server = Effects::start(Duration::from_hours(1)).await;
    let mut deployment = Deployment::start(&[], &[server.settings()]).await;
    let world = deployment.world().await;
    let admin = world.admin().await;
    let it = Tenant::with_studio(&world).await;
    let after = json!({ "name": "after", "llm": { "model": "offline", "prompt": "The pier is lit at night." } });
    let stages = json!([server.stage("order", "{{ inputs.n }}"), after]);
    let workflow = it.add_workflow(&world, "Orders", stages).await;
    let execution = it.start(&world, &workflow, json!({ "n": "one" })).await;
    tokio::time::timeout(PATIENCE, server.until_seen())
        .await
        .expect("the server has the request");
    deployment.lose_execution().await;

    let world = world.moved(&deployment.execution_url());
    let paused = |it: &serde_json::Value| it["status"] == "EXECUTION_STATUS_PAUSED";
    world.until(GET, json!({ "id": execution }), &it.token, paused).await;
    let waits: Vec<(String, String, i32)> = sqlx::query_as("select stage, about, attempt from execution.waiting")
        .fetch_all(&admin)
        .await
        .unwrap();
    assert_eq!(waits, [("order".to_owned(), "outcome".to_owned(), 1)]);
    let once = BTreeMap::from([("one".to_owned(), 1)]);
    assert_eq!(server.seen(), once, "it was sent again on a guess");

    assert_eq!(effects::let_pass(&admin, &it.user).await.unwrap(), 1);
    let ended = world.finished(&execution, &it.token).await;
    assert_eq!(ended["status"], "EXECUTION_STATUS_COMPLETED", "{ended}");
    assert_eq!(server.seen(), once);
    let kinds: Vec<String> = sqlx::query_scalar("select kind from execution.journal order by seq")
        .fetch_all(&admin)
        .await
        .unwrap();
    let expected = [
        "started", "intent", "unknown", "decision", "attempt", "attempt", "finished",
    ];
    assert_eq!(kinds, expected);
    journal::verify(&admin).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_kept_by_a_holder_that_is_killed_before_its_record_is_there_once() {
    // The file is kept when its judge is asked, who answers nobody at first.
    let judged = json!({ "score": 0.9, "verdict": "pass", "reasons": [] }).to_string();
    let model =
        Model::start(move |n, _| Reply::text(&judged).after(Duration::from_secs(if n == 0 { 3600 } else { 0 }))).await;
    let mut deployment = Deployment::start(&[], &model.settings()).await;
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    it.add_stub_model(&world).await;
    let stage = json!({ "name": "keep", "timeout": "3600s", "file": { "fileName": "report.md", "content": "The pier is lit." },
        "validation": { "llm": { "model": "stub", "criteria": "is short" } } });
    let workflow = it.add_workflow(&world, "Report", json!([stage])).await;
    let execution = it.start(&world, &workflow, json!({})).await;
    tokio::time::timeout(PATIENCE, model.until_in_flight(1))
        .await
        .expect("the judge is asked");
    let list = json!({ "studioId": it.studio });
    let kept = world
        .ok("studios.core.v1.FileService/ListFiles", list.clone(), &it.token)
        .await;
    assert_eq!(kept["files"].as_array().unwrap().len(), 1);
    deployment.lose_execution().await;

    let world = world.moved(&deployment.execution_url());
    let ended = world.finished(&execution, &it.token).await;
    assert_eq!(ended["status"], "EXECUTION_STATUS_COMPLETED", "{ended}");
    let files = world.ok("studios.core.v1.FileService/ListFiles", list, &it.token).await;
    assert_eq!(files["files"], kept["files"], "it was kept again");
    assert_eq!(ended["outputs"]["keep"]["file_id"], kept["files"][0]["id"]);
}
