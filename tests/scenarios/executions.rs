//! Executions on the offline model: routing, retries, idempotency, watching, cancelling.

use serde_json::{Value, json};
use studios_tests::{
    refusal::{assert_reason, fields},
    tenant::{Tenant, summary_stage},
    world::World,
};
use tonic::Code;

const EXECUTIONS: &str = "studios.execution.v1.ExecutionService";
const PIER: &str = "The pier is lit at night. Ships report to the harbour office.";

fn say(name: &str, prompt: &str) -> Value {
    json!({ "name": name, "llm": { "model": "offline", "prompt": prompt } })
}

async fn attempts(world: &World, it: &Tenant, execution: &str) -> Vec<Value> {
    let page = world
        .ok(
            &format!("{EXECUTIONS}/ListAttempts"),
            json!({ "executionId": execution }),
            &it.token,
        )
        .await;
    page["attempts"].as_array().unwrap().clone()
}

fn stages(attempts: &[Value]) -> Vec<(&str, i64)> {
    attempts
        .iter()
        .map(|it| (it["stage"].as_str().unwrap(), it["attempt"].as_i64().unwrap()))
        .collect()
}

#[tokio::test]
async fn a_run_reads_the_document_and_says_which_chunks_it_used() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let document = it
        .add_document(&world, "Harbour", &format!("# Lights\n\n{PIER}\n"))
        .await;
    let workflow = it
        .add_workflow(&world, "Summary", json!([summary_stage("offline")]))
        .await;
    let execution = it.start(&world, &workflow, json!({ "document_ids": [document] })).await;
    let ended = world.finished(&execution, &it.token).await;
    assert_eq!(ended["status"], "EXECUTION_STATUS_COMPLETED", "{ended}");
    assert_eq!(ended["traceId"].as_str().unwrap().len(), 32);
    let made = attempts(&world, &it, &execution).await;
    assert_eq!(stages(&made), [("summary", 1)]);
    let attempt = &made[0];
    assert_eq!(
        (&attempt["sources"][0]["documentId"], &attempt["sources"][0]["section"]),
        (&json!(document), &json!("Lights"))
    );
    assert!(
        attempt["prompt"]
            .as_str()
            .unwrap()
            .contains("The pier is lit at night."),
        "the prompt can be read back"
    );
    assert!(attempt["rawOutput"].as_str().unwrap().contains("pier"));
    assert!(
        attempt["rawOutput"]
            .as_str()
            .unwrap()
            .to_lowercase()
            .contains("offline model"),
        "it says that it is the offline model"
    );
    assert!(attempt["inputTokens"].as_str().unwrap().parse::<i64>().unwrap() > 0);
}

#[tokio::test]
async fn two_documents_give_two_summaries() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let workflow = it
        .add_workflow(&world, "Summary", json!([summary_stage("offline")]))
        .await;
    let mut said = Vec::new();
    for text in [PIER, "Bread rises when yeast is warm. Bakers start before dawn."] {
        let document = it.add_document(&world, "Text", text).await;
        let execution = it.start(&world, &workflow, json!({ "document_ids": [document] })).await;
        said.push(world.finished(&execution, &it.token).await["outputs"].clone());
    }
    assert_ne!(said[0], said[1]);
    assert!(said[0].to_string().contains("pier") && said[1].to_string().contains("yeast"));
}

#[tokio::test]
async fn a_run_goes_where_its_stages_say_on_pass_and_on_fail() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let mut first = say("first", PIER);
    first["nextOnPass"] = json!("third");
    let second = say("second", PIER);
    let mut third = say("third", PIER);
    third["validation"] = json!({ "regex": { "pattern": "never in the text" } });
    third["retryLimit"] = json!(1);
    third["nextOnFail"] = json!("last");
    let mut last = say("last", PIER);
    last["nextOnPass"] = json!("end");
    let workflow = it
        .add_workflow(&world, "Routes", json!([first, third, second, last]))
        .await;
    // `second` is reached from nowhere but by order, after `third` passed, which it never does.
    let execution = it.start(&world, &workflow, json!({})).await;
    let ended = world.finished(&execution, &it.token).await;
    assert_eq!(ended["status"], "EXECUTION_STATUS_COMPLETED", "{ended}");
    let made = attempts(&world, &it, &execution).await;
    assert_eq!(stages(&made), [("first", 1), ("third", 1), ("third", 2), ("last", 1)]);
    assert_eq!(
        (&made[1]["validationResult"], &made[1]["status"]),
        (&json!("VALIDATION_RESULT_FAIL"), &json!("ATTEMPT_STATUS_FAILED"))
    );
    assert_ne!(made[1]["validationNotes"], "");
}

