//! Joining a company, and what becomes of memberships.

use futures::future::join;
use serde_json::{Value, json};
use studios_tests::{
    refusal::{assert_reason, fields},
    tenant::{Tenant, id},
    world::World,
};
use tonic::Code;

const COMPANIES: &str = "studios.core.v1.CompanyService";

async fn ok(world: &World, method: &str, body: Value, who: &Tenant) -> Value {
    world.ok(&format!("{COMPANIES}/{method}"), body, &who.token).await
}

async fn refused(world: &World, method: &str, body: Value, who: &Tenant) -> tonic::Status {
    world.refused(&format!("{COMPANIES}/{method}"), body, &who.token).await
}

async fn new_code(world: &World, it: &Tenant) -> Value {
    let code = ok(world, "RotateJoinCode", json!({ "companyId": it.company }), it).await;
    json!({ "joinCode": code["code"] })
}

#[tokio::test]
async fn whoever_has_the_join_code_asks_and_an_admin_decides() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let (first, second) = (Tenant::user(&world).await, Tenant::user(&world).await);
    let code = new_code(&world, &it).await;
    let asked = ok(&world, "JoinCompany", code.clone(), &first).await;
    assert_eq!(asked["state"], "MEMBERSHIP_STATE_PENDING");
    assert_eq!(
        (&asked["role"], &asked["companyName"]),
        (&json!("ROLE_MEMBER"), &json!("Harbour Works"))
    );
    let typed = code["joinCode"].as_str().unwrap().to_lowercase().replace('-', " ");
    let again = ok(&world, "JoinCompany", json!({ "joinCode": typed }), &first).await;
    assert_eq!(again["id"], asked["id"]);

    // A request opens nothing yet, and is not the asker's to decide.
    let company = json!({ "id": it.company });
    assert_eq!(
        refused(&world, "GetCompany", company.clone(), &first).await.code(),
        Code::NotFound
    );
    let approve = json!({ "id": asked["id"], "etag": asked["etag"] });
    let status = refused(&world, "ApproveMembership", approve.clone(), &first).await;
    assert_reason(&status, Code::PermissionDenied, "ADMIN_REQUIRED");

    let pending = json!({ "companyId": it.company, "state": "MEMBERSHIP_STATE_PENDING" });
    let pending = ok(&world, "ListMemberships", pending, &it).await;
    assert_eq!(
        pending["memberships"][0]["email"],
        json!(first.email),
        "the admin sees who asks"
    );
    let approved = ok(&world, "ApproveMembership", approve.clone(), &it).await;
    assert_eq!(approved["state"], "MEMBERSHIP_STATE_APPROVED");
    ok(&world, "GetCompany", company.clone(), &first).await;
    let status = refused(&world, "ApproveMembership", approve, &it).await;
    assert_reason(&status, Code::Aborted, "ETAG_MISMATCH");
    let status = refused(&world, "JoinCompany", code.clone(), &first).await;
    assert_reason(&status, Code::AlreadyExists, "ALREADY_A_MEMBER");
    let members = ok(&world, "ListMemberships", json!({ "companyId": it.company }), &first).await;
    assert_eq!(
        members["memberships"][0]["email"], "",
        "a member does not see others' addresses"
    );

    let asked = ok(&world, "JoinCompany", code.clone(), &second).await;
    ok(&world, "RejectMembership", json!({ "id": asked["id"] }), &it).await;
    let status = refused(&world, "JoinCompany", code, &second).await;
    assert_reason(&status, Code::FailedPrecondition, "MEMBERSHIP_REFUSED");
    let own = ok(&world, "ListOwnMemberships", json!({}), &second).await;
    assert_eq!(own["memberships"][0]["state"], "MEMBERSHIP_STATE_REJECTED");
    assert_eq!(
        refused(&world, "GetCompany", company, &second).await.code(),
        Code::NotFound
    );
}

#[tokio::test]
async fn a_join_code_is_wrong_once_it_was_rotated_or_deleted() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let user = Tenant::user(&world).await;
    let company = json!({ "companyId": it.company });
    assert_eq!(
        refused(&world, "GetJoinCode", company.clone(), &it).await.code(),
        Code::NotFound
    );
    let first = new_code(&world, &it).await;
    let second = new_code(&world, &it).await;
    assert_ne!(first, second);
    assert_eq!(
        ok(&world, "GetJoinCode", company.clone(), &it).await["code"],
        second["joinCode"]
    );
    assert_eq!(
        refused(&world, "JoinCompany", first, &user).await.code(),
        Code::NotFound
    );
    ok(&world, "DeleteJoinCode", company.clone(), &it).await;
    assert_eq!(
        refused(&world, "JoinCompany", second, &user).await.code(),
        Code::NotFound
    );
    let malformed = json!({ "joinCode": "no code" });
    assert_eq!(
        fields(&refused(&world, "JoinCompany", malformed, &user).await),
        ["join_code"]
    );

    it.add_member(&world, &user, "ROLE_MEMBER").await;
    for method in ["GetJoinCode", "RotateJoinCode", "DeleteJoinCode"] {
        let status = refused(&world, method, company.clone(), &user).await;
        assert_reason(&status, Code::PermissionDenied, "ADMIN_REQUIRED");
    }
    let stored = sqlx::query_scalar::<_, i64>(
        "select count(*) from core.join_codes where position(convert_to($1, 'utf8') in sealed) > 0",
    );
    let code = ok(&world, "GetJoinCode", company, &it).await;
    let admin = world.admin().await;
    let found = stored.bind(code["code"].as_str().unwrap()).fetch_one(&admin);
    assert_eq!(found.await.unwrap(), 0, "the code is sealed");
}

