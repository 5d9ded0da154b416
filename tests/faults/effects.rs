//! What must not be done twice, when whoever does it is killed before he has recorded it.

use std::{collections::BTreeMap, time::Duration};

use serde_json::json;
use studios_tests::{
    deployment::Deployment,
    effects::{self, Effects},
    journal,
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
    deployment.crash_execution();

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