#[tokio::test]
async fn a_run_whose_stage_fails_for_good_fails_with_the_class_of_its_cause() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let mut only = say("only", PIER);
    only["validation"] = json!({ "regex": { "pattern": "never in the text" } });
    let workflow = it.add_workflow(&world, "Fails", json!([only])).await;
    let execution = it.start(&world, &workflow, json!({})).await;
    let ended = world.finished(&execution, &it.token).await;
    assert_eq!(
        (&ended["status"], &ended["failure"]["class"]),
        (&json!("EXECUTION_STATUS_FAILED"), &json!("FAILURE_CLASS_VALIDATION"))
    );
}

#[tokio::test]
async fn a_loop_ends_at_the_transition_limit() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let mut round = say("round", PIER);
    round["nextOnPass"] = json!("round");
    let draft = json!({ "stages": [round], "transitionLimit": 5 });
    let body = json!({ "workflow": { "studioId": it.studio, "name": "Loop", "draft": draft } });
    let workflow = world
        .ok("studios.execution.v1.WorkflowService/CreateWorkflow", body, &it.token)
        .await["id"]
        .clone();
    world
        .ok(
            "studios.execution.v1.WorkflowService/PublishWorkflow",
            json!({ "id": workflow }),
            &it.token,
        )
        .await;
    let execution = it.start(&world, workflow.as_str().unwrap(), json!({})).await;
    let ended = world.finished(&execution, &it.token).await;
    assert_eq!(
        (&ended["status"], &ended["failure"]["class"]),
        (&json!("EXECUTION_STATUS_FAILED"), &json!("FAILURE_CLASS_CAPPED"))
    );
    let visits: Vec<i64> = attempts(&world, &it, &execution)
        .await
        .iter()
        .map(|it| it["visit"].as_i64().unwrap())
        .collect();
    assert_eq!(
        visits,
        (1..=6).collect::<Vec<_>>(),
        "the first stage and five transitions"
    );
}

#[tokio::test]
async fn a_stage_fills_a_schema_and_later_stages_read_its_fields() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let schema = json!({ "type": "object", "properties": { "topics": { "type": "array", "items": { "type": "string" }, "minItems": 1 } },
        "required": ["topics"] });
    let first = json!({ "name": "topics", "llm": { "model": "offline", "prompt": PIER, "responseSchema": schema },
        "outputVariables": { "topics": "array" }, "validation": { "jsonSchema": { "schema": schema } } });
    let second = json!({ "name": "echo", "llm": { "model": "offline", "prompt": "{{ topic }} is written here. {{ all[0] }} is there too." },
        "inputMapping": { "topic": "stages.topics.output.topics[0]", "all": "stage_1.output.topics" } });
    let workflow = it.add_workflow(&world, "Topics", json!([first, second])).await;
    let execution = it.start(&world, &workflow, json!({})).await;
    let ended = world.finished(&execution, &it.token).await;
    assert_eq!(ended["status"], "EXECUTION_STATUS_COMPLETED", "{ended}");
    let made = attempts(&world, &it, &execution).await;
    let topic = made[0]["output"]["topics"][0].as_str().unwrap();
    assert!(PIER.contains(topic), "{topic} stands in the source");
    assert!(made[1]["prompt"].as_str().unwrap().starts_with(topic));
    assert_eq!(made[1]["inputs"]["topic"], topic);
}

