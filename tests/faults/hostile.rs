//! Members who write workflows to bring the service down.

use std::time::Duration;

use serde_json::{Value, json};
use studios_tests::{
    tenant::{Tenant, id},
    world::World,
};
use tonic::Code;

const WORKFLOWS: &str = "studios.execution.v1.WorkflowService";
const EXECUTIONS: &str = "studios.execution.v1.ExecutionService";

async fn create(world: &World, it: &Tenant, name: &str, draft: Value) -> String {
    let body = json!({ "workflow": { "studioId": it.studio, "name": name, "draft": draft } });
    id(&world.ok(&format!("{WORKFLOWS}/CreateWorkflow"), body, &it.token).await)
}

fn stage(prompt: &str) -> Value {
    json!({ "name": "only", "llm": { "model": "offline", "prompt": prompt }, "inputMapping": { "x": "inputs.x" } })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_template_that_would_overflow_the_stack_is_a_problem_of_its_field() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    for (n, chain) in ["not ".repeat(15_000) + "x", "x".to_owned() + &"|trim".repeat(12_000)]
        .into_iter()
        .enumerate()
    {
        let draft = json!({ "stages": [stage(&format!("{{{{ {chain} }}}}"))] });
        let workflow = create(&world, &it, &format!("Deep {n}"), draft).await;
        let body = json!({ "id": workflow });
        let answer = world
            .ok(&format!("{WORKFLOWS}/ValidateWorkflow"), body, &it.token)
            .await;
        assert_eq!(answer["problems"][0]["field"], "draft.stages[0].llm.prompt");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_template_that_does_too_much_fails_its_run_and_holds_up_nobody() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let prompt = "{% for a in x %}{% for b in x %}{% if (x|sort|length) == 1 %}{% endif %}{% endfor %}{% endfor %}";
    let workflow = it.add_workflow(&world, "Busy", json!([stage(prompt)])).await;
    let words: Vec<String> = (0..10_000).map(|n| format!("word {n}")).collect();
    let execution = it.start(&world, &workflow, json!({ "x": words })).await;
    let call = world.ok("studios.core.v1.UserService/GetProfile", json!({}), &it.token);
    tokio::time::timeout(Duration::from_secs(3), call)
        .await
        .expect("others are served");
    let ended = tokio::time::timeout(Duration::from_secs(20), world.finished(&execution, &it.token)).await;
    let ended = ended.expect("the work is bounded");
    assert_eq!(
        (&ended["status"], &ended["failure"]["class"]),
        (&json!("EXECUTION_STATUS_FAILED"), &json!("FAILURE_CLASS_VALIDATION")),
        "{ended}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_that_doubles_with_every_reference_is_refused_when_it_is_published() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let mut defs = serde_json::Map::new();
    for n in 0..30 {
        let next = json!({ "$ref": format!("#/$defs/d{}", n + 1) });
        defs.insert(format!("d{n}"), json!({ "anyOf": [next, next] }));
    }
    defs.insert("d30".into(), json!({ "type": "string" }));
    let schema = json!({ "$ref": "#/$defs/d0", "$defs": defs });
    let draft = json!({ "stages": [stage("{{ x }}")], "inputSchema": schema });
    let workflow = create(&world, &it, "Doubling", draft).await;
    let publish = format!("{WORKFLOWS}/PublishWorkflow");
    let status = world.refused(&publish, json!({ "id": workflow }), &it.token).await;
    assert_eq!(studios_tests::refusal::fields(&status), ["draft.input_schema"]);
    let start = json!({ "workflowId": workflow, "requestId": "a" });
    let status = world
        .refused(&format!("{EXECUTIONS}/StartExecution"), start, &it.token)
        .await;
    assert_eq!(status.code(), Code::FailedPrecondition);
}
