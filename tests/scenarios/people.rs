//! What people decide together: who may, how many must, in which form, in whose place, and what happens if nobody does.

use serde_json::{Value, json};
use studios_tests::{
    journal,
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

/// A stage that asks people.
fn asks(policy: &Value) -> Value {
    json!({ "name": "ask", "approval": { "question": "Shall it go out?", "policy": policy } })
}

fn decision(execution: &str, how: &str) -> Value {
    json!({ "executionId": execution, "stage": "ask", "visit": 1, "attempt": 1, "decision": format!("DECISION_{how}") })
}

async fn decide(world: &World, it: &Tenant, body: Value) -> Value {
    world.ok(&method("DecideAttempt"), body, &it.token).await
}

async fn refused(world: &World, it: &Tenant, body: Value) -> tonic::Status {
    world.refused(&method("DecideAttempt"), body, &it.token).await
}

/// The execution once it waits for people, so many of whom have decided.
async fn waiting(world: &World, it: &Tenant, execution: &str, approved: i64) -> Value {
    let is = |it: &Value| it["waiting"][0]["approved"] == approved;
    world
        .until(&method("GetExecution"), json!({ "id": execution }), &it.token, is)
        .await
}

/// Starts a run of one stage that asks people, and one after it, and waits until it asks.
async fn start(world: &World, it: &Tenant, policy: Value) -> String {
    let name = format!("Asks {}", Uuid::now_v7());
    let last = json!({ "name": "last", "llm": { "model": "offline", "prompt": PIER } });
    let workflow = it.add_workflow(world, &name, json!([asks(&policy), last])).await;
    let execution = it.start(world, &workflow, json!({})).await;
    waiting(world, it, &execution, 0).await;
    execution
}

async fn member(world: &World, it: &Tenant) -> Tenant {
    let member = Tenant::user(world).await;
    it.add_member(world, &member, "ROLE_MEMBER").await;
    member
}

async fn attempts(world: &World, it: &Tenant, execution: &str) -> Vec<Value> {
    let body = json!({ "executionId": execution });
    let page = world.ok(&method("ListAttempts"), body, &it.token).await;
    page["attempts"].as_array().unwrap().clone()
}

#[tokio::test]
async fn as_many_as_must_decide_and_each_of_those_who_are_asked_once() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let (ada, bob, eve) = (
        member(&world, &it).await,
        member(&world, &it).await,
        member(&world, &it).await,
    );
    let policy = json!({ "approvers": { "userIds": [ada.user, bob.user] }, "required": 2 });
    let execution = start(&world, &it, policy).await;
    let seen = waiting(&world, &ada, &execution, 0).await;
    let open = &seen["waiting"][0];
    assert_eq!(
        (&open["about"], &open["question"], &open["required"], &open["mayDecide"]),
        (
            &json!("WAITING_ABOUT_QUESTION"),
            &json!("Shall it go out?"),
            &json!(2),
            &json!(true)
        )
    );
    assert_eq!(
        waiting(&world, &eve, &execution, 0).await["waiting"][0]["mayDecide"],
        false
    );
    let denied = refused(&world, &eve, decision(&execution, "PASS")).await;
    assert_reason(&denied, Code::PermissionDenied, "NOT_ASKED");

    decide(&world, &ada, decision(&execution, "PASS")).await;
    let twice = refused(&world, &ada, decision(&execution, "PASS")).await;
    assert_reason(&twice, Code::FailedPrecondition, "ALREADY_DECIDED");
    let half = waiting(&world, &ada, &execution, 1).await;
    assert_eq!(
        (&half["status"], &half["waiting"][0]["mayDecide"]),
        (&json!("EXECUTION_STATUS_PAUSED"), &json!(false))
    );
    decide(&world, &bob, decision(&execution, "PASS")).await;
    let ended = world.finished(&execution, &it.token).await;
    assert_eq!(
        (&ended["status"], &ended["waiting"]),
        (&json!("EXECUTION_STATUS_COMPLETED"), &json!([]))
    );
    let asked = attempts(&world, &it, &execution).await.remove(0);
    let by: Vec<&Value> = asked["decisions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["decidedBy"])
        .collect();
    assert_eq!(by, [&json!(ada.user), &json!(bob.user)]);
    assert_eq!(
        (&asked["decidedBy"], &asked["status"]),
        (&json!(bob.user), &json!("ATTEMPT_STATUS_SUCCEEDED"))
    );
    let events = world
        .stream(&method("WatchExecution"), json!({ "id": execution }), &it.token)
        .await
        .rest()
        .await
        .unwrap();
    let told: Vec<String> = events
        .iter()
        .filter_map(|it| {
            let status = it["statusChanged"]["status"].as_str();
            let decided = it["attemptDecided"]["decision"].as_str();
            status.or(decided).map(str::to_owned)
        })
        .collect();
    assert_eq!(
        told,
        [
            "EXECUTION_STATUS_PENDING",
            "EXECUTION_STATUS_RUNNING",
            "EXECUTION_STATUS_PAUSED",
            "DECISION_PASS",
            "DECISION_PASS",
            "EXECUTION_STATUS_RUNNING",
            "EXECUTION_STATUS_COMPLETED"
        ],
        "it rests until the last one has decided"
    );

    let execution = start(&world, &it, json!({ "required": 2 })).await;
    decide(&world, &bob, decision(&execution, "PASS")).await;
    decide(&world, &eve, decision(&execution, "FAIL")).await;
    let ended = world.finished(&execution, &it.token).await;
    assert_eq!(ended["status"], "EXECUTION_STATUS_FAILED", "the first refusal decides");
    journal::verify(&world.admin().await).await;
}

#[tokio::test]
async fn who_started_a_run_may_not_decide_it_where_the_policy_says_so() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let ada = member(&world, &it).await;
    let execution = start(&world, &it, json!({ "notOwnRun": true })).await;
    assert_eq!(
        waiting(&world, &it, &execution, 0).await["waiting"][0]["mayDecide"],
        false
    );
    let own = refused(&world, &it, decision(&execution, "PASS")).await;
    assert_reason(&own, Code::PermissionDenied, "OWN_RUN");
    decide(&world, &ada, decision(&execution, "PASS")).await;
    world.finished(&execution, &it.token).await;
}

