//! Versions of workflows: compared, gone back to; workflows listed, deleted, and erased at last.

use serde_json::{Value, json};
use sqlx::PgPool;
use studios_tests::{
    refusal::{assert_reason, fields},
    tenant::{Tenant, id, summary_stage},
    world::{PATIENCE, World},
};
use tonic::Code;

const WORKFLOWS: &str = "studios.execution.v1.WorkflowService";
const SNAPSHOTS: &str = "studios.execution.v1.SnapshotService";
const EXECUTIONS: &str = "studios.execution.v1.ExecutionService";

fn say(name: &str, prompt: &str) -> Value {
    json!({ "name": name, "llm": { "model": "offline", "prompt": prompt } })
}

async fn edit(world: &World, it: &Tenant, workflow: &str, stages: Value) -> Value {
    let body = json!({ "workflow": { "id": workflow, "draft": { "stages": stages } } });
    world.ok(&format!("{WORKFLOWS}/UpdateWorkflow"), body, &it.token).await
}

async fn publish(world: &World, it: &Tenant, workflow: &str) -> Value {
    let body = json!({ "id": workflow });
    world.ok(&format!("{WORKFLOWS}/PublishWorkflow"), body, &it.token).await
}

async fn workflow(world: &World, it: &Tenant, id: &str) -> Value {
    world
        .ok(&format!("{WORKFLOWS}/GetWorkflow"), json!({ "id": id }), &it.token)
        .await
}

