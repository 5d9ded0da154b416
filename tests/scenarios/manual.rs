//! Outputs that wait for a person: the run is paused, somebody decides, and it goes on, whatever happens meanwhile.

use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use sqlx::PgPool;
use studios_tests::{
    call::Events,
    deployment::Deployment,
    journal,
    model::{Model, Reply},
    refusal::{assert_reason, fields},
    tenant::Tenant,
    world::{PATIENCE, World},
};
use tonic::Code;

const EXECUTIONS: &str = "studios.execution.v1.ExecutionService";
const PIER: &str = "The pier is lit at night. Ships report to the harbour office.";

/// A stage whose output a person decides.
fn draft(model: &str, prompt: &str) -> Value {
    json!({ "name": "draft", "llm": { "model": model, "prompt": prompt }, "validation": { "manual": {} } })
}

/// The decision on the first try of the stage `draft`.
fn decision(execution: &str, decision: &str, notes: &str) -> Value {
    json!({ "executionId": execution, "stage": "draft", "visit": 1, "attempt": 1,
        "decision": format!("DECISION_{decision}"), "notes": notes })
}

async fn paused(world: &World, it: &Tenant, execution: &str) -> Value {
    let is_paused = |it: &Value| it["status"] == "EXECUTION_STATUS_PAUSED";
    let body = json!({ "id": execution });
    world
        .until(&format!("{EXECUTIONS}/GetExecution"), body, &it.token, is_paused)
        .await
}

/// Starts a workflow and waits until a person has to decide.
async fn start_and_wait(world: &World, it: &Tenant, workflow: &str) -> String {
    let execution = it.start(world, workflow, json!({})).await;
    paused(world, it, &execution).await;
    execution
}

async fn decide(world: &World, it: &Tenant, body: Value) -> Value {
    world.ok(&format!("{EXECUTIONS}/DecideAttempt"), body, &it.token).await
}

async fn refused(world: &World, it: &Tenant, body: Value) -> tonic::Status {
    world
        .refused(&format!("{EXECUTIONS}/DecideAttempt"), body, &it.token)
        .await
}

async fn attempts(world: &World, it: &Tenant, execution: &str) -> Vec<Value> {
    let body = json!({ "executionId": execution });
    let page = world.ok(&format!("{EXECUTIONS}/ListAttempts"), body, &it.token).await;
    page["attempts"].as_array().unwrap().clone()
}

/// Every execution with how many decisions its journal has.
async fn decisions(admin: &PgPool) -> Vec<i64> {
    sqlx::query_scalar(
        "select count(j.seq) from execution.executions e
         left join execution.journal j on j.execution_id = e.id and j.kind = 'decision'
         group by e.id",
    )
    .fetch_all(admin)
    .await
    .unwrap()
}

