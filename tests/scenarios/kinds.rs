//! What stages of each kind do in a run: maps, workflows within workflows, waits, requests; and the ways that are taken on
//! conditions, other models, and other models' judgement.

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse, Json},
    routing::any,
};
use serde_json::{Value, json};
use studios_tests::{
    deployment::Deployment,
    model::{Model, Reply},
    refusal::fields,
    tenant::Tenant,
    world::World,
};
use tokio::sync::Mutex;
use uuid::Uuid;

const EXECUTIONS: &str = "studios.execution.v1.ExecutionService";
const WORKFLOWS: &str = "studios.execution.v1.WorkflowService";

/// An installation of its own processes with the stub as the company's model `stub`.
async fn with_stub(model: &Model) -> (Deployment, World, Tenant) {
    let mut settings = model.settings();
    settings.push(("STUDIOS_EXECUTION_OUTBOUND_ALLOW", "127.0.0.1".to_owned()));
    let deployment = Deployment::start(&[], &settings).await;
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    it.add_stub_model(&world).await;
    (deployment, world, it)
}

async fn run(world: &World, it: &Tenant, name: &str, stages: Value, inputs: Value) -> Value {
    let workflow = it.add_workflow(world, name, stages).await;
    let execution = it.start(world, &workflow, inputs).await;
    world.finished(&execution, &it.token).await
}

async fn attempts(world: &World, it: &Tenant, execution: &Value) -> Vec<Value> {
    let body = json!({ "executionId": execution["id"], "pageSize": 200 });
    let page = world.ok(&format!("{EXECUTIONS}/ListAttempts"), body, &it.token).await;
    page["attempts"].as_array().unwrap().clone()
}

