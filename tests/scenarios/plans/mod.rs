//! Learning plans: whole or not there, three attempts, shown while they are written, and nobody else's.

mod reaching;
mod writing;

use serde_json::{Value, json};
use studios_tests::{
    deployment::Deployment,
    model::{Model, Reply},
    refusal::{assert_reason, fields},
    tenant::{Tenant, id},
    world::World,
};
use tonic::Code;
use uuid::Uuid;

const PLANS: &str = "studios.execution.v1.PlanService";
const CANARY: &str = "zanzibar-canary-5521";

async fn call(world: &World, it: &Tenant, method: &str, body: Value) -> Value {
    world.ok(&format!("{PLANS}/{method}"), body, &it.token).await
}

async fn refused(world: &World, it: &Tenant, method: &str, body: Value) -> tonic::Status {
    world.refused(&format!("{PLANS}/{method}"), body, &it.token).await
}

fn wish(model: &str) -> Value {
    json!({ "topic": format!("Knots {CANARY}"), "notes": format!("bowline, {CANARY}"), "weeklyHours": 2, "model": model })
}

async fn create(world: &World, it: &Tenant, model: &str) -> String {
    let body = json!({ "studioId": it.studio, "wish": wish(model) });
    id(&call(world, it, "CreatePlan", body).await)
}

/// Waits until nothing is written of a plan, and returns it.
async fn settled(world: &World, it: &Tenant, plan: &str) -> Value {
    let body = json!({ "id": plan });
    world
        .until(&format!("{PLANS}/GetPlan"), body, &it.token, |it| {
            it["generating"] == false
        })
        .await
}

async fn attempts(world: &World, it: &Tenant, plan: &str) -> Vec<Value> {
    let listed = call(world, it, "ListPlanAttempts", json!({ "planId": plan })).await;
    listed["attempts"].as_array().unwrap().clone()
}

fn module(title: &str) -> Value {
    json!({ "title": title, "estimated_minutes": 30, "tasks": [{ "title": "Tie it", "estimated_minutes": 30 }] })
}

/// An answer with these modules.
fn answer(titles: &[&str]) -> String {
    let modules: Vec<Value> = titles.iter().map(|it| module(it)).collect();
    json!({ "modules": modules }).to_string()
}

/// A deployment with a model that answers so, and a tenant.
async fn with_model(
    script: impl Fn(usize, &Value) -> Reply + Send + Sync + 'static,
) -> (Model, Deployment, World, Tenant) {
    let model = Model::start(script).await;
    let deployment = Deployment::start(&[], &model.settings()).await;
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    it.add_stub_model(&world).await;
    (model, deployment, world, it)
}