/// What the next durable events say, up to a status.
async fn told(events: &mut Events, last: &str) -> Vec<String> {
    let mut told = Vec::new();
    let listening = async {
        loop {
            let event = events.next().await.unwrap().expect("the run goes on");
            if let Some(status) = event["statusChanged"]["status"].as_str() {
                told.push(status.trim_start_matches("EXECUTION_STATUS_").to_lowercase());
            } else if let Some(status) = event["attemptRecorded"]["attempt"]["status"].as_str() {
                told.push(format!(
                    "attempt {}",
                    status.trim_start_matches("ATTEMPT_STATUS_").to_lowercase()
                ));
            } else if let Some(decision) = event["attemptDecided"]["decision"].as_str() {
                told.push(format!(
                    "decided {}",
                    decision.trim_start_matches("DECISION_").to_lowercase()
                ));
            }
            if told.last().is_some_and(|it| it == last) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, listening)
        .await
        .expect("the event comes");
    told
}

#[tokio::test]
async fn an_output_that_a_person_lets_pass_is_used_by_the_stages_after_it() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let last = json!({ "name": "last", "llm": { "model": "offline", "prompt": "{{ stages.draft.output }} {{ stage_1.output }}" } });
    let workflow = it
        .add_workflow(&world, "Asks", json!([draft("offline", PIER), last]))
        .await;
    let execution = it.start(&world, &workflow, json!({})).await;
    let watch = format!("{EXECUTIONS}/WatchExecution");
    let mut events = world.stream(&watch, json!({ "id": execution }), &it.token).await;
    assert_eq!(
        told(&mut events, "paused").await,
        ["pending", "running", "attempt waiting", "paused"]
    );

    let waiting = paused(&world, &it, &execution).await;
    let key = json!({ "stage": "draft", "visit": 1, "item": 0, "attempt": 1 });
    assert_eq!(
        (&waiting["waitingFor"], &waiting["currentStage"]),
        (&key, &json!("draft"))
    );
    let list = format!("{EXECUTIONS}/ListExecutions");
    let body = json!({ "studioId": it.studio, "statuses": ["EXECUTION_STATUS_PAUSED"] });
    let listed = world.ok(&list, body.clone(), &it.token).await;
    assert_eq!(listed["executions"][0]["waitingFor"], key);
    let open = attempts(&world, &it, &execution).await.remove(0);
    assert_eq!(
        (&open["status"], &open["validationResult"], &open["decidedBy"]),
        (
            &json!("ATTEMPT_STATUS_WAITING"),
            &json!("VALIDATION_RESULT_PENDING"),
            &json!("")
        )
    );
    assert!(
        open["output"].as_str().unwrap().contains("pier"),
        "it can be read before it is decided"
    );

    let member = Tenant::user(&world).await;
    it.add_member(&world, &member, "ROLE_MEMBER").await;
    decide(&world, &member, decision(&execution, "PASS", "good enough")).await;
    assert_eq!(
        told(&mut events, "completed").await,
        ["decided pass", "running", "attempt succeeded", "completed"]
    );
    let ended = world.finished(&execution, &it.token).await;
    assert_eq!(ended["waitingFor"], Value::Null);
    let made = attempts(&world, &it, &execution).await;
    let decided = &made[0];
    assert_eq!(
        (
            &decided["status"],
            &decided["validationResult"],
            &decided["validationNotes"]
        ),
        (
            &json!("ATTEMPT_STATUS_SUCCEEDED"),
            &json!("VALIDATION_RESULT_PASS"),
            &json!("good enough")
        )
    );
    assert_eq!(decided["decidedBy"], member.user);
    assert!(decided["decideTime"].is_string(), "{decided}");
    let output = decided["output"].as_str().unwrap();
    assert!(made[1]["prompt"].as_str().unwrap().starts_with(output));
    assert_eq!(world.ok(&list, body, &it.token).await["executions"], json!([]));

    let mut again = world.stream(&watch, json!({ "id": execution }), &it.token).await;
    let all = told(&mut again, "completed").await;
    assert_eq!(
        all.join(", "),
        "pending, running, attempt waiting, paused, decided pass, running, attempt succeeded, completed",
        "told again as it was"
    );
    journal::verify(&world.admin().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_output_is_tried_again_with_the_persons_notes_in_the_prompt() {
    let model = Model::start(|n, _| Reply::text(&format!("text {n}"))).await;
    let deployment = Deployment::start(&[], &model.settings()).await;
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    it.add_stub_model(&world).await;
    let mut stage = draft("stub", "Write. {{ validation_notes }}");
    stage["retryLimit"] = json!(1);
    let workflow = it.add_workflow(&world, "Asks", json!([stage])).await;
    let execution = start_and_wait(&world, &it, &workflow).await;
    decide(&world, &it, decision(&execution, "FAIL", "Warmer, please.")).await;
    let body = json!({ "id": execution });
    let second = world
        .until(&format!("{EXECUTIONS}/GetExecution"), body, &it.token, |it| {
            it["waitingFor"]["attempt"] == 2
        })
        .await;
    assert_eq!(second["status"], "EXECUTION_STATUS_PAUSED");
    let asked: Vec<String> = model.calls().iter().map(ToString::to_string).collect();
    assert_eq!(asked.len(), 2);
    assert!(
        !asked[0].contains("Warmer") && asked[1].contains("Write. Warmer, please."),
        "{asked:?}"
    );
    let mut pass = decision(&execution, "PASS", "");
    pass["attempt"] = json!(2);
    decide(&world, &it, pass).await;
    let ended = world.finished(&execution, &it.token).await;
    assert_eq!(ended["outputs"], json!({ "draft": "text 1" }), "{ended}");
    let made = attempts(&world, &it, &execution).await;
    assert_eq!(
        (
            &made[0]["status"],
            &made[0]["failure"]["class"],
            &made[0]["validationNotes"]
        ),
        (
            &json!("ATTEMPT_STATUS_FAILED"),
            &json!("FAILURE_CLASS_VALIDATION"),
            &json!("Warmer, please.")
        )
    );
    assert_eq!(made[1]["prompt"], "Write. Warmer, please.");
    journal::verify(&world.admin().await).await;
}

#[tokio::test]
async fn a_run_whose_output_is_refused_goes_where_its_stage_says_or_fails() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let mut elsewhere = draft("offline", PIER);
    elsewhere["nextOnFail"] = json!("sorry");
    let sorry = json!({ "name": "sorry", "llm": { "model": "offline", "prompt": PIER } });
    let routed = it.add_workflow(&world, "Routes", json!([elsewhere, sorry])).await;
    let execution = start_and_wait(&world, &it, &routed).await;
    decide(&world, &it, decision(&execution, "FAIL", "")).await;
    let ended = world.finished(&execution, &it.token).await;
    assert!(ended["outputs"]["sorry"].is_string(), "{ended}");

    let alone = it.add_workflow(&world, "Fails", json!([draft("offline", PIER)])).await;
    let execution = start_and_wait(&world, &it, &alone).await;
    decide(&world, &it, decision(&execution, "FAIL", "not like this")).await;
    let ended = world.finished(&execution, &it.token).await;
    assert_eq!(
        (&ended["status"], &ended["failure"]["class"]),
        (&json!("EXECUTION_STATUS_FAILED"), &json!("FAILURE_CLASS_VALIDATION"))
    );
    assert!(
        ended["failure"]["message"].as_str().unwrap().ends_with("not like this"),
        "{ended}"
    );
    let made = attempts(&world, &it, &execution).await;
    assert_eq!(made[0]["validationResult"], "VALIDATION_RESULT_FAIL");
}

#[tokio::test]
async fn of_many_who_decide_at_once_one_does_and_the_others_are_told() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let workflow = it.add_workflow(&world, "Asks", json!([draft("offline", PIER)])).await;
    let execution = start_and_wait(&world, &it, &workflow).await;
    let method = format!("{EXECUTIONS}/DecideAttempt");
    let deciding = (0..16).map(|n| {
        let body = decision(
            &execution,
            if n % 2 == 0 { "PASS" } else { "FAIL" },
            &format!("by number {n}"),
        );
        world.call(&method, body, Some(&it.token))
    });
    let answers = join_all(deciding).await;
    let (won, told): (Vec<_>, Vec<_>) = answers.into_iter().enumerate().partition(|(_, it)| it.is_ok());
    assert_eq!(won.len(), 1);
    for (_, status) in told {
        let status = status.unwrap_err();
        // Who comes after the run has ended on it is told that.
        if status.message() != "the execution has ended" {
            assert_reason(&status, Code::FailedPrecondition, "ATTEMPT_DECIDED");
        }
    }
    world.finished(&execution, &it.token).await;
    let decided = attempts(&world, &it, &execution).await.remove(0);
    assert_eq!(
        decided["validationNotes"],
        format!("by number {}", won[0].0),
        "who was told so decided"
    );
    assert_eq!(decisions(&world.admin().await).await, [1]);
}

