//! Flows of ActivePieces as stages: imported, started once, their ends learned in every way, stopped as far as they can be.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use studios_tests::{
    journal,
    pieces::{Behaviour, CallBack, EMAIL, PASSWORD, PROJECT, Pieces, Reaction, Setup, definition},
    tenant::{self, Tenant},
    world::World,
};
use tonic::Code;
use tonic_types::StatusExt;

const LIST: &str = "studios.execution.v1.FlowService/ListFlows";
const IMPORT: &str = "studios.execution.v1.FlowService/ImportFlow";
const RUNS: &str = "studios.execution.v1.FlowService/ListFlowRuns";
const TEMPLATE: &str = "studios.execution.v1.TemplateService/CreateTemplate";
const RUN_TEMPLATE: &str = "studios.execution.v1.TemplateService/RunTemplate";
const GET: &str = "studios.execution.v1.ExecutionService/GetExecution";
const ATTEMPTS: &str = "studios.execution.v1.ExecutionService/ListAttempts";
const EXPLAIN: &str = "studios.execution.v1.ExecutionService/ExplainExecution";
const CANCEL: &str = "studios.execution.v1.ExecutionService/CancelExecution";
const PAUSE: &str = "studios.execution.v1.ExecutionService/PauseExecution";
const RESUME: &str = "studios.execution.v1.ExecutionService/ResumeExecution";

struct Scene {
    world: World,
    it: Tenant,
    instance: Pieces,
    connection: String,
}

impl Scene {
    async fn new() -> Self {
        Self::with(Setup::default()).await
    }

    async fn with(setup: Setup) -> Self {
        let world = World::start().await;
        let it = Tenant::with_studio(&world).await;
        let instance = Pieces::start(setup).await;
        let connection = connect(&world, &it, &instance).await;
        Self {
            world,
            it,
            instance,
            connection,
        }
    }

    /// A stage that runs a flow.
    fn stage(&self, flow: &str, more: &Value) -> Value {
        let mut kind = json!({ "connectionId": self.connection, "flowId": flow });
        for (name, value) in more.as_object().into_iter().flatten() {
            kind[name] = value.clone();
        }
        json!({ "name": "flow", "activepieces": kind })
    }

    async fn started(&self, name: &str, stages: Value, inputs: Value) -> String {
        let workflow = self.it.add_workflow(&self.world, name, stages).await;
        self.it.start(&self.world, &workflow, inputs).await
    }

    async fn ok(&self, method: &str, body: Value) -> Value {
        self.world.ok(method, body, &self.it.token).await
    }

    /// Waits until the run of an execution's flow is in a state.
    async fn until_run(&self, execution: &str, state: &str) -> Value {
        let done = |it: &Value| it["flowRuns"][0]["state"] == state;
        let runs = self
            .world
            .until(RUNS, json!({ "executionId": execution }), &self.it.token, done)
            .await;
        runs["flowRuns"][0].clone()
    }

    async fn entries(&self, execution: &str) -> Vec<String> {
        let kinds = sqlx::query_scalar("select kind from execution.journal where execution_id = $1::uuid order by seq");
        kinds
            .bind(execution)
            .fetch_all(&self.world.admin().await)
            .await
            .unwrap()
    }
}

/// A connection of the tenant's to an instance.
pub(crate) async fn connect(world: &World, it: &Tenant, instance: &Pieces) -> String {
    let connection = json!({ "connection": { "companyId": it.company, "name": "pieces", "kind": "CONNECTION_KIND_ACTIVEPIECES",
        "baseUrl": instance.url(), "options": { "projectId": PROJECT, "email": EMAIL }, "secret": PASSWORD, "enabled": true } });
    tenant::id(
        &world
            .ok(
                "studios.execution.v1.ConnectionService/CreateConnection",
                connection,
                &it.token,
            )
            .await,
    )
}

fn calling_back() -> Value {
    definition(&[
        (
            "tags",
            "add_tag",
            json!({ "name": "{{trigger['body']['studios']['correlation_id']}}" }),
        ),
        (
            "http",
            "send_request",
            json!({ "method": "POST", "url": "{{trigger['body']['studios']['callback_url']}}",
            "body": { "output": { "sum": "{{trigger['body']['a']}}" } } }),
        ),
    ])
}

