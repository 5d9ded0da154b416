//! What people ask of runs: to pause and to go on, to hear a signal, to begin again, many at once, and why they wait.

use serde_json::{Value, json};
use studios_tests::{
    deployment::Deployment,
    journal,
    model::{Model, Reply},
    refusal::{assert_reason, fields},
    tenant::Tenant,
    world::World,
};
use tonic::Code;
use uuid::Uuid;

const EXECUTIONS: &str = "studios.execution.v1.ExecutionService";
const PIER: &str = "The pier is lit at night. Ships report to the harbour office.";

fn method(name: &str) -> String {
    format!("{EXECUTIONS}/{name}")
}

async fn ok(world: &World, it: &Tenant, name: &str, body: Value) -> Value {
    world.ok(&method(name), body, &it.token).await
}

async fn refused(world: &World, it: &Tenant, name: &str, body: Value) -> tonic::Status {
    world.refused(&method(name), body, &it.token).await
}

/// The execution once it is as wanted.
async fn once(world: &World, it: &Tenant, execution: &str, is: impl Fn(&Value) -> bool) -> Value {
    let body = json!({ "id": execution });
    world.until(&method("GetExecution"), body, &it.token, is).await
}

async fn attempts(world: &World, it: &Tenant, execution: &str) -> Vec<Value> {
    let page = ok(world, it, "ListAttempts", json!({ "executionId": execution })).await;
    page["attempts"].as_array().unwrap().clone()
}

/// The kinds of the reasons why an execution is where it is, once the first is this one.
async fn reasons(world: &World, it: &Tenant, execution: &str, first: &str) -> Vec<Value> {
    let kind = format!("WAIT_REASON_KIND_{first}");
    let body = json!({ "id": execution });
    let explained = world
        .until(&method("ExplainExecution"), body, &it.token, |it| {
            it["reasons"][0]["kind"] == kind.as_str()
        })
        .await;
    explained["reasons"].as_array().unwrap().clone()
}

fn key() -> String {
    Uuid::now_v7().to_string()
}

fn llm(name: &str, model: &str, prompt: &str) -> Value {
    json!({ "name": name, "llm": { "model": model, "prompt": prompt } })
}

fn waits(name: &str, signal: &str) -> Value {
    json!({ "name": name, "wait": { "signal": signal } })
}

fn manual(name: &str) -> Value {
    json!({ "name": name, "llm": { "model": "offline", "prompt": PIER }, "validation": { "manual": {} } })
}

/// An installation of its own processes with the stub as a model.
async fn with_stub(model: &Model) -> (Deployment, World, Tenant) {
    let deployment = Deployment::start(&[], &model.settings()).await;
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    it.add_stub_model(&world).await;
    (deployment, world, it)
}

