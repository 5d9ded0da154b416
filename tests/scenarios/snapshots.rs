//! Snapshots: taken within the user's limit, compared, restored, and carried as files.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures::future::join_all;
use serde_json::{Value, json};
use studios_tests::{
    refusal::{assert_reason, fields},
    tenant::{Tenant, id},
    world::World,
};
use tonic::Code;
use tonic_types::StatusExt;

const WORKFLOWS: &str = "studios.execution.v1.WorkflowService";
const SNAPSHOTS: &str = "studios.execution.v1.SnapshotService";

fn say(prompt: &str) -> Value {
    json!([{ "name": "say", "llm": { "model": "offline", "prompt": prompt } }])
}

async fn edit(world: &World, it: &Tenant, workflow: &str, prompt: &str) -> Value {
    let body = json!({ "workflow": { "id": workflow, "draft": { "stages": say(prompt) } } });
    world.ok(&format!("{WORKFLOWS}/UpdateWorkflow"), body, &it.token).await
}

async fn call(world: &World, it: &Tenant, method: &str, body: Value) -> Value {
    world.ok(&format!("{SNAPSHOTS}/{method}"), body, &it.token).await
}

async fn refused(world: &World, it: &Tenant, method: &str, body: Value) -> tonic::Status {
    world.refused(&format!("{SNAPSHOTS}/{method}"), body, &it.token).await
}

async fn allow(world: &World, it: &Tenant, snapshots: i32) {
    sqlx::query("update core.users set max_snapshots = $2 where id = $1::uuid")
        .bind(&it.user)
        .bind(snapshots)
        .execute(&world.admin().await)
        .await
        .unwrap();
}

fn prompt(definition: &Value) -> &Value {
    &definition["stages"][0]["llm"]["prompt"]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_hundred_who_take_the_last_snapshot_at_once_one_does() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    allow(&world, &it, 4).await;
    let workflow = it.add_workflow(&world, "Say", say("One.")).await;
    for name in ["a", "b", "c"] {
        it.take_snapshot(&world, &workflow, name).await;
    }
    let create = format!("{SNAPSHOTS}/CreateSnapshot");
    let take = |i: usize| {
        let body = json!({ "workflowId": workflow, "name": format!("last {i}") });
        world.call(&create, body, Some(&it.token))
    };
    let answers = join_all((0..100).map(take)).await;
    let mut by_code: BTreeMap<&str, usize> = BTreeMap::new();
    for answer in &answers {
        let code = match answer {
            Ok(_) => "made",
            Err(status) => {
                assert_reason(status, Code::ResourceExhausted, "SNAPSHOT_QUOTA_EXCEEDED");
                let quota = status.get_details_quota_failure().expect("a QuotaFailure");
                assert!(
                    quota.violations[0].description.contains("0 of the user's 4"),
                    "{quota:?}"
                );
                "refused"
            }
        };
        *by_code.entry(code).or_default() += 1;
    }
    assert_eq!(by_code, BTreeMap::from([("made", 1), ("refused", 99)]));
    let listed = call(
        &world,
        &it,
        "ListSnapshots",
        json!({ "studioId": it.studio, "own": true }),
    )
    .await;
    assert_eq!(
        (
            listed["snapshots"].as_array().unwrap().len(),
            &listed["ownCount"],
            &listed["ownLimit"]
        ),
        (4, &json!(4), &json!(4))
    );

    let last = &listed["snapshots"][0]["id"];
    call(&world, &it, "DeleteSnapshot", json!({ "id": last })).await;
    let key = "01900000-0000-7000-8000-000000000001";
    let body = json!({ "workflowId": workflow, "name": "again", "requestId": key });
    let made = call(&world, &it, "CreateSnapshot", body.clone()).await;
    let again = call(&world, &it, "CreateSnapshot", body).await;
    assert_eq!(made["id"], again["id"], "the same request makes one, also at the limit");
    let exported = call(&world, &it, "ExportSnapshot", json!({ "id": made["id"] })).await;
    let import = json!({ "studioId": it.studio, "content": exported["content"] });
    assert_reason(
        &refused(&world, &it, "ImportSnapshot", import).await,
        Code::ResourceExhausted,
        "SNAPSHOT_QUOTA_EXCEEDED",
    );
}