fn responding() -> Value {
    let input = json!({ "respond": "stop", "responseType": "json", "fields": { "status": 201 } });
    definition(&[("webhook", "return_response", input)])
}

#[tokio::test]
async fn a_flow_is_listed_imported_and_run_and_says_itself_that_it_has_ended() {
    let scene = Scene::new().await;
    let flow = scene.instance.flow("Add numbers", calling_back());
    scene.instance.flow("Other", responding());
    scene.instance.behave(
        &flow,
        Behaviour {
            calls_back: CallBack::Once,
            tags: true,
            ..Behaviour::default()
        },
    );
    let listed = scene
        .ok(LIST, json!({ "connectionId": scene.connection, "name": "add" }))
        .await;
    assert_eq!(
        (&listed["flows"][0]["id"], &listed["flows"][0]["enabled"]),
        (&json!(flow), &json!(true))
    );
    let wish = json!({ "connectionId": scene.connection, "flowId": flow, "studioId": scene.it.studio });
    let imported = scene.ok(IMPORT, wish).await;
    let log = "studios.execution.v1.ExecutionAuditService/ListAuditEntries";
    let recorded = scene
        .ok(
            log,
            json!({ "companyId": scene.it.company, "action": "FlowService.ImportFlow" }),
        )
        .await;
    assert_eq!(
        recorded["entries"][0]["thingId"], imported["workflow"]["id"],
        "{recorded}"
    );
    let ways = ["FLOW_END_WAY_CALLBACK", "FLOW_END_WAY_TAG", "FLOW_END_WAY_ASKING"];
    assert_eq!(imported["findings"]["ways"], json!(ways), "{imported}");
    assert!(imported["findings"]["inputSchema"]["properties"]["a"].is_object());
    assert_eq!(
        (&imported["version"], &imported["workflow"]["name"]),
        (&json!(1), &json!("Add numbers"))
    );

    let workflow = tenant::id(&imported["workflow"]);
    let execution = scene.it.start(&scene.world, &workflow, json!({ "a": 3 })).await;
    let ended = scene.world.finished(&execution, &scene.it.token).await;
    assert_eq!(ended["outputs"]["flow"]["result"], json!({ "sum": 7.0 }), "{ended}");
    assert_eq!(ended["outputs"]["flow"]["state"], "SUCCEEDED");
    let bodies = scene.instance.bodies();
    assert_eq!((bodies.len(), bodies[0]["a"].as_f64()), (1, Some(3.0)));
    let tag = bodies[0]["studios"]["correlation_id"].as_str().unwrap();
    assert_eq!(tag, format!("{execution}/flow/1/0/1"));
    // Its steps are looked for behind its end, and its id is shown nowhere.
    let done = |it: &Value| it["flowRuns"][0]["steps"].as_array().is_some_and(|it| !it.is_empty());
    let runs = scene
        .world
        .until(RUNS, json!({ "executionId": execution }), &scene.it.token, done)
        .await;
    assert_eq!(runs["flowRuns"][0]["steps"][0]["output"], json!({ "sum": 7.0 }));
    let shown = format!(
        "{runs}{ended}{}",
        scene.ok(ATTEMPTS, json!({ "executionId": execution })).await
    );
    hides(&scene, &shown).await;
    journal::verify(&scene.world.admin().await).await;
}

#[tokio::test]
async fn an_imported_flow_is_published_as_a_template_of_the_company_and_run_by_it() {
    let scene = Scene::new().await;
    let flow = scene.instance.flow("Add numbers", calling_back());
    let behaviour = Behaviour {
        calls_back: CallBack::Once,
        tags: true,
        ..Behaviour::default()
    };
    scene.instance.behave(&flow, behaviour);
    let wish = json!({ "connectionId": scene.connection, "flowId": flow, "studioId": scene.it.studio });
    let imported = scene.ok(IMPORT, wish).await;
    let workflow = tenant::id(&imported["workflow"]);

    let mut body = tenant::new_template("Add up", &workflow);
    body["version"]["sampleInput"] = json!({ "a": 3 });
    let template = tenant::id(&scene.ok(TEMPLATE, body).await);
    let run = json!({ "templateId": template, "studioId": scene.it.studio, "inputs": { "a": 4 } });
    let execution = tenant::id(&scene.ok(RUN_TEMPLATE, run).await);
    let ended = scene.world.finished(&execution, &scene.it.token).await;
    assert_eq!(ended["status"], "EXECUTION_STATUS_COMPLETED", "{ended}");
    assert_eq!(ended["outputs"]["flow"]["result"], json!({ "sum": 7.0 }), "{ended}");
    let bodies = scene.instance.bodies();
    assert_eq!((bodies.len(), bodies[0]["a"].as_f64()), (1, Some(4.0)));
}

