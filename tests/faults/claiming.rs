//! Claiming under a backlog, of what cannot be continued, and hints between replicas.

use std::time::{Duration, Instant};

use secrecy::ExposeSecret;
use serde_json::json;
use sqlx::PgPool;
use studios_tests::{
    cluster::TestCluster,
    deployment::Deployment,
    model::{Model, Reply},
    tenant::Tenant,
    world::{PATIENCE, World},
};

const EXECUTIONS: &str = "studios.execution.v1.ExecutionService";

/// Waits until the condition holds.
async fn until(admin: &PgPool, condition: &'static str) {
    let asked = async {
        while !sqlx::query_scalar::<_, bool>(condition).fetch_one(admin).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.expect(condition);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_backlog_of_one_company_does_not_hold_up_another() {
    let database = TestCluster::get().await.database().await;
    let admin = PgPool::connect(database.expose_secret()).await.unwrap();
    // Runs that nobody can continue: each is put aside as soon as it is claimed, so one sees which were.
    sqlx::query(
        "insert into execution.runs (execution_id, company_id, studio_id, head, run_at, stage)
         select gen_random_uuid(), '10000000-0000-7000-8000-000000000000'::uuid, gen_random_uuid(), ''::bytea, now() - interval '1 hour', 'many'
         from generate_series(1, 5000)
         union all
         select gen_random_uuid(), '20000000-0000-7000-8000-000000000000'::uuid, gen_random_uuid(), ''::bytea, now(), 'one'
         union all
         select gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), ''::bytea, 'infinity'::timestamptz, 'waiting'
         from generate_series(1, 500)",
    )
    .execute(&admin)
    .await
    .unwrap();
    let _world = World::over(database).await;
    until(
        &admin,
        "select bool_or(asides > 0) from execution.runs where stage = 'one'",
    )
    .await;
    let before: i64 = sqlx::query_scalar("select count(*) from execution.runs where stage = 'many' and asides > 0")
        .fetch_one(&admin)
        .await
        .unwrap();
    assert!(before < 2_500, "{before} of the others came first");
    until(
        &admin,
        "select bool_and(asides > 0) from execution.runs where stage = 'many'",
    )
    .await;
    let waiting: i64 = sqlx::query_scalar("select count(*) from execution.runs where stage = 'waiting' and epoch > 0")
        .fetch_one(&admin)
        .await
        .unwrap();
    assert_eq!(waiting, 0, "what is not due is left alone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_cannot_be_read_waits_longer_each_time_up_to_an_hour() {
    let database = TestCluster::get().await.database().await;
    let admin = PgPool::connect(database.expose_secret()).await.unwrap();
    sqlx::query(
        "insert into execution.runs (execution_id, company_id, studio_id, head)
         select gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), ''",
    )
    .execute(&admin)
    .await
    .unwrap();
    let _world = World::over(database).await;
    for (asides, minutes) in [(1, 1), (2, 2), (3, 4), (9, 60)] {
        if asides == 9 {
            sqlx::query("update execution.runs set asides = 8")
                .execute(&admin)
                .await
                .unwrap();
        }
        if asides > 1 {
            sqlx::query("update execution.runs set run_at = now()")
                .execute(&admin)
                .await
                .unwrap();
        }
        let aside = async {
            loop {
                let found: Option<f64> = sqlx::query_scalar(
                    "select extract(epoch from run_at - updated_at)::float8 from execution.runs
                     where owner is null and asides = $1 and run_at > now()",
                )
                .bind(asides)
                .fetch_optional(&admin)
                .await
                .unwrap();
                if let Some(wait_s) = found {
                    return wait_s;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let wait_s = tokio::time::timeout(PATIENCE, aside).await.expect("it is put aside");
        assert!((wait_s - f64::from(minutes * 60)).abs() < 1.0, "{asides}: {wait_s}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_through_another_replica_is_felt_well_within_a_second() {
    const RUNS: u32 = 5;
    let model = Model::start(|_, _| Reply::text("late").after(Duration::from_hours(1))).await;
    let deployment = Deployment::start(&[], &model.settings()).await;
    let other = deployment.another_execution();
    let holder = deployment.world().await;
    let it = Tenant::with_studio(&holder).await;
    it.add_stub_model(&holder).await;
    let stage = json!({ "name": "only", "timeout": "3600s", "llm": { "model": "stub", "prompt": "go" } });
    let workflow = it.add_workflow(&holder, "Hangs", json!([stage])).await;
    let mut executions = Vec::new();
    for _ in 0..RUNS {
        executions.push(it.start(&holder, &workflow, json!({})).await);
    }
    tokio::time::timeout(PATIENCE, model.until_in_flight(RUNS as usize))
        .await
        .expect("the calls are in flight");
    let elsewhere = holder.moved(&other.url());
    let begun = Instant::now();
    for execution in &executions {
        let cancel = json!({ "id": execution, "reason": "enough" });
        elsewhere
            .ok(&format!("{EXECUTIONS}/CancelExecution"), cancel, &it.token)
            .await;
        elsewhere.finished(execution, &it.token).await;
    }
    // The polls alone would take a second for each.
    let each = begun.elapsed() / RUNS;
    assert!(each < Duration::from_millis(600), "{each:?}");
}
