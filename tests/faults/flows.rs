//! A flow of ActivePieces, when whoever started it is killed before he has recorded it, or the instance goes away meanwhile.

use std::time::Duration;

use serde_json::{Value, json};
use studios_tests::{
    deployment::Deployment,
    journal,
    pieces::{Behaviour, EMAIL, PASSWORD, PROJECT, Pieces, Reaction, Setup, definition},
    tenant::{self, Tenant},
    world::{PATIENCE, World},
};

async fn started(world: &World, instance: &Pieces, flow: &str) -> (Tenant, String) {
    let it = Tenant::with_studio(world).await;
    let connection = json!({ "connection": { "companyId": it.company, "name": "pieces", "kind": "CONNECTION_KIND_ACTIVEPIECES",
        "baseUrl": instance.url(), "options": { "projectId": PROJECT, "email": EMAIL }, "secret": PASSWORD, "enabled": true } });
    let made = world
        .ok(
            "studios.execution.v1.ConnectionService/CreateConnection",
            connection,
            &it.token,
        )
        .await;
    let stage = json!({ "name": "flow", "activepieces": { "connectionId": tenant::id(&made), "flowId": flow } });
    let workflow = it.add_workflow(world, "Flow", json!([stage])).await;
    let execution = it.start(world, &workflow, json!({ "n": 1 })).await;
    (it, execution)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_whose_sender_is_killed_before_its_record_is_found_again_and_there_is_one_run() {
    let instance = Pieces::start(Setup::default()).await;
    let flow = instance.flow("Slow to answer", definition(&[]));
    instance.behave(
        &flow,
        Behaviour {
            reaction: Reaction::Hangs,
            runs: Duration::from_secs(2),
            ..Behaviour::default()
        },
    );
    let mut deployment = Deployment::start(&[], &[instance.settings()]).await;
    let world = deployment.world().await;
    let (it, execution) = started(&world, &instance, &flow).await;
    tokio::time::timeout(PATIENCE, instance.until_starts(1))
        .await
        .expect("the instance has the start");
    deployment.lose_execution().await;

    let world = world.moved(&deployment.execution_url());
    let ended = world.finished(&execution, &it.token).await;
    assert_eq!(ended["status"], "EXECUTION_STATUS_COMPLETED", "{ended}");
    assert_eq!(ended["outputs"]["flow"]["result"], json!({ "sum": 7.0 }));
    assert_eq!((instance.starts(), instance.runs()), (1, 1), "it was started again");
    let admin = world.admin().await;
    let kinds: Vec<String> = sqlx::query_scalar("select kind from execution.journal order by seq")
        .fetch_all(&admin)
        .await
        .unwrap();
    assert_eq!(kinds, ["started", "intent", "flow_run", "attempt", "finished"]);
    journal::verify(&admin).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_waits_outlives_its_process_a_silent_worker_and_an_instance_that_is_away() {
    let instance = Pieces::start(Setup::default()).await;
    let flow = instance.flow("Slow", definition(&[]));
    instance.worker(false);
    let mut deployment = Deployment::start(&[], &[instance.settings()]).await;
    let world = deployment.world().await;
    let (it, execution) = started(&world, &instance, &flow).await;
    tokio::time::timeout(PATIENCE, instance.until_starts(1))
        .await
        .expect("the instance has the start");
    let waits = "select count(*) from execution.runs r join execution.journal j using (execution_id)
                 where r.owner is null and j.kind = 'flow_run'";
    let admin = world.admin().await;
    let given_back = async {
        while sqlx::query_scalar::<_, i64>(waits).fetch_one(&admin).await.unwrap() == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, given_back)
        .await
        .expect("nobody holds it");
    deployment.crash_execution();
    instance.down(true);
    tokio::time::sleep(Duration::from_secs(2)).await;
    instance.down(false);
    instance.end_sessions();
    instance.worker(true);

    let world = world.moved(&deployment.execution_url());
    // Looks have become rare by now; time is moved, not waited for.
    let due = async {
        loop {
            let sql = "update execution.flow_runs set look_at = now() where look_at is not null";
            sqlx::query(sql).execute(&admin).await.unwrap();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let ended: Value = tokio::select! {
        ended = world.finished(&execution, &it.token) => ended,
        () = due => unreachable!("it goes on for ever"),
    };
    assert_eq!(ended["status"], "EXECUTION_STATUS_COMPLETED", "{ended}");
    assert_eq!((instance.starts(), instance.runs()), (1, 1));
}
