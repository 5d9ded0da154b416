//! Who sees a plan, and where: lists, logs, a terminal.

use std::collections::BTreeSet;

use serde_json::json;
use studios_tests::{
    deployment::Deployment,
    model::{Model, Reply},
    refusal::assert_reason,
    tenant::{Tenant, id},
    world::{PATIENCE, World},
};
use tokio::time::timeout;
use tonic::Code;

use super::{CANARY, answer, attempts, call, create, refused, settled};
use crate::scenarios::terminal::{lines, studios};

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
