//! Providers that fail: they are left alone for a while, and other models answer in their place.

use serde_json::{Value, json};
use studios_tests::{
    deployment::Deployment,
    model::{Model, Reply},
    tenant::Tenant,
    world::World,
};

const EXECUTIONS: &str = "studios.execution.v1.ExecutionService";

async fn run(world: &World, it: &Tenant, name: &str, llm: Value) -> (Value, Vec<Value>) {
    let stage = json!({ "name": "only", "llm": llm });
    let workflow = it.add_workflow(world, name, json!([stage])).await;
    let execution = it.start(world, &workflow, json!({})).await;
    let ended = world.finished(&execution, &it.token).await;
    let body = json!({ "executionId": execution });
    let page = world.ok(&format!("{EXECUTIONS}/ListAttempts"), body, &it.token).await;
    (ended, page["attempts"].as_array().unwrap().clone())
}

fn says(attempt: &Value, what: &str) -> bool {
    attempt["failure"]["message"]
        .as_str()
        .is_some_and(|it| it.contains(what))
}

#[tokio::test]
async fn a_provider_that_fails_five_times_in_a_row_is_left_alone_and_the_next_model_answers() {
    let model = Model::start(|_, _| Reply::raw(503, r#"{"error":{"message":"overloaded"}}"#)).await;
    let deployment = Deployment::start(&[], &model.settings()).await;
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    it.add_stub_model(&world).await;
    for n in 0..5 {
        let (_, made) = run(
            &world,
            &it,
            &format!("Fails {n}"),
            json!({ "model": "stub", "prompt": "go" }),
        )
        .await;
        assert!(says(&made[0], "is overloaded"), "{made:#?}");
    }
    let (ended, made) = run(&world, &it, "Refused", json!({ "model": "stub", "prompt": "go" })).await;
    assert_eq!(ended["failure"]["class"], "FAILURE_CLASS_PROVIDER_ERROR", "{ended}");
    assert!(says(&made[0], "is left alone"), "{made:#?}");
    assert_eq!(model.calls().len(), 5, "it is not called");

    let prompt = "Summarise the text.\n\nThe desk opens at nine.";
    let llm = json!({ "model": "stub", "prompt": prompt, "fallbackModels": ["offline"] });
    let (ended, made) = run(&world, &it, "Falls back", llm).await;
    assert_eq!(ended["status"], "EXECUTION_STATUS_COMPLETED", "{ended} {made:#?}");
    assert_eq!(model.calls().len(), 5, "nobody waited for it");
}
