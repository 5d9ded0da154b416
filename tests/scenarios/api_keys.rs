//! API keys: what machines may do with them, and when no longer.

use std::time::Instant;

use serde_json::{Value, json};
use studios_tests::{
    refusal::assert_reason,
    tenant::{Tenant, id, summary_stage},
    world::World,
};
use tonic::{Code, Status};

const KEYS: &str = "studios.core.v1.ApiKeyService";
const LIST_STUDIOS: &str = "studios.core.v1.StudioService/ListStudios";
const LIST_WORKFLOWS: &str = "studios.execution.v1.WorkflowService/ListWorkflows";

async fn key_of(world: &World, it: &Tenant, key: &str) -> Value {
    let body = json!({ "companyId": it.company });
    let keys = world.ok(&format!("{KEYS}/ListApiKeys"), body, &it.token).await;
    let keys = keys["apiKeys"].as_array().unwrap();
    keys.iter().find(|it| it["id"] == key).unwrap().clone()
}

/// Asks until it is refused, and says after how long and how.
async fn until_refused(world: &World, method: &str, body: &Value, key: &str) -> (u128, Status) {
    let begun = Instant::now();
    loop {
        if let Err(status) = world.call(method, body.clone(), Some(key)).await {
            return (begun.elapsed().as_millis(), status);
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_key_acts_within_its_scopes_in_both_services_and_at_the_gateway() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let scopes = ["studios:read", "workflows:*", "executions:write"];
    let (id_of_key, key) = it.add_key(&world, "Crane", &scopes).await;

    let studios = world.ok(LIST_STUDIOS, json!({}), &key).await;
    assert_eq!(id(&studios["studios"][0]), it.studio);
    let draft = json!({ "stages": [{ "name": "last", "llm": { "model": "offline", "prompt": "The pier is lit." } }] });
    let workflow = json!({ "workflow": { "studioId": it.studio, "name": "By a machine", "draft": draft } });
    let workflow = id(&world
        .ok("studios.execution.v1.WorkflowService/CreateWorkflow", workflow, &key)
        .await);
    world
        .ok(
            "studios.execution.v1.WorkflowService/PublishWorkflow",
            json!({ "id": workflow }),
            &key,
        )
        .await;
    let run = world
        .ok(
            "studios.execution.v1.ExecutionService/StartExecution",
            json!({ "workflowId": workflow }),
            &key,
        )
        .await;
    assert_eq!(run["startedBy"], id_of_key);
    world.finished(&id(&run), &it.token).await;

    let studio =
        json!({ "studio": { "companyId": it.company, "name": "Not allowed", "businessArea": "BUSINESS_AREA_HR" } });
    let missing = [
        ("studios.core.v1.StudioService/CreateStudio", studio),
        (
            "studios.execution.v1.ExecutionService/GetExecution",
            json!({ "id": id(&run) }),
        ),
        (
            "studios.core.v1.DocumentService/ListDocuments",
            json!({ "studioId": it.studio }),
        ),
    ];
    for (method, body) in missing {
        let refused = world.refused(method, body, &key).await;
        assert_reason(&refused, Code::PermissionDenied, "SCOPE_MISSING");
    }
    let closed = [
        ("studios.core.v1.UserService/GetProfile", json!({})),
        ("studios.core.v1.CompanyService/CreateCompany", json!({})),
        (
            "studios.core.v1.ApiKeyService/ListApiKeys",
            json!({ "companyId": it.company }),
        ),
        (
            "studios.core.v1.AuditService/ListAuditEntries",
            json!({ "companyId": it.company }),
        ),
    ];
    let (_, everything) = it.add_key(&world, "Everything", &["*:*"]).await;
    for (method, body) in closed {
        let refused = world.refused(method, body, &everything).await;
        assert_reason(&refused, Code::PermissionDenied, "API_KEY_NOT_ALLOWED");
    }
    let curl = reqwest::Client::new()
        .post(world.url(LIST_STUDIOS))
        .bearer_auth(&key)
        .header("content-type", "application/json")
        .body("{}")
        .send()
        .await
        .unwrap();
    assert_eq!(curl.status(), 200);
}

#[tokio::test]
async fn a_key_is_shown_once_and_stored_as_what_nobody_can_use() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let (id_of_key, key) = it.add_key(&world, "Crane", &["studios:read"]).await;
    let shown = key_of(&world, &it, &id_of_key).await;
    assert!(key.starts_with(shown["prefix"].as_str().unwrap()));
    assert!(!shown.to_string().contains(&key) && shown["lastUsedTime"].is_null());
    let row: String =
        sqlx::query_scalar("select k::text || encode(k.hash, 'escape') from core.api_keys k where id = $1::uuid")
            .bind(&id_of_key)
            .fetch_one(&world.admin().await)
            .await
            .unwrap();
    assert!(!row.contains(&key[20..]), "{row}");
    world.ok(LIST_STUDIOS, json!({}), &key).await;
    assert!(!key_of(&world, &it, &id_of_key).await["lastUsedTime"].is_null());

    let mut wrong = key.clone();
    wrong.replace_range(20..21, if &key[20..21] == "x" { "y" } else { "x" });
    for wrong in [wrong.as_str(), "sk_studios_", &key[..56]] {
        let refused = world.refused(LIST_STUDIOS, json!({}), wrong).await;
        assert_reason(&refused, Code::Unauthenticated, "API_KEY_INVALID");
    }
}

#[tokio::test]
async fn a_revoked_key_is_out_within_a_second_in_both_services() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let (id_of_key, key) = it.add_key(&world, "Crane", &["*:read"]).await;
    let workflows = json!({ "studioId": it.studio });
    world.ok(LIST_STUDIOS, json!({ "companyId": it.company }), &key).await;
    world.ok(LIST_WORKFLOWS, workflows.clone(), &key).await;
    let revoked = world
        .ok(&format!("{KEYS}/RevokeApiKey"), json!({ "id": id_of_key }), &it.token)
        .await;
    assert!(!revoked["revokeTime"].is_null());
    // In core-service its place is gone with the commit, whatever is remembered of the key.
    let hidden = world
        .refused(LIST_STUDIOS, json!({ "companyId": it.company }), &key)
        .await;
    assert!(
        matches!(hidden.code(), Code::NotFound | Code::Unauthenticated),
        "{hidden:?}"
    );
    let (after_ms, refused) = until_refused(&world, LIST_WORKFLOWS, &workflows, &key).await;
    assert!(after_ms < 1000, "{after_ms} ms");
    assert!(
        matches!(refused.code(), Code::NotFound | Code::Unauthenticated),
        "{refused:?}"
    );
    let (after_ms, refused) = until_refused(&world, LIST_STUDIOS, &json!({}), &key).await;
    assert!(after_ms < 1500, "{after_ms} ms");
    assert_reason(&refused, Code::Unauthenticated, "API_KEY_INVALID");
}