#[tokio::test]
async fn a_snapshot_is_listed_to_all_of_its_studio_and_changed_by_its_maker_or_an_admin() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let (maker, other) = (Tenant::user(&world).await, Tenant::user(&world).await);
    for member in [&maker, &other] {
        it.add_member(&world, member, "ROLE_MEMBER").await;
    }
    let workflow = it.add_workflow(&world, "Say", say("One.")).await;
    let second = it.add_workflow(&world, "Say more", say("Two.")).await;
    let mine = maker.take_snapshot(&world, &workflow, "Mine").await;
    let version = json!({ "workflowId": second, "version": 1, "name": " Version ", "description": "As published." });
    let version = call(&world, &it, "CreateSnapshot", version).await;
    assert_eq!(
        (
            &version["name"],
            &version["version"],
            &version["createdBy"],
            &version["content"]["name"]
        ),
        (&json!("Version"), &json!(1), &json!(it.user), &json!("Say more"))
    );
    assert_eq!(prompt(&version["content"]["definition"]), "Two.");

    for (asked, expected) in [
        (json!({ "studioId": it.studio }), json!(["Version", "Mine"])),
        (json!({ "workflowId": workflow }), json!(["Mine"])),
        (
            json!({ "studioId": it.studio, "workflowId": second }),
            json!(["Version"]),
        ),
        (json!({ "studioId": it.studio, "own": true }), json!([])),
    ] {
        let listed = call(&world, &other, "ListSnapshots", asked).await;
        let names: Vec<_> = listed["snapshots"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["name"].clone())
            .collect();
        assert_eq!(Value::from(names), expected);
        assert!(
            listed["snapshots"]
                .as_array()
                .unwrap()
                .iter()
                .all(|it| it["content"].is_null())
        );
    }
    let nowhere = refused(&world, &it, "ListSnapshots", json!({})).await;
    assert_eq!(fields(&nowhere), ["studio_id"]);

    let change = json!({ "snapshot": { "id": mine, "name": "Ours", "keepOnDelete": true } });
    for method in ["UpdateSnapshot", "DeleteSnapshot"] {
        let body = if method == "UpdateSnapshot" {
            change.clone()
        } else {
            json!({ "id": mine })
        };
        let status = refused(&world, &other, method, body).await;
        assert_reason(&status, Code::PermissionDenied, "ADMIN_REQUIRED");
    }
    let read = call(&world, &other, "GetSnapshot", json!({ "id": mine })).await;
    let changed = call(&world, &maker, "UpdateSnapshot", change).await;
    assert_eq!(
        (&changed["name"], &changed["keepOnDelete"]),
        (&json!("Ours"), &json!(true))
    );
    assert_eq!(changed["content"], read["content"], "what it holds never changes");
    let stale = json!({ "snapshot": { "id": mine, "etag": read["etag"], "description": "x" } });
    assert_reason(
        &refused(&world, &it, "UpdateSnapshot", stale).await,
        Code::Aborted,
        "ETAG_MISMATCH",
    );
    let masked = json!({ "snapshot": { "id": mine }, "updateMask": "keepOnDelete" });
    let masked = call(&world, &it, "UpdateSnapshot", masked).await;
    assert_eq!(
        (&masked["name"], &masked["keepOnDelete"]),
        (&json!("Ours"), &json!(false))
    );
    call(&world, &it, "DeleteSnapshot", json!({ "id": mine })).await;
    let listed = call(&world, &maker, "ListSnapshots", json!({ "studioId": it.studio })).await;
    assert_eq!(listed["ownCount"], 0, "whoever deletes it, its maker has room again");

    let wrong = json!({ "workflowId": "x", "name": "x".repeat(101), "description": "x".repeat(501), "version": -1 });
    assert_eq!(
        fields(&refused(&world, &it, "CreateSnapshot", wrong).await),
        ["description", "name", "version", "workflow_id"]
    );
    let missing = json!({ "workflowId": workflow, "version": 9, "name": "x" });
    assert_eq!(
        refused(&world, &it, "CreateSnapshot", missing).await.code(),
        Code::NotFound
    );
}

