//! What the gateway answers itself.

use std::sync::atomic::Ordering;

use futures::future::join_all;
use http::Method;
use serde_json::Value;

use crate::support::{World, within};

async fn get(world: &World, path: &str) -> (u16, Value) {
    let response = within(world.http.get(world.url(path)).send()).await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test]
async fn the_front_page_names_the_services_and_no_internal_one() {
    let world = World::new().await;
    let (status, page) = get(&world, "/").await;
    assert_eq!(status, 200);
    let services = page["services"].to_string();
    assert!(
        services.contains("studios.core.v1.StudioService") && !services.contains("AccessService"),
        "{services}"
    );
}

#[tokio::test]
async fn it_lives_whatever_the_services_do_and_is_ready_when_both_serve() {
    let mut world = World::new().await;
    assert_eq!(get(&world, "/healthz").await.0, 200);
    let (status, page) = get(&world, "/readyz").await;
    assert_eq!(status, 200, "{page}");
    world.kill_core();
    assert_eq!(get(&world, "/healthz").await.0, 200);
    let (status, page) = get(&world, "/readyz").await;
    assert_eq!(status, 503);
    assert_eq!(
        (&page["core-service"], &page["execution-service"]),
        (&"unreachable".into(), &"serving".into())
    );
}

#[tokio::test]
async fn the_keys_are_asked_for_once_and_kept() {
    let mut world = World::new().await;
    let answers = join_all((0..20).map(|_| get(&world, "/.well-known/jwks.json"))).await;
    assert!(
        answers
            .iter()
            .all(|answer| *answer == (200, serde_json::json!({"keys": []})))
    );
    assert_eq!(world.core.key_calls.load(Ordering::SeqCst), 1);
    let response = within(world.http.get(world.url("/.well-known/jwks.json")).send())
        .await
        .unwrap();
    let max_age = response.headers()["cache-control"]
        .to_str()
        .unwrap()
        .strip_prefix("public, max-age=")
        .unwrap();
    assert!((290..=300).contains(&max_age.parse::<u32>().unwrap()));
    world.kill_core();
    assert_eq!(get(&world, "/.well-known/jwks.json").await.0, 200);
}

#[tokio::test]
async fn without_core_service_there_are_no_keys() {
    let mut world = World::new().await;
    world.kill_core();
    let (status, error) = get(&world, "/.well-known/jwks.json").await;
    assert_eq!((status, error["code"].as_str()), (503, Some("unavailable")));
}

#[tokio::test]
async fn what_is_not_there_is_said_in_json() {
    let world = World::new().await;
    for path in ["/nothing", "/a/b/c", "/studios.core.v1.StudioService"] {
        let (status, error) = get(&world, path).await;
        assert_eq!((status, error["code"].as_str()), (404, Some("not_found")), "{path}");
        let response = within(world.json(path, "{}").send()).await.unwrap();
        assert_eq!(response.status(), 404, "{path}");
    }
    let response = within(world.http.request(Method::POST, world.url("/healthz")).send())
        .await
        .unwrap();
    assert_eq!(response.status(), 405);
    assert_eq!(response.headers()["allow"], "GET");
}
