//! Fields that a caller may not set, set all the same: by a mask that names them, and in the message itself.

use serde_json::{Value, json};
use studios_tests::{
    call,
    refusal::fields,
    rows::ROWS,
    tenant::{Tenant, id},
    world::World,
};

/// What the contracts' resources have and no update changes.
const KEPT: [&str; 20] = [
    "id",
    "company_id",
    "studio_id",
    "user_id",
    "owner_id",
    "created_by",
    "uploaded_by",
    "create_time",
    "update_time",
    "delete_time",
    "etag",
    "plan",
    "subscription",
    "suspended",
    "max_snapshots",
    "state",
    "email",
    "published_version",
    "newest_version",
    "size_bytes",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mask_changes_no_field_that_is_not_the_callers_to_set() {
    let world = World::start().await;
    let it = Tenant::make(&world).await;
    let mut tried = 0;
    for row in ROWS {
        let input = call::method(row.method).input();
        if input.get_field_by_name("update_mask").is_none() {
            continue;
        }
        let resource = input.fields().next().unwrap();
        let message = resource.kind().as_message().unwrap().clone();
        for field in message.fields().filter(|it| KEPT.contains(&it.name())) {
            tried += 1;
            let mut body = (row.body)(&it);
            body["updateMask"] = json!(field.json_name());
            let refused = world.refused(row.method, body, &it.token).await;
            assert_eq!(fields(&refused), ["update_mask"], "{} {}", row.method, field.name());
        }
    }
    assert!(tried > 40, "{tried}");
}

#[tokio::test]
async fn what_a_creation_says_of_whose_it_is_and_what_it_may_is_not_believed() {
    let world = World::start().await;
    let (it, other) = (Tenant::with_studio(&world).await, Tenant::with_studio(&world).await);
    let made = world
        .ok(
            "studios.core.v1.CompanyService/CreateCompany",
            json!({ "company": { "id": other.company, "name": "Second works", "industryType": "INDUSTRY_TYPE_OTHER",
                "contactEmail": "office@example.com", "headquartersAddress": "1 Pier Road, Harbour Town",
                "createdBy": other.user, "plan": "enterprise" } }),
            &it.token,
        )
        .await;
    assert_ne!(id(&made), other.company);
    assert_eq!((&made["plan"], &made["createdBy"]), (&json!("free"), &json!(it.user)));
    let studio = json!({ "studio": { "id": other.studio, "companyId": it.company, "name": "Mine", "createdBy": other.user,
        "businessArea": "BUSINESS_AREA_HR" } });
    let made = world
        .ok("studios.core.v1.StudioService/CreateStudio", studio, &it.token)
        .await;
    assert_ne!(id(&made), other.studio);
    assert_eq!(made["createdBy"], json!(it.user));
    // A branch of another company's.
    let studio = json!({ "studio": { "companyId": it.company, "branchId": other.branch, "name": "Theirs",
        "businessArea": "BUSINESS_AREA_HR" } });
    let refused = world
        .refused("studios.core.v1.StudioService/CreateStudio", studio, &it.token)
        .await;
    assert_eq!(refused.code(), tonic::Code::NotFound, "{refused:?}");
    let profile = json!({ "user": { "id": it.user, "fullName": "Still free", "maxSnapshots": 5000, "plan": "enterprise",
        "email": other.email } });
    let changed: Value = world
        .ok("studios.core.v1.UserService/UpdateProfile", profile, &it.token)
        .await;
    assert_eq!(changed["fullName"], json!("Still free"));
    assert!(
        changed["maxSnapshots"] != json!(5000) && changed["plan"] != json!("enterprise"),
        "{changed}"
    );
    assert_eq!(changed["email"], json!(it.email));
}
