//! gRPC-Web, as browsers speak it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use prost::Message;
use studios_proto::{
    core::{GetStudioRequest, Studio},
    execution::{ExecutionEvent, WatchExecutionRequest},
};

use crate::support::{CREATE_STUDIO, GET_STUDIO, WATCH, World, event, framed, from_text, parsed, within};

fn get(id: &str) -> GetStudioRequest {
    GetStudioRequest { id: id.into() }
}

#[tokio::test]
async fn a_unary_call_passes_in_binary() {
    let world = World::new().await;
    let response = within(world.grpc_web(GET_STUDIO, &get("a")).send()).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/grpc-web+proto");
    let (messages, trailers) = parsed(&response.bytes().await.unwrap());
    assert_eq!(Studio::decode(&*messages[0]).unwrap().name, "Studio a");
    assert!(trailers.contains("grpc-status:0"), "{trailers}");
}

#[tokio::test]
async fn a_unary_call_passes_as_text() {
    let world = World::new().await;
    let text = "application/grpc-web-text";
    let request = world
        .http
        .post(world.url(GET_STUDIO))
        .header("content-type", text)
        .header("accept", text);
    let body = STANDARD.encode(framed(&get("a").encode_to_vec()));
    let response = within(request.body(body).send()).await.unwrap();
    assert_eq!(response.status(), 200);
    let (messages, trailers) = parsed(&from_text(&response.bytes().await.unwrap()));
    assert_eq!(Studio::decode(&*messages[0]).unwrap().name, "Studio a");
    assert!(trailers.contains("grpc-status:0"), "{trailers}");
}

#[tokio::test]
async fn bytes_that_the_contract_does_not_know_reach_the_service_and_are_not_judged() {
    let world = World::new().await;
    let mut message = get("a").encode_to_vec();
    message.extend([0xfa, 0x07, 0x02, b'h', b'i']); // field 127, unknown to every contract
    let request = world
        .http
        .post(world.url(GET_STUDIO))
        .header("content-type", "application/grpc-web");
    let response = within(request.body(framed(&message)).send()).await.unwrap();
    let (messages, _) = parsed(&response.bytes().await.unwrap());
    assert_eq!(Studio::decode(&*messages[0]).unwrap().id, "a");
}

#[tokio::test]
async fn an_error_comes_with_its_details() {
    let world = World::new().await;
    let response = within(world.grpc_web(GET_STUDIO, &get("missing")).send())
        .await
        .unwrap();
    assert_eq!(response.headers()["grpc-status"], "5");
    assert!(response.headers().contains_key("grpc-status-details-bin"));
}

#[tokio::test]
async fn events_arrive_as_they_happen() {
    let mut world = World::new().await;
    let request = world.grpc_web(WATCH, &WatchExecutionRequest::default());
    let mut response = within(request.send()).await.unwrap();
    let (metadata, watch) = world.watch().await;
    assert!(
        !metadata.contains_key("grpc-timeout"),
        "a watch has no deadline that nobody asked for"
    );
    for cursor in 1..=3 {
        watch.send(Ok(event(cursor))).await.unwrap();
        // The next is sent only after this one has arrived.
        let chunk = within(response.chunk()).await.unwrap().unwrap();
        let (messages, _) = parsed(&chunk);
        assert_eq!(ExecutionEvent::decode(&*messages[0]).unwrap().cursor, cursor);
    }
    drop(watch);
    let (_, trailers) = parsed(&within(response.bytes()).await.unwrap());
    assert!(trailers.contains("grpc-status:0"), "{trailers}");
}

#[tokio::test]
async fn a_caller_that_leaves_ends_the_call_behind() {
    let mut world = World::new().await;
    let response = within(world.grpc_web(WATCH, &WatchExecutionRequest::default()).send())
        .await
        .unwrap();
    let (_, watch) = world.watch().await;
    drop(response);
    within(watch.closed()).await;
}

#[tokio::test]
async fn a_service_that_dies_in_mid_stream_leaves_proper_trailers() {
    let mut world = World::new().await;
    let request = world.grpc_web(WATCH, &WatchExecutionRequest::default());
    let mut response = within(request.send()).await.unwrap();
    let (_, watch) = world.watch().await;
    watch.send(Ok(event(1))).await.unwrap();
    within(response.chunk()).await.unwrap().unwrap();
    world.kill_execution();
    let (messages, trailers) = parsed(&within(response.bytes()).await.unwrap());
    assert!(messages.is_empty());
    assert!(trailers.contains("grpc-status:14"), "{trailers}");
    assert!(trailers.contains("grpc-status-details-bin"), "{trailers}");
}

#[tokio::test]
async fn a_stream_ends_at_the_deadline_that_its_caller_asked_for() {
    let mut world = World::new().await;
    let request = world
        .grpc_web(WATCH, &WatchExecutionRequest::default())
        .header("grpc-timeout", "300m");
    let response = within(request.send()).await.unwrap();
    let (_, watch) = world.watch().await;
    let (_, trailers) = parsed(&within(response.bytes()).await.unwrap());
    assert!(trailers.contains("grpc-status:4"), "{trailers}");
    within(watch.closed()).await;
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused() {
    let world = World::with(|config| config.max_message_bytes = 1000).await;
    for size in [1001, 500_000] {
        let response = within(world.grpc_web(GET_STUDIO, &get(&"x".repeat(size))).send())
            .await
            .unwrap();
        assert_eq!(response.headers()["grpc-status"], "8", "{size}");
    }
    let fits = world.grpc_web(GET_STUDIO, &get(&"x".repeat(900)));
    let (messages, _) = parsed(&within(fits.send()).await.unwrap().bytes().await.unwrap());
    assert_eq!(messages.len(), 1);
}

#[tokio::test]
async fn a_form_of_grpc_web_that_is_not_known_is_refused() {
    let world = World::new().await;
    let request = world
        .http
        .post(world.url(CREATE_STUDIO))
        .header("content-type", "application/grpc-web+json");
    assert_eq!(within(request.body("{}").send()).await.unwrap().status(), 415);
}