/// Neither what is shown, nor any table but its own, has a run's id; and none a secret.
async fn hides(scene: &Scene, shown: &str) {
    let admin = scene.world.admin().await;
    let tables: Vec<String> = sqlx::query_scalar(
        "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname in ('core', 'execution')",
    )
    .fetch_all(&admin)
    .await
    .unwrap();
    let mut secrets = scene.instance.run_ids();
    let callbacks = scene.instance.bodies();
    let urls = callbacks.iter().filter_map(|it| it["studios"]["callback_url"].as_str());
    secrets.extend(urls.filter_map(|it| it.rsplit('/').next()).map(str::to_owned));
    secrets.extend([
        PASSWORD.to_owned(),
        "canary-session".to_owned(),
        "step-input-canary".to_owned(),
    ]);
    for secret in &secrets {
        assert!(!shown.contains(secret.as_str()), "it is shown");
        for table in tables.iter().filter(|it| *it != "execution.flow_runs") {
            let sql = format!(
                "select count(*) from {table} t where position($1 in t::text) > 0 or position(encode(convert_to($1, 'utf8'), 'hex') in t::text) > 0"
            );
            let found: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
                .bind(secret)
                .fetch_one(&admin)
                .await
                .unwrap();
            assert_eq!(found, 0, "{table} has a secret");
        }
    }
    let role = sqlx::query_scalar::<_, bool>(
        "select has_column_privilege('studios_execution', 'execution.flow_runs', 'run_id', 'select')",
    );
    assert!(
        !role.fetch_one(&admin).await.unwrap(),
        "the role that serves calls reads the ids of runs"
    );
}

#[tokio::test]
async fn what_could_not_be_run_is_not_imported_and_each_reason_is_told() {
    let scene = Scene::new().await;
    let flow = scene
        .instance
        .flow("Silent", definition(&[("http", "send_request", json!({ "url": "x" }))]));
    let import = |flow: &str, mode: &str| json!({ "connectionId": scene.connection, "flowId": flow, "studioId": scene.it.studio, "mode": mode });
    let refusal = |wish| scene.world.refused(IMPORT, wish, &scene.it.token);
    let said = |status: tonic::Status| {
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        let details = status.get_details_bad_request().unwrap();
        let told = details.field_violations.into_iter();
        let told: Vec<_> = told.map(|it| format!("{}: {}", it.field, it.description)).collect();
        told.join("\n")
    };
    let nothing_answers = said(refusal(import(&flow, "FLOW_MODE_SYNCHRONOUS")).await);
    assert!(nothing_answers.contains("Return Response"), "{nothing_answers}");
    scene.instance.uninstall("@activepieces/piece-http");
    assert!(said(refusal(import(&flow, "FLOW_MODE_UNSPECIFIED")).await).contains("@activepieces/piece-http"));
    scene.instance.disable(&flow);
    assert!(said(refusal(import(&flow, "FLOW_MODE_UNSPECIFIED")).await).contains("disabled"));
    scene.instance.unpublish(&flow);
    assert!(said(refusal(import(&flow, "FLOW_MODE_UNSPECIFIED")).await).contains("never published"));
    scene.instance.delete(&flow);
    said(refusal(import(&flow, "FLOW_MODE_UNSPECIFIED")).await);
    said(refusal(import("../../etc", "FLOW_MODE_UNSPECIFIED")).await);
    let empty = scene.instance.flow("Empty", json!({ "type": "EMPTY", "settings": {} }));
    assert!(said(refusal(import(&empty, "FLOW_MODE_UNSPECIFIED")).await).contains("Catch Webhook"));
    let stranger = Tenant::with_studio(&scene.world).await;
    let wish = import(&empty, "FLOW_MODE_UNSPECIFIED");
    let status = scene.world.refused(IMPORT, wish, &stranger.token).await;
    assert_eq!(status.code(), Code::NotFound);
    let listed = scene
        .world
        .refused(LIST, json!({ "connectionId": scene.connection }), &stranger.token)
        .await;
    assert_eq!(listed.code(), Code::NotFound);
}