#[tokio::test]
async fn a_paused_run_begins_nothing_new_until_somebody_lets_it_go_on() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let stages = json!([waits("gate", "go"), llm("last", "offline", PIER)]);
    let workflow = it.add_workflow(&world, "Gated", stages).await;
    let execution = it.start(&world, &workflow, json!({})).await;
    let id = json!({ "id": execution });

    let not_paused = refused(&world, &it, "ResumeExecution", id.clone()).await;
    assert_reason(&not_paused, Code::FailedPrecondition, "NOT_PAUSED");
    ok(
        &world,
        &it,
        "PauseExecution",
        json!({ "id": execution, "reason": "lunch" }),
    )
    .await;
    let again = refused(&world, &it, "PauseExecution", id.clone()).await;
    assert_reason(&again, Code::FailedPrecondition, "ALREADY_PAUSED");
    let paused = once(&world, &it, &execution, |it| {
        it["paused"]["reason"] == "lunch" && it["status"] == "EXECUTION_STATUS_PAUSED"
    })
    .await;
    assert_eq!(paused["paused"]["pausedBy"], it.user);

    let go = json!({ "executionId": execution, "name": "go", "payload": { "n": 1 } });
    ok(&world, &it, "SendSignal", go).await;
    let explained = reasons(&world, &it, &execution, "PAUSED").await;
    assert_eq!(explained[0]["userIds"], json!([it.user]));
    assert!(
        explained[0]["text"].as_str().unwrap().contains("lunch"),
        "{explained:?}"
    );
    ok(&world, &it, "ResumeExecution", id.clone()).await;
    let ended = world.finished(&execution, &it.token).await;
    assert_eq!(
        (&ended["status"], &ended["paused"]),
        (&json!("EXECUTION_STATUS_COMPLETED"), &Value::Null)
    );
    assert_eq!(
        attempts(&world, &it, &execution).await[0]["output"],
        json!({ "n": 1.0 })
    );

    let events = world
        .stream(&method("WatchExecution"), id.clone(), &it.token)
        .await
        .rest()
        .await
        .unwrap();
    let place = |field: &str| events.iter().position(|event| !event[field].is_null());
    let (pause, resume) = (place("paused").unwrap(), place("resumed").unwrap());
    assert!(
        pause < place("signalReceived").unwrap() && place("signalReceived").unwrap() < resume,
        "{events:?}"
    );
    assert_eq!(events[pause + 1]["statusChanged"]["status"], "EXECUTION_STATUS_PAUSED");
    assert_eq!(
        events[resume + 1]["statusChanged"]["status"],
        "EXECUTION_STATUS_RUNNING"
    );
    for name in ["PauseExecution", "ResumeExecution"] {
        let late = refused(&world, &it, name, id.clone()).await;
        assert_reason(&late, Code::FailedPrecondition, "EXECUTION_ENDED");
    }
    journal::verify(&world.admin().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_in_flight_when_its_run_is_paused_ends_and_is_recorded_and_nothing_follows_it() {
    let (driver, reply) = Reply::driven();
    let replies = std::sync::Mutex::new(Some(reply));
    let model = Model::start(move |_, _| {
        let first = replies.lock().unwrap().take();
        first.unwrap_or_else(|| Reply::text("second"))
    })
    .await;
    let (_deployment, world, it) = with_stub(&model).await;
    let stages = json!([llm("one", "stub", "a"), llm("two", "stub", "{{ stage_1.output }}")]);
    let workflow = it.add_workflow(&world, "Two", stages).await;
    let execution = it.start(&world, &workflow, json!({})).await;
    model.until_in_flight(1).await;
    ok(&world, &it, "PauseExecution", json!({ "id": execution })).await;
    once(&world, &it, &execution, |it| !it["paused"].is_null()).await;
    driver.say("first").await;
    driver.finish().await;
    once(&world, &it, &execution, |it| it["status"] == "EXECUTION_STATUS_PAUSED").await;
    let made = attempts(&world, &it, &execution).await;
    assert_eq!((made.len(), &made[0]["output"]), (1, &json!("first")));
    assert_eq!(model.calls().len(), 1);
    ok(&world, &it, "ResumeExecution", json!({ "id": execution })).await;
    let ended = world.finished(&execution, &it.token).await;
    assert_eq!(ended["outputs"], json!({ "two": "second" }));
    journal::verify(&world.admin().await).await;
}

#[tokio::test]
async fn signals_are_kept_in_order_for_the_waits_that_come_and_sent_once_under_a_key() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let stages = json!([waits("gate", "first"), waits("one", "go"), waits("two", "go")]);
    let workflow = it.add_workflow(&world, "Gated", stages).await;
    let execution = it.start(&world, &workflow, json!({})).await;
    let send = |name: &str, payload: Value, key: &str| json!({ "executionId": execution, "name": name, "payload": payload, "requestId": key });
    let keyed = send("go", json!({ "n": 1 }), &key());
    for _ in 0..2 {
        let answer = ok(&world, &it, "SendSignal", keyed.clone()).await;
        assert_eq!(answer["id"], execution);
    }
    let mut other = keyed.clone();
    other["payload"] = json!(2);
    assert_eq!(fields(&refused(&world, &it, "SendSignal", other).await), ["request_id"]);
    ok(&world, &it, "SendSignal", send("go", json!({ "n": 2 }), &key())).await;
    let explained = reasons(&world, &it, &execution, "SIGNAL").await;
    assert_eq!(explained[0]["signal"], "first");
    ok(&world, &it, "SendSignal", send("first", Value::Null, &key())).await;
    let ended = world.finished(&execution, &it.token).await;
    assert_eq!(ended["outputs"], json!({ "two": { "n": 2.0 } }), "{ended}");
    let outputs: Vec<Value> = attempts(&world, &it, &execution)
        .await
        .iter()
        .map(|it| it["output"].clone())
        .collect();
    assert_eq!(outputs, [Value::Null, json!({ "n": 1.0 }), json!({ "n": 2.0 })]);
    let wrong = json!({ "executionId": "x", "name": "a b", "payload": "x".repeat(70_000), "requestId": "r" });
    assert_eq!(
        fields(&refused(&world, &it, "SendSignal", wrong).await),
        ["execution_id", "name", "payload", "request_id"]
    );
    let late = refused(&world, &it, "SendSignal", send("go", Value::Null, &key())).await;
    assert_reason(&late, Code::FailedPrecondition, "EXECUTION_ENDED");
}