/// What a stub is asked, without the rest of the request.
fn asked(body: &Value) -> String {
    let messages = body["messages"].as_array().unwrap();
    messages.last().unwrap()["content"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_map_runs_its_stage_for_each_item_a_few_at_once_and_gives_the_outputs_in_the_items_order() {
    // The first item's answer comes last of those that are asked at once.
    let model = Model::start(|_, body| {
        let text = asked(body);
        let delay = if text.contains("one") { 300 } else { 10 };
        Reply::text(&text.to_uppercase()).after(std::time::Duration::from_millis(delay))
    })
    .await;
    let (_deployment, world, it) = with_stub(&model).await;
    let stages = json!([
        { "name": "each", "map": { "itemsPath": "inputs.words", "stage": "shout", "concurrency": 2 } },
        { "name": "shout", "llm": { "model": "stub", "prompt": "{{ index }} {{ item }}" } },
        { "name": "last", "llm": { "model": "stub", "prompt": "{{ all }}" }, "inputMapping": { "all": "stages.each.output" } },
    ]);
    let inputs = json!({ "words": ["one", "two", "three", "four"] });
    let ended = run(&world, &it, "Map", stages, inputs).await;
    assert_eq!(ended["status"], "EXECUTION_STATUS_COMPLETED", "{ended}");
    let outputs: Vec<_> = model.calls().iter().map(asked).collect();
    assert_eq!(outputs.last().unwrap(), r#"["0 ONE","1 TWO","2 THREE","3 FOUR"]"#);
    let attempts = attempts(&world, &it, &ended).await;
    let mut items: Vec<_> = attempts
        .iter()
        .filter(|it| it["stage"] == "shout")
        .map(|it| it["item"].as_i64().unwrap_or(0))
        .collect();
    assert_ne!(items[0], 0, "others were recorded while the first was under way");
    items.sort_unstable();
    assert_eq!(items, [0, 1, 2, 3]);
}

#[tokio::test]
async fn an_item_that_fails_fails_its_map_or_counts_as_null() {
    let model = Model::start(|_, body| match asked(body).as_str() {
        "bad" => Reply::raw(400, r#"{"error":{"message":"no","type":"invalid_request_error"}}"#),
        text => Reply::text(text),
    })
    .await;
    let (_deployment, world, it) = with_stub(&model).await;
    let stages = |on: &str| {
        json!([
            { "name": "each", "map": { "itemsPath": "inputs.words", "stage": "say", "onItemFailure": on } },
            { "name": "say", "llm": { "model": "stub", "prompt": "{{ item }}" } },
        ])
    };
    let inputs = json!({ "words": ["good", "bad", "fine"] });
    let failed = run(&world, &it, "Strict", stages("ON_ITEM_FAILURE_FAIL"), inputs.clone()).await;
    assert_eq!(failed["status"], "EXECUTION_STATUS_FAILED");
    assert_eq!(failed["failure"]["class"], "FAILURE_CLASS_VALIDATION");
    let passed = run(&world, &it, "Lenient", stages("ON_ITEM_FAILURE_NULL"), inputs).await;
    assert_eq!(passed["outputs"], json!({ "each": ["good", null, "fine"] }), "{passed}");
}

#[tokio::test]
async fn a_workflow_runs_within_another_and_its_end_is_that_stages() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let inner = json!([
        { "name": "inner", "llm": { "model": "offline", "prompt": "The pier is lit at night. {{ inputs.place }}" } },
        { "name": "gate", "wait": { "signal": "go" } },
    ]);
    let inner = it.add_workflow(&world, "Inner", inner).await;
    let outer = json!([
        { "name": "whole", "workflow": { "workflowId": inner }, "inputMapping": { "place": "inputs.place" } },
        { "name": "after", "llm": { "model": "offline", "prompt": "Ships report. {{ x }}" },
          "inputMapping": { "x": "stages.whole.output" } },
    ]);
    let outer = it.add_workflow(&world, "Outer", outer).await;
    let parent = it.start(&world, &outer, json!({ "place": "Harbour." })).await;
    let list = json!({ "studioId": it.studio, "workflowId": inner });
    let begun = |it: &Value| it["executions"][0]["currentStage"] == "gate";
    let listed = world
        .until(&format!("{EXECUTIONS}/ListExecutions"), list, &it.token, begun)
        .await;
    let child = &listed["executions"][0];
    assert_eq!(child["parentId"], parent.as_str());
    let signal = json!({ "executionId": child["id"], "name": "go", "payload": "opened", "requestId": Uuid::now_v7() });
    world.ok(&format!("{EXECUTIONS}/SendSignal"), signal, &it.token).await;
    let ended = world.finished(&parent, &it.token).await;
    assert_eq!(ended["status"], "EXECUTION_STATUS_COMPLETED", "{ended}");
    let attempts = attempts(&world, &it, &ended).await;
    assert_eq!(attempts[0]["output"], "opened", "{attempts:?}");
}

#[tokio::test]
async fn a_workflow_that_cannot_be_run_within_another_is_found_at_publishing() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let stranger = Tenant::with_studio(&world).await;
    let stages = json!([{ "name": "gate", "wait": { "signal": "go" } }]);
    let inner = it.add_workflow(&world, "Inner", stages.clone()).await;
    let foreign = stranger.add_workflow(&world, "Theirs", stages).await;
    let outer = json!([{ "name": "whole", "workflow": { "workflowId": inner } }]);
    let outer = it.add_workflow(&world, "Outer", outer).await;
    let child = |name: &str, id: &str, version: u32| json!({ "name": name, "workflow": { "workflowId": id, "version": version } });
    let draft = json!({ "stages": [
        child("a", &outer, 0),
        child("b", &inner, 1),
        child("c", &inner, 2),
        child("d", &foreign, 0),
        child("e", &Uuid::now_v7().to_string(), 0),
    ] });
    let update = json!({ "workflow": { "id": outer, "draft": draft } });
    world
        .ok(&format!("{WORKFLOWS}/UpdateWorkflow"), update, &it.token)
        .await;
    let refused = world
        .refused(
            &format!("{WORKFLOWS}/PublishWorkflow"),
            json!({ "id": outer, "requestId": Uuid::now_v7() }),
            &it.token,
        )
        .await;
    let wrong = [
        "draft.stages[0].workflow.workflow_id",
        "draft.stages[2].workflow.version",
        "draft.stages[3].workflow.workflow_id",
        "draft.stages[4].workflow.workflow_id",
    ];
    assert_eq!(fields(&refused), wrong);
}

#[tokio::test]
async fn a_cancel_reaches_the_executions_within() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let inner = it
        .add_workflow(
            &world,
            "Inner",
            json!([{ "name": "gate", "wait": { "signal": "never" } }]),
        )
        .await;
    let outer = json!([{ "name": "whole", "workflow": { "workflowId": inner } }]);
    let outer = it.add_workflow(&world, "Outer", outer).await;
    let parent = it.start(&world, &outer, json!({})).await;
    let list = json!({ "studioId": it.studio, "workflowId": inner });
    let begun = |it: &Value| it["executions"][0]["currentStage"] == "gate";
    let listed = world
        .until(&format!("{EXECUTIONS}/ListExecutions"), list, &it.token, begun)
        .await;
    let cancel = json!({ "id": parent, "reason": "enough" });
    world
        .ok(&format!("{EXECUTIONS}/CancelExecution"), cancel, &it.token)
        .await;
    for execution in [&json!(parent), &listed["executions"][0]["id"]] {
        let ended = world.finished(execution.as_str().unwrap(), &it.token).await;
        assert_eq!(ended["status"], "EXECUTION_STATUS_CANCELLED");
    }
}

#[tokio::test]
async fn a_wait_ends_with_its_time_and_one_for_a_signal_fails_without_it() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let stages = json!([
        { "name": "rest", "wait": { "duration": "0.3s" } },
        { "name": "word", "wait": { "signal": "word", "duration": "0.3s" }, "nextOnFail": "late" },
        { "name": "never", "llm": { "model": "offline", "prompt": "No." }, "nextOnPass": "end" },
        { "name": "late", "llm": { "model": "offline", "prompt": "Ships report to the harbour office." } },
    ]);
    let ended = run(&world, &it, "Waits", stages, json!({})).await;
    assert_eq!(ended["status"], "EXECUTION_STATUS_COMPLETED", "{ended}");
    let attempts = attempts(&world, &it, &ended).await;
    let stages: Vec<_> = attempts.iter().map(|it| it["stage"].as_str().unwrap()).collect();
    assert_eq!(stages, ["rest", "word", "late"]);
    assert_eq!(attempts[0]["output"], json!({ "waited": true }));
    assert_eq!(attempts[1]["failure"]["class"], "FAILURE_CLASS_TIMEOUT");
}

