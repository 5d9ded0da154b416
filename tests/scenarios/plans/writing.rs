//! Attempts at plans: at most three, shown while a model writes, paid for, and let go of when nobody can want them.

use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::{Value, json};
use studios_tests::{
    deployment::Deployment,
    model::{Driver, Model, Reply},
    refusal::assert_reason,
    tenant::{Tenant, id},
    world::{PATIENCE, World},
};
use tokio::time::timeout;
use tonic::Code;

use super::{PLANS, answer, attempts, call, create, module, refused, settled, titles, wish, with_model};

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
