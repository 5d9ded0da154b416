//! A journal that refuses an entry, and one that was changed behind the engine's back.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::PgPool;
use studios_tests::{
    deployment::Deployment,
    journal,
    tenant::Tenant,
    world::{PATIENCE, World},
};

const EXECUTIONS: &str = "studios.execution.v1.ExecutionService";

/// Starts a run that waits for a person.
async fn waiting(world: &World, it: &Tenant) -> String {
    let stage = json!({ "name": "draft", "llm": { "model": "offline", "prompt": "The pier is lit at night." },
        "validation": { "manual": {} } });
    let workflow = it.add_workflow(world, "Asks", json!([stage])).await;
    let execution = it.start(world, &workflow, json!({})).await;
    let is_paused = |it: &Value| it["status"] == "EXECUTION_STATUS_PAUSED";
    let body = json!({ "id": execution });
    world
        .until(&format!("{EXECUTIONS}/GetExecution"), body, &it.token, is_paused)
        .await;
    execution
}

/// Waits until the only run was put aside with a command that is not done.
async fn put_aside(admin: &PgPool) {
    let looking = async {
        loop {
            let aside: bool = sqlx::query_scalar(
                "select owner is null and epoch > 0 and run_at between now() + interval '20 seconds' and now() + interval '1 day'
                     and commands_seq > commands_done
                 from execution.runs",
            )
            .fetch_one(admin)
            .await
            .unwrap();
            if aside {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.expect("it is put aside");
}

async fn look_again(admin: &PgPool) {
    sqlx::query("update execution.runs set run_at = now()")
        .execute(admin)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_cancel_that_the_database_refuses_is_tried_again() {
    let world = World::start().await;
    let admin = world.admin().await;
    let it = Tenant::with_studio(&world).await;
    let execution = waiting(&world, &it).await;
    for statement in [
        "create function public.refuse() returns trigger language plpgsql as $$ begin raise exception 'no' using errcode = '23514'; end $$",
        "create trigger refuse before insert on execution.journal for each row when (new.kind = 'cancelled')
             execute function public.refuse()",
    ] {
        sqlx::query(statement).execute(&admin).await.unwrap();
    }
    let cancel = json!({ "id": execution, "reason": "enough" });
    world
        .ok(&format!("{EXECUTIONS}/CancelExecution"), cancel, &it.token)
        .await;
    put_aside(&admin).await;
    sqlx::query("drop trigger refuse on execution.journal")
        .execute(&admin)
        .await
        .unwrap();
    look_again(&admin).await;
    let ended = world.finished(&execution, &it.token).await;
    assert_eq!(ended["status"], "EXECUTION_STATUS_CANCELLED", "{ended}");
    journal::verify(&admin).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_was_altered_is_noticed_and_its_run_does_not_go_on() {
    let deployment = Deployment::start(&[], &[]).await;
    let world = deployment.world().await;
    let admin = world.admin().await;
    let it = Tenant::with_studio(&world).await;
    let execution = waiting(&world, &it).await;
    let alter = async |from: &str, to: &str| {
        let altered = sqlx::query(
            "update execution.journal
             set payload = convert_to(replace(convert_from(payload, 'UTF8'), $1, $2), 'UTF8')
             where kind = 'attempt' and convert_from(payload, 'UTF8') like '%' || $1 || '%'",
        )
        .bind(from)
        .bind(to)
        .execute(&admin)
        .await
        .unwrap();
        assert_eq!(altered.rows_affected(), 1);
    };
    alter("lit at night", "lit at dawn!").await;
    let decision =
        json!({ "executionId": execution, "stage": "draft", "visit": 1, "attempt": 1, "decision": "DECISION_PASS" });
    world
        .ok(&format!("{EXECUTIONS}/DecideAttempt"), decision, &it.token)
        .await;
    put_aside(&admin).await;
    let log = deployment.execution.as_ref().unwrap().log().join("\n");
    assert!(log.contains("the hash of the journal is not the run's head"), "{log}");

    alter("lit at dawn!", "lit at night").await;
    look_again(&admin).await;
    let ended = world.finished(&execution, &it.token).await;
    assert_eq!(ended["status"], "EXECUTION_STATUS_COMPLETED", "{ended}");
    journal::verify(&admin).await;
}