#[tokio::test]
async fn what_does_not_wait_is_not_decided() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let stranger = Tenant::with_studio(&world).await;
    let plain = json!({ "name": "plain", "llm": { "model": "offline", "prompt": PIER } });
    let mut loops = draft("offline", PIER);
    loops["nextOnPass"] = json!("end");
    let workflow = it.add_workflow(&world, "Asks", json!([plain, loops])).await;
    let execution = start_and_wait(&world, &it, &workflow).await;
    let pass = decision(&execution, "PASS", "");

    let foreign = refused(&world, &stranger, pass.clone()).await;
    assert_eq!(foreign.code(), Code::NotFound);
    let unheard = json!({ "executionId": "01900000-0000-7000-8000-00000000dead", "stage": "draft", "visit": 1, "attempt": 1,
        "decision": "DECISION_PASS" });
    assert_eq!(refused(&world, &it, unheard).await.code(), Code::NotFound);
    for (field, value) in [
        ("stage", json!("other")),
        ("visit", json!(2)),
        ("item", json!(1)),
        ("attempt", json!(2)),
    ] {
        let mut none = pass.clone();
        none[field] = value;
        let status = refused(&world, &it, none).await;
        assert_eq!(status.code(), Code::NotFound, "{field}");
        assert!(status.message().contains("attempt"), "{status:?}");
    }
    let mut passed = pass.clone();
    passed["stage"] = json!("plain");
    let status = refused(&world, &it, passed).await;
    assert_reason(&status, Code::FailedPrecondition, "ATTEMPT_DECIDED");
    let mut wrong = decision(&execution, "PASS", &"n".repeat(2_001));
    wrong["decision"] = json!("DECISION_UNSPECIFIED");
    assert_eq!(fields(&refused(&world, &it, wrong).await), ["decision", "notes"]);
    assert_eq!(
        paused(&world, &it, &execution).await["waitingFor"]["stage"],
        "draft",
        "nothing was decided"
    );

    let mut keyed = pass.clone();
    keyed["requestId"] = json!(uuid::Uuid::now_v7().to_string());
    decide(&world, &it, keyed.clone()).await;
    world.finished(&execution, &it.token).await;
    let again = decide(&world, &it, keyed.clone()).await;
    assert_eq!(again["id"], execution, "the same request is answered again");
    keyed["notes"] = json!("something else");
    assert_eq!(fields(&refused(&world, &it, keyed).await), ["request_id"]);
    let status = refused(&world, &it, pass).await;
    assert_reason(&status, Code::FailedPrecondition, "EXECUTION_ENDED");
    assert_eq!(decisions(&world.admin().await).await, [1]);
}