#[tokio::test]
async fn an_idempotency_key_names_one_execution() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let workflow = it.add_workflow(&world, "Say", json!([say("say", PIER)])).await;
    let start = format!("{EXECUTIONS}/StartExecution");
    let body = json!({ "workflowId": workflow, "inputs": { "n": 1 }, "requestId": "one" });
    let starts = (0..8).map(|_| world.ok(&start, body.clone(), &it.token));
    let mut ids = Vec::new();
    for started in starts {
        ids.push(started.await["id"].clone());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
    let other = json!({ "workflowId": workflow, "inputs": { "n": 2 }, "requestId": "one" });
    assert_eq!(fields(&world.refused(&start, other, &it.token).await), ["request_id"]);
    let listed = world
        .ok(
            &format!("{EXECUTIONS}/ListExecutions"),
            json!({ "studioId": it.studio }),
            &it.token,
        )
        .await;
    assert_eq!(listed["executions"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn an_idempotency_key_of_the_day_before_names_nothing() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let workflow = it.add_workflow(&world, "Say", json!([say("say", PIER)])).await;
    let start = format!("{EXECUTIONS}/StartExecution");
    let body = json!({ "workflowId": workflow, "inputs": { "n": 1 }, "requestId": "one" });
    let first = world.ok(&start, body.clone(), &it.token).await;
    sqlx::query("update execution.start_keys set created_at = created_at - interval '24 hours 1 second'")
        .execute(&world.admin().await)
        .await
        .unwrap();
    let second = world.ok(&start, body.clone(), &it.token).await;
    assert_ne!(second["id"], first["id"]);
    assert_eq!(world.ok(&start, body, &it.token).await["id"], second["id"]);
}

#[tokio::test]
async fn inputs_are_checked_against_the_workflows_schema() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let schema = json!({ "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n", "text"] });
    let body = json!({ "workflow": { "studioId": it.studio, "name": "Typed", "draft": { "stages": [say("say", PIER)], "inputSchema": schema } } });
    let workflow = world
        .ok("studios.execution.v1.WorkflowService/CreateWorkflow", body, &it.token)
        .await["id"]
        .clone();
    world
        .ok(
            "studios.execution.v1.WorkflowService/PublishWorkflow",
            json!({ "id": workflow }),
            &it.token,
        )
        .await;
    let body = json!({ "workflowId": workflow, "inputs": { "n": "three" }, "requestId": "a" });
    let named = fields(
        &world
            .refused(&format!("{EXECUTIONS}/StartExecution"), body, &it.token)
            .await,
    );
    assert_eq!(named, ["inputs.n", "inputs.text"]);
}

