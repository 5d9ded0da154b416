//! Learning plans: whole or not there, three attempts, shown while they are written, and nobody else's.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use futures::future::join_all;
use serde_json::{Value, json};
use studios_tests::{
    deployment::Deployment,
    model::{Driver, Model, Reply},
    refusal::{assert_reason, fields},
    tenant::{Tenant, id},
    world::{PATIENCE, World},
};
use tokio::time::timeout;
use tonic::Code;
use uuid::Uuid;

use super::terminal::{lines, studios};

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
async fn fifty_retries_at_once_never_pass_the_cap_and_beyond_it_nothing_is_called_or_stored() {
    let (model, _deployment, world, it) = with_model(|_, _| Reply::text("no JSON at all")).await;
    let plan = create(&world, &it, "stub").await;
    let retry = format!("{PLANS}/RetryPlan");
    let ask = || join_all((0..50).map(|_| world.call(&retry, json!({ "id": plan }), Some(&it.token))));
    let mut made = 1;
    while made < 3 {
        settled(&world, &it, &plan).await;
        // The first of them may have ended before the last is asked for.
        made += ask().await.iter().filter(|it| it.is_ok()).count();
        let now = settled(&world, &it, &plan).await;
        assert!(
            made <= 3 && now["attempts"] == made && now["attemptsLeft"] == 3 - made,
            "{made}: {now}"
        );
    }
    for answer in ask().await {
        assert_reason(&answer.unwrap_err(), Code::ResourceExhausted, "CAPPED");
    }
    let failed = settled(&world, &it, &plan).await;
    assert_eq!(
        (&failed["status"], failed["modules"].as_array().unwrap().len()),
        (&json!("PLAN_STATUS_FAILED"), 0)
    );
    assert_eq!(model.calls().len(), 3, "beyond the cap nothing is called");
    let attempts = attempts(&world, &it, &plan).await;
    let numbers: Vec<_> = attempts.iter().map(|it| it["number"].as_i64().unwrap()).collect();
    assert_eq!(numbers, [3, 2, 1]);
    for attempt in &attempts {
        assert_eq!(
            (&attempt["classification"], &attempt["reason"]),
            (&json!("provider_error"), &json!("not_json"))
        );
    }
    assert_eq!(failed["failure"]["correlationId"], attempts[0]["correlationId"]);
    let said = failed["failure"]["message"].as_str().unwrap();
    assert!(!said.contains("JSON") && !said.contains("provider"), "{said}");
    let listed = call(
        &world,
        &it,
        "ListPlans",
        json!({ "studioId": it.studio, "status": "PLAN_STATUS_FAILED" }),
    )
    .await;
    assert_eq!(listed["plans"][0]["status"], failed["status"], "lists say the same");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_is_of_one_class_and_leaves_no_module() {
    let two = answer(&["One", "Two"]);
    let broken = two.replace("\"estimated_minutes\":30", "\"estimated_minutes\":0");
    let replies = [
        (
            Reply::raw(429, r#"{"error":{"code":"rate_limit_exceeded"}}"#),
            "rate_limit",
        ),
        (Reply::raw(503, "{}"), "provider_error"),
        (Reply::text(&broken), "validation"),
    ];
    let script = replies.clone();
    let (_model, _deployment, world, it) = with_model(move |n, _| script[n % 3].0.clone()).await;
    let plan = create(&world, &it, "stub").await;
    for _ in 0..2 {
        settled(&world, &it, &plan).await;
        call(&world, &it, "RetryPlan", json!({ "id": plan })).await;
    }
    let failed = settled(&world, &it, &plan).await;
    assert_eq!(failed["status"], "PLAN_STATUS_FAILED");
    let attempts = attempts(&world, &it, &plan).await;
    let classes: Vec<_> = attempts.iter().rev().map(|it| it["classification"].clone()).collect();
    assert_eq!(classes, replies.map(|(_, class)| json!(class)));
    let rows: i64 = sqlx::query_scalar(
        "select (select count(*) from execution.plan_modules) + (select count(*) from execution.plan_tasks)",
    )
    .fetch_one(&world.admin().await)
    .await
    .unwrap();
    assert_eq!(rows, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_model_is_asked_within_the_same_attempt_and_both_are_paid_for() {
    let (model, _deployment, world, it) = with_model(|n, _| match n {
        0 => Reply::text("I would rather not."),
        _ => Reply::text(&answer(&["One", "Two"])),
    })
    .await;
    let second = json!({ "model": { "companyId": it.company, "name": "second", "provider": "stub", "providerModel": "stub-2",
        "contextLength": 8192, "enabled": true, "inputPriceMicros": "1000000", "outputPriceMicros": "1000000" } });
    world
        .ok("studios.execution.v1.ModelService/CreateModel", second, &it.token)
        .await;
    let mut wish = wish("stub");
    wish["fallbackModel"] = json!("second");
    let plan = id(&call(
        &world,
        &it,
        "CreatePlan",
        json!({ "studioId": it.studio, "wish": wish }),
    )
    .await);
    let plan = settled(&world, &it, &plan).await;
    assert_eq!((&plan["attempts"], titles(&plan)), (&json!(1), vec!["One", "Two"]));
    let attempts = attempts(&world, &it, &id(&plan)).await;
    let [attempt] = attempts.as_slice() else {
        panic!("{attempts:?}")
    };
    assert_eq!(
        (
            &attempt["model"],
            &attempt["inputTokens"],
            &attempt["outputTokens"],
            &attempt["costMicros"]
        ),
        (&json!("second"), &json!("22"), &json!("14"), &json!("18"))
    );
    assert_eq!(model.calls().len(), 2);
    let (tokens, cost): (i64, i64) =
        sqlx::query_as("select sum(tokens)::bigint, sum(cost_micros)::bigint from execution.spend")
            .fetch_one(&world.admin().await)
            .await
            .unwrap();
    assert_eq!((tokens, cost), (36, 18), "as the company's quota counts them");
}

/// A model that is driven.
async fn driven() -> (Driver, Model, Deployment, World, Tenant) {
    let (driver, reply) = Reply::driven();
    let (model, deployment, world, it) = with_model(move |_, _| reply.clone()).await;
    (driver, model, deployment, world, it)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn modules_are_shown_on_every_replica_while_the_model_still_writes_and_stored_at_the_end_alone() {
    let (driver, model, deployment, world, it) = driven().await;
    let other = deployment.another_execution();
    let elsewhere = deployment.world_with(&other.url()).await;
    let plan = create(&world, &it, "stub").await;
    timeout(PATIENCE, model.until_in_flight(1))
        .await
        .expect("the model is asked");
    let watch = format!("{PLANS}/WatchPlan");
    let mut watchers = Vec::new();
    for world in [&world, &elsewhere] {
        let mut events = world.stream(&watch, json!({ "id": plan }), &it.token).await;
        let first = timeout(PATIENCE, events.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(first["plan"]["generating"], true);
        watchers.push(events);
    }
    driver.say(r#"{"modules": ["#).await;
    for (at, title) in ["One", "Two"].into_iter().enumerate() {
        driver.say(&module(title).to_string()).await;
        for events in &mut watchers {
            let event = timeout(PATIENCE, events.next()).await.unwrap().unwrap().unwrap();
            assert_eq!(
                (&event["module"]["number"], &event["module"]["title"]),
                (&json!(at + 1), &json!(title))
            );
        }
        let rows: i64 = sqlx::query_scalar("select count(*) from execution.plan_modules")
            .fetch_one(&world.admin().await)
            .await
            .unwrap();
        assert_eq!(rows, 0, "it is not stored yet");
        driver.say(",").await;
    }
    driver.say(&module("Three").to_string()).await;
    driver.say("]}").await;
    driver.finish().await;
    for events in watchers {
        let rest = timeout(PATIENCE, events.rest()).await.expect("it ends").unwrap();
        let last = &rest.last().unwrap()["plan"];
        assert_eq!(
            (&last["status"], titles(last)),
            (&json!("PLAN_STATUS_READY"), vec!["One", "Two", "Three"])
        );
        assert_eq!(rest.len(), 2, "the third module, and the plan: {rest:?}");
    }
}

/// A model that is driven each time it is asked, once for each driver.
async fn driven_often<const N: usize>() -> ([Driver; N], Model, Deployment, World, Tenant) {
    let driven: [_; N] = std::array::from_fn(|_| Reply::driven());
    let replies = driven.each_ref().map(|(_, reply)| reply.clone());
    let (model, deployment, world, it) = with_model(move |n, _| replies[n].clone()).await;
    (driven.map(|(driver, _)| driver), model, deployment, world, it)
}

/// Waits until a model is let go of, which must be within a second.
async fn let_go(driver: &Driver, since: Instant) {
    timeout(PATIENCE, driver.hung_up()).await.expect("it is let go of");
    let took = since.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_is_let_go_of_within_a_second_wherever_its_plan_is_deleted_and_what_it_took_is_counted() {
    let (drivers, model, deployment, world, it) = driven_often::<2>().await;
    let other = deployment.another_execution();
    let elsewhere = deployment.world_with(&other.url()).await;
    let quotas = "studios.execution.v1.ExecutionService/GetQuotas";
    let used = |it: &Value| {
        let mut quotas = it["quotas"].as_array().unwrap().iter();
        let tokens = quotas.find(|it| it["kind"] == "QUOTA_KIND_TOKENS_PER_MONTH").unwrap();
        tokens["used"].as_str().unwrap().parse::<i64>().unwrap()
    };
    let mut before = 0;
    for (driver, deletes) in drivers.iter().zip([&world, &elsewhere]) {
        let plan = create(&world, &it, "stub").await;
        timeout(PATIENCE, model.until_in_flight(1))
            .await
            .expect("the model is asked");
        driver.say(r#"{"modules": ["#).await;
        driver.say(&module("One").to_string()).await;
        let mut events = world
            .stream(&format!("{PLANS}/WatchPlan"), json!({ "id": plan }), &it.token)
            .await;
        let is_shown = async { while events.next().await.unwrap().unwrap()["module"].is_null() {} };
        timeout(PATIENCE, is_shown).await.expect("it writes");
        let since = Instant::now();
        call(deletes, &it, "DeletePlan", json!({ "id": plan })).await;
        let_go(driver, since).await;
        let counted = world
            .until(quotas, json!({ "companyId": it.company }), &it.token, |it| {
                used(it) > before
            })
            .await;
        // The prompt and the module, by their bytes.
        assert!((before + 200..before + 1_000).contains(&used(&counted)), "{counted}");
        before = used(&counted);
        let gone = refused(&world, &it, "GetPlan", json!({ "id": plan })).await;
        assert_eq!(gone.code(), Code::NotFound);
    }
    assert_eq!(model.calls().len(), 2, "nobody else is asked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_is_let_go_of_within_a_second_when_the_studio_is_deleted_and_the_attempt_has_failed() {
    let ([driver], _model, _deployment, world, it) = driven_often::<1>().await;
    let plan = create(&world, &it, "stub").await;
    driver.say(r#"{"modules": ["#).await;
    let since = Instant::now();
    let studio = json!({ "id": it.studio });
    let studios = "studios.core.v1.StudioService";
    world
        .ok(&format!("{studios}/DeleteStudio"), studio.clone(), &it.token)
        .await;
    let_go(&driver, since).await;
    world.ok(&format!("{studios}/UndeleteStudio"), studio, &it.token).await;
    let back = settled(&world, &it, &plan).await;
    assert_eq!(
        (&back["status"], &back["attemptsLeft"]),
        (&json!("PLAN_STATUS_PENDING"), &json!(2))
    );
    let attempts = attempts(&world, &it, &plan).await;
    assert_eq!(
        (
            &attempts[0]["classification"],
            &attempts[0]["reason"],
            &attempts[0]["billingUncertain"]
        ),
        (&json!("provider_error"), &json!("access_lost"), &json!(true))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_without_a_module_is_given_up_after_ten_seconds() {
    let (driver, _model, _deployment, world, it) = driven().await;
    let plan = create(&world, &it, "stub").await;
    driver.say(r#"{"modules": [{"title": "One","#).await;
    timeout(PATIENCE, driver.hung_up()).await.expect("it is given up");
    settled(&world, &it, &plan).await;
    let attempts = attempts(&world, &it, &plan).await;
    assert_eq!(
        (&attempts[0]["classification"], &attempts[0]["billingUncertain"]),
        (&json!("timeout"), &json!(true))
    );
    let seconds: f64 = attempts[0]["duration"]
        .as_str()
        .unwrap()
        .trim_end_matches('s')
        .parse()
        .unwrap();
    assert!((10.0..12.0).contains(&seconds), "{seconds}");
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

#[tokio::test]
async fn a_private_plan_is_its_owners_alone_and_a_public_one_is_seen_and_not_changed() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let (owner, member, stranger) = (
        Tenant::user(&world).await,
        Tenant::user(&world).await,
        Tenant::with_studio(&world).await,
    );
    for who in [&owner, &member] {
        it.add_member(&world, who, "ROLE_MEMBER").await;
    }
    let mine = Tenant {
        studio: it.studio.clone(),
        ..owner.clone()
    };
    let plan = create(&world, &mine, "").await;
    settled(&world, &mine, &plan).await;
    let methods = [
        ("GetPlan", json!({ "id": plan })),
        ("WatchPlan", json!({ "id": plan })),
        ("ListPlanAttempts", json!({ "planId": plan })),
        ("RetryPlan", json!({ "id": plan })),
        ("RegeneratePlan", json!({ "id": plan })),
        ("MarkPlanTask", json!({ "planId": plan, "module": 1, "task": 1 })),
        (
            "UpdatePlan",
            json!({ "plan": { "id": plan, "visibility": "PLAN_VISIBILITY_PUBLIC" } }),
        ),
        ("DeletePlan", json!({ "id": plan })),
    ];
    for who in [&it, &member, &stranger] {
        for (method, body) in &methods {
            let status = refused(&world, who, method, body.clone()).await;
            assert_eq!(status.code(), Code::NotFound, "{method}: {status:?}");
        }
    }
    let seen =
        async |who: &Tenant| call(&world, who, "ListPlans", json!({ "studioId": it.studio })).await["plans"].clone();
    assert_eq!(seen(&it).await, json!([]));

    call(&world, &mine, methods[6].0, methods[6].1.clone()).await;
    assert_eq!(seen(&member).await[0]["id"], json!(plan));
    assert!(call(&world, &member, "GetPlan", json!({ "id": plan })).await["modules"][0].is_object());
    for (method, body) in &methods[2..7] {
        let status = refused(&world, &member, method, body.clone()).await;
        assert_reason(&status, Code::PermissionDenied, "OWNER_REQUIRED");
    }
    let own = json!({ "studioId": it.studio, "own": true });
    assert_eq!(call(&world, &member, "ListPlans", own).await["plans"], json!([]));
    assert_eq!(
        refused(&world, &stranger, "GetPlan", json!({ "id": plan }))
            .await
            .code(),
        Code::NotFound
    );
    assert_eq!(
        refused(&world, &member, "DeletePlan", json!({ "id": plan }))
            .await
            .code(),
        Code::PermissionDenied
    );
    call(&world, &it, "DeletePlan", json!({ "id": plan })).await;
    assert_eq!(
        refused(&world, &mine, "GetPlan", json!({ "id": plan })).await.code(),
        Code::NotFound
    );
    let left: i64 = sqlx::query_scalar(
        "select (select count(*) from execution.plan_versions) + (select count(*) from execution.plan_attempts)
             + (select count(*) from execution.plan_modules) + (select count(*) from execution.plan_tasks)",
    )
    .fetch_one(&world.admin().await)
    .await
    .unwrap();
    assert_eq!(left, 0, "it went with all that was its");
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

#[tokio::test]
async fn lists_are_paged_and_filtered_and_say_what_a_plan_itself_says() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let mut made = Vec::new();
    for _ in 0..3 {
        let plan = create(&world, &it, "").await;
        settled(&world, &it, &plan).await;
        made.push(plan);
    }
    let mut token = json!("");
    let mut seen = Vec::new();
    loop {
        let asked = json!({ "studioId": it.studio, "pageSize": 2, "pageToken": token, "status": "PLAN_STATUS_READY",
            "origin": "PLAN_ORIGIN_AI", "own": true });
        let page = call(&world, &it, "ListPlans", asked).await;
        seen.extend(page["plans"].as_array().unwrap().clone());
        token = page["nextPageToken"].clone();
        if token == "" {
            break;
        }
    }
    made.reverse();
    assert_eq!(seen.iter().map(id).collect::<Vec<_>>(), made);
    for listed in seen {
        let mut alone = call(&world, &it, "GetPlan", json!({ "id": listed["id"] })).await;
        alone["modules"] = json!([]);
        assert_eq!(alone, listed);
    }
    let pending = json!({ "studioId": it.studio, "status": "PLAN_STATUS_PENDING" });
    assert_eq!(call(&world, &it, "ListPlans", pending).await["plans"], json!([]));
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_the_user_wrote_is_in_attempts_logs_or_traces() {
    let receiver = studios_tests::otlp::Receiver::start().await;
    let model = Model::start(|n, _| match n {
        0 => Reply::text(&format!("{{\"modules\": [{{\"title\": \"{CANARY}\"}}]}}")),
        _ => Reply::text(&answer(&[&format!("One {CANARY}")])),
    })
    .await;
    let shared = [
        ("STUDIOS_OTLP_ENDPOINT", receiver.url().to_string()),
        ("STUDIOS_LOG", "debug".to_owned()),
    ];
    let deployment = Deployment::start(&shared, &model.settings()).await;
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    it.add_stub_model(&world).await;
    let plan = create(&world, &it, "stub").await;
    settled(&world, &it, &plan).await;
    call(&world, &it, "RetryPlan", json!({ "id": plan })).await;
    assert_eq!(settled(&world, &it, &plan).await["status"], "PLAN_STATUS_READY");
    let tables: Vec<String> = sqlx::query_scalar(
        "select table_name::text from information_schema.tables where table_schema = 'execution' and table_type = 'BASE TABLE'",
    )
    .fetch_all(&world.admin().await)
    .await
    .unwrap();
    let mut holding = BTreeSet::new();
    for table in tables {
        let sql = format!("select count(*) from execution.{table} t where t::text like '%{CANARY}%'");
        let found: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .fetch_one(&world.admin().await)
            .await
            .unwrap();
        if found > 0 {
            holding.insert(table);
        }
    }
    let kept = ["plan_modules", "plan_versions"].map(str::to_owned);
    assert_eq!(holding, BTreeSet::from(kept), "the plan itself, and nothing beside it");
    let attempt = attempts(&world, &it, &plan).await;
    assert!(!json!(attempt).to_string().contains(CANARY));
    let logs = deployment.execution.as_ref().unwrap().log().join("\n");
    assert!(logs.contains("a plan was not written"), "{logs}");
    assert!(!logs.contains(CANARY));
    let told = async {
        while !receiver.all().iter().any(|it| it.name == "plan.attempt") {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        receiver.all()
    };
    let spans = timeout(PATIENCE, told).await.expect("the attempt is traced");
    assert!(spans.iter().all(|it| !format!("{it:?}").contains(CANARY)));
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_attempts_are_forgotten_after_ninety_days_and_the_cap_is_not() {
    let (_model, _deployment, world, it) = with_model(|_, _| Reply::text("no JSON at all")).await;
    let plan = create(&world, &it, "stub").await;
    for _ in 0..2 {
        settled(&world, &it, &plan).await;
        call(&world, &it, "RetryPlan", json!({ "id": plan })).await;
    }
    settled(&world, &it, &plan).await;
    let admin = world.admin().await;
    sqlx::query("update execution.plan_attempts set created_at = now() - interval '91 days' where number < 3")
        .execute(&admin)
        .await
        .unwrap();
    let mut tx = admin.begin().await.unwrap();
    sqlx::query("set local role studios_engine")
        .execute(&mut *tx)
        .await
        .unwrap();
    let forgotten = sqlx::query("delete from execution.plan_attempts")
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(forgotten.rows_affected(), 2, "the policy lets no other go");
    assert_eq!(attempts(&world, &it, &plan).await.len(), 1);
    let failed = settled(&world, &it, &plan).await;
    assert_eq!(
        (&failed["status"], &failed["attempts"]),
        (&json!("PLAN_STATUS_FAILED"), &json!(3))
    );
    assert_reason(
        &refused(&world, &it, "RetryPlan", json!({ "id": plan })).await,
        Code::ResourceExhausted,
        "CAPPED",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_is_made_watched_and_worked_through_from_a_terminal() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let create = [
        "plans",
        "create",
        &it.studio,
        "Knots",
        "--notes",
        "bowline, hitch",
        "--hours",
        "2",
        "--watch",
        "--json",
    ];
    let made = studios(&world, &it, &create).await;
    assert_eq!(made.status.code(), Some(0), "{made:?}");
    let told = lines(&made);
    let plan = id(&told[0]);
    assert_eq!(told.last().unwrap()["plan"]["status"], "PLAN_STATUS_READY");
    let run = async |arguments: &[&str]| {
        let done = studios(&world, &it, arguments).await;
        assert_eq!(done.status.code(), Some(0), "{arguments:?}: {done:?}");
        String::from_utf8(done.stdout).unwrap()
    };
    assert!(run(&["plans", "done", &plan, "1", "2"]).await.starts_with("1 of "));
    let shown = run(&["plans", "show", &plan]).await;
    assert!(shown.contains("2. bowline") && shown.contains("[x] 2."), "{shown}");
    assert!(run(&["plans", "attempts", &plan]).await.contains("offline"));
    run(&["plans", "share", &plan]).await;
    run(&["plans", "regenerate", &plan]).await;
    assert!(run(&["plans", "watch", &plan]).await.contains("ready"));
    assert!(
        run(&["plan", "list", &it.studio, "--own", "--status", "ready"])
            .await
            .contains(&plan)
    );
    run(&["plans", "delete", &plan]).await;
    assert_eq!(run(&["plans", "list", &it.studio]).await, "");
    let gone = studios(&world, &it, &["plans", "retry", &plan]).await;
    assert_eq!(gone.status.code(), Some(5));
}