#[tokio::test]
async fn a_flow_that_says_nothing_is_asked_about_and_found_by_what_it_was_given() {
    let scene = Scene::new().await;
    let flow = scene.instance.flow("Silent", definition(&[]));
    // Another's runs of the same flow are none of ours.
    for _ in 0..3 {
        let url = format!("{}/api/v1/webhooks/{flow}", scene.instance.url());
        reqwest::Client::new()
            .post(url)
            .json(&json!({ "a": 1 }))
            .send()
            .await
            .unwrap();
    }
    scene.instance.behave(
        &flow,
        Behaviour {
            runs: Duration::from_secs(6),
            ends: "FAILED",
            ..Behaviour::default()
        },
    );
    let after = json!({ "name": "after", "llm": { "model": "offline", "prompt": "The pier is lit." } });
    let mut stage = scene.stage(&flow, &json!({}));
    stage["inputMapping"] = json!({ "who": "inputs.name" });
    let execution = scene
        .started("Asks", json!([stage, after]), json!({ "name": "Ada" }))
        .await;
    let explained = scene
        .world
        .until(EXPLAIN, json!({ "id": execution }), &scene.it.token, |it| {
            it["reasons"][0]["flowState"] == "RUNNING"
        })
        .await;
    assert_eq!(explained["reasons"][0]["kind"], "WAIT_REASON_KIND_FLOW", "{explained}");
    let ended = scene.world.finished(&execution, &scene.it.token).await;
    assert_eq!(ended["status"], "EXECUTION_STATUS_FAILED");
    let message = ended["failure"]["message"].as_str().unwrap();
    assert!(
        message.contains("the step \"Add\" failed: Error: asked to fail: x"),
        "{message}"
    );
    let bodies = scene.instance.bodies();
    assert_eq!(
        (bodies.len(), &bodies[3]["who"], &bodies[3]["name"]),
        (4, &json!("Ada"), &Value::Null)
    );
    assert_eq!(
        scene.entries(&execution).await,
        ["started", "intent", "flow_run", "attempt", "finished"]
    );
}

#[tokio::test]
async fn a_start_that_waits_takes_the_flows_answer_and_what_stays_silent_is_looked_up() {
    let scene = Scene::new().await;
    let flow = scene.instance.flow("Echo", responding());
    let stage = scene.stage(&flow, &json!({ "mode": "FLOW_MODE_SYNCHRONOUS" }));
    let workflow = scene.it.add_workflow(&scene.world, "Echo", json!([stage])).await;
    let execution = scene.it.start(&scene.world, &workflow, json!({ "a": 1, "b": 2 })).await;
    let ended = scene.world.finished(&execution, &scene.it.token).await;
    assert_eq!(ended["outputs"]["flow"]["result"]["sum"], 3.0, "{ended}");
    assert_eq!(
        scene.entries(&execution).await,
        ["started", "intent", "attempt", "finished"]
    );
    // Slower than the instance waits: 204, which says nothing.
    scene.instance.behave(
        &flow,
        Behaviour {
            runs: Duration::from_millis(900),
            ..Behaviour::default()
        },
    );
    let slow = scene.it.start(&scene.world, &workflow, json!({})).await;
    let ended = scene.world.finished(&slow, &scene.it.token).await;
    assert_eq!(ended["outputs"]["flow"]["result"], json!({ "sum": 7.0 }), "{ended}");
    for reaction in [Reaction::Says(500), Reaction::Says(408)] {
        scene.instance.behave(
            &flow,
            Behaviour {
                reaction,
                ..Behaviour::default()
            },
        );
        let lost = scene.it.start(&scene.world, &workflow, json!({})).await;
        let ended = scene.world.finished(&lost, &scene.it.token).await;
        assert_eq!(ended["status"], "EXECUTION_STATUS_COMPLETED", "{ended}");
        assert_eq!(
            scene.entries(&lost).await,
            ["started", "intent", "flow_run", "attempt", "finished"]
        );
    }
    assert_eq!(scene.instance.starts(), 4, "nothing was sent twice");
}

