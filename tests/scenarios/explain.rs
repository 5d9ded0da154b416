//! Why somebody may or may not see a row.

use serde_json::{Value, json};
use studios_tests::{
    refusal::assert_reason,
    tenant::{Tenant, id},
    world::World,
};
use tonic::Code;

use super::terminal::{lines, studios};

const EXPLAIN: &str = "studios.core.v1.CompanyService/ExplainAccess";

/// Whether it is allowed, and which checks fail.
fn told(answer: &Value) -> (bool, Vec<String>) {
    let failed = answer["steps"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|it| it["passed"] == false);
    let failed = failed
        .map(|it| it["check"].as_str().unwrap().replace("ACCESS_CHECK_", ""))
        .collect();
    (answer["allowed"].as_bool().unwrap(), failed)
}

#[tokio::test]
async fn an_admin_is_told_step_by_step_why_somebody_does_not_see_a_row() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let (member, stranger) = (Tenant::user(&world).await, Tenant::with_studio(&world).await);
    let membership = it.add_member(&world, &member, "ROLE_MEMBER").await;
    let body = |user: &str, thing: &str, id: &str| json!({ "companyId": it.company, "userId": user, thing: id });
    let explain =
        async |user: &str, thing: &str, id: &str| told(&world.ok(EXPLAIN, body(user, thing, id), &it.token).await);
    assert_eq!(explain(&member.user, "studioId", &it.studio).await, (true, vec![]));
    let outside = (false, ["MEMBERSHIP", "ROLE", "POLICY"].map(str::to_owned).to_vec());
    assert_eq!(explain(&stranger.user, "studioId", &it.studio).await, outside);

    let note = json!({ "document": { "studioId": it.studio, "title": "Mine", "mimeType": "text/plain",
        "accessLevel": "ACCESS_LEVEL_PRIVATE" }, "text": "The pier is lit at night." });
    let note = id(&world
        .ok("studios.core.v1.DocumentService/CreateDocument", note, &it.token)
        .await);
    let private = (false, ["THING", "POLICY"].map(str::to_owned).to_vec());
    assert_eq!(explain(&member.user, "documentId", &note).await, private);
    assert_eq!(explain(&it.user, "documentId", &note).await, (true, vec![]));

    let studio =
        json!({ "studio": { "companyId": it.company, "name": "Of no branch", "businessArea": "BUSINESS_AREA_HR" } });
    let other = id(&world
        .ok("studios.core.v1.StudioService/CreateStudio", studio, &it.token)
        .await);
    let key =
        json!({ "apiKey": { "companyId": it.company, "name": "North", "scopes": ["*:*"], "branchIds": [it.branch] } });
    let key = id(&world
        .ok("studios.core.v1.ApiKeyService/CreateApiKey", key, &it.token)
        .await["apiKey"]);
    assert_eq!(explain(&key, "studioId", &it.studio).await, (true, vec![]));
    let narrowed = (false, ["BRANCH", "POLICY"].map(str::to_owned).to_vec());
    assert_eq!(explain(&key, "studioId", &other).await, narrowed);

    let gone = json!({ "id": membership });
    world
        .ok("studios.core.v1.CompanyService/RemoveMembership", gone, &it.token)
        .await;
    let ended = (false, ["MEMBERSHIP", "POLICY"].map(str::to_owned).to_vec());
    assert_eq!(explain(&member.user, "studioId", &it.studio).await, ended);
}

#[tokio::test]
async fn admins_alone_ask_and_about_what_they_see() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let (member, stranger) = (Tenant::user(&world).await, Tenant::with_studio(&world).await);
    it.add_member(&world, &member, "ROLE_MEMBER").await;
    let own = json!({ "companyId": it.company, "userId": it.user, "studioId": it.studio });
    let refused = world.refused(EXPLAIN, own, &member.token).await;
    assert_reason(&refused, Code::PermissionDenied, "ADMIN_REQUIRED");
    let foreign = json!({ "companyId": it.company, "userId": it.user, "studioId": stranger.studio });
    assert_eq!(world.refused(EXPLAIN, foreign, &it.token).await.code(), Code::NotFound);
    let nothing = json!({ "companyId": it.company, "userId": it.user });
    assert_eq!(
        world.refused(EXPLAIN, nothing, &it.token).await.code(),
        Code::InvalidArgument
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_is_told_in_a_terminal_why_somebody_does_not_see_a_row() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let (member, stranger) = (Tenant::user(&world).await, Tenant::user(&world).await);
    it.add_member(&world, &member, "ROLE_MEMBER").await;
    let ask = |user: &str| ["explain", &it.company, user, "--studio", &it.studio, "--json"].map(str::to_owned);
    for (user, exit, allowed) in [(&member.user, 0, true), (&stranger.user, 1, false)] {
        let arguments = ask(user);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let said = studios(&world, &it, &arguments).await;
        assert_eq!(said.status.code(), Some(exit), "{said:?}");
        assert_eq!(told(&lines(&said)[0]).0, allowed);
    }
    let said = studios(
        &world,
        &it,
        &["explain", &it.company, &stranger.user, "--studio", &it.studio],
    )
    .await;
    let text = String::from_utf8(said.stdout).unwrap();
    assert!(
        text.starts_with("not allowed\n") && text.contains("membership  fails"),
        "{text}"
    );
    let nothing = studios(&world, &it, &["explain", &it.company, &member.user]).await;
    assert_eq!(nothing.status.code(), Some(2));
}
