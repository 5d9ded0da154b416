//! gRPC itself, over HTTP/2 without TLS.

use std::time::Duration;

use studios_proto::{
    core::{
        CheckStudioRequest, CreateStudioRequest, GetStudioRequest, Studio, access_service_client::AccessServiceClient,
        studio_service_client::StudioServiceClient,
    },
    execution::{WatchExecutionRequest, execution_service_client::ExecutionServiceClient},
};
use tonic::{Code, Request};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt;

use crate::support::{GET_STUDIO, World, event, within};

fn get(id: &str) -> GetStudioRequest {
    GetStudioRequest { id: id.into() }
}

#[tokio::test]
async fn a_unary_call_passes() {
    let world = World::new().await;
    let mut client = StudioServiceClient::new(world.channel());
    let studio = within(client.get_studio(get("a"))).await.unwrap().into_inner();
    assert_eq!(studio.name, "Studio a");
}

#[tokio::test]
async fn an_error_comes_with_its_details() {
    let world = World::new().await;
    let mut client = StudioServiceClient::new(world.channel());
    let status = within(client.create_studio(CreateStudioRequest::default()))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(
        status.get_details_bad_request().unwrap().field_violations[0].field,
        "studio.name"
    );
}

#[tokio::test]
async fn a_stream_passes_event_by_event() {
    let mut world = World::new().await;
    let mut client = ExecutionServiceClient::new(world.channel());
    let mut events = within(client.watch_execution(WatchExecutionRequest::default()))
        .await
        .unwrap()
        .into_inner();
    let (_, watch) = world.watch().await;
    for cursor in 1..=3 {
        watch.send(Ok(event(cursor))).await.unwrap();
        assert_eq!(within(events.message()).await.unwrap().unwrap().cursor, cursor);
    }
    drop(watch);
    assert_eq!(within(events.message()).await.unwrap(), None);
}

#[tokio::test]
async fn the_services_own_doors_are_not_there() {
    let world = World::new().await;
    let mut access = AccessServiceClient::new(world.channel());
    let status = within(access.check_studio(CheckStudioRequest::default()))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    let mut health = HealthClient::new(world.channel());
    let status = within(health.check(HealthCheckRequest::default())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_unary_deadline_is_capped_and_a_shorter_one_kept() {
    let world = World::new().await;
    let mut client = StudioServiceClient::new(world.channel());
    within(client.get_studio(get("a"))).await.unwrap();
    assert_eq!(world.core.last()["grpc-timeout"], "60000000u");
    let with_timeout = |timeout| {
        let mut request = Request::new(get("a"));
        request.set_timeout(timeout);
        request
    };
    within(client.get_studio(with_timeout(Duration::from_hours(1))))
        .await
        .unwrap();
    assert_eq!(world.core.last()["grpc-timeout"], "60000000u");
    within(client.get_studio(with_timeout(Duration::from_secs(5))))
        .await
        .unwrap();
    assert_eq!(world.core.last()["grpc-timeout"], "5000000u");
}

#[tokio::test]
async fn the_configured_longest_time_ends_a_unary_call() {
    let world = World::with(|config| config.max_timeout = Duration::from_millis(200)).await;
    let mut client = StudioServiceClient::new(world.channel());
    let status = within(client.get_studio(get("held"))).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused() {
    let world = World::with(|config| config.max_message_bytes = 1000).await;
    let mut client = StudioServiceClient::new(world.channel());
    let description = "x".repeat(3 << 20);
    let studio = Some(Studio {
        name: "North".into(),
        description,
        ..Studio::default()
    });
    let request = CreateStudioRequest {
        studio,
        ..CreateStudioRequest::default()
    };
    let status = within(client.create_studio(request)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
}

#[tokio::test]
async fn grpc_over_http_1_is_refused_in_words() {
    let world = World::new().await;
    let request = world
        .http
        .post(world.url(GET_STUDIO))
        .header("content-type", "application/grpc");
    let response = within(request.send()).await.unwrap();
    assert_eq!(response.status(), 400);
    assert!(response.text().await.unwrap().contains("HTTP/2"));
}