#[tokio::test]
async fn a_signal_that_would_not_be_kept_is_refused() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let workflow = it
        .add_workflow(&world, "Gated", json!([waits("gate", "never"), waits("next", "go")]))
        .await;
    let execution = it.start(&world, &workflow, json!({})).await;
    reasons(&world, &it, &execution, "SIGNAL").await;
    // As a thousand callers would leave them.
    let admin = world.admin().await;
    let mut tx = admin.begin().await.unwrap();
    let id: Uuid = execution.parse().unwrap();
    for statement in [
        "insert into execution.execution_commands (execution_id, seq, company_id, studio_id, kind, payload, issued_by)
         select r.execution_id, n, r.company_id, r.studio_id, 'signal', jsonb_build_object('name', 'go', 'payload', n), $2
         from execution.runs r cross join generate_series(1, 1000) n where r.execution_id = $1",
        "update execution.runs set commands_seq = 1000 where execution_id = $1 and $2::uuid is not null",
    ] {
        let done = sqlx::query(statement)
            .bind(id)
            .bind(it.user.parse::<Uuid>().unwrap())
            .execute(&mut *tx);
        done.await.unwrap();
    }
    tx.commit().await.unwrap();
    let more = json!({ "executionId": execution, "name": "go", "payload": 1, "requestId": key() });
    let refused = refused(&world, &it, "SendSignal", more).await;
    assert_reason(&refused, Code::ResourceExhausted, "TOO_MANY_SIGNALS");
    assert!(refused.message().contains("1000"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_run_goes_on_in_a_new_one_with_what_was_paid_for() {
    let model = Model::start(|n, _| match n {
        0 => Reply::text("kept"),
        1 => Reply::raw(400, "{}"),
        _ => Reply::text("at last"),
    })
    .await;
    let (_deployment, world, it) = with_stub(&model).await;
    let stages = json!([llm("one", "stub", "a"), llm("two", "stub", "b {{ stage_1.output }}")]);
    let workflow = it.add_workflow(&world, "Two", stages).await;
    let failed = it.start(&world, &workflow, json!({ "x": 1 })).await;
    assert_eq!(
        world.finished(&failed, &it.token).await["status"],
        "EXECUTION_STATUS_FAILED"
    );
    let retry = json!({ "id": failed, "requestId": key() });
    let new = ok(&world, &it, "RetryExecution", retry.clone()).await;
    assert_eq!(
        (&new["sourceId"], &new["inputs"]),
        (&json!(failed), &json!({ "x": 1.0 }))
    );
    let id = new["id"].as_str().unwrap();
    let ended = world.finished(id, &it.token).await;
    assert_eq!(
        (&ended["status"], &ended["outputs"], &ended["sourceId"]),
        (
            &json!("EXECUTION_STATUS_COMPLETED"),
            &json!({ "two": "at last" }),
            &json!(failed)
        )
    );
    let made = attempts(&world, &it, id).await;
    assert_eq!(
        (made.len(), &made[0]["stage"], &made[0]["prompt"]),
        (1, &json!("two"), &json!("b kept"))
    );
    assert_eq!(model.calls().len(), 3, "what was paid for is not paid for again");
    assert_eq!(
        ok(&world, &it, "RetryExecution", retry).await["id"],
        id,
        "the same request, the same execution"
    );
    let events = world
        .stream(&method("WatchExecution"), json!({ "id": id }), &it.token)
        .await
        .rest()
        .await
        .unwrap();
    let forked = events.iter().find(|it| !it["forked"].is_null()).unwrap();
    assert_eq!(
        (&forked["forked"]["stage"], &forked["forked"]["kept"][0]["stage"]),
        (&json!("two"), &json!("one"))
    );
    let not = refused(&world, &it, "RetryExecution", json!({ "id": id })).await;
    assert_reason(&not, Code::FailedPrecondition, "NOT_RETRIABLE");
    assert_eq!(
        world.finished(&failed, &it.token).await["status"],
        "EXECUTION_STATUS_FAILED",
        "as it was"
    );
    journal::verify(&world.admin().await).await;
}

#[tokio::test]
async fn a_cancelled_run_is_retried_at_the_stage_that_it_was_at() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let stages = json!([llm("one", "offline", PIER), manual("two")]);
    let workflow = it.add_workflow(&world, "Asks", stages).await;
    let execution = it.start(&world, &workflow, json!({})).await;
    once(&world, &it, &execution, |it| it["waitingFor"]["stage"] == "two").await;
    ok(&world, &it, "CancelExecution", json!({ "id": execution })).await;
    world.finished(&execution, &it.token).await;
    let new = ok(&world, &it, "RetryExecution", json!({ "id": execution })).await;
    assert_eq!(new["currentStage"], "two");
    let id = new["id"].as_str().unwrap().to_owned();
    once(&world, &it, &id, |it| it["waitingFor"]["stage"] == "two").await;
    assert_eq!(attempts(&world, &it, &id).await.len(), 1, "the first stage is kept");
    journal::verify(&world.admin().await).await;
}

#[tokio::test]
async fn a_run_is_forked_from_a_stage_that_it_came_to_also_into_another_version() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let mut odd = llm("odd", "offline", PIER);
    odd["nextOnPass"] = json!("end");
    let stages = json!([
        llm("one", "offline", PIER),
        llm("two", "offline", "{{ stage_1.output }}"),
        odd
    ]);
    let workflow = it.add_workflow(&world, "Ways", stages).await;
    let mut skips = llm("two", "offline", "{{ stage_1.output }}");
    skips["routesOnPass"] = json!([{ "when": "has(inputs.all) && inputs.all", "to": "three" }]);
    skips["nextOnPass"] = json!("end");
    skips["nextOnFail"] = json!("three");
    let execution = it.start(&world, &workflow, json!({})).await;
    let ended = world.finished(&execution, &it.token).await;
    assert!(ended["outputs"]["odd"].is_string(), "{ended}");

    let draft = json!({ "workflow": { "id": workflow, "draft": { "stages": [
        llm("one", "offline", PIER), skips, llm("three", "offline", PIER)] } } });
    world
        .ok("studios.execution.v1.WorkflowService/UpdateWorkflow", draft, &it.token)
        .await;
    world
        .ok(
            "studios.execution.v1.WorkflowService/PublishWorkflow",
            json!({ "id": workflow }),
            &it.token,
        )
        .await;
    let fork =
        |stage: &str, version: i32| json!({ "id": execution, "stage": stage, "version": version, "requestId": key() });
    let same = ok(&world, &it, "ForkExecution", fork("two", 0)).await;
    assert_eq!(
        (&same["workflowVersion"], &same["currentStage"]),
        (&json!(1), &json!("two"))
    );
    let other = ok(&world, &it, "ForkExecution", fork("two", 2)).await;
    assert_eq!(other["workflowVersion"], 2);
    let id = other["id"].as_str().unwrap();
    let ended = world.finished(id, &it.token).await;
    assert!(ended["outputs"]["two"].is_string(), "{ended}");
    let made = attempts(&world, &it, id).await;
    assert_eq!(
        (made.len(), &made[0]["stage"], &made[0]["visit"]),
        (1, &json!("two"), &json!(1))
    );

    assert_eq!(
        fields(&refused(&world, &it, "ForkExecution", fork("none", 0)).await),
        ["stage"]
    );
    assert_eq!(
        fields(&refused(&world, &it, "ForkExecution", fork("", -1)).await),
        ["stage", "version"]
    );
    let gone = refused(&world, &it, "ForkExecution", fork("two", 9)).await;
    assert_eq!(gone.code(), Code::NotFound);
    let never = json!({ "id": id, "stage": "three", "requestId": key() });
    let never = refused(&world, &it, "ForkExecution", never).await;
    assert_reason(&never, Code::FailedPrecondition, "STAGE_NOT_REACHED");
    world
        .ok(
            "studios.execution.v1.WorkflowService/DeleteWorkflow",
            json!({ "id": workflow }),
            &it.token,
        )
        .await;
    let deleted = refused(&world, &it, "ForkExecution", fork("two", 0)).await;
    assert_reason(&deleted, Code::FailedPrecondition, "WORKFLOW_DELETED");
    journal::verify(&world.admin().await).await;
}

