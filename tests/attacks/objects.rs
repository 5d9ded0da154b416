//! What one tenant holds opens nothing of another's: page tokens, request ids, signed URLs, invitations, etags.

use serde_json::json;
use studios_tests::{
    refusal::{assert_reason, fields},
    tenant::{Tenant, id},
    world::World,
};
use tonic::Code;
use uuid::Uuid;

const CREATE: &str = "studios.core.v1.StudioService/CreateStudio";
const LIST: &str = "studios.core.v1.StudioService/ListStudios";

#[tokio::test]
async fn a_page_token_shows_nobody_else_a_page() {
    let world = World::start().await;
    let (it, other) = (Tenant::with_studio(&world).await, Tenant::with_studio(&world).await);
    for tenant in [&it, &other] {
        let studio =
            json!({ "studio": { "companyId": tenant.company, "name": "Second", "businessArea": "BUSINESS_AREA_HR" } });
        world.ok(CREATE, studio, &tenant.token).await;
    }
    let page = world
        .ok(LIST, json!({ "companyId": it.company, "pageSize": 1 }), &it.token)
        .await;
    let token = page["nextPageToken"].as_str().unwrap();
    for company in [&it.company, &other.company] {
        let body = json!({ "companyId": company, "pageSize": 1, "pageToken": token });
        let refused = world.refused(LIST, body, &other.token).await;
        assert!(
            matches!(refused.code(), Code::NotFound | Code::InvalidArgument),
            "{refused:?}"
        );
    }
    // Without a company the list is the caller's own, and so is its token.
    let page = world.ok(LIST, json!({ "pageSize": 1 }), &it.token).await;
    let body = json!({ "pageSize": 1, "pageToken": page["nextPageToken"] });
    match world.call(LIST, body, Some(&other.token)).await {
        Ok(answer) => assert!(!answer.to_string().contains(&it.company), "{answer}"),
        Err(refused) => assert_eq!(fields(&refused), ["page_token"]),
    }
}

#[tokio::test]
async fn a_request_id_of_somebody_else_names_nothing_of_his() {
    let world = World::start().await;
    let (it, other) = (Tenant::with_studio(&world).await, Tenant::with_studio(&world).await);
    let request = Uuid::now_v7().to_string();
    let body = |tenant: &Tenant| json!({ "studio": { "companyId": tenant.company, "name": "Once", "businessArea": "BUSINESS_AREA_HR" }, "requestId": request });
    let first = world.ok(CREATE, body(&it), &it.token).await;
    let others = world.ok(CREATE, body(&other), &other.token).await;
    assert_ne!(id(&first), id(&others));
    assert_eq!(others["companyId"], json!(other.company));
    let again = world.ok(CREATE, body(&it), &it.token).await;
    assert_eq!(id(&again), id(&first));
    // The very same request by another caller is judged as his.
    let stolen = world.refused(CREATE, body(&it), &other.token).await;
    assert_eq!(stolen.code(), Code::NotFound);

    let workflow = it
        .add_workflow(
            &world,
            "Say",
            json!([{ "name": "say", "llm": { "model": "offline", "prompt": "The pier is lit." } }]),
        )
        .await;
    let start = "studios.execution.v1.ExecutionService/StartExecution";
    let body = json!({ "workflowId": workflow, "requestId": request });
    let run = id(&world.ok(start, body.clone(), &it.token).await);
    let stolen = world.refused(start, body, &other.token).await;
    assert_eq!(stolen.code(), Code::NotFound);
    world.finished(&run, &it.token).await;
}

#[tokio::test]
async fn an_invitation_is_worth_nothing_to_whom_it_is_not_for() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let (invited, thief) = (Tenant::user(&world).await, Tenant::user(&world).await);
    for user in [&invited, &thief] {
        world.verify_email(user).await;
    }
    let (_, token) = it.invite(&world, &invited.email, "ROLE_ADMIN").await;
    let accept = "studios.core.v1.InvitationService/AcceptInvitation";
    let body = json!({ "token": token });
    let refused = world.refused(accept, body.clone(), &thief.token).await;
    assert_eq!(refused.code(), Code::NotFound);
    let unknown = world
        .refused(accept, json!({ "token": "0".repeat(token.len()) }), &thief.token)
        .await;
    assert_eq!(refused.message(), unknown.message(), "that there is one does not show");
    world.ok(accept, body, &invited.token).await;
}

#[tokio::test]
async fn an_etag_of_another_thing_changes_nothing() {
    let world = World::start().await;
    let (it, other) = (Tenant::with_studio(&world).await, Tenant::with_studio(&world).await);
    let get = "studios.core.v1.StudioService/GetStudio";
    let update = "studios.core.v1.StudioService/UpdateStudio";
    let change =
        |studio: &str, etag: &str| json!({ "studio": { "id": studio, "description": "Changed.", "etag": etag } });
    let before = world.ok(get, json!({ "id": it.studio }), &it.token).await;
    // The victim's current etag, in the attacker's hands.
    let foreign = change(&it.studio, before["etag"].as_str().unwrap());
    assert_eq!(
        world.refused(update, foreign, &other.token).await.code(),
        Code::NotFound
    );
    for _ in 0..2 {
        world.ok(update, change(&other.studio, ""), &other.token).await;
        let body = json!({ "studio": { "id": other.studio, "description": Uuid::now_v7().to_string() } });
        world.ok(update, body, &other.token).await;
    }
    let others = world.ok(get, json!({ "id": other.studio }), &other.token).await;
    let stale = change(&it.studio, others["etag"].as_str().unwrap());
    let refused = world.refused(update, stale, &it.token).await;
    assert_reason(&refused, Code::Aborted, "ETAG_MISMATCH");
    let after = world.ok(get, json!({ "id": it.studio }), &it.token).await;
    assert_eq!(before, after);
}

#[tokio::test]
async fn a_signed_url_gives_the_file_that_it_was_made_for_and_no_other() {
    let world = World::start().await;
    let (it, other) = (Tenant::make(&world).await, Tenant::make(&world).await);
    let make = "studios.core.v1.FileService/CreateDownloadUrl";
    let stolen = world.refused(make, json!({ "id": it.file }), &other.token).await;
    assert_eq!(stolen.code(), Code::NotFound);
    let url = async |tenant: &Tenant| {
        let made = world.ok(make, json!({ "id": tenant.file }), &tenant.token).await;
        made["urlPath"].as_str().unwrap().to_owned()
    };
    let (his, own) = (url(&it).await, url(&other).await);
    // The claims of the one under the signature of the other.
    let (his_claims, _) = his.rsplit_once('.').unwrap();
    let (_, own_signature) = own.rsplit_once('.').unwrap();
    let http = reqwest::Client::new();
    let got = async |path: &str| http.get(world.url(path)).send().await.unwrap().status().as_u16();
    assert_eq!(got(&his).await, 200);
    assert_eq!(got(&format!("{his_claims}.{own_signature}")).await, 404);
    assert_eq!(got(&his.replace("downloads", "uploads")).await, 405);
}
