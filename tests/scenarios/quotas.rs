//! What a plan lets a company use: refused before the work, one at a time however many ask at once, and told with what is left.

use futures::future::join_all;
use serde_json::{Value, json};
use studios_tests::{
    deployment::Deployment,
    model::{Model, Reply},
    refusal::assert_reason,
    tenant::Tenant,
    world::World,
};
use tonic::{Code, Status};
use tonic_types::StatusExt;
use uuid::Uuid;

const START: &str = "studios.execution.v1.ExecutionService/StartExecution";
const CANCEL: &str = "studios.execution.v1.ExecutionService/CancelExecution";
const QUOTAS: &str = "studios.execution.v1.ExecutionService/GetQuotas";

/// Puts the company on a plan of its own: as the largest, but for these limits.
pub(super) async fn plan(world: &World, it: &Tenant, limits: &str) {
    let admin = world.admin().await;
    let sql = format!(
        "with own as (
             insert into core.plans (code, display_name, rank, executions_per_month, concurrent_executions, storage_bytes,
                 tokens_per_month, cost_micros_per_month, members, studios)
             select 'own-' || $1, 'Own', 100, executions_per_month, concurrent_executions, storage_bytes, tokens_per_month,
                 cost_micros_per_month, members, studios
             from core.plans where code = 'enterprise' returning code)
         update core.companies set plan = own.code from own where id = $1::uuid;
         update core.plans set {limits} where code = 'own-' || $1;
         select core.publish_plan_changed($1::uuid)"
    );
    for statement in sql.split(';') {
        sqlx::query(sqlx::AssertSqlSafe(statement.to_owned()))
            .bind(&it.company)
            .execute(&admin)
            .await
            .unwrap();
    }
}

fn start(workflow: &str) -> Value {
    json!({ "workflowId": workflow, "requestId": Uuid::now_v7().to_string() })
}

/// Limit, used and remaining of a kind.
async fn quota(world: &World, it: &Tenant, kind: &str) -> [i64; 3] {
    let found = world.ok(QUOTAS, json!({ "companyId": it.company }), &it.token).await;
    assert!(found["resetTime"].as_str().unwrap().contains("-01T00:00:00"), "{found}");
    let mut all = found["quotas"].as_array().unwrap().iter();
    let one = all.find(|it| it["kind"] == kind).unwrap();
    ["limit", "used", "remaining"].map(|name| one[name].as_str().unwrap().parse().unwrap())
}

fn assert_used_up(status: &Status, reason: &str) {
    assert_reason(status, Code::ResourceExhausted, reason);
    let quota = status.get_details_quota_failure().expect("a QuotaFailure");
    assert_eq!(quota.violations[0].subject, reason);
}

/// A stage that asks the stub for a short answer.
fn stage() -> Value {
    json!({ "name": "say", "llm": { "model": "stub", "prompt": "Say it.", "config": { "max_tokens": 10 } } })
}

