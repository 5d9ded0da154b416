//! Studios.

use serde_json::json;
use studios_tests::{
    refusal::{assert_reason, fields},
    tenant::{Tenant, id},
    world::World,
};
use tonic::Code;

const STUDIOS: &str = "studios.core.v1.StudioService";

#[tokio::test]
async fn a_studio_is_deleted_softly_and_brought_back() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let body = json!({ "id": it.studio });
    let deleted = world
        .ok(&format!("{STUDIOS}/DeleteStudio"), body.clone(), &it.token)
        .await;
    assert!(!deleted["deleteTime"].is_null());
    let list = |hidden: bool| json!({ "companyId": it.company, "showDeleted": hidden });
    let shown = world
        .ok(&format!("{STUDIOS}/ListStudios"), list(false), &it.token)
        .await;
    assert_eq!(shown["studios"], json!([]));
    let all = world.ok(&format!("{STUDIOS}/ListStudios"), list(true), &it.token).await;
    assert_eq!(id(&all["studios"][0]), it.studio);
    let workflows = json!({ "studioId": it.studio });
    let status = world
        .refused(
            "studios.execution.v1.WorkflowService/ListWorkflows",
            workflows.clone(),
            &it.token,
        )
        .await;
    assert_eq!(status.code(), Code::NotFound);

    let back = world.ok(&format!("{STUDIOS}/UndeleteStudio"), body, &it.token).await;
    assert!(back["deleteTime"].is_null());
    world
        .ok(
            "studios.execution.v1.WorkflowService/ListWorkflows",
            workflows,
            &it.token,
        )
        .await;
}

#[tokio::test]
async fn a_studios_name_is_unique_within_its_company_while_in_use() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let create = format!("{STUDIOS}/CreateStudio");
    let body = json!({ "studio": { "companyId": it.company, "name": "Operations studio", "businessArea": "BUSINESS_AREA_HR" } });
    assert_reason(
        &world.refused(&create, body.clone(), &it.token).await,
        Code::AlreadyExists,
        "STUDIO_NAME_TAKEN",
    );
    world
        .ok(
            &format!("{STUDIOS}/DeleteStudio"),
            json!({ "id": it.studio }),
            &it.token,
        )
        .await;
    world.ok(&create, body, &it.token).await;
    let back = world
        .refused(
            &format!("{STUDIOS}/UndeleteStudio"),
            json!({ "id": it.studio }),
            &it.token,
        )
        .await;
    assert_eq!(back.code(), Code::AlreadyExists);
}

#[tokio::test]
async fn a_studio_names_every_wrong_field_and_no_foreign_branch() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let create = format!("{STUDIOS}/CreateStudio");
    let body = json!({ "studio": { "companyId": "x", "branchId": "y", "name": "x", "description": "d".repeat(1001) } });
    assert_eq!(
        fields(&world.refused(&create, body, &it.token).await),
        [
            "studio.branch_id",
            "studio.business_area",
            "studio.company_id",
            "studio.description",
            "studio.name"
        ]
    );
    let other = Tenant::with_studio(&world).await;
    let body = json!({ "studio": { "companyId": it.company, "branchId": other.branch, "name": "Borrowed", "businessArea": "BUSINESS_AREA_HR" } });
    assert_eq!(world.refused(&create, body, &it.token).await.code(), Code::NotFound);
}

#[tokio::test]
async fn a_plan_limits_the_number_of_studios() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let body = |n: u32| json!({ "studio": { "companyId": it.company, "name": format!("Studio {n}"), "businessArea": "BUSINESS_AREA_HR" } });
    let create = format!("{STUDIOS}/CreateStudio");
    for n in 2..=3 {
        world.ok(&create, body(n), &it.token).await;
    }
    assert_eq!(
        world.refused(&create, body(4), &it.token).await.code(),
        Code::ResourceExhausted
    );
}