#[tokio::test]
async fn what_differs_between_versions_is_told_by_stage_and_field() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let id = it
        .add_workflow(
            &world,
            "Say",
            json!([say("a", "One."), say("b", "Two."), say("c", "Three.")]),
        )
        .await;
    let mut changed = say("a", "Uno.");
    changed["retryLimit"] = json!(2);
    let body = json!({ "workflow": { "id": id, "draft": { "stages": [say("c", "Three."), changed, say("d", "Four.")],
        "transitionLimit": 7, "inputSchema": { "type": "object" } } } });
    world.ok(&format!("{WORKFLOWS}/UpdateWorkflow"), body, &it.token).await;

    let diff = format!("{WORKFLOWS}/DiffWorkflowVersions");
    let told = world
        .ok(
            &diff,
            json!({ "workflowId": id, "fromNumber": 1, "toDraft": {} }),
            &it.token,
        )
        .await;
    assert_eq!((&told["fromNumber"], &told["toNumber"]), (&json!(1), &json!(0)));
    assert_eq!(
        told["diff"]["fields"],
        json!([
            { "path": "input_schema", "newValue": { "type": "object" } },
            { "path": "transition_limit", "newValue": 7.0 },
        ])
    );
    let stages = told["diff"]["stages"].as_array().unwrap();
    let summary: Vec<_> = stages
        .iter()
        .map(|it| {
            (
                it["name"].as_str().unwrap(),
                it["change"].as_str().unwrap(),
                it["moved"].as_bool().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        summary,
        [
            ("c", "STAGE_CHANGE_MOVED", true),
            ("a", "STAGE_CHANGE_CHANGED", false),
            ("d", "STAGE_CHANGE_ADDED", false),
            ("b", "STAGE_CHANGE_REMOVED", false),
        ]
    );
    assert_eq!(
        stages[1]["fields"],
        json!([
            { "path": "llm.prompt", "oldValue": "One.", "newValue": "Uno." },
            { "path": "retry_limit", "newValue": 2.0 },
        ])
    );

    publish(&world, &it, &id).await;
    let versions = world
        .ok(
            &diff,
            json!({ "workflowId": id, "fromNumber": 1, "toNumber": 2 }),
            &it.token,
        )
        .await;
    assert_eq!((&versions["toNumber"], &versions["diff"]), (&json!(2), &told["diff"]));
    let same = world.ok(&diff, json!({ "workflowId": id }), &it.token).await;
    assert_eq!(
        same["diff"],
        json!({ "fields": [], "stages": [], "truncated": false }),
        "the newest version and the draft"
    );
    let missing = json!({ "workflowId": id, "fromNumber": 9 });
    assert_eq!(world.refused(&diff, missing, &it.token).await.code(), Code::NotFound);
    let wrong = json!({ "workflowId": "x", "fromNumber": -1, "toNumber": -1 });
    assert_eq!(
        fields(&world.refused(&diff, wrong, &it.token).await),
        ["from_number", "to_number", "workflow_id"]
    );
}

#[tokio::test]
async fn going_back_publishes_an_older_version_anew_and_leaves_a_draft_in_progress() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let id = it.add_workflow(&world, "Say", json!([say("a", "One.")])).await;
    edit(&world, &it, &id, json!([say("a", "Two.")])).await;
    publish(&world, &it, &id).await;

    let back = format!("{WORKFLOWS}/RollBackWorkflow");
    let stale = json!({ "id": id, "number": 1, "etag": "r1" });
    assert_reason(
        &world.refused(&back, stale, &it.token).await,
        Code::Aborted,
        "ETAG_MISMATCH",
    );
    let body = json!({ "id": id, "number": 1, "requestId": "01900000-0000-7000-8000-000000000001" });
    let done = world.ok(&back, body.clone(), &it.token).await;
    assert_eq!(
        (&done["version"]["number"], &done["version"]["rolledBackFrom"]),
        (&json!(3), &json!(1))
    );
    assert_eq!(done["version"]["definition"]["stages"][0]["llm"]["prompt"], "One.");
    let now = &done["workflow"];
    assert_eq!(
        (
            &now["publishedVersion"],
            &now["hasUnpublishedChanges"],
            &now["draft"]["stages"][0]["llm"]["prompt"]
        ),
        (&json!(3), &json!(false), &json!("One.")),
        "a draft without changes follows"
    );
    assert_eq!(world.ok(&back, body, &it.token).await["version"]["number"], 3, "once");
    let newest = world.ok(&back, json!({ "id": id, "number": 1 }), &it.token).await;
    assert_eq!(newest["version"]["number"], 3, "what the newest one does makes none");
    let missing = json!({ "id": id, "number": 9 });
    assert_eq!(world.refused(&back, missing, &it.token).await.code(), Code::NotFound);
    assert_eq!(
        fields(&world.refused(&back, json!({ "id": id }), &it.token).await),
        ["number"]
    );

    edit(&world, &it, &id, json!([say("a", "In progress.")])).await;
    let done = world.ok(&back, json!({ "id": id, "number": 2 }), &it.token).await;
    let now = &done["workflow"];
    assert_eq!(
        (
            &now["publishedVersion"],
            &now["hasUnpublishedChanges"],
            &now["draft"]["stages"][0]["llm"]["prompt"]
        ),
        (&json!(4), &json!(true), &json!("In progress.")),
        "a draft in progress stays"
    );
    let listed = world
        .ok(
            &format!("{WORKFLOWS}/ListWorkflowVersions"),
            json!({ "workflowId": id }),
            &it.token,
        )
        .await;
    let from: Vec<_> = listed["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["rolledBackFrom"])
        .collect();
    assert_eq!(from, [&json!(2), &json!(1), &json!(0), &json!(0)]);
}

#[tokio::test]
async fn a_draft_that_an_older_version_is_put_over_is_kept() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let id = it.add_workflow(&world, "Say", json!([say("a", "One.")])).await;
    edit(&world, &it, &id, json!([say("a", "Two.")])).await;
    publish(&world, &it, &id).await;
    let back = format!("{WORKFLOWS}/RollBackWorkflow");
    let body = json!({ "id": id, "number": 1, "draftOnly": true });
    let done = world.ok(&back, body.clone(), &it.token).await;
    assert_eq!(
        (
            &done["version"],
            &done["workflow"]["publishedVersion"],
            &done["keptSnapshotId"]
        ),
        (&Value::Null, &json!(2), &json!("")),
        "version 2 says what the draft said"
    );

    for number in 0..12 {
        edit(&world, &it, &id, json!([say("a", &format!("Draft {number}."))])).await;
        let done = world.ok(&back, body.clone(), &it.token).await;
        let kept = json!({ "id": done["keptSnapshotId"] });
        let kept = world.ok(&format!("{SNAPSHOTS}/GetSnapshot"), kept, &it.token).await;
        assert_eq!(
            kept["content"]["definition"]["stages"][0]["llm"]["prompt"],
            format!("Draft {number}.")
        );
    }
    let list = format!("{SNAPSHOTS}/ListSnapshots");
    let all = json!({ "workflowId": id, "showAutomatic": true });
    let all = world.ok(&list, all, &it.token).await;
    assert_eq!(
        (all["snapshots"].as_array().unwrap().len(), &all["ownCount"]),
        (10, &json!(0)),
        "the newest ten stay, and count for nobody"
    );
    let asked = world.ok(&list, json!({ "workflowId": id }), &it.token).await;
    assert_eq!(asked["snapshots"], json!([]));
}