#[tokio::test]
async fn a_form_is_filled_in_and_an_output_edited_as_the_stage_wants_them() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let form = json!({ "type": "object", "required": ["grade"], "properties": { "grade": { "type": "integer" } } });
    let execution = start(&world, &it, json!({ "form": form })).await;
    let with = |field: &str, value: Value| {
        let mut body = decision(&execution, "PASS");
        body[field] = value;
        body
    };
    assert_eq!(
        fields(&refused(&world, &it, decision(&execution, "PASS")).await),
        ["form"]
    );
    let wrong = with("form", json!({ "grade": "good" }));
    assert_eq!(fields(&refused(&world, &it, wrong).await), ["form.grade"]);
    assert_eq!(
        fields(&refused(&world, &it, with("output", json!(1))).await),
        ["output"]
    );
    let mut again = with("form", json!({ "grade": 1 }));
    again["decision"] = json!("DECISION_AGAIN");
    assert_eq!(fields(&refused(&world, &it, again).await), ["decision"]);
    decide(&world, &it, with("form", json!({ "grade": 1 }))).await;
    world.finished(&execution, &it.token).await;
    let asked = attempts(&world, &it, &execution).await.remove(0);
    assert_eq!(asked["decisions"][0]["form"], json!({ "grade": 1.0 }));

    let draft = json!({ "name": "ask", "llm": { "model": "offline", "prompt": PIER },
        "validation": { "manual": { "policy": { "mayEdit": true } } } });
    let last = json!({ "name": "last", "llm": { "model": "offline", "prompt": "{{ stage_1.output }}" } });
    let workflow = it.add_workflow(&world, "Edits", json!([draft, last])).await;
    let execution = it.start(&world, &workflow, json!({})).await;
    waiting(&world, &it, &execution, 0).await;
    let mut edited = decision(&execution, "PASS");
    edited["output"] = json!("Open fire is forbidden.");
    let mut refuses = edited.clone();
    refuses["decision"] = json!("DECISION_FAIL");
    assert_eq!(fields(&refused(&world, &it, refuses).await), ["output"]);
    decide(&world, &it, edited).await;
    world.finished(&execution, &it.token).await;
    let made = attempts(&world, &it, &execution).await;
    assert_eq!(
        (
            &made[0]["output"],
            &made[0]["decisions"][0]["edited"],
            &made[1]["prompt"]
        ),
        (
            &json!("Open fire is forbidden."),
            &json!(true),
            &json!("Open fire is forbidden.")
        )
    );
    assert!(
        made[0]["rawOutput"].as_str().unwrap().contains("pier"),
        "the answer stays as it came"
    );
    journal::verify(&world.admin().await).await;
}

