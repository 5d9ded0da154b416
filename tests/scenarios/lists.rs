//! Paging, the same for every list.

use std::collections::BTreeSet;

use serde_json::json;
use studios_tests::{
    refusal::fields,
    tenant::{Tenant, id},
    world::World,
};

const COMPANIES: &str = "studios.core.v1.CompanyService";

#[tokio::test]
async fn pages_together_hold_everything_once() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    for n in 0..6 {
        let body = json!({ "branch": { "companyId": it.company, "name": format!("Branch {n}"), "address": "2 Pier Road, Harbour Town" } });
        world.ok(&format!("{COMPANIES}/CreateBranch"), body, &it.token).await;
    }
    let mut seen = BTreeSet::new();
    let mut token = json!("");
    let mut pages = 0;
    loop {
        let body = json!({ "companyId": it.company, "pageSize": 3, "pageToken": token });
        let page = world.ok(&format!("{COMPANIES}/ListBranches"), body, &it.token).await;
        let branches = page["branches"].as_array().unwrap();
        assert!(branches.len() <= 3);
        for branch in branches {
            assert!(seen.insert(id(branch)), "a branch came twice");
        }
        pages += 1;
        token = page["nextPageToken"].clone();
        if token == "" {
            break;
        }
    }
    assert_eq!((seen.len(), pages), (7, 3));
}

#[tokio::test]
async fn a_page_token_is_bound_to_its_list_and_cannot_be_made_up() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    for n in 0..2 {
        let body = json!({ "branch": { "companyId": it.company, "name": format!("Branch {n}"), "address": "2 Pier Road, Harbour Town" } });
        world.ok(&format!("{COMPANIES}/CreateBranch"), body, &it.token).await;
    }
    let list = format!("{COMPANIES}/ListBranches");
    let page = world
        .ok(&list, json!({ "companyId": it.company, "pageSize": 1 }), &it.token)
        .await;
    let token = page["nextPageToken"].as_str().unwrap();
    assert_ne!(token, "");

    let members = json!({ "companyId": it.company, "pageToken": token });
    assert_eq!(
        fields(
            &world
                .refused(&format!("{COMPANIES}/ListMemberships"), members, &it.token)
                .await
        ),
        ["page_token"]
    );
    let other = Tenant::with_studio(&world).await;
    let elsewhere = json!({ "companyId": other.company, "pageToken": token });
    assert_eq!(
        fields(&world.refused(&list, elsewhere, &other.token).await),
        ["page_token"]
    );
    let made_up = json!({ "companyId": it.company, "pageToken": "AAAA", "pageSize": -1 });
    let named = fields(&world.refused(&list, made_up, &it.token).await);
    assert!(
        named.contains(&"page_size".to_owned()) || named.contains(&"page_token".to_owned()),
        "{named:?}"
    );
    let negative = json!({ "companyId": it.company, "pageSize": -1 });
    assert_eq!(fields(&world.refused(&list, negative, &it.token).await), ["page_size"]);
    world
        .ok(
            &list,
            json!({ "companyId": it.company, "pageSize": 100_000 }),
            &it.token,
        )
        .await;
}
