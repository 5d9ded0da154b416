//! kill -9 of both services in the middle of exports and erasures.

use serde_json::json;
use studios_tests::{
    deployment::Deployment,
    locks::{hold, until_held},
    privacy::{archive, ask, end_grace, rows, until, until_only_in},
    tenant::Tenant,
    world::World,
};

async fn started() -> (Deployment, World, Tenant) {
    // Whoever is killed leaves his step to others after this.
    let lease = ("STUDIOS_CORE_PRIVACY_LEASE_SECONDS", "10".to_owned());
    let deployment = Deployment::start(&[lease], &[]).await;
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    it.add_document(&world, "Harbour rules", "# Rules\n\nThe pier is lit at night.\n")
        .await;
    it.add_plan(&world).await;
    (deployment, world, it)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_that_kills_cut_in_both_services_goes_on_and_ends_whole() {
    let (mut deployment, world, it) = started().await;
    let admin = world.admin().await;
    let held = hold(&admin, "execution.plan_tasks").await;
    let export = ask(&world, &it, "RequestCompanyExport", json!({ "companyId": it.company })).await;
    until_held(&admin, "execution.plan_tasks").await;
    deployment.crash_execution();
    let core_held = hold(&admin, "core.document_texts").await;
    held.rollback().await.unwrap();
    until(&world, &export, "state = 'core'").await;
    until_held(&admin, "core.document_texts").await;
    deployment.crash_core();
    core_held.rollback().await.unwrap();
    until(&world, &export, "state = 'done' and attempt = 4").await;

    let world = deployment.world().await;
    let rows = rows(&archive(&world, &it, &export).await);
    assert_eq!((rows["document_texts"].len(), rows["plans"].len()), (1, 1));
    assert!(!rows["plan_tasks"].is_empty());
    let [objects, _] = world.objects(&it.company);
    let exports = objects.ancestors().nth(2).unwrap().join("exports").join(&export);
    let left: Vec<_> = std::fs::read_dir(exports).unwrap().collect();
    assert_eq!(left.len(), 1, "of the attempts that were cut nothing is left: {left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_that_kills_cut_in_both_services_goes_on_and_ends_whole() {
    let (mut deployment, world, it) = started().await;
    let admin = world.admin().await;
    let body = json!({ "companyId": it.company, "confirmName": "Harbour Works" });
    let erasure = ask(&world, &it, "RequestCompanyErasure", body).await;
    let held = hold(&admin, "execution.plans").await;
    end_grace(&world, &erasure).await;
    until_held(&admin, "execution.plans").await;
    deployment.crash_execution();
    let core_held = hold(&admin, "core.documents").await;
    held.rollback().await.unwrap();
    until(&world, &erasure, "state = 'core'").await;
    until_held(&admin, "core.documents").await;
    deployment.crash_core();
    core_held.rollback().await.unwrap();
    until(&world, &erasure, "state = 'done'").await;
    until_only_in(&world, &it.company, &["core.outbox", "core.privacy_requests"]).await;
    let [objects, staging] = world.objects(&it.company);
    assert!(!objects.exists() && !staging.exists());
}