/// A stage that calls no model.
fn finding() -> Value {
    json!({ "name": "find", "retrieve": { "retrieval": { "query": "harbour", "limit": 1 } } })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_hundred_starts_at_one_below_the_months_limit_one_is_let_in() {
    let deployment = Deployment::start(&[], &[]).await;
    let world = deployment.world().await;
    let other = deployment.another_execution();
    let elsewhere = deployment.world_with(&other.url()).await;
    let it = Tenant::with_studio(&world).await;
    plan(&world, &it, "executions_per_month = 3").await;
    let workflow = it.add_workflow(&world, "Find", json!([finding()])).await;
    for left in ["2", "1"] {
        let made = world.ok(START, start(&workflow), &it.token).await;
        assert_eq!(made["remainingExecutions"], left, "{made}");
    }
    let bodies: Vec<_> = (0..100).map(|_| start(&workflow)).collect();
    let asked = bodies.iter().enumerate().map(|(n, body)| {
        let replica = if n % 2 == 0 { &world } else { &elsewhere };
        replica.call(START, body.clone(), Some(&it.token))
    });
    let answers = join_all(asked).await;
    let (let_in, refused): (Vec<_>, Vec<_>) = answers.iter().enumerate().partition(|(_, answer)| answer.is_ok());
    assert_eq!(let_in.len(), 1);
    for (_, answer) in refused {
        assert_used_up(answer.as_ref().unwrap_err(), "EXECUTION_QUOTA_EXCEEDED");
    }
    let (at, made) = let_in[0];
    let made = made.as_ref().unwrap();
    assert_eq!(made["remainingExecutions"], "0");

    // Whoever repeats what was let in is answered; what was refused has left no key behind.
    let again = world.ok(START, bodies[at].clone(), &it.token).await;
    assert_eq!(again["id"], made["id"]);
    let refused = usize::from(at == 0);
    let status = world.refused(START, bodies[refused].clone(), &it.token).await;
    assert_used_up(&status, "EXECUTION_QUOTA_EXCEEDED");
    assert_eq!(quota(&world, &it, "QUOTA_KIND_EXECUTIONS_PER_MONTH").await, [3, 3, 0]);

    let neighbour = Tenant::with_studio(&world).await;
    let workflow = neighbour.add_workflow(&world, "Find", json!([finding()])).await;
    world.ok(START, start(&workflow), &neighbour.token).await;
}

#[tokio::test]
async fn a_company_works_at_as_many_runs_as_its_plan_says_and_those_that_wait_are_none() {
    let model = Model::start(|_, _| Reply::text("said").after(std::time::Duration::from_mins(1))).await;
    let deployment = Deployment::start(&[], &model.settings()).await;
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    plan(&world, &it, "concurrent_executions = 2").await;
    it.add_stub_model(&world).await;
    let ask = json!({ "name": "ask", "approval": { "question": "Go on?" } });
    let asking = it.add_workflow(&world, "Ask", json!([ask])).await;
    for _ in 0..3 {
        let execution = it.start(&world, &asking, json!({})).await;
        let waits = |it: &Value| it["status"] == "EXECUTION_STATUS_PAUSED";
        let get = "studios.execution.v1.ExecutionService/GetExecution";
        world.until(get, json!({ "id": execution }), &it.token, waits).await;
    }
    assert_eq!(quota(&world, &it, "QUOTA_KIND_CONCURRENT_EXECUTIONS").await, [2, 0, 2]);

    let saying = it.add_workflow(&world, "Say", json!([stage()])).await;
    let asked = (0..20).map(|_| world.call(START, start(&saying), Some(&it.token)));
    let answers = join_all(asked).await;
    let (let_in, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(let_in.len(), 2);
    for answer in refused {
        assert_used_up(&answer.unwrap_err(), "CONCURRENCY_QUOTA_EXCEEDED");
    }
    assert_eq!(quota(&world, &it, "QUOTA_KIND_CONCURRENT_EXECUTIONS").await, [2, 2, 0]);
    let id = let_in[0].as_ref().unwrap()["id"].clone();
    world.ok(CANCEL, json!({ "id": id }), &it.token).await;
    world.finished(id.as_str().unwrap(), &it.token).await;
    world.ok(START, start(&saying), &it.token).await;
    let starts = quota(&world, &it, "QUOTA_KIND_EXECUTIONS_PER_MONTH").await;
    assert_eq!(starts[1], 6, "what was refused is not counted");
}

#[tokio::test]
async fn no_model_is_called_when_the_months_tokens_or_money_are_used_up() {
    let model = Model::start(|_, _| Reply::text("said")).await;
    let deployment = Deployment::start(&[], &model.settings()).await;
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    plan(&world, &it, "tokens_per_month = 60").await;
    it.add_stub_model(&world).await;
    let saying = it.add_workflow(&world, "Say", json!([stage()])).await;
    let tried = json!({ "workflowId": saying, "stage": "say" });
    let tested = "studios.execution.v1.ExecutionService/TestStage";
    world.ok(tested, tried, &it.token).await;
    let mut spent = quota(&world, &it, "QUOTA_KIND_TOKENS_PER_MONTH").await[1];
    assert!(spent > 0, "a try counts too");
    let capped = loop {
        let execution = it.start(&world, &saying, json!({})).await;
        let ended = world.finished(&execution, &it.token).await;
        if ended["status"] != "EXECUTION_STATUS_COMPLETED" {
            break ended;
        }
        let used = quota(&world, &it, "QUOTA_KIND_TOKENS_PER_MONTH").await;
        assert!(used[1] > spent && used[1] <= 60, "{used:?} after {spent}");
        spent = used[1];
    };
    assert!(spent > 0, "the first calls were made");
    assert_eq!(capped["failure"]["class"], "FAILURE_CLASS_CAPPED", "{capped}");
    let calls = model.calls().len();
    let attempts = json!({ "executionId": capped["id"] });
    let made = world
        .ok(
            "studios.execution.v1.ExecutionService/ListAttempts",
            attempts,
            &it.token,
        )
        .await;
    let attempt = &made["attempts"][0];
    assert_eq!(
        (
            &attempt["failure"]["reason"],
            &attempt["billingUncertain"],
            &attempt["costMicros"]
        ),
        (&json!("token_quota"), &json!(false), &json!("0")),
        "{attempt}"
    );

    let admin = world.admin().await;
    sqlx::query("update execution.spend set tokens = case part when 16 then 0 else 60 end where company_id = $1::uuid")
        .bind(&it.company)
        .execute(&admin)
        .await
        .unwrap();
    let status = world.refused(START, start(&saying), &it.token).await;
    assert_used_up(&status, "TOKEN_QUOTA_EXCEEDED");
    assert_eq!(quota(&world, &it, "QUOTA_KIND_TOKENS_PER_MONTH").await, [60, 60, 0]);
    assert_eq!(model.calls().len(), calls, "nothing was called");
}
