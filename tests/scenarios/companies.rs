//! Companies, branches, members and plans.

use serde_json::json;
use studios_tests::{
    refusal::{assert_reason, fields},
    tenant::{Tenant, id},
    world::World,
};
use tonic::Code;
use uuid::Uuid;

const COMPANIES: &str = "studios.core.v1.CompanyService";

#[tokio::test]
async fn whoever_makes_a_company_is_its_admin() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let members = world
        .ok(
            &format!("{COMPANIES}/ListMemberships"),
            json!({ "companyId": it.company }),
            &it.token,
        )
        .await;
    let members = members["memberships"].as_array().unwrap();
    assert_eq!(members.len(), 1);
    assert_eq!(
        (&members[0]["userId"], &members[0]["role"]),
        (&json!(it.user), &json!("ROLE_ADMIN"))
    );
    assert_eq!(
        (&members[0]["state"], &members[0]["fullName"]),
        (&json!("MEMBERSHIP_STATE_APPROVED"), &json!("Test User"))
    );
    let company = world
        .ok(
            &format!("{COMPANIES}/GetCompany"),
            json!({ "id": it.company }),
            &it.token,
        )
        .await;
    assert_eq!(
        (&company["plan"], &company["createdBy"]),
        (&json!("free"), &json!(it.user))
    );
}

#[tokio::test]
async fn a_company_names_every_wrong_field() {
    let world = World::start().await;
    let user = Tenant::user(&world).await;
    let body = json!({ "company": { "name": "x", "contactEmail": "no address", "contactPhone": "call me", "headquartersAddress": "short" },
        "requestId": "not a uuid" });
    let status = world
        .refused(&format!("{COMPANIES}/CreateCompany"), body, &user.token)
        .await;
    assert_eq!(
        fields(&status),
        [
            "company.contact_email",
            "company.contact_phone",
            "company.headquarters_address",
            "company.industry_type",
            "company.name",
            "request_id"
        ]
    );
}

#[tokio::test]
async fn a_companys_name_is_unique_per_user_and_a_repeated_request_makes_one_company() {
    let world = World::start().await;
    let user = Tenant::user(&world).await;
    let create = format!("{COMPANIES}/CreateCompany");
    let mut body = json!({ "company": { "name": "Twice", "industryType": "INDUSTRY_TYPE_FINANCE", "contactEmail": "a@example.com",
        "headquartersAddress": "1 Example Street" }, "requestId": Uuid::now_v7().to_string() });
    let first = id(&world.ok(&create, body.clone(), &user.token).await);
    assert_eq!(id(&world.ok(&create, body.clone(), &user.token).await), first);

    body["company"]["contactEmail"] = json!("b@example.com");
    assert_eq!(
        fields(&world.refused(&create, body.clone(), &user.token).await),
        ["request_id"]
    );
    body["requestId"] = json!("");
    assert_reason(
        &world.refused(&create, body.clone(), &user.token).await,
        Code::AlreadyExists,
        "COMPANY_NAME_TAKEN",
    );
    let other = Tenant::user(&world).await;
    world.ok(&create, body, &other.token).await;
}

#[tokio::test]
async fn a_member_who_is_no_admin_sees_the_company_and_cannot_change_it() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let member = Tenant::user(&world).await;
    it.add_member(&world, &member, "ROLE_MEMBER").await;
    world
        .ok(
            &format!("{COMPANIES}/GetCompany"),
            json!({ "id": it.company }),
            &member.token,
        )
        .await;
    for (method, body) in [
        (
            "UpdateCompany",
            json!({ "company": { "id": it.company, "name": "Taken over" } }),
        ),
        (
            "CreateBranch",
            json!({ "branch": { "companyId": it.company, "name": "Mine", "address": "9 Pier Road, Harbour" } }),
        ),
        ("UpdateBranch", json!({ "branch": { "id": it.branch, "name": "Mine" } })),
        ("DeleteBranch", json!({ "id": it.branch })),
    ] {
        let status = world
            .refused(&format!("{COMPANIES}/{method}"), body, &member.token)
            .await;
        assert_reason(&status, Code::PermissionDenied, "ADMIN_REQUIRED");
    }
}

#[tokio::test]
async fn a_branch_is_changed_and_removed_once_no_studio_names_it() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let body = json!({ "branch": { "id": it.branch, "contactPhone": "+14155550100" }, "updateMask": "contactPhone" });
    let branch = world.ok(&format!("{COMPANIES}/UpdateBranch"), body, &it.token).await;
    assert_eq!(
        (&branch["contactPhone"], &branch["name"]),
        (&json!("+14155550100"), &json!("North pier"))
    );

    let remove = format!("{COMPANIES}/DeleteBranch");
    let body = json!({ "id": it.branch });
    assert_eq!(
        world.refused(&remove, body.clone(), &it.token).await.code(),
        Code::FailedPrecondition
    );
    let unname = json!({ "studio": { "id": it.studio }, "updateMask": "branchId" });
    world
        .ok("studios.core.v1.StudioService/UpdateStudio", unname, &it.token)
        .await;
    world.ok(&remove, body.clone(), &it.token).await;
    assert_eq!(world.refused(&remove, body, &it.token).await.code(), Code::NotFound);
}

#[tokio::test]
async fn plans_are_listed_with_their_limits() {
    let world = World::start().await;
    let user = Tenant::user(&world).await;
    let plans = world
        .ok(&format!("{COMPANIES}/ListPlans"), json!({}), &user.token)
        .await;
    let codes: Vec<_> = plans["plans"]
        .as_array()
        .unwrap()
        .iter()
        .map(|plan| plan["code"].as_str().unwrap())
        .collect();
    assert_eq!(codes, ["free", "pro", "enterprise"]);
    assert_eq!(plans["plans"][1]["limits"]["concurrentExecutions"], 50);
}
