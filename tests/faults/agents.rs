//! kill -9 of the execution-service while an agent answers.

use std::time::Duration;

use serde_json::{Value, json};
use studios_tests::{
    deployment::Deployment,
    model::{Model, Reply},
    tenant::{Tenant, id},
    world::PATIENCE,
};
use tokio::time::timeout;

const AGENTS: &str = "studios.execution.v1.AgentService";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_a_crash_cut_is_taken_over_and_ends_once() {
    let model = Model::start(|n, _| {
        let reply = Reply::text("# A note\n\nThe pier is lit at night.");
        reply.after(if n == 0 {
            Duration::from_hours(1)
        } else {
            Duration::ZERO
        })
    })
    .await;
    let mut deployment = Deployment::start(&[], &model.settings()).await;
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    it.add_stub_model(&world).await;
    let session = json!({ "studioId": it.studio, "model": "stub" });
    let session = id(&world.ok(&format!("{AGENTS}/CreateSession"), session, &it.token).await);
    let asked = json!({ "sessionId": session, "type": "AGENT_REQUEST_TYPE_CREATE", "content": "Write a note" });
    let request = id(&world
        .ok(&format!("{AGENTS}/CreateRequest"), asked.clone(), &it.token)
        .await);
    timeout(PATIENCE, model.until_in_flight(1))
        .await
        .expect("the model is asked");
    deployment.crash_execution();
    let world = world.moved(&deployment.execution_url());
    let has_ended = |it: &Value| !it["endTime"].is_null();
    let get = format!("{AGENTS}/GetRequest");
    let ended = world.until(&get, json!({ "id": request }), &it.token, has_ended).await;
    assert_eq!(
        (&ended["status"], &ended["attempts"], &ended["proposal"]["title"]),
        (&json!("AGENT_REQUEST_STATUS_COMPLETED"), &json!(1), &json!("A note")),
        "{ended}"
    );
    assert_eq!(model.calls().len(), 2, "it is asked once more, and no more");
    let next = id(&world.ok(&format!("{AGENTS}/CreateRequest"), asked, &it.token).await);
    let next = world.until(&get, json!({ "id": next }), &it.token, has_ended).await;
    assert_eq!(
        (&next["status"], &next["number"]),
        (&json!("AGENT_REQUEST_STATUS_COMPLETED"), &json!(2))
    );
}