#[tokio::test]
async fn admins_change_roles_and_end_memberships_and_members_leave() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let (first, second) = (Tenant::user(&world).await, Tenant::user(&world).await);
    let of_first = it.add_member(&world, &first, "ROLE_MEMBER").await;
    let of_second = it.add_member(&world, &second, "ROLE_MEMBER").await;
    let promote = json!({ "membership": { "id": of_first, "role": "ROLE_ADMIN" }, "updateMask": "role" });
    let status = refused(&world, "UpdateMembership", promote.clone(), &first).await;
    assert_reason(&status, Code::PermissionDenied, "ADMIN_REQUIRED");
    let status = refused(&world, "RemoveMembership", json!({ "id": of_second }), &first).await;
    assert_reason(&status, Code::PermissionDenied, "ADMIN_REQUIRED");
    let unknown = json!({ "membership": { "id": of_first, "role": "ROLE_ADMIN" }, "updateMask": "state" });
    assert_eq!(
        fields(&refused(&world, "UpdateMembership", unknown, &it).await),
        ["update_mask"]
    );
    let nothing = json!({ "membership": { "id": of_first }, "updateMask": "role" });
    assert_eq!(
        fields(&refused(&world, "UpdateMembership", nothing, &it).await),
        ["membership.role"]
    );

    assert_eq!(ok(&world, "UpdateMembership", promote, &it).await["role"], "ROLE_ADMIN");
    ok(&world, "RotateJoinCode", json!({ "companyId": it.company }), &first).await;
    let ended = ok(&world, "RemoveMembership", json!({ "id": of_second }), &first).await;
    assert_eq!(ended["state"], "MEMBERSHIP_STATE_INACTIVE");
    let company = json!({ "id": it.company });
    assert_eq!(
        refused(&world, "GetCompany", company.clone(), &second).await.code(),
        Code::NotFound
    );
    let status = refused(&world, "RemoveMembership", json!({ "id": of_second }), &first).await;
    assert_reason(&status, Code::FailedPrecondition, "MEMBERSHIP_STATE");
    ok(&world, "ApproveMembership", json!({ "id": of_second }), &it).await;
    ok(&world, "GetCompany", company.clone(), &second).await;
    let left = ok(&world, "RemoveMembership", json!({ "id": of_second }), &second).await;
    assert_eq!(left["state"], "MEMBERSHIP_STATE_INACTIVE");
    assert_eq!(
        refused(&world, "GetCompany", company, &second).await.code(),
        Code::NotFound
    );

    let own = json!({ "membership": { "id": it.membership, "role": "ROLE_MEMBER" } });
    ok(&world, "UpdateMembership", own, &it).await;
    let own = json!({ "membership": { "id": of_first, "role": "ROLE_MEMBER" } });
    let status = refused(&world, "UpdateMembership", own, &first).await;
    assert_reason(&status, Code::FailedPrecondition, "LAST_ADMIN");
    let status = refused(&world, "RemoveMembership", json!({ "id": of_first }), &first).await;
    assert_reason(&status, Code::FailedPrecondition, "LAST_ADMIN");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_admins_who_leave_at_the_same_time_one_stays() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let other = Tenant::user(&world).await;
    let membership = it.add_member(&world, &other, "ROLE_ADMIN").await;
    for _ in 0..8 {
        let remove = format!("{COMPANIES}/RemoveMembership");
        let leave = |id: &str, who: &Tenant| {
            let (world, remove, body, token) = (&world, remove.clone(), json!({ "id": id }), who.token.clone());
            async move { world.call(&remove, body, Some(&token)).await }
        };
        let (one, two) = join(leave(&it.membership, &it), leave(&membership, &other)).await;
        let (stays, back) = match (&one, &two) {
            (Ok(_), Err(status)) => {
                assert_reason(status, Code::FailedPrecondition, "LAST_ADMIN");
                (&other, &it.membership)
            }
            (Err(status), Ok(_)) => {
                assert_reason(status, Code::FailedPrecondition, "LAST_ADMIN");
                (&it, &membership)
            }
            both => panic!("{both:?}"),
        };
        let again = json!({ "id": back, "role": "ROLE_ADMIN" });
        let restored = id(&ok(&world, "ApproveMembership", again, stays).await);
        assert!(restored == it.membership || restored == membership);
    }
}

#[tokio::test]
async fn a_company_takes_in_no_more_members_than_its_plan_allows() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    for _ in 1..5 {
        it.add_member(&world, &Tenant::user(&world).await, "ROLE_MEMBER").await;
    }
    let late = Tenant::user(&world).await;
    let code = new_code(&world, &it).await;
    let asked = ok(&world, "JoinCompany", code, &late).await;
    let status = refused(&world, "ApproveMembership", json!({ "id": asked["id"] }), &it).await;
    assert_reason(&status, Code::ResourceExhausted, "MEMBER_QUOTA_EXCEEDED");
}