#[tokio::test]
async fn a_decision_is_left_to_somebody_else_who_then_decides_in_ones_place() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let (ada, bob) = (member(&world, &it).await, member(&world, &it).await);
    let stranger = Tenant::with_studio(&world).await;
    let delegate = |execution: &str, to: &str| json!({ "executionId": execution, "attempt": { "stage": "ask", "visit": 1, "attempt": 1 }, "toUserId": to, "requestId": Uuid::now_v7().to_string() });
    let leave = method("DelegateDecision");
    let policy = json!({ "approvers": { "userIds": [ada.user] }, "mayDelegate": true });
    let execution = start(&world, &it, policy).await;
    for nobody in [&ada.user, &stranger.user] {
        let status = world.refused(&leave, delegate(&execution, nobody), &ada.token).await;
        assert_eq!(fields(&status), ["to_user_id"]);
    }
    let denied = world.refused(&leave, delegate(&execution, &ada.user), &bob.token).await;
    assert_reason(&denied, Code::PermissionDenied, "NOT_ASKED");
    let keyed = delegate(&execution, &bob.user);
    for _ in 0..2 {
        world.ok(&leave, keyed.clone(), &ada.token).await;
    }
    let left = refused(&world, &ada, decision(&execution, "PASS")).await;
    assert_reason(&left, Code::FailedPrecondition, "DELEGATED");
    let may = |it: &Value| it["waiting"][0]["mayDecide"] == true;
    world
        .until(&method("GetExecution"), json!({ "id": execution }), &bob.token, may)
        .await;
    decide(&world, &bob, decision(&execution, "PASS")).await;
    world.finished(&execution, &it.token).await;

    let execution = start(&world, &it, json!({})).await;
    let not = world.refused(&leave, delegate(&execution, &bob.user), &ada.token).await;
    assert_reason(&not, Code::FailedPrecondition, "NOT_DELEGABLE");
    journal::verify(&world.admin().await).await;
}