#[tokio::test]
async fn a_snapshot_is_restored_as_a_new_workflow_or_over_a_draft_that_is_kept() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let workflow = it.add_workflow(&world, "Say", say("One.")).await;
    let body = json!({ "workflow": { "id": workflow, "description": "Says.", "metadata": { "tags": ["a"] } } });
    world.ok(&format!("{WORKFLOWS}/UpdateWorkflow"), body, &it.token).await;
    let snapshot = it.take_snapshot(&world, &workflow, "First").await;
    edit(&world, &it, &workflow, "In progress.").await;

    let key = "01900000-0000-7000-8000-000000000002";
    let body = json!({ "id": snapshot, "newWorkflow": { "name": "Say again" }, "requestId": key });
    let made = call(&world, &it, "RestoreSnapshot", body.clone()).await;
    let new = &made["workflow"];
    assert_eq!(
        (
            &new["name"],
            &new["description"],
            &new["metadata"],
            &new["publishedVersion"]
        ),
        (
            &json!("Say again"),
            &json!("Says."),
            &json!({ "tags": ["a"] }),
            &json!(0)
        )
    );
    assert_eq!(
        (prompt(&new["draft"]), &made["keptSnapshotId"]),
        (&json!("One."), &json!(""))
    );
    let again = call(&world, &it, "RestoreSnapshot", body).await;
    assert_eq!(again["workflow"]["id"], new["id"]);
    let taken = json!({ "id": snapshot, "newWorkflow": { "name": "Say" } });
    assert_reason(
        &refused(&world, &it, "RestoreSnapshot", taken).await,
        Code::AlreadyExists,
        "WORKFLOW_NAME_TAKEN",
    );
    let target = refused(&world, &it, "RestoreSnapshot", json!({ "id": snapshot })).await;
    assert_eq!(fields(&target), ["target"]);

    let stale = json!({ "id": snapshot, "overDraft": { "etag": "r1" } });
    assert_reason(
        &refused(&world, &it, "RestoreSnapshot", stale).await,
        Code::Aborted,
        "ETAG_MISMATCH",
    );
    let over = json!({ "id": snapshot, "overDraft": {} });
    let restored = call(&world, &it, "RestoreSnapshot", over.clone()).await;
    assert_eq!(
        (
            &restored["workflow"]["id"],
            prompt(&restored["workflow"]["draft"]),
            &restored["workflow"]["hasUnpublishedChanges"]
        ),
        (&json!(workflow), &json!("One."), &json!(false))
    );
    let kept = call(&world, &it, "GetSnapshot", json!({ "id": restored["keptSnapshotId"] })).await;
    assert_eq!(
        (prompt(&kept["content"]["definition"]), &kept["automatic"]),
        (&json!("In progress."), &json!(true))
    );
    let back = json!({ "id": kept["id"], "overDraft": {} });
    let back = call(&world, &it, "RestoreSnapshot", back).await;
    assert_eq!(
        (prompt(&back["workflow"]["draft"]), &back["keptSnapshotId"]),
        (&json!("In progress."), &json!("")),
        "version 1 says what the draft said"
    );
    world
        .ok(
            &format!("{WORKFLOWS}/DeleteWorkflow"),
            json!({ "id": workflow }),
            &it.token,
        )
        .await;
    assert_reason(
        &refused(&world, &it, "RestoreSnapshot", over).await,
        Code::FailedPrecondition,
        "WORKFLOW_DELETED",
    );
}

