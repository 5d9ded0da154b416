//! kill -9 of the execution-service while plans are written.

use std::time::Duration;

use serde_json::{Value, json};
use studios_tests::{
    deployment::Deployment,
    model::{Model, Reply},
    tenant::{Tenant, id},
    world::{PATIENCE, World},
};
use tokio::time::timeout;

const PLANS: &str = "studios.execution.v1.PlanService";

fn answer() -> String {
    let module =
        json!({ "title": "One", "estimated_minutes": 30, "tasks": [{ "title": "Tie it", "estimated_minutes": 30 }] });
    json!({ "modules": [module] }).to_string()
}

async fn call(world: &World, it: &Tenant, method: &str, body: Value) -> Value {
    world.ok(&format!("{PLANS}/{method}"), body, &it.token).await
}

async fn begin(world: &World, it: &Tenant) -> String {
    let body = json!({ "studioId": it.studio, "wish": { "topic": "Knots", "weeklyHours": 2, "model": "stub" } });
    id(&call(world, it, "CreatePlan", body).await)
}

async fn settled(world: &World, it: &Tenant, plan: &str) -> Value {
    let body = json!({ "id": plan });
    world
        .until(&format!("{PLANS}/GetPlan"), body, &it.token, |it| {
            it["generating"] == false
        })
        .await
}

/// A model that never answers the first so many calls.
async fn hanging(calls: usize) -> (Model, Deployment, World, Tenant) {
    let model = Model::start(move |n, _| {
        let delay = if n < calls {
            Duration::from_hours(1)
        } else {
            Duration::ZERO
        };
        Reply::text(&answer()).after(delay)
    })
    .await;
    let deployment = Deployment::start(&[], &model.settings()).await;
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    it.add_stub_model(&world).await;
    (model, deployment, world, it)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_a_crash_cut_begins_anew_and_ends_once() {
    let (model, mut deployment, world, it) = hanging(3).await;
    let mut plans = Vec::new();
    for _ in 0..3 {
        plans.push(begin(&world, &it).await);
    }
    timeout(PATIENCE, model.until_in_flight(3))
        .await
        .expect("the model is asked");
    deployment.lose_execution().await;
    let world = world.moved(&deployment.execution_url());
    for plan in plans {
        let plan = settled(&world, &it, &plan).await;
        assert_eq!(
            (&plan["status"], &plan["attempts"]),
            (&json!("PLAN_STATUS_READY"), &json!(1)),
            "it is the same attempt"
        );
        let attempts = call(&world, &it, "ListPlanAttempts", json!({ "planId": plan["id"] })).await;
        let attempts = attempts["attempts"].as_array().unwrap();
        assert_eq!(
            (attempts.len(), &attempts[0]["billingUncertain"]),
            (1, &json!(true)),
            "what was cut may have been paid for"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_two_crashes_cut_is_a_timeout() {
    let (model, mut deployment, world, it) = hanging(2).await;
    let plan = begin(&world, &it).await;
    let mut world = world;
    for call in 1..=2 {
        let asked = async {
            while model.calls().len() < call {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, asked).await.expect("the model is asked");
        deployment.lose_execution().await;
        world = world.moved(&deployment.execution_url());
    }
    let failed = settled(&world, &it, &plan).await;
    assert_eq!(
        (&failed["status"], &failed["attempts"], &failed["attemptsLeft"]),
        (&json!("PLAN_STATUS_PENDING"), &json!(1), &json!(2))
    );
    let attempts = call(&world, &it, "ListPlanAttempts", json!({ "planId": plan })).await;
    assert_eq!(
        (
            &attempts["attempts"][0]["classification"],
            &attempts["attempts"][0]["reason"]
        ),
        (&json!("timeout"), &json!("taken_over"))
    );
    assert_eq!(model.calls().len(), 2, "nobody is asked a third time");
    call(&world, &it, "RetryPlan", json!({ "id": plan })).await;
    assert_eq!(settled(&world, &it, &plan).await["status"], "PLAN_STATUS_READY");
}