#[tokio::test]
async fn a_version_that_cannot_be_published_today_is_not_gone_back_to() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let model = json!({ "model": { "companyId": it.company, "name": "house", "provider": "offline",
        "providerModel": "offline-extractive-1", "contextLength": 8192, "enabled": true } });
    let model = id(&world
        .ok("studios.execution.v1.ModelService/CreateModel", model, &it.token)
        .await);
    let stage = json!({ "name": "a", "llm": { "model": "house", "prompt": "One." } });
    let workflow = it.add_workflow(&world, "Say", json!([stage])).await;
    edit(&world, &it, &workflow, json!([say("a", "Two.")])).await;
    publish(&world, &it, &workflow).await;
    world
        .ok(
            "studios.execution.v1.ModelService/DeleteModel",
            json!({ "id": model }),
            &it.token,
        )
        .await;
    let back = format!("{WORKFLOWS}/RollBackWorkflow");
    let refused = world
        .refused(&back, json!({ "id": workflow, "number": 1 }), &it.token)
        .await;
    assert_eq!(fields(&refused), ["definition.stages[0].llm.model"]);
    let draft = json!({ "id": workflow, "number": 1, "draftOnly": true });
    let done = world.ok(&back, draft, &it.token).await;
    assert_eq!(
        done["workflow"]["draft"]["stages"][0]["llm"]["model"], "house",
        "a draft may be wrong"
    );
}

#[tokio::test]
async fn workflows_are_listed_by_what_is_asked_of_them_and_in_every_order() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let other = Tenant::user(&world).await;
    it.add_member(&world, &other, "ROLE_MEMBER").await;
    let create = format!("{WORKFLOWS}/CreateWorkflow");
    let mut made = Vec::new();
    for (name, tags, token) in [
        ("Berths", json!({ "tags": ["pier", "daily"] }), &it.token),
        ("Ärger am Pier", json!({ "tags": "pier" }), &it.token),
        ("fees", json!({ "tags": ["daily"] }), &other.token),
        ("Arrivals", json!({}), &other.token),
    ] {
        let body = json!({ "workflow": { "studioId": it.studio, "name": name, "metadata": tags,
            "draft": { "stages": [say("a", "One.")] } } });
        made.push(id(&world.ok(&create, body, token).await));
    }
    publish(&world, &it, &made[2]).await;
    let list = async |asked: Value| {
        let (mut body, mut names) = (asked, Vec::new());
        body["studioId"] = json!(it.studio);
        body["pageSize"] = json!(1);
        loop {
            let page = world
                .ok(&format!("{WORKFLOWS}/ListWorkflows"), body.clone(), &it.token)
                .await;
            names.extend(
                page["workflows"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|it| it["name"].clone()),
            );
            body["pageToken"] = page["nextPageToken"].clone();
            if body["pageToken"] == "" {
                return Value::from(names);
            }
        }
    };
    for (asked, expected) in [
        (json!({}), json!(["Arrivals", "fees", "Ärger am Pier", "Berths"])),
        (json!({ "nameContains": "AR" }), json!(["Arrivals"])),
        (json!({ "nameContains": "am pier" }), json!(["Ärger am Pier"])),
        (json!({ "nameContains": "%" }), json!([])),
        (json!({ "tag": "pier" }), json!(["Berths"])),
        (json!({ "tag": "daily" }), json!(["fees", "Berths"])),
        (json!({ "ownerId": other.user }), json!(["Arrivals", "fees"])),
        (json!({ "ownerId": other.user, "tag": "daily" }), json!(["fees"])),
        (json!({ "onlyPublished": true }), json!(["fees"])),
        (
            json!({ "orderBy": "create_time" }),
            json!(["Berths", "Ärger am Pier", "fees", "Arrivals"]),
        ),
        (
            json!({ "orderBy": "update_time desc" }),
            json!(["fees", "Arrivals", "Ärger am Pier", "Berths"]),
        ),
        (
            json!({ "orderBy": "update_time" }),
            json!(["Berths", "Ärger am Pier", "Arrivals", "fees"]),
        ),
    ] {
        assert_eq!(list(asked.clone()).await, expected, "{asked}");
    }
    let by_name = list(json!({ "orderBy": "name" })).await;
    let mut backwards = list(json!({ "orderBy": "name desc" })).await;
    backwards.as_array_mut().unwrap().reverse();
    assert_eq!((by_name.as_array().unwrap().len(), &by_name), (4, &backwards));
    let wrong = json!({ "studioId": it.studio, "orderBy": "draft", "ownerId": "x", "tag": "x".repeat(201) });
    let refused = world
        .refused(&format!("{WORKFLOWS}/ListWorkflows"), wrong, &it.token)
        .await;
    assert_eq!(fields(&refused), ["order_by", "owner_id", "tag"]);
}