#[tokio::test]
async fn a_model_that_cannot_be_used_is_followed_by_the_next_one_and_a_way_is_taken_on_a_condition() {
    let model = Model::start(|_, body| match body["model"].as_str() {
        Some("stub-1") => Reply::raw(401, r#"{"error":{"message":"no","type":"authentication_error"}}"#),
        _ => Reply::text("42 ships"),
    })
    .await;
    let (_deployment, world, it) = with_stub(&model).await;
    let other = json!({ "model": { "companyId": it.company, "name": "other", "provider": "stub",
        "providerModel": "stub-2", "contextLength": 8192, "enabled": true } });
    world
        .ok("studios.execution.v1.ModelService/CreateModel", other, &it.token)
        .await;
    let stages = json!([
        { "name": "count", "llm": { "model": "stub", "prompt": "How many?", "fallbackModels": ["other"] },
          "routesOnPass": [{ "when": "output.contains('none')", "to": "end" },
                           { "when": "output.startsWith('42') && inputs.wanted", "to": "right" }] },
        { "name": "wrong", "llm": { "model": "offline", "prompt": "No." }, "nextOnPass": "end" },
        { "name": "right", "llm": { "model": "offline", "prompt": "Ships report to the harbour office." } },
    ]);
    let ended = run(&world, &it, "Fallback", stages, json!({ "wanted": true })).await;
    let attempts = attempts(&world, &it, &ended).await;
    let seen: Vec<_> = attempts
        .iter()
        .map(|it| {
            (
                it["stage"].as_str().unwrap(),
                it["model"].as_str().unwrap(),
                it["attempt"].as_i64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [("count", "stub", 1), ("count", "other", 2), ("right", "offline", 1)],
        "{attempts:?}"
    );
}

#[tokio::test]
async fn another_model_judges_an_output_and_its_reasons_are_the_notes_of_the_next_try() {
    let model = Model::start(|_, body| {
        let text = asked(body);
        let judged = |score: f64, verdict: &str| {
            let answer = json!({ "score": score, "verdict": verdict, "reasons": ["name the harbour"] });
            Reply::text(&answer.to_string())
        };
        match () {
            () if text.contains("the criteria") && text.contains("Harbour Town") => judged(0.9, "pass"),
            () if text.contains("the criteria") => judged(0.2, "fail"),
            () if text.contains("name the harbour") => Reply::text("Ships of Harbour Town."),
            () => Reply::text("Ships."),
        }
    })
    .await;
    let (_deployment, world, it) = with_stub(&model).await;
    let stages = json!([{ "name": "write", "retryLimit": 1,
        "llm": { "model": "stub", "prompt": "Write. {{ validation_notes }}" },
        "validation": { "llm": { "model": "stub", "criteria": "the criteria", "threshold": 0.6 } } }]);
    let ended = run(&world, &it, "Judged", stages, json!({})).await;
    assert_eq!(
        ended["outputs"],
        json!({ "write": "Ships of Harbour Town." }),
        "{ended}"
    );
    let attempts = attempts(&world, &it, &ended).await;
    assert_eq!(attempts[0]["validationResult"], "VALIDATION_RESULT_FAIL");
    assert!(
        attempts[0]["validationNotes"]
            .as_str()
            .unwrap()
            .contains("name the harbour")
    );
    assert_eq!(attempts[1]["validationResult"], "VALIDATION_RESULT_PASS");
}

/// A server that members' stages call, and what it was sent.
type Sent = Arc<Mutex<Vec<(String, String, String)>>>;

async fn server() -> (String, Sent) {
    let sent = Sent::default();
    let answer = async |State(sent): State<Sent>, method: Method, headers: HeaderMap, body: Bytes| {
        let of = |name: &str| headers.get(name).map_or("", |it| it.to_str().unwrap()).to_owned();
        let body = String::from_utf8(body.to_vec()).unwrap();
        let times = {
            let mut sent = sent.lock().await;
            sent.push((method.to_string(), of("x-order"), body));
            sent.len()
        };
        if times == 1 && method == Method::PUT {
            return (StatusCode::SERVICE_UNAVAILABLE, "busy").into_response();
        }
        Json(json!({ "accepted": true, "times": times })).into_response()
    };
    let router = Router::new().route("/orders", any(answer)).with_state(sent.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    drop(tokio::task::spawn(async move { axum::serve(listener, router).await }));
    (host, sent)
}

#[tokio::test]
async fn a_request_is_sent_as_its_templates_say_and_its_answer_is_the_stages_output() {
    let model = Model::start(|_, _| Reply::text("unused")).await;
    let (_deployment, world, it) = with_stub(&model).await;
    let (host, sent) = server().await;
    let order = |name: &str, method: &str, repeatable: bool| {
        json!({ "name": name, "retryLimit": 2, "http": { "method": method, "url": "http://{{ inputs.host }}/orders", "repeatable": repeatable,
            "headers": { "x-order": "{{ inputs.order }}" }, "body": "{\"order\": \"{{ inputs.order }}\"}" } })
    };
    let inputs = json!({ "host": host, "order": "A-1" });
    let stages = json!([order("put", "PUT", true), order("post", "POST", false)]);
    let ended = run(&world, &it, "Orders", stages, inputs).await;
    assert_eq!(ended["status"], "EXECUTION_STATUS_COMPLETED", "{ended}");
    let body = r#"{"order": "A-1"}"#.to_owned();
    let put = ("PUT".to_owned(), "A-1".to_owned(), body.clone());
    let post = ("POST".to_owned(), "A-1".to_owned(), body);
    assert_eq!(*sent.lock().await, [put.clone(), put, post], "busy once, then again");
    assert_eq!(ended["outputs"]["post"]["status"], 200.0);
    assert_eq!(
        ended["outputs"]["post"]["body"],
        json!({ "accepted": true, "times": 3.0 })
    );
}

#[tokio::test]
async fn a_request_to_an_address_that_is_not_allowed_is_not_sent() {
    let model = Model::start(|_, _| Reply::text("unused")).await;
    let (_deployment, world, it) = with_stub(&model).await;
    let stages =
        json!([{ "name": "get", "http": { "method": "GET", "url": "http://{{ inputs.host }}/", "repeatable": true } }]);
    let workflow = it.add_workflow(&world, "Probe", stages).await;
    for host in ["169.254.169.254", "[::1]:1", "10.0.0.1"] {
        let execution = it.start(&world, &workflow, json!({ "host": host })).await;
        let ended = world.finished(&execution, &it.token).await;
        assert_eq!(ended["status"], "EXECUTION_STATUS_FAILED", "{host}: {ended}");
    }
}
