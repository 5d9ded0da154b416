//! Trying a stage and running a workflow dry, before there is a run.

use serde_json::{Value, json};
use sqlx::PgPool;
use studios_tests::{
    deployment::Deployment,
    model::{Model, Reply},
    refusal::{assert_reason, fields},
    tenant::Tenant,
    world::World,
};
use tonic::Code;

const TEST: &str = "studios.execution.v1.ExecutionService/TestStage";
const DRY: &str = "studios.execution.v1.ExecutionService/DryRunWorkflow";

async fn executions(admin: &PgPool) -> i64 {
    sqlx::query_scalar("select count(*) from execution.executions")
        .fetch_one(admin)
        .await
        .unwrap()
}

fn llm(name: &str, prompt: &str) -> Value {
    json!({ "name": name, "llm": { "model": "stub", "prompt": prompt } })
}

/// A workflow with a draft of these stages.
async fn drafted(world: &World, it: &Tenant, stages: Value) -> String {
    let body = json!({ "workflow": { "studioId": it.studio, "name": "Drafted", "draft": { "stages": stages } } });
    let made = world
        .ok("studios.execution.v1.WorkflowService/CreateWorkflow", body, &it.token)
        .await;
    made["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stage_of_a_draft_is_tried_with_sample_inputs_and_nothing_is_recorded() {
    let model = Model::start(|n, _| Reply::text(&format!("answer {n}"))).await;
    let deployment = Deployment::start(&[], &model.settings()).await;
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    it.add_stub_model(&world).await;
    let map = json!({ "name": "all", "map": { "itemsPath": "inputs.list", "stage": "each" } });
    let nap = json!({ "name": "nap", "wait": { "duration": "1s" } });
    let post =
        json!({ "name": "post", "http": { "method": "POST", "url": "https://example.com/orders", "body": "{}" } });
    let stages = json!([
        llm("one", "a"),
        llm("two", "{{ inputs.x }} {{ stages.one.output }}"),
        map,
        llm("each", "{{ item }} {{ index }}"),
        nap,
        post
    ]);
    let workflow = drafted(&world, &it, stages).await;
    let body =
        json!({ "workflowId": workflow, "stage": "two", "inputs": { "x": "tea" }, "outputs": { "one": "for two" } });
    let tried = world.ok(TEST, body, &it.token).await;
    let attempt = &tried["attempt"];
    assert_eq!(
        (
            &attempt["status"],
            &attempt["output"],
            &attempt["prompt"],
            &attempt["inputTokens"]
        ),
        (
            &json!("ATTEMPT_STATUS_SUCCEEDED"),
            &json!("answer 0"),
            &json!("tea for two"),
            &json!("11")
        )
    );
    assert!(model.calls()[0].to_string().contains("tea for two"));
    let item = json!({ "workflowId": workflow, "stage": "each", "item": "plum" });
    let tried = world.ok(TEST, item, &it.token).await;
    assert_eq!(tried["attempt"]["prompt"], "plum 0");
    assert_eq!(executions(&world.admin().await).await, 0);

    for (body, named) in [
        (json!({ "stage": "none" }), "stage"),
        (json!({ "stage": "nap" }), "stage"),
        (json!({ "stage": "each" }), "item"),
        (json!({ "stage": "two", "outputs": { "none": 1 } }), "outputs[none]"),
    ] {
        let mut body = body;
        body["workflowId"] = json!(workflow);
        assert_eq!(fields(&world.refused(TEST, body, &it.token).await), [named]);
    }
    let post = json!({ "workflowId": workflow, "stage": "post" });
    let effect = world.refused(TEST, post, &it.token).await;
    assert_reason(&effect, Code::FailedPrecondition, "EFFECT_NOT_ALLOWED");
    let wrong = json!({ "workflowId": "w", "version": -1 });
    assert_eq!(
        fields(&world.refused(TEST, wrong, &it.token).await),
        ["stage", "version", "workflow_id"]
    );
    let unpublished = json!({ "workflowId": workflow, "version": 1, "stage": "one" });
    let unpublished = world.refused(TEST, unpublished, &it.token).await;
    assert_reason(&unpublished, Code::FailedPrecondition, "NOT_PUBLISHED");
    assert_eq!(model.calls().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_is_run_dry_with_given_outputs_or_those_of_a_run_and_calls_nothing() {
    let model = Model::start(|n, _| Reply::text(&format!("answer {n}"))).await;
    let deployment = Deployment::start(&[], &model.settings()).await;
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    it.add_stub_model(&world).await;
    let mut checked = llm("draft", "Write {{ inputs.x }}. {{ validation_notes }}");
    checked["validation"] = json!({ "manual": {} });
    checked["retryLimit"] = json!(1);
    let stages = json!([checked, llm("last", "{{ stage_1.output }}!")]);
    let workflow = it.add_workflow(&world, "Dry", stages).await;
    let given = json!({ "workflowId": workflow, "inputs": { "x": "tea" },
        "outputs": { "draft": ["first", "second"], "last": ["done"] },
        "decisions": { "draft": { "decisions": ["DECISION_FAIL"] } } });
    let traced = world.ok(DRY, given.clone(), &it.token).await;
    assert_eq!(
        (&traced["status"], &traced["outputs"], &traced["stopped"]),
        (
            &json!("EXECUTION_STATUS_COMPLETED"),
            &json!({ "last": "done" }),
            &json!("")
        )
    );
    let steps: Vec<(String, Value, Value)> = traced["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            let key = &it["attempt"];
            (
                format!("{}/{}", key["stage"].as_str().unwrap(), key["attempt"]),
                it["prompt"].clone(),
                it["nextStage"].clone(),
            )
        })
        .collect();
    assert_eq!(
        steps,
        [
            ("draft/1".to_owned(), json!("Write tea. "), json!("draft")),
            ("draft/2".to_owned(), json!("Write tea. "), json!("last")),
            ("last/1".to_owned(), json!("second!"), json!("")),
        ]
    );
    let mut short = given.clone();
    short["outputs"] = json!({ "draft": ["first"] });
    short["decisions"] = json!({});
    let stopped = world.ok(DRY, short, &it.token).await;
    assert_eq!(
        (&stopped["status"], &stopped["stopped"]),
        (
            &json!("EXECUTION_STATUS_UNSPECIFIED"),
            &json!("no output is given for last/1/0/1")
        )
    );
    assert_eq!(
        (model.calls().len(), executions(&world.admin().await).await),
        (0, 0),
        "nothing is called or recorded"
    );

    let get = "studios.execution.v1.ExecutionService/GetExecution";
    let execution = it.start(&world, &workflow, json!({ "x": "milk" })).await;
    world
        .until(get, json!({ "id": execution }), &it.token, |it| {
            !it["waitingFor"].is_null()
        })
        .await;
    let pass =
        json!({ "executionId": execution, "stage": "draft", "visit": 1, "attempt": 1, "decision": "DECISION_PASS" });
    world
        .ok("studios.execution.v1.ExecutionService/DecideAttempt", pass, &it.token)
        .await;
    let ended = world.finished(&execution, &it.token).await;
    let recorded = json!({ "workflowId": workflow, "executionId": execution });
    let again = world.ok(DRY, recorded, &it.token).await;
    assert_eq!(
        (&again["outputs"], &again["steps"][0]["prompt"]),
        (&ended["outputs"], &json!("Write milk. "))
    );
    let other = it.add_workflow(&world, "Other", json!([llm("one", "a")])).await;
    let foreign = json!({ "workflowId": other, "executionId": execution });
    assert_eq!(fields(&world.refused(DRY, foreign, &it.token).await), ["execution_id"]);
    let mut wrong = given;
    wrong["decisions"] = json!({ "draft": { "decisions": ["DECISION_AGAIN"] } });
    wrong["version"] = json!(-1);
    assert_eq!(
        fields(&world.refused(DRY, wrong, &it.token).await),
        ["decisions[draft].decisions[0]", "version"]
    );
}