#[tokio::test]
async fn a_key_ends_by_itself_at_its_time() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let past = json!({ "apiKey": { "companyId": it.company, "name": "Late", "scopes": ["*:read"], "expireTime": "2020-01-01T00:00:00Z" } });
    let refused = world.refused(&format!("{KEYS}/CreateApiKey"), past, &it.token).await;
    assert_eq!(refused.code(), Code::InvalidArgument);
    let (id_of_key, key) = it.add_key(&world, "Crane", &["*:read"]).await;
    sqlx::query("update core.api_keys set expires_at = now() where id = $1::uuid")
        .bind(&id_of_key)
        .execute(&world.admin().await)
        .await
        .unwrap();
    let (_, refused) = until_refused(&world, LIST_STUDIOS, &json!({}), &key).await;
    assert_reason(&refused, Code::Unauthenticated, "API_KEY_INVALID");
}

#[tokio::test]
async fn a_key_reaches_the_branches_that_it_is_narrowed_to() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let studio =
        json!({ "studio": { "companyId": it.company, "name": "Of no branch", "businessArea": "BUSINESS_AREA_HR" } });
    let other = id(&world
        .ok("studios.core.v1.StudioService/CreateStudio", studio, &it.token)
        .await);
    let body =
        json!({ "apiKey": { "companyId": it.company, "name": "North", "scopes": ["*:*"], "branchIds": [it.branch] } });
    let made = world.ok(&format!("{KEYS}/CreateApiKey"), body, &it.token).await;
    let key = made["key"].as_str().unwrap();
    let studios = world.ok(LIST_STUDIOS, json!({}), key).await;
    assert_eq!(studios["studios"].as_array().map(Vec::len), Some(1));
    assert_eq!(id(&studios["studios"][0]), it.studio);
    for method in ["studios.core.v1.DocumentService/ListDocuments", LIST_WORKFLOWS] {
        world.ok(method, json!({ "studioId": it.studio }), key).await;
        let hidden = world.refused(method, json!({ "studioId": other }), key).await;
        assert_eq!(hidden.code(), Code::NotFound, "{method}");
    }
    let strangers = Tenant::with_studio(&world).await;
    let body = json!({ "apiKey": { "companyId": it.company, "name": "Other", "scopes": ["*:*"], "branchIds": [strangers.branch] } });
    let refused = world.refused(&format!("{KEYS}/CreateApiKey"), body, &it.token).await;
    assert_eq!(refused.code(), Code::NotFound);
}