#[tokio::test]
async fn a_deleted_workflow_is_read_but_not_started_and_comes_back_if_its_name_is_free() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let id = it
        .add_workflow(&world, "Say", json!([say("a", "The pier is lit.")]))
        .await;
    let execution = it.start(&world, &id, json!({})).await;
    world.finished(&execution, &it.token).await;
    let delete = format!("{WORKFLOWS}/DeleteWorkflow");
    world.ok(&delete, json!({ "id": id }), &it.token).await;

    let read = world
        .ok(
            &format!("{EXECUTIONS}/GetExecution"),
            json!({ "id": execution }),
            &it.token,
        )
        .await;
    assert_eq!(read["status"], "EXECUTION_STATUS_COMPLETED");
    let attempts = json!({ "executionId": execution });
    let attempts = world
        .ok(&format!("{EXECUTIONS}/ListAttempts"), attempts, &it.token)
        .await;
    assert_eq!(attempts["attempts"].as_array().unwrap().len(), 1);
    let listed = json!({ "studioId": it.studio, "workflowId": id });
    let listed = world
        .ok(&format!("{EXECUTIONS}/ListExecutions"), listed, &it.token)
        .await;
    assert_eq!(listed["executions"][0]["id"], execution);
    for (method, body) in [
        (
            format!("{EXECUTIONS}/StartExecution"),
            json!({ "workflowId": id, "requestId": "a" }),
        ),
        (
            format!("{WORKFLOWS}/RollBackWorkflow"),
            json!({ "id": id, "number": 1, "draftOnly": true }),
        ),
    ] {
        // What is the draft already is refused all the same.
        let refused = world.refused(&method, body, &it.token).await;
        assert_reason(&refused, Code::FailedPrecondition, "WORKFLOW_DELETED");
    }

    let other = it.add_workflow(&world, "Say", json!([summary_stage("offline")])).await;
    let undelete = format!("{WORKFLOWS}/UndeleteWorkflow");
    let refused = world.refused(&undelete, json!({ "id": id }), &it.token).await;
    assert_reason(&refused, Code::AlreadyExists, "WORKFLOW_NAME_TAKEN");
    let renamed = json!({ "workflow": { "id": other, "name": "Say more" } });
    world
        .ok(&format!("{WORKFLOWS}/UpdateWorkflow"), renamed, &it.token)
        .await;
    world.ok(&undelete, json!({ "id": id }), &it.token).await;
    assert!(workflow(&world, &it, &id).await["deleteTime"].is_null());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_deleted_long_ago_is_erased_with_all_that_is_its_own() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let old = it
        .add_workflow(&world, "Old", json!([say("a", "The pier is lit.")]))
        .await;
    let recent = it
        .add_workflow(&world, "Recent", json!([say("a", "The pier is lit.")]))
        .await;
    let mut asks = say("a", "The pier is lit.");
    asks["validation"] = json!({ "manual": {} });
    let waiting = it.add_workflow(&world, "Waiting", json!([asks])).await;
    let mut executions = Vec::new();
    for workflow in [&old, &recent, &waiting] {
        executions.push(it.start(&world, workflow, json!({})).await);
    }
    for execution in &executions[..2] {
        world.finished(execution, &it.token).await;
    }
    let get = format!("{EXECUTIONS}/GetExecution");
    world
        .until(&get, json!({ "id": executions[2] }), &it.token, |it| {
            !it["waitingFor"].is_null()
        })
        .await;
    let gone = it.take_snapshot(&world, &old, "Goes").await;
    let kept = json!({ "workflowId": old, "version": 1, "name": "Stays", "keepOnDelete": true });
    let kept = id(&world.ok(&format!("{SNAPSHOTS}/CreateSnapshot"), kept, &it.token).await);
    for (workflow, days) in [(&old, 32), (&recent, 29), (&waiting, 32)] {
        let delete = json!({ "id": workflow });
        world
            .ok(&format!("{WORKFLOWS}/DeleteWorkflow"), delete, &it.token)
            .await;
        sqlx::query(
            "update execution.workflows set deleted_at = now() - make_interval(days => $2) where id = $1::uuid",
        )
        .bind(workflow)
        .bind(days)
        .execute(&world.admin().await)
        .await
        .unwrap();
    }

    // Upkeep is the first thing that a service does.
    let admin = world.admin().await;
    let second = World::over(world.database_url.clone()).await;
    until_erased(&admin, &old).await;
    let cancelled = world.finished(&executions[2], &it.token).await;
    assert_eq!(
        cancelled["status"], "EXECUTION_STATUS_CANCELLED",
        "what waits is not cut off"
    );
    let third = World::over(world.database_url.clone()).await;
    until_erased(&admin, &waiting).await;

    for (workflow, execution, rows) in [
        (&old, &executions[0], 0),
        (&waiting, &executions[2], 0),
        (&recent, &executions[1], 1),
    ] {
        for (table, key, id) in [
            ("workflow_versions", "workflow_id", workflow),
            ("executions", "id", execution),
            ("journal", "execution_id", execution),
        ] {
            let sql = format!("select least(count(*), 1) from execution.{table} where {key} = $1::uuid");
            let found: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
                .bind(id)
                .fetch_one(&admin)
                .await
                .unwrap();
            assert_eq!(found, rows, "{table} of {id}");
        }
    }
    let read = format!("{WORKFLOWS}/GetWorkflow");
    assert_eq!(
        world.refused(&read, json!({ "id": old }), &it.token).await.code(),
        Code::NotFound
    );
    assert_eq!(
        third
            .refused(&get, json!({ "id": executions[0] }), &it.token)
            .await
            .code(),
        Code::NotFound
    );
    let undelete = format!("{WORKFLOWS}/UndeleteWorkflow");
    second.ok(&undelete, json!({ "id": recent }), &it.token).await;

    let snapshot = format!("{SNAPSHOTS}/GetSnapshot");
    assert_eq!(
        world.refused(&snapshot, json!({ "id": gone }), &it.token).await.code(),
        Code::NotFound
    );
    let stays = world.ok(&snapshot, json!({ "id": kept }), &it.token).await;
    assert_eq!(
        (&stays["workflowId"], &stays["content"]["name"]),
        (&json!(""), &json!("Old"))
    );
    let listed = json!({ "studioId": it.studio, "own": true });
    let listed = world.ok(&format!("{SNAPSHOTS}/ListSnapshots"), listed, &it.token).await;
    assert_eq!(listed["ownCount"], 1, "what was erased counts no more");
    let restore = format!("{SNAPSHOTS}/RestoreSnapshot");
    let over = json!({ "id": kept, "overDraft": {} });
    assert_reason(
        &world.refused(&restore, over, &it.token).await,
        Code::FailedPrecondition,
        "SNAPSHOT_WITHOUT_WORKFLOW",
    );
    let anew = json!({ "id": kept, "newWorkflow": { "name": "Old" } });
    let anew = world.ok(&restore, anew, &it.token).await;
    assert_eq!(anew["workflow"]["draft"]["stages"][0]["name"], "a");
}

#[tokio::test]
async fn the_engine_deletes_nothing_that_is_not_due() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let old = it
        .add_workflow(&world, "Say", json!([say("a", "The pier is lit.")]))
        .await;
    let execution = it.start(&world, &old, json!({})).await;
    world.finished(&execution, &it.token).await;
    it.take_snapshot(&world, &old, "Mine").await;
    let admin = world.admin().await;
    for table in ["journal", "executions", "workflow_versions", "snapshots", "workflows"] {
        let mut tx = admin.begin().await.unwrap();
        sqlx::query("set local role studios_engine")
            .execute(&mut *tx)
            .await
            .unwrap();
        let sql = format!("delete from execution.{table}");
        let done = sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut *tx).await.unwrap();
        assert_eq!(done.rows_affected(), 0, "{table}");
    }
}

async fn until_erased(admin: &PgPool, workflow: &str) {
    let erased = async {
        loop {
            let found: Option<i32> = sqlx::query_scalar("select 1 from execution.workflows where id = $1::uuid")
                .bind(workflow)
                .fetch_optional(admin)
                .await
                .unwrap();
            if found.is_none() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, erased).await.expect("it is erased");
}