#[tokio::test]
async fn snapshots_are_compared_with_each_other_and_with_a_draft() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let workflow = it.add_workflow(&world, "Say", say("One.")).await;
    let first = it.take_snapshot(&world, &workflow, "First").await;
    edit(&world, &it, &workflow, "Two.").await;
    let body = json!({ "workflow": { "id": workflow, "name": "Say more", "metadata": { "tags": ["a"] } } });
    world.ok(&format!("{WORKFLOWS}/UpdateWorkflow"), body, &it.token).await;
    let second = it.take_snapshot(&world, &workflow, "Second").await;

    let told = call(
        &world,
        &it,
        "CompareSnapshots",
        json!({ "fromId": first, "toId": second }),
    )
    .await;
    assert_eq!(
        told["diff"]["fields"],
        json!([
            { "path": "metadata.tags", "newValue": ["a"] },
            { "path": "name", "oldValue": "Say", "newValue": "Say more" },
        ])
    );
    assert_eq!(
        told["diff"]["stages"][0]["fields"],
        json!([{ "path": "llm.prompt", "oldValue": "One.", "newValue": "Two." }])
    );
    let draft = json!({ "fromId": first, "toWorkflowId": workflow });
    assert_eq!(call(&world, &it, "CompareSnapshots", draft).await, told);
    let same = json!({ "fromId": second, "toWorkflowId": workflow });
    let same = call(&world, &it, "CompareSnapshots", same).await;
    assert_eq!(same["diff"], json!({ "fields": [], "stages": [], "truncated": false }));
    let wrong = refused(&world, &it, "CompareSnapshots", json!({ "fromId": "x" })).await;
    assert_eq!(fields(&wrong), ["from_id", "to"]);
    let stranger = Tenant::with_studio(&world).await;
    let own = stranger.add_workflow(&world, "Own", say("Own.")).await;
    let own = stranger.take_snapshot(&world, &own, "Own").await;
    let foreign = json!({ "fromId": own, "toId": first });
    assert_eq!(
        refused(&world, &stranger, "CompareSnapshots", foreign).await.code(),
        Code::NotFound
    );
}