fn titles(plan: &Value) -> Vec<&str> {
    let modules = plan["modules"].as_array().unwrap();
    modules.iter().map(|it| it["title"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_plan_is_pending_at_once_and_then_whole() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let long = json!({ "studioId": it.studio, "wish": { "topic": format!("Knots{}", "ß".repeat(300)), "notes": "🦀".repeat(2_100),
        "weeklyHours": 2, "skillLevel": "SKILL_LEVEL_ADVANCED" } });
    let made = call(&world, &it, "CreatePlan", long).await;
    assert_eq!(
        (&made["status"], &made["generating"], &made["attemptsLeft"]),
        (&json!("PLAN_STATUS_PENDING"), &json!(true), &json!(2))
    );
    assert_eq!(
        made["truncation"],
        json!({ "topicTruncated": true, "topicOriginalLength": 305, "notesTruncated": true, "notesOriginalLength": 2_100 })
    );
    assert_eq!(made["wish"]["topic"].as_str().unwrap().chars().count(), 200);
    let plan = settled(&world, &it, made["id"].as_str().unwrap()).await;
    assert_eq!(plan["status"], "PLAN_STATUS_READY");
    for (at, module) in plan["modules"].as_array().unwrap().iter().enumerate() {
        assert_eq!(module["number"], at + 1);
        for (at, task) in module["tasks"].as_array().unwrap().iter().enumerate() {
            assert_eq!(task["number"], at + 1);
        }
    }
    let attempts = attempts(&world, &it, &id(&plan)).await;
    let [attempt] = attempts.as_slice() else {
        panic!("{attempts:?}")
    };
    assert_eq!(
        (&attempt["succeeded"], &attempt["classification"], &attempt["model"]),
        (&json!(true), &json!(""), &json!("offline"))
    );
    assert_eq!(attempt["truncation"], plan["truncation"]);
    assert_eq!(attempt["promptSha256"].as_str().unwrap().len(), 64);
    assert_eq!(attempt["modulesCount"], titles(&plan).len());
}

#[tokio::test]
async fn a_repeated_request_makes_one_plan_and_what_is_wrong_makes_none() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let body = json!({ "studioId": it.studio, "wish": wish(""), "requestId": Uuid::now_v7().to_string() });
    let first = call(&world, &it, "CreatePlan", body.clone()).await;
    assert_eq!(id(&call(&world, &it, "CreatePlan", body).await), id(&first));
    let wrong = json!({ "studioId": it.studio, "wish": { "topic": "Knots", "weeklyHours": 2, "model": "none", "fallbackModel": "no" } });
    let status = refused(&world, &it, "CreatePlan", wrong).await;
    assert_eq!(fields(&status), ["wish.fallback_model", "wish.model"]);
    let wrong = json!({ "studioId": it.studio, "wish": { "topic": " ", "weeklyHours": 0 } });
    assert_eq!(
        fields(&refused(&world, &it, "CreatePlan", wrong).await),
        ["wish.topic", "wish.weekly_hours"]
    );
    let listed = call(&world, &it, "ListPlans", json!({ "studioId": it.studio })).await;
    assert_eq!(listed["plans"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regenerating_makes_another_version_with_its_own_cap_and_keeps_the_old_one() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let plan = create(&world, &it, "").await;
    let old = settled(&world, &it, &plan).await;
    assert_reason(
        &refused(&world, &it, "RetryPlan", json!({ "id": plan })).await,
        Code::FailedPrecondition,
        "PLAN_READY",
    );
    call(
        &world,
        &it,
        "MarkPlanTask",
        json!({ "planId": plan, "module": 1, "task": 1, "done": true }),
    )
    .await;
    let mut other = wish("");
    other["notes"] = json!("splices");
    let body = json!({ "id": plan, "wish": other, "requestId": Uuid::now_v7().to_string() });
    let begun = call(&world, &it, "RegeneratePlan", body.clone()).await;
    assert_eq!(
        (&begun["version"], &begun["status"], &begun["attempts"]),
        (&json!(2), &json!("PLAN_STATUS_PENDING"), &json!(1))
    );
    settled(&world, &it, &plan).await;
    let again = call(&world, &it, "RegeneratePlan", body).await;
    assert_eq!(again["version"], 2, "the same request makes one version");
    let new = settled(&world, &it, &plan).await;
    assert!(titles(&new).contains(&"splices") && !titles(&old).contains(&"splices"));
    assert_eq!(new["progress"]["done"], 0);
    let kept = call(&world, &it, "GetPlan", json!({ "id": plan, "version": 1 })).await;
    assert_eq!((titles(&kept), &kept["progress"]["done"]), (titles(&old), &json!(1)));
    for _ in 0..9 {
        call(&world, &it, "RegeneratePlan", json!({ "id": plan })).await;
        settled(&world, &it, &plan).await;
    }
    assert_reason(
        &refused(&world, &it, "RegeneratePlan", json!({ "id": plan })).await,
        Code::ResourceExhausted,
        "REGENERATION_LIMIT",
    );
    let attempts = attempts(&world, &it, &plan).await;
    assert_eq!((attempts.len(), &attempts[0]["version"]), (11, &json!(11)));
}

#[tokio::test]
async fn tasks_are_marked_and_the_percentage_follows() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let body = json!({ "studioId": it.studio, "wish": { "topic": "Knots", "weeklyHours": 1 }, "origin": "PLAN_ORIGIN_MANUAL",
        "visibility": "PLAN_VISIBILITY_PUBLIC", "modules": [
            { "title": "One", "estimatedMinutes": 900, "tasks": [
                { "title": "Tie it", "estimatedMinutes": 30 }, { "title": "Untie it", "estimatedMinutes": 1 }] },
            { "title": "Two", "estimatedMinutes": 30, "tasks": [{ "title": "Splice it", "estimatedMinutes": 30 }] }] });
    let made = call(&world, &it, "CreatePlan", body).await;
    let plan = id(&made);
    assert_eq!(
        (
            &made["status"],
            &made["generating"],
            &made["attempts"],
            &made["attemptsLeft"]
        ),
        (&json!("PLAN_STATUS_READY"), &json!(false), &json!(0), &json!(0))
    );
    assert_eq!(
        (
            &made["modules"][0]["estimatedMinutes"],
            &made["modules"][0]["tasks"][1]["estimatedMinutes"]
        ),
        (&json!(480), &json!(5))
    );
    let mark =
        |module: i32, task: i32, done: bool| json!({ "planId": plan, "module": module, "task": task, "done": done });
    for (asked, percent) in [
        (mark(1, 1, true), 33),
        (mark(1, 1, true), 33),
        (mark(2, 1, true), 66),
        (mark(1, 2, true), 100),
        (mark(2, 1, false), 66),
    ] {
        assert_eq!(call(&world, &it, "MarkPlanTask", asked).await["percent"], percent);
    }
    let status = refused(&world, &it, "MarkPlanTask", mark(3, 1, true)).await;
    assert_eq!(status.code(), Code::NotFound);
    let shown = call(&world, &it, "GetPlan", json!({ "id": plan })).await;
    assert!(shown["modules"][0]["tasks"][0]["doneTime"].is_string());
    assert!(shown["modules"][1]["tasks"][0]["doneTime"].is_null());

    let copy = json!({ "studioId": it.studio, "origin": "PLAN_ORIGIN_TEMPLATE", "templatePlanId": plan });
    let copied = call(&world, &it, "CreatePlan", copy).await;
    assert_eq!(
        (titles(&copied), &copied["progress"]["done"]),
        (titles(&shown), &json!(0))
    );
    assert_eq!(copied["wish"]["topic"], "Knots");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_is_made_of_what_the_studios_documents_say_and_names_them() {
    let world = World::start().await;
    let it = Tenant::make(&world).await;
    let body = json!({ "studioId": it.studio, "wish": { "topic": "harbour fees and safety", "weeklyHours": 2, "useDocuments": true } });
    let plan = id(&call(&world, &it, "CreatePlan", body).await);
    let plan = settled(&world, &it, &plan).await;
    let titles = titles(&plan);
    assert!(titles.contains(&"Fees") && titles.contains(&"Safety"), "{titles:?}");
    let fees = plan["modules"]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["title"] == "Fees")
        .unwrap();
    assert_eq!(fees["tasks"][0]["title"], "Read \u{201c}Fees\u{201d} in Harbour rules");
    assert!(
        fees["tasks"][0]["description"]
            .as_str()
            .unwrap()
            .contains("length of the ship")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_that_no_token_is_left_for_is_refused_before_it_is_made() {
    let (model, _deployment, world, it) = with_model(|_, _| Reply::text(&answer(&["One"]))).await;
    let admin = world.admin().await;
    let allow = async |tokens: i64| {
        sqlx::query("update core.plans set tokens_per_month = $1 where code = 'free'")
            .bind(tokens)
            .execute(&admin)
            .await
            .unwrap();
    };
    allow(0).await;
    let body = json!({ "studioId": it.studio, "wish": wish("stub") });
    let status = refused(&world, &it, "CreatePlan", body).await;
    assert_reason(&status, Code::ResourceExhausted, "TOKEN_QUOTA_EXCEEDED");
    let plans: i64 = sqlx::query_scalar("select count(*) from execution.plans")
        .fetch_one(&admin)
        .await
        .unwrap();
    assert_eq!(plans, 0);

    // Of another company some are left, but fewer than the call may take.
    allow(10).await;
    let it = Tenant::with_studio(&world).await;
    it.add_stub_model(&world).await;
    let plan = create(&world, &it, "stub").await;
    settled(&world, &it, &plan).await;
    let attempts = attempts(&world, &it, &plan).await;
    assert_eq!(
        (&attempts[0]["classification"], &attempts[0]["reason"]),
        (&json!("capped"), &json!("token_quota"))
    );
    assert_eq!(model.calls().len(), 0);
}

#[tokio::test]
async fn a_plan_whose_numbers_have_gaps_cannot_be_stored() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let plan = create(&world, &it, "").await;
    let modules = settled(&world, &it, &plan).await["modules"].as_array().unwrap().len();
    let admin = world.admin().await;
    for (what, number) in [("plan_modules", modules + 2), ("plan_modules", 1), ("plan_modules", 13)] {
        let sql = format!(
            "insert into execution.{what} (company_id, plan_id, version, number, title, minutes)
             values ($1::uuid, $2::uuid, 1, {number}, 'x', 30)"
        );
        let done = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(&it.company).bind(&plan);
        assert!(done.execute(&admin).await.is_err(), "{number}");
    }
    for number in [1, 19, 21] {
        let done = sqlx::query(
            "insert into execution.plan_tasks (company_id, plan_id, version, module, number, title, minutes)
             values ($1::uuid, $2::uuid, 1, 1, $3, 'x', 30)",
        );
        let done = done.bind(&it.company).bind(&plan).bind(number);
        assert!(done.execute(&admin).await.is_err(), "{number}");
    }
}