#[tokio::test]
async fn a_run_is_restarted_with_its_inputs_or_others_and_keeps_nothing() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let draft = json!({ "stages": [llm("say", "offline", "{{ inputs.text }}")], "inputSchema": { "type": "object",
        "required": ["text"], "properties": { "text": { "type": "string" } } } });
    let body = json!({ "workflow": { "studioId": it.studio, "name": "Say", "draft": draft } });
    let made = world
        .ok("studios.execution.v1.WorkflowService/CreateWorkflow", body, &it.token)
        .await;
    let workflow = made["id"].as_str().unwrap();
    world
        .ok(
            "studios.execution.v1.WorkflowService/PublishWorkflow",
            json!({ "id": workflow }),
            &it.token,
        )
        .await;
    let execution = it.start(&world, workflow, json!({ "text": PIER })).await;
    let first = world.finished(&execution, &it.token).await;
    let same = ok(
        &world,
        &it,
        "RestartExecution",
        json!({ "id": execution, "requestId": key() }),
    )
    .await;
    assert_eq!(
        (&same["inputs"], &same["sourceId"]),
        (&first["inputs"], &json!(execution))
    );
    let same = world.finished(same["id"].as_str().unwrap(), &it.token).await;
    assert_eq!(same["outputs"], first["outputs"]);
    let other = json!({ "id": execution, "inputs": { "text": "Open fire is forbidden on every pier." } });
    let other = ok(&world, &it, "RestartExecution", other).await;
    let other = world.finished(other["id"].as_str().unwrap(), &it.token).await;
    assert!(other["outputs"]["say"].as_str().unwrap().contains("fire"), "{other}");
    let wrong = json!({ "id": execution, "inputs": { "text": 7 } });
    assert_eq!(
        fields(&refused(&world, &it, "RestartExecution", wrong).await),
        ["inputs.text"]
    );
    journal::verify(&world.admin().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_is_done_to_many_and_of_each_it_is_told_what_was_done_or_why_not() {
    let model = Model::start(|n, _| {
        if n < 3 {
            Reply::raw(400, "{}")
        } else {
            Reply::text("well")
        }
    })
    .await;
    let (_deployment, world, it) = with_stub(&model).await;
    let workflow = it.add_workflow(&world, "One", json!([llm("one", "stub", "a")])).await;
    let mut failed = Vec::new();
    for _ in 0..3 {
        let execution = it.start(&world, &workflow, json!({})).await;
        world.finished(&execution, &it.token).await;
        failed.insert(0, execution);
    }
    let control = |action: &str, more: Value| {
        let mut body = json!({ "studioId": it.studio, "action": format!("CONTROL_ACTION_{action}") });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let of = |answer: &Value, field: &str| -> Vec<Value> {
        let results = answer["results"].as_array().unwrap();
        results.iter().map(|it| it[field].clone()).collect()
    };
    let dry = ok(
        &world,
        &it,
        "ControlExecutions",
        control("RETRY", json!({ "dryRun": true })),
    )
    .await;
    assert_eq!(of(&dry, "executionId"), failed);
    assert_eq!(of(&dry, "outcome"), ["CONTROL_OUTCOME_WOULD_BE_DONE"; 3]);
    assert_eq!(model.calls().len(), 3, "nothing is done in earnest");

    let request = key();
    let page = json!({ "pageSize": 2, "requestId": request });
    let first = ok(&world, &it, "ControlExecutions", control("RETRY", page.clone())).await;
    assert_eq!(of(&first, "outcome"), ["CONTROL_OUTCOME_DONE"; 2]);
    let next = json!({ "pageSize": 2, "requestId": request, "pageToken": first["nextPageToken"] });
    let second = ok(&world, &it, "ControlExecutions", control("RETRY", next)).await;
    assert_eq!(
        (of(&second, "executionId"), &second["nextPageToken"]),
        (vec![json!(failed[2])], &json!(""))
    );
    let again = ok(&world, &it, "ControlExecutions", control("RETRY", page)).await;
    assert_eq!(
        of(&again, "newExecutionId"),
        of(&first, "newExecutionId"),
        "once under its key"
    );
    for new in of(&first, "newExecutionId")
        .iter()
        .chain(&of(&second, "newExecutionId"))
    {
        let ended = world.finished(new.as_str().unwrap(), &it.token).await;
        assert_eq!(ended["status"], "EXECUTION_STATUS_COMPLETED");
    }

    let gated = it.add_workflow(&world, "Gated", json!([waits("gate", "go")])).await;
    let waiting = [
        it.start(&world, &gated, json!({})).await,
        it.start(&world, &gated, json!({})).await,
    ];
    let only = json!({ "workflowId": gated, "statuses": ["EXECUTION_STATUS_RUNNING", "EXECUTION_STATUS_PAUSED", "EXECUTION_STATUS_PENDING"], "reason": "stop the lot" });
    let paused = ok(&world, &it, "ControlExecutions", control("PAUSE", only.clone())).await;
    assert_eq!(of(&paused, "outcome"), ["CONTROL_OUTCOME_DONE"; 2]);
    let twice = ok(&world, &it, "ControlExecutions", control("PAUSE", only)).await;
    assert_eq!(of(&twice, "outcome"), ["CONTROL_OUTCOME_REFUSED"; 2]);
    assert_eq!(of(&twice, "reason"), ["ALREADY_PAUSED"; 2]);
    for execution in &waiting {
        once(&world, &it, execution, |it| it["status"] == "EXECUTION_STATUS_PAUSED").await;
    }
    let resumed = ok(&world, &it, "ControlExecutions", control("RESUME", json!({}))).await;
    assert_eq!(of(&resumed, "outcome"), ["CONTROL_OUTCOME_DONE"; 2]);
    let cancelled = ok(
        &world,
        &it,
        "ControlExecutions",
        control("CANCEL", json!({ "workflowId": gated })),
    )
    .await;
    assert_eq!(of(&cancelled, "outcome"), ["CONTROL_OUTCOME_DONE"; 2]);
    for execution in &waiting {
        let ended = world.finished(execution, &it.token).await;
        assert_eq!(ended["status"], "EXECUTION_STATUS_CANCELLED");
    }
    let late = json!({ "workflowId": gated, "statuses": ["EXECUTION_STATUS_CANCELLED"] });
    let late = ok(&world, &it, "ControlExecutions", control("CANCEL", late)).await;
    assert_eq!(of(&late, "reason"), ["EXECUTION_ENDED"; 2]);
    let wrong = json!({ "studioId": "s", "statuses": [99], "pageSize": -1, "requestId": "r" });
    assert_eq!(
        fields(&refused(&world, &it, "ControlExecutions", wrong).await),
        ["action", "request_id", "statuses[0]", "studio_id"]
    );
    journal::verify(&world.admin().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_a_run_waits_is_explained() {
    let (driver, reply) = Reply::driven();
    let replies = std::sync::Mutex::new(Some(reply));
    let model = Model::start(move |_, _| {
        let first = replies.lock().unwrap().take();
        first.unwrap_or_else(|| Reply::text("fine"))
    })
    .await;
    let settings = [
        model.settings(),
        vec![("STUDIOS_EXECUTION_MAX_RUNNING", "1".to_owned())],
    ]
    .concat();
    let deployment = Deployment::start(&[], &settings).await;
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    it.add_stub_model(&world).await;
    let workflow = it.add_workflow(&world, "One", json!([llm("one", "stub", "a")])).await;
    let (held, behind) = (
        it.start(&world, &workflow, json!({})).await,
        it.start(&world, &workflow, json!({})).await,
    );
    model.until_in_flight(1).await;
    let running = reasons(&world, &it, &held, "RUNNING").await;
    assert!(running[0]["instance"].as_i64().unwrap() > 0, "{running:?}");
    let room = reasons(&world, &it, &behind, "ROOM").await;
    assert_eq!(
        (&room[0]["count"], &room[0]["text"]),
        (&json!("1"), &json!("all 1 instances are full"))
    );
    driver.finish().await;
    for execution in [&held, &behind] {
        world.finished(execution, &it.token).await;
    }
    let ended = reasons(&world, &it, &behind, "ENDED").await;
    assert!(ended[0]["since"].is_string(), "{ended:?}");

    let child = it
        .add_workflow(
            &world,
            "Child",
            json!([json!({ "name": "nap", "wait": { "duration": "3600s" } })]),
        )
        .await;
    let parent = json!([{ "name": "sub", "workflow": { "workflowId": child } }]);
    let parent = it.add_workflow(&world, "Parent", parent).await;
    let execution = it.start(&world, &parent, json!({})).await;
    let waits = reasons(&world, &it, &execution, "CHILD").await;
    let inner = waits[0]["executionId"].as_str().unwrap();
    let found = ok(&world, &it, "GetExecution", json!({ "id": inner })).await;
    assert_eq!((&found["parentId"], &found["depth"]), (&json!(execution), &json!(1)));
    let nap = reasons(&world, &it, inner, "TIME").await;
    assert!(nap[0]["until"].is_string(), "{nap:?}");
    let asked = it.add_workflow(&world, "Asks", json!([manual("draft")])).await;
    let asked = it.start(&world, &asked, json!({})).await;
    let people = reasons(&world, &it, &asked, "PEOPLE").await;
    assert_eq!(
        (
            &people[0]["role"],
            &people[0]["waiting"]["mayDecide"],
            &people[0]["attempt"]["stage"]
        ),
        (&json!("member"), &json!(true), &json!("draft"))
    );
}