#[tokio::test]
async fn what_is_refused_fails_the_stage_in_clear_words_and_is_not_begun() {
    let scene = Scene::new().await;
    let flow = scene.instance.flow("Gone", responding());
    let workflow = scene
        .it
        .add_workflow(&scene.world, "Gone", json!([scene.stage(&flow, &json!({}))]))
        .await;
    for (change, words) in [
        ("disable", "disabled, or was never published"),
        ("delete", "has no such flow"),
    ] {
        if change == "disable" {
            scene.instance.disable(&flow);
        } else {
            scene.instance.delete(&flow);
        }
        let execution = scene.it.start(&scene.world, &workflow, json!({})).await;
        let ended = scene.world.finished(&execution, &scene.it.token).await;
        let message = ended["failure"]["message"].as_str().unwrap_or_default();
        assert!(message.contains(words), "{ended}");
        let runs = scene.ok(RUNS, json!({ "executionId": execution })).await;
        assert_eq!(runs["flowRuns"], json!([]));
    }
    assert_eq!(scene.instance.starts(), 0);
}

#[tokio::test]
async fn a_call_back_counts_once_whenever_it_comes_and_no_other_counts() {
    let scene = Scene::new().await;
    let flow = scene.instance.flow("Calls", calling_back());
    let stage = scene.stage(&flow, &json!({ "callsBack": true }));
    let workflow = scene.it.add_workflow(&scene.world, "Calls", json!([stage])).await;
    for calls_back in [CallBack::Early, CallBack::Thrice] {
        scene.instance.behave(
            &flow,
            Behaviour {
                calls_back,
                ..Behaviour::default()
            },
        );
        let execution = scene.it.start(&scene.world, &workflow, json!({})).await;
        let ended = scene.world.finished(&execution, &scene.it.token).await;
        assert_eq!(ended["outputs"]["flow"]["result"], json!({ "sum": 7.0 }), "{ended}");
    }
    scene.instance.behave(
        &flow,
        Behaviour {
            calls_back: CallBack::Failed,
            ..Behaviour::default()
        },
    );
    let failed = scene.it.start(&scene.world, &workflow, json!({})).await;
    let ended = scene.world.finished(&failed, &scene.it.token).await;
    assert_eq!(
        ended["failure"]["message"],
        "stage \"flow\": the branch of failures ran"
    );

    scene.instance.behave(
        &flow,
        Behaviour {
            runs: Duration::from_hours(1),
            ..Behaviour::default()
        },
    );
    let waiting = scene.it.start(&scene.world, &workflow, json!({})).await;
    scene.instance.until_starts(4).await;
    let bodies = scene.instance.bodies();
    let (first, last) = (&bodies[0], &bodies[3]);
    let mut forged = last.clone();
    let url = last["studios"]["callback_url"].as_str().unwrap().to_owned();
    let (head, tail) = url.split_at(url.len() - 8);
    forged["studios"]["callback_url"] = format!("{head}{}", tail.chars().rev().collect::<String>()).into();
    assert_eq!(scene.instance.call_back(&forged, &json!({})).await, 404);
    assert_eq!(
        scene.instance.call_back(first, &json!({ "output": "again" })).await,
        204,
        "it says well and changes nothing"
    );
    let others = json!({ "correlation_id": first["studios"]["correlation_id"] });
    assert_eq!(scene.instance.call_back(last, &others).await, 409);
    assert_eq!(
        scene
            .instance
            .call_back(last, &json!({ "output": "x".repeat(300 << 10) }))
            .await,
        413
    );
    let standing = scene.ok(GET, json!({ "id": waiting })).await;
    assert_eq!(standing["status"], "EXECUTION_STATUS_RUNNING");
    assert_eq!(
        scene.instance.call_back(last, &json!({ "output": "this one" })).await,
        204
    );
    let ended = scene.world.finished(&waiting, &scene.it.token).await;
    assert_eq!(ended["outputs"]["flow"]["result"], "this one");
    assert_eq!(scene.instance.call_back(last, &json!({ "output": "late" })).await, 204);
    assert_eq!(
        scene
            .entries(&waiting)
            .await
            .iter()
            .filter(|it| *it == "attempt")
            .count(),
        1
    );
}

