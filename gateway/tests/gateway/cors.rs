//! Who may call from another origin.

use http::Method;
use reqwest::Response;

use crate::support::{GET_STUDIO, World, within};

const PAGE: &str = "https://app.example.com";

async fn world() -> World {
    World::with(|config| config.cors_origins = vec![PAGE.parse().unwrap()]).await
}

async fn preflight(world: &World, origin: &str) -> Response {
    let request = world
        .http
        .request(Method::OPTIONS, world.url(GET_STUDIO))
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header(
            "access-control-request-headers",
            "authorization,content-type,x-grpc-web,connect-protocol-version",
        );
    within(request.send()).await.unwrap()
}

#[tokio::test]
async fn a_configured_origin_may_call() {
    let world = world().await;
    let answer = preflight(&world, PAGE).await;
    let headers = answer.headers();
    assert_eq!(answer.status(), 200);
    assert_eq!(headers["access-control-allow-origin"], PAGE);
    assert_eq!(headers["access-control-max-age"], "7200");
    let allowed = headers["access-control-allow-headers"].to_str().unwrap();
    for name in [
        "authorization",
        "content-type",
        "x-grpc-web",
        "x-user-agent",
        "grpc-timeout",
        "connect-timeout-ms",
    ] {
        assert!(allowed.split(',').any(|it| it == name), "{name} in {allowed}");
    }
}

#[tokio::test]
async fn an_answer_shows_the_page_what_it_needs() {
    let world = world().await;
    let response = within(world.json(GET_STUDIO, "{}").header("origin", PAGE).send())
        .await
        .unwrap();
    assert_eq!(response.headers()["access-control-allow-origin"], PAGE);
    let exposed = response.headers()["access-control-expose-headers"].to_str().unwrap();
    for name in ["grpc-status", "grpc-message", "grpc-status-details-bin", "x-request-id"] {
        assert!(exposed.split(',').any(|it| it == name), "{name} in {exposed}");
    }
}

#[tokio::test]
async fn another_origin_may_not() {
    let world = world().await;
    for origin in [
        "https://evil.example.com",
        "https://app.example.com.evil.com",
        "http://app.example.com",
        "null",
    ] {
        let answer = preflight(&world, origin).await;
        assert!(
            !answer.headers().contains_key("access-control-allow-origin"),
            "{origin}"
        );
        let call = within(world.json(GET_STUDIO, "{}").header("origin", origin).send())
            .await
            .unwrap();
        assert!(!call.headers().contains_key("access-control-allow-origin"), "{origin}");
    }
}

#[tokio::test]
async fn with_none_configured_none_may() {
    let world = World::new().await;
    let answer = preflight(&world, PAGE).await;
    assert!(!answer.headers().contains_key("access-control-allow-origin"));
}