#[tokio::test]
async fn what_waits_is_found_over_all_studios_that_one_reaches_longest_waiting_first() {
    let world = World::start().await;
    let mut it = Tenant::with_studio(&world).await;
    let stranger = Tenant::with_studio(&world).await;
    let ada = member(&world, &it).await;
    let first = start(&world, &it, json!({ "approvers": { "role": "APPROVER_ROLE_ADMIN" } })).await;
    let studio = json!({ "studio": { "companyId": it.company, "name": "Second", "businessArea": "BUSINESS_AREA_HR" } });
    let studio = world
        .ok("studios.core.v1.StudioService/CreateStudio", studio, &it.token)
        .await;
    let (here, there) = (it.studio.clone(), studio["id"].as_str().unwrap().to_owned());
    it.studio = there.clone();
    let second = start(&world, &it, json!({})).await;
    it.studio = here.clone();
    let third = start(&world, &it, json!({})).await;

    let list = method("ListWaiting");
    let found = async |who: &Tenant, more: Value| {
        let mut body = json!({ "companyId": it.company });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let page = world.ok(&list, body, &who.token).await;
        let waiting = page["waiting"].as_array().unwrap().clone();
        let ids: Vec<String> = waiting
            .iter()
            .map(|it| it["executionId"].as_str().unwrap().to_owned())
            .collect();
        (ids, page["nextPageToken"].as_str().unwrap().to_owned())
    };
    assert_eq!(found(&it, json!({})).await.0, [&*first, &second, &third]);
    assert_eq!(
        found(&ada, json!({})).await.0,
        [&*second, &third],
        "an admin alone may decide the first"
    );
    assert_eq!(found(&ada, json!({ "all": true })).await.0, [&*first, &second, &third]);
    assert_eq!(found(&ada, json!({ "studioId": there })).await.0, [&*second]);
    let (page, token) = found(&it, json!({ "pageSize": 2 })).await;
    assert_eq!(page, [&*first, &second]);
    let (page, token) = found(&it, json!({ "pageSize": 2, "pageToken": token })).await;
    assert_eq!((page, token), (vec![third.clone()], String::new()));

    world
        .ok(
            "studios.core.v1.StudioService/DeleteStudio",
            json!({ "id": there }),
            &it.token,
        )
        .await;
    // It is felt within a second, and the page fills all the same.
    let page = json!({ "companyId": it.company, "pageSize": 2 });
    let fills = |page: &Value| page["waiting"][1]["executionId"] == third.as_str();
    let page = world.until(&list, page, &it.token, fills).await;
    assert_eq!(page["waiting"][0]["executionId"], first.as_str());
    let foreign = world
        .refused(&list, json!({ "companyId": it.company }), &stranger.token)
        .await;
    assert_eq!(foreign.code(), Code::NotFound);
    let foreign = json!({ "companyId": it.company, "studioId": stranger.studio });
    assert_eq!(world.refused(&list, foreign, &it.token).await.code(), Code::NotFound);
    let wrong = json!({ "companyId": "c", "studioId": "s" });
    assert_eq!(
        fields(&world.refused(&list, wrong, &it.token).await),
        ["company_id", "studio_id"]
    );
    decide(&world, &it, decision(&first, "PASS")).await;
    let gone = |it: &Value| it["waiting"].as_array().unwrap().len() == 1;
    world
        .until(&list, json!({ "companyId": it.company }), &it.token, gone)
        .await;
}

#[tokio::test]
async fn what_nobody_decides_in_time_takes_its_own_way_and_is_told_before() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let ada = member(&world, &it).await;
    let policy = json!({ "approvers": { "userIds": [ada.user] }, "expiresAfter": "3s", "nextOnExpiry": "end",
        "remindAfter": "1s", "escalateAfter": "2s", "escalateTo": { "role": "APPROVER_ROLE_ADMIN" } });
    let execution = start(&world, &it, policy).await;
    assert_eq!(
        waiting(&world, &it, &execution, 0).await["waiting"][0]["mayDecide"],
        false
    );
    let escalated = |it: &Value| it["waiting"][0]["escalated"] == true || !it["endTime"].is_null();
    let body = json!({ "id": execution });
    let now = world
        .until(&method("GetExecution"), body.clone(), &it.token, escalated)
        .await;
    if now["endTime"].is_null() {
        assert_eq!(now["waiting"][0]["mayDecide"], true, "an admin may too by now");
    }
    let ended = world.finished(&execution, &it.token).await;
    assert_eq!(ended["status"], "EXECUTION_STATUS_COMPLETED", "{ended}");
    let asked = attempts(&world, &it, &execution).await.remove(0);
    assert_eq!(
        (&asked["status"], &asked["failure"]["class"]),
        (&json!("ATTEMPT_STATUS_FAILED"), &json!("FAILURE_CLASS_TIMEOUT"))
    );
    let events = world
        .stream(&method("WatchExecution"), body, &it.token)
        .await
        .rest()
        .await
        .unwrap();
    let place = |field: &str| events.iter().position(|event| !event[field].is_null()).unwrap();
    assert!(place("decisionReminded") < place("decisionEscalated"), "{events:?}");
    assert!(place("decisionEscalated") < place("decisionExpired"), "{events:?}");
    journal::verify(&world.admin().await).await;
}