#[tokio::test]
async fn an_internal_error_that_becomes_well_was_no_end_and_a_lost_call_back_is_found_by_asking() {
    let scene = Scene::new().await;
    let flow = scene.instance.flow("Tries again", calling_back());
    scene.instance.behave(
        &flow,
        Behaviour {
            ends: "INTERNAL_ERROR",
            becomes: Some((Duration::from_secs(18), "SUCCEEDED")),
            tags: true,
            ..Behaviour::default()
        },
    );
    let stage = scene.stage(&flow, &json!({ "callsBack": true, "tagsRun": true }));
    let execution = scene.started("Held", json!([stage]), json!({})).await;
    scene.instance.until_starts(1).await;
    // A call-back that does not come is asked after in a minute; time is moved, not waited for.
    let admin = scene.world.admin().await;
    let due = "update execution.flow_runs set look_at = now() where ended_at is null and look_at is not null";
    let asked = async {
        let mut states = Vec::new();
        loop {
            sqlx::query(due).execute(&admin).await.unwrap();
            let state: Option<String> = sqlx::query_scalar("select state from execution.flow_runs")
                .fetch_one(&admin)
                .await
                .unwrap();
            states.extend(state.filter(|it| states.last() != Some(it)));
            if states.last().is_some_and(|it| it == "SUCCEEDED") {
                return states;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let states = tokio::time::timeout(Duration::from_secs(50), asked).await.unwrap();
    assert_eq!(states, ["INTERNAL_ERROR", "SUCCEEDED"]);
    let ended = scene.world.finished(&execution, &scene.it.token).await;
    assert_eq!(ended["outputs"]["flow"]["result"], json!({ "sum": 7.0 }), "{ended}");
}

#[tokio::test]
async fn cancel_and_pause_reach_the_run_as_far_as_they_can_and_say_where_they_cannot() {
    let scene = Scene::new().await;
    let flow = scene.instance.flow("Waits", definition(&[]));
    let workflow = scene
        .it
        .add_workflow(&scene.world, "Waits", json!([scene.stage(&flow, &json!({}))]))
        .await;
    let begin = async |behaviour: Behaviour, state: &str| {
        scene.instance.behave(&flow, behaviour);
        let execution = scene.it.start(&scene.world, &workflow, json!({})).await;
        scene.until_run(&execution, state).await;
        execution
    };
    let notes = |answer: &Value| answer["notes"][0].as_str().unwrap_or_default().to_owned();

    let pauses = Behaviour {
        pauses: true,
        ..Behaviour::default()
    };
    let paused = begin(pauses, "PAUSED").await;
    let answer = scene.ok(CANCEL, json!({ "id": paused })).await;
    assert!(notes(&answer).contains("is asked to stop it"), "{answer}");
    let run = scene.until_run(&paused, "CANCELED").await;
    assert_eq!(run["cancel"], "FLOW_CANCEL_DONE", "{run}");
    assert_eq!(
        scene.world.finished(&paused, &scene.it.token).await["status"],
        "EXECUTION_STATUS_CANCELLED"
    );

    let long = Behaviour {
        runs: Duration::from_hours(1),
        ..Behaviour::default()
    };
    let running = begin(long, "RUNNING").await;
    let answer = scene.ok(CANCEL, json!({ "id": running })).await;
    assert!(notes(&answer).contains("it goes on"), "{answer}");
    let said = |it: &Value| it["flowRuns"][0]["cancel"] == "FLOW_CANCEL_NOT_POSSIBLE";
    scene
        .world
        .until(RUNS, json!({ "executionId": running }), &scene.it.token, said)
        .await;
    assert_eq!(scene.instance.run_states().last().map(String::as_str), Some("RUNNING"));

    let queued = Behaviour {
        queued: Duration::from_hours(1),
        tags: true,
        ..Behaviour::default()
    };
    let queued = begin(queued, "QUEUED").await;
    scene.ok(CANCEL, json!({ "id": queued })).await;
    scene
        .world
        .until(RUNS, json!({ "executionId": queued }), &scene.it.token, said)
        .await;

    let short = Behaviour {
        runs: Duration::from_secs(3),
        ..Behaviour::default()
    };
    let on_hold = begin(short, "RUNNING").await;
    let answer = scene.ok(PAUSE, json!({ "id": on_hold })).await;
    assert!(notes(&answer).contains("cannot pause it"), "{answer}");
    scene.until_run(&on_hold, "SUCCEEDED").await;
    let standing = scene.ok(GET, json!({ "id": on_hold })).await;
    assert_eq!(standing["status"], "EXECUTION_STATUS_PAUSED", "its end waits");
    scene.ok(RESUME, json!({ "id": on_hold })).await;
    let ended = scene.world.finished(&on_hold, &scene.it.token).await;
    assert_eq!(ended["outputs"]["flow"]["result"], json!({ "sum": 7.0 }), "{ended}");
}

#[tokio::test]
async fn a_start_that_nobody_can_find_is_told_by_a_person() {
    let scene = Scene::new().await;
    let flow = scene.instance.flow("Forgets", definition(&[]));
    scene.instance.behave(
        &flow,
        Behaviour {
            reaction: Reaction::Forgets,
            ..Behaviour::default()
        },
    );
    let mut stage = scene.stage(&flow, &json!({}));
    stage["timeout"] = json!("3s");
    let execution = scene.started("Forgets", json!([stage]), json!({})).await;
    let waits = |it: &Value| it["status"] == "EXECUTION_STATUS_PAUSED";
    let paused = scene
        .world
        .until(GET, json!({ "id": execution }), &scene.it.token, waits)
        .await;
    assert_eq!(paused["waiting"][0]["about"], "WAITING_ABOUT_OUTCOME", "{paused}");
    assert_eq!(
        scene.entries(&execution).await,
        ["started", "intent", "flow_run", "unknown"]
    );
    assert_eq!(scene.instance.starts(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_runs_that_wait_cost_neither_tasks_nor_connections_and_few_requests() {
    const RUNS: usize = 1_000;
    let scene = Scene::new().await;
    let flow = scene.instance.flow("Many", calling_back());
    scene.instance.behave(
        &flow,
        Behaviour {
            runs: Duration::from_hours(1),
            calls_back: CallBack::Once,
            ..Behaviour::default()
        },
    );
    let stage = scene.stage(&flow, &json!({ "callsBack": true }));
    let workflow = scene.it.add_workflow(&scene.world, "Many", json!([stage])).await;
    let begun = Instant::now();
    let starts = (0..RUNS).map(|n| scene.it.start(&scene.world, &workflow, json!({ "n": n })));
    let executions: Vec<String> =
        futures::StreamExt::collect(futures::StreamExt::buffered(futures::stream::iter(starts), 8)).await;
    assert_eq!(executions.len(), RUNS);
    let admin = scene.world.admin().await;
    let count = async |sql: &'static str| sqlx::query_scalar::<_, i64>(sql).fetch_one(&admin).await.unwrap();
    let given_back = async {
        while count("select count(*) from execution.runs where owner is null and stage = 'flow' and run_at > now()")
            .await
            < 1_000
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(2), given_back)
        .await
        .expect("nobody holds them");
    let all_wait = begun.elapsed();
    assert_eq!(scene.instance.starts(), RUNS);
    // As a minute later, when each of them is looked at for the first time: that is when they cost most.
    sqlx::query("update execution.flow_runs set look_at = now() + random() * interval '1 minute'")
        .execute(&admin)
        .await
        .unwrap();
    let window = Duration::from_secs(20);
    let since = Instant::now();
    tokio::time::sleep(window).await;
    let requests = scene.instance.requests_since(since, "");
    let rate = f64::from(u32::try_from(requests).unwrap()) / window.as_secs_f64();
    assert_eq!(
        count("select count(*) from execution.runs where owner is not null").await,
        0,
        "nobody holds them"
    );
    let ending = Instant::now();
    scene.instance.finish_all();
    // Asked of the database: one user may not ask about a thousand runs at once.
    let completed = async {
        while count("select count(*) from execution.executions where status = 'completed'").await < 1_000 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(2), completed)
        .await
        .expect("all have ended well");
    let (waited, ended) = (all_wait.as_secs_f64(), ending.elapsed().as_secs_f64());
    eprintln!(
        "{RUNS} runs wait after {waited:.1} s, cost {rate:.1} requests/s, and have ended {ended:.1} s after their flows"
    );
    assert!(rate < 20.0, "{rate} requests a second");
}