#[tokio::test]
async fn a_key_is_no_member_and_what_it_does_is_recorded_as_its_own() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let (id_of_key, key) = it.add_key(&world, "Crane", &["workflows:write"]).await;
    let body = json!({ "companyId": it.company });
    let members = world
        .ok(
            "studios.core.v1.CompanyService/ListMemberships",
            body.clone(),
            &it.token,
        )
        .await;
    assert_eq!(members["memberships"].as_array().map(Vec::len), Some(1));
    let draft = json!({ "stages": [summary_stage("offline")] });
    let workflow = json!({ "workflow": { "studioId": it.studio, "name": "By a machine", "draft": draft } });
    let workflow = world
        .ok("studios.execution.v1.WorkflowService/CreateWorkflow", workflow, &key)
        .await;
    let filter = json!({ "companyId": it.company, "actorId": id_of_key });
    let log = world
        .ok(
            "studios.execution.v1.ExecutionAuditService/ListAuditEntries",
            filter,
            &it.token,
        )
        .await;
    assert_eq!(log["entries"][0]["actorKind"], "AUDIT_ACTOR_KIND_API_KEY");
    assert_eq!(log["entries"][0]["thingId"], workflow["id"]);
    let log = world
        .ok("studios.core.v1.AuditService/ListAuditEntries", body, &it.token)
        .await;
    assert_eq!(log["entries"][0]["action"], "ApiKeyService.CreateApiKey");
}

#[tokio::test]
async fn admins_alone_make_keys_and_what_is_wrong_with_one_is_told() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let member = Tenant::user(&world).await;
    it.add_member(&world, &member, "ROLE_MEMBER").await;
    let create = format!("{KEYS}/CreateApiKey");
    let body =
        |name: &str, scope: &str| json!({ "apiKey": { "companyId": it.company, "name": name, "scopes": [scope] } });
    let refused = world.refused(&create, body("Crane", "*:read"), &member.token).await;
    assert_reason(&refused, Code::PermissionDenied, "ADMIN_REQUIRED");
    for scope in ["ships:read", "users:read", "companies:write", "read", "*"] {
        let refused = world.refused(&create, body("Crane", scope), &it.token).await;
        assert_eq!(refused.code(), Code::InvalidArgument, "{scope}");
    }
    let (first, _) = it.add_key(&world, "Crane", &["*:read"]).await;
    let taken = world.refused(&create, body("Crane", "*:read"), &it.token).await;
    assert_reason(&taken, Code::AlreadyExists, "API_KEY_NAME_TAKEN");
    let hidden = world
        .refused(&format!("{KEYS}/RevokeApiKey"), json!({ "id": first }), &member.token)
        .await;
    assert_eq!(hidden.code(), Code::NotFound);
    world
        .ok(&format!("{KEYS}/RevokeApiKey"), json!({ "id": first }), &it.token)
        .await;
    world.ok(&create, body("Crane", "*:read"), &it.token).await;
}