#[tokio::test]
async fn watching_tells_a_run_from_its_start_and_resumes_after_a_cursor() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let workflow = it
        .add_workflow(&world, "Two", json!([say("one", PIER), say("two", PIER)]))
        .await;
    let execution = it.start(&world, &workflow, json!({})).await;
    let watch = format!("{EXECUTIONS}/WatchExecution");
    let events = world
        .stream(&watch, json!({ "id": execution }), &it.token)
        .await
        .rest()
        .await
        .unwrap();
    let durable: Vec<&Value> = events
        .iter()
        .filter(|event| event.get("stageStarted").is_none() && event.get("outputDelta").is_none())
        .collect();
    let recorded: Vec<&str> = durable
        .iter()
        .filter_map(|it| it["attemptRecorded"]["attempt"]["stage"].as_str())
        .collect();
    assert_eq!(recorded, ["one", "two"]);
    assert_eq!(
        durable.last().unwrap()["statusChanged"]["status"],
        "EXECUTION_STATUS_COMPLETED"
    );
    assert!(durable.last().unwrap()["statusChanged"]["outputs"].is_object());

    let middle = durable
        .iter()
        .find(|it| it["attemptRecorded"]["attempt"]["stage"] == "one")
        .unwrap();
    let body = json!({ "id": execution, "after": middle["cursor"] });
    let rest = world.stream(&watch, body, &it.token).await.rest().await.unwrap();
    let cursor = |it: &Value| it["cursor"].as_str().unwrap().parse::<i64>().unwrap();
    assert!(rest.iter().all(|event| cursor(event) > cursor(middle)));
    assert_eq!(
        rest.last().unwrap()["statusChanged"]["status"],
        "EXECUTION_STATUS_COMPLETED"
    );
    let ended = json!({ "id": execution, "after": durable.last().unwrap()["cursor"] });
    assert!(
        world
            .stream(&watch, ended, &it.token)
            .await
            .rest()
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn executions_are_listed_by_status_and_workflow() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let good = it.add_workflow(&world, "Good", json!([say("say", PIER)])).await;
    let mut failing = say("say", PIER);
    failing["validation"] = json!({ "regex": { "pattern": "never in the text" } });
    let bad = it.add_workflow(&world, "Bad", json!([failing])).await;
    for workflow in [&good, &bad, &good] {
        let execution = it.start(&world, workflow, json!({})).await;
        world.finished(&execution, &it.token).await;
    }
    let count = async |filter: Value| {
        let mut body = json!({ "studioId": it.studio });
        body.as_object_mut()
            .unwrap()
            .extend(filter.as_object().unwrap().clone());
        let page = world.ok(&format!("{EXECUTIONS}/ListExecutions"), body, &it.token).await;
        page["executions"].as_array().unwrap().len()
    };
    assert_eq!(count(json!({})).await, 3);
    assert_eq!(count(json!({ "statuses": ["EXECUTION_STATUS_FAILED"] })).await, 1);
    assert_eq!(count(json!({ "workflowId": good })).await, 2);
    assert_eq!(
        count(json!({ "workflowId": good, "statuses": ["EXECUTION_STATUS_FAILED"] })).await,
        0
    );
    assert_eq!(count(json!({ "createTimeBefore": "2020-01-01T00:00:00Z" })).await, 0);
}

#[tokio::test]
async fn an_ended_execution_cannot_be_cancelled() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let workflow = it.add_workflow(&world, "Say", json!([say("say", PIER)])).await;
    let execution = it.start(&world, &workflow, json!({})).await;
    world.finished(&execution, &it.token).await;
    let status = world
        .refused(
            &format!("{EXECUTIONS}/CancelExecution"),
            json!({ "id": execution }),
            &it.token,
        )
        .await;
    assert_reason(&status, Code::FailedPrecondition, "EXECUTION_ENDED");
}

#[tokio::test]
async fn a_retrieve_stages_chunks_are_read_by_the_stages_after_it() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let document = it
        .add_document(
            &world,
            "Harbour",
            &format!("# Lights\n\n{PIER}\n\n# Bread\n\nBakers start before dawn.\n"),
        )
        .await;
    let find = json!({ "name": "find", "retrieve": { "retrieval": { "query": "{{ question }}", "limit": 1 } },
        "inputMapping": { "question": "inputs.question" } });
    let mut read = say("read", "Summarise the passage.\n\nPassage:\n{{ passage }}");
    read["inputMapping"] = json!({ "passage": "stages.find.output.chunks[0].content" });
    let workflow = it.add_workflow(&world, "Find", json!([find, read])).await;
    let inputs = json!({ "question": "When is the pier lit?" });
    let execution = it.start(&world, &workflow, inputs).await;
    let ended = world.finished(&execution, &it.token).await;
    assert_eq!(ended["status"], "EXECUTION_STATUS_COMPLETED", "{ended}");
    let made = attempts(&world, &it, &execution).await;
    let chunks = made[0]["output"]["chunks"].as_array().unwrap();
    assert_eq!((chunks.len(), &chunks[0]["section"]), (1, &json!("Lights")));
    assert_eq!(made[0]["sources"][0]["documentId"], document);
    assert!(
        made[1]["prompt"]
            .as_str()
            .unwrap()
            .contains("The pier is lit at night.")
    );
    assert!(ended["outputs"]["read"].as_str().unwrap().contains("pier"), "{ended}");
}