#[tokio::test]
async fn a_snapshot_goes_out_as_a_file_and_comes_into_another_company() {
    let world = World::start().await;
    let (it, there) = (Tenant::with_studio(&world).await, Tenant::with_studio(&world).await);
    let model = json!({ "model": { "companyId": it.company, "name": "house", "provider": "offline",
        "providerModel": "offline-extractive-1", "contextLength": 8192, "enabled": true } });
    world
        .ok("studios.execution.v1.ModelService/CreateModel", model, &it.token)
        .await;
    let stages = json!([{ "name": "say", "llm": { "model": "house", "prompt": "{{ x }}", "config": { "max_tokens": 10 } },
        "inputMapping": { "x": "inputs.x" }, "validation": { "jsonSchema": { "schema": { "type": "string" } } } }]);
    let workflow = it.add_workflow(&world, "Say", stages).await;
    let snapshot = it.take_snapshot(&world, &workflow, "Before: the fair").await;
    let exported = call(&world, &it, "ExportSnapshot", json!({ "id": snapshot })).await;
    assert_eq!(
        (&exported["fileName"], &exported["mediaType"]),
        (&json!("Before__the_fair.studios.json"), &json!("application/json"))
    );
    let file = BASE64_STANDARD.decode(exported["content"].as_str().unwrap()).unwrap();
    let said: Value = serde_json::from_slice(&file).unwrap();
    assert_eq!(
        (&said["format"], &said["format_version"], &said["made_by"]["product"]),
        (&json!("studios.workflow-snapshot"), &json!(1), &json!("studios"))
    );
    assert_eq!(said["workflow"]["definition"]["stages"][0]["llm"]["model"], "house");
    let text = String::from_utf8_lossy(&file);
    for secret in [&it.company, &it.studio, &it.user] {
        assert!(
            !text.contains(secret.as_str()),
            "a file names nothing of where it was made"
        );
    }

    let body = json!({ "studioId": there.studio, "content": exported["content"] });
    let imported = call(&world, &there, "ImportSnapshot", body).await;
    let held = &imported["snapshot"];
    assert_eq!(
        (
            &held["name"],
            &held["companyId"],
            &held["workflowId"],
            &held["createdBy"]
        ),
        (
            &json!("Before: the fair"),
            &json!(there.company),
            &json!(""),
            &json!(there.user)
        )
    );
    let original = call(&world, &it, "GetSnapshot", json!({ "id": snapshot })).await;
    assert_eq!(held["content"], original["content"]);
    let warned: Vec<_> = imported["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["field"].clone())
        .collect();
    assert_eq!(
        warned,
        [json!("content.workflow.definition.stages[0].llm.model")],
        "the model is not here"
    );
    let anew = json!({ "id": held["id"], "newWorkflow": { "name": "Say" } });
    let anew = call(&world, &there, "RestoreSnapshot", anew).await;
    let refused = world
        .refused(
            &format!("{WORKFLOWS}/PublishWorkflow"),
            json!({ "id": anew["workflow"]["id"] }),
            &there.token,
        )
        .await;
    assert_eq!(fields(&refused), ["draft.stages[0].llm.model"]);
}

#[tokio::test]
async fn a_file_is_refused_for_everything_that_is_wrong_in_it() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let workflow = it.add_workflow(&world, "Say", say("One.")).await;
    let snapshot = it.take_snapshot(&world, &workflow, "First").await;
    let exported = call(&world, &it, "ExportSnapshot", json!({ "id": snapshot })).await;
    let file = BASE64_STANDARD.decode(exported["content"].as_str().unwrap()).unwrap();
    let import = async |bytes: &[u8]| {
        let body = json!({ "studioId": it.studio, "content": BASE64_STANDARD.encode(bytes) });
        fields(&refused(&world, &it, "ImportSnapshot", body).await)
    };
    let changed = String::from_utf8(file.clone()).unwrap().replace("One.", "Two.");
    assert_eq!(import(changed.as_bytes()).await, ["content.checksum"]);
    let mut wrong: Value = serde_json::from_slice(&file).unwrap();
    wrong["workflow"]["definition"]["stages"][0]["colour"] = json!("red");
    wrong["workflow"]["name"] = json!("");
    assert_eq!(
        import(wrong.to_string().as_bytes()).await,
        [
            "content.checksum",
            "content.workflow.definition.stages[0].colour",
            "content.workflow.name"
        ]
    );
    for bytes in [
        &b"no JSON"[..],
        &[0xff, 0xfe],
        &vec![b' '; 513 * 1024],
        "[".repeat(100).as_bytes(),
    ] {
        assert_eq!(import(bytes).await, ["content"]);
    }
    let listed = call(&world, &it, "ListSnapshots", json!({ "studioId": it.studio })).await;
    assert_eq!(listed["ownCount"], 1, "nothing came in");
}

#[tokio::test]
async fn an_account_that_is_erased_leaves_its_snapshots_to_the_company_and_takes_its_count_along() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let maker = Tenant::user(&world).await;
    it.add_member(&world, &maker, "ROLE_MEMBER").await;
    let workflow = it.add_workflow(&world, "Say", say("One.")).await;
    let snapshot = id(&call(
        &world,
        &maker,
        "CreateSnapshot",
        json!({ "workflowId": workflow, "name": "Mine" }),
    )
    .await);
    let admin = world.admin().await;
    sqlx::query("update execution.snapshots set created_by = null where created_by = $1::uuid")
        .bind(&maker.user)
        .execute(&admin)
        .await
        .unwrap();
    let used: i32 = sqlx::query_scalar("select used from execution.snapshot_counts where user_id = $1::uuid")
        .bind(&maker.user)
        .fetch_one(&admin)
        .await
        .unwrap();
    assert_eq!(used, 0);
    let read = call(&world, &it, "GetSnapshot", json!({ "id": snapshot })).await;
    assert_eq!(read["createdBy"], "");
    let denied = refused(&world, &maker, "DeleteSnapshot", json!({ "id": snapshot })).await;
    assert_reason(&denied, Code::PermissionDenied, "ADMIN_REQUIRED");
    call(&world, &it, "DeleteSnapshot", json!({ "id": snapshot })).await;
}