#[tokio::test]
async fn a_run_that_waits_for_a_person_can_be_cancelled() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let workflow = it.add_workflow(&world, "Asks", json!([draft("offline", PIER)])).await;
    let execution = start_and_wait(&world, &it, &workflow).await;
    let cancel = json!({ "id": execution, "reason": "enough" });
    world
        .ok(&format!("{EXECUTIONS}/CancelExecution"), cancel, &it.token)
        .await;
    let ended = world.finished(&execution, &it.token).await;
    assert_eq!(
        (&ended["status"], &ended["waitingFor"]),
        (&json!("EXECUTION_STATUS_CANCELLED"), &Value::Null)
    );
    let open = attempts(&world, &it, &execution).await.remove(0);
    assert_eq!(open["validationResult"], "VALIDATION_RESULT_PENDING", "nobody decided");
    let status = refused(&world, &it, decision(&execution, "PASS", "")).await;
    assert_reason(&status, Code::FailedPrecondition, "EXECUTION_ENDED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_run_is_held_by_nobody_survives_a_restart_and_is_decided_on_another_replica() {
    let one_at_a_time = [("STUDIOS_EXECUTION_MAX_RUNNING", "1".to_owned())];
    let mut deployment = Deployment::start(&[], &one_at_a_time).await;
    let world = deployment.world().await;
    let admin = world.admin().await;
    let it = Tenant::with_studio(&world).await;
    let workflow = it.add_workflow(&world, "Asks", json!([draft("offline", PIER)])).await;
    let plain = json!({ "name": "plain", "llm": { "model": "offline", "prompt": PIER } });
    let busy = it.add_workflow(&world, "Busy", json!([plain])).await;
    let execution = start_and_wait(&world, &it, &workflow).await;
    let held: (bool, bool) = sqlx::query_as("select owner is not null, run_at < 'infinity' from execution.runs")
        .fetch_one(&admin)
        .await
        .unwrap();
    assert_eq!(held, (false, false));
    let other = it.start(&world, &busy, json!({})).await;
    assert_eq!(
        world.finished(&other, &it.token).await["status"],
        "EXECUTION_STATUS_COMPLETED"
    );

    deployment.crash_execution();
    let replica = deployment.another_execution();
    let world = world.moved(&replica.url());
    assert_eq!(paused(&world, &it, &execution).await["waitingFor"]["stage"], "draft");
    decide(&world, &it, decision(&execution, "PASS", "")).await;
    let ended = world.finished(&execution, &it.token).await;
    assert_eq!(ended["status"], "EXECUTION_STATUS_COMPLETED", "{ended}");
    journal::verify(&admin).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_is_one_entry_though_whoever_took_it_is_killed() {
    const RUNS: usize = 24;
    let mut deployment = Deployment::start(&[], &[]).await;
    let world = deployment.world().await;
    let admin = world.admin().await;
    let it = Tenant::with_studio(&world).await;
    let last = json!({ "name": "last", "llm": { "model": "offline", "prompt": "{{ stage_1.output }}" } });
    let workflow = it
        .add_workflow(&world, "Asks", json!([draft("offline", PIER), last]))
        .await;
    let waiting = join_all((0..RUNS).map(|_| start_and_wait(&world, &it, &workflow))).await;
    // No entry can be written until this lets go: all decisions are taken and none is recorded when the holder dies. What it sent
    // may still be done after that.
    let mut hindered = admin.begin().await.unwrap();
    sqlx::query("lock table execution.journal in share mode")
        .execute(&mut *hindered)
        .await
        .unwrap();
    join_all(waiting.iter().map(|id| decide(&world, &it, decision(id, "PASS", "")))).await;
    let taken = async {
        loop {
            let held: i64 = sqlx::query_scalar("select count(owner) from execution.runs")
                .fetch_one(&admin)
                .await
                .unwrap();
            if usize::try_from(held) == Ok(RUNS) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, taken)
        .await
        .expect("every decision finds a holder");
    deployment.lose_execution().await;
    hindered.rollback().await.unwrap();
    let world = world.moved(&deployment.execution_url());
    for execution in &waiting {
        let ended = world.finished(execution, &it.token).await;
        assert_eq!(ended["status"], "EXECUTION_STATUS_COMPLETED", "{ended}");
    }
    assert_eq!(decisions(&admin).await, [1; RUNS]);
    journal::verify(&admin).await;
}
