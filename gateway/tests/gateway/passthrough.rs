//! That gRPC's frames go through unread: what they hold, their compression, what stands around them, and their ends.

use std::time::Duration;

use axum::{Router, body::Body, extract::Request as HttpRequest};
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use studios_proto::{
    core::{CreateStudioRequest, GetStudioRequest, Studio, studio_service_client::StudioServiceClient},
    execution::{WatchExecutionRequest, execution_service_client::ExecutionServiceClient},
};
use tonic::{Code, service::Routes, transport::Server};
use tower::ServiceExt;

use crate::support::{Backend, GET_STUDIO, World, event, framed, within};

/// A service that knows no contract: it gives back the very bytes that it gets, with headers and trailers of its own.
async fn echo(request: HttpRequest) -> Response<Body> {
    let encoding = request.headers().get("grpc-encoding").cloned();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers.insert("x-told-last", HeaderValue::from_static("yes"));
    let data = request.into_body().into_data_stream().map(|it| it.map(Frame::data));
    let end = futures::stream::iter([Ok(Frame::trailers(trailers))]);
    let mut response = Response::new(Body::new(StreamBody::new(data.chain(end))));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("x-told-first", HeaderValue::from_static("yes"));
    headers.extend(encoding.map(|it| (header::HeaderName::from_static("grpc-encoding"), it)));
    response
}

/// A gateway before that service, and what it answers to these bytes.
async fn echoed(frames: Bytes) -> Response<http_body_util::Collected<Bytes>> {
    let backend = Backend::start(Server::builder().add_routes(Routes::from(Router::new().fallback(echo))));
    let world = World::with(|config| config.core_url = format!("http://{}", backend.address).parse().unwrap()).await;
    let request = Request::post(world.url(GET_STUDIO))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-encoding", "gzip")
        .body(tonic::body::Body::new(http_body_util::Full::new(frames)))
        .unwrap();
    let (parts, body) = within(world.channel().oneshot(request)).await.unwrap().into_parts();
    Response::from_parts(parts, within(body.collect()).await.unwrap())
}

#[tokio::test]
async fn frames_pass_unread_with_the_metadata_before_and_after_them() {
    // A compressed frame that is no gzip, and one that is no message of any contract.
    let mut frames = framed(b"this is no gzip").to_vec();
    frames[0] = 1;
    frames.extend_from_slice(&framed(&[0xff; 64]));
    let answer = echoed(frames.clone().into()).await;
    assert_eq!(answer.headers()["grpc-encoding"], "gzip");
    assert_eq!(answer.headers()["x-told-first"], "yes");
    let body = answer.into_body();
    let trailers = body.trailers().cloned().unwrap();
    assert_eq!(
        (&trailers["grpc-status"], &trailers["x-told-last"]),
        (&"0".parse().unwrap(), &"yes".parse().unwrap())
    );
    assert_eq!(body.to_bytes(), frames);
}

#[tokio::test]
async fn a_large_message_passes_whole_both_ways() {
    let world = World::new().await;
    let studio = Studio {
        name: "North".into(),
        description: "x".repeat(7 << 20),
        ..Studio::default()
    };
    let request = CreateStudioRequest {
        studio: Some(studio.clone()),
        ..CreateStudioRequest::default()
    };
    let mut client = StudioServiceClient::new(world.channel()).max_decoding_message_size(16 << 20);
    let answer = within(client.create_studio(request)).await.unwrap().into_inner();
    assert!(answer == studio);
}

#[tokio::test]
async fn a_caller_who_gives_up_ends_the_call_at_the_service() {
    let mut world = World::new().await;
    let mut client = ExecutionServiceClient::new(world.channel());
    let events = within(client.watch_execution(WatchExecutionRequest::default()))
        .await
        .unwrap();
    let (_, watch) = world.watch().await;
    watch.send(Ok(event(1))).await.unwrap();
    drop(events);
    within(watch.closed()).await;
}

#[tokio::test]
async fn a_stream_lasts_as_long_as_its_caller_asked_and_no_longer() {
    let mut world = World::new().await;
    let mut client = ExecutionServiceClient::new(world.channel());
    let mut request = tonic::Request::new(WatchExecutionRequest::default());
    // As metadata: the client itself is to keep no time.
    request.metadata_mut().insert("grpc-timeout", "300m".parse().unwrap());
    let mut events = within(client.watch_execution(request)).await.unwrap().into_inner();
    let (metadata, watch) = world.watch().await;
    assert_eq!(metadata["grpc-timeout"], "300000u");
    watch.send(Ok(event(1))).await.unwrap();
    assert_eq!(within(events.message()).await.unwrap().unwrap().cursor, 1);
    let status = within(events.message()).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    within(watch.closed()).await;
}

#[tokio::test]
async fn a_callers_deadline_ends_a_unary_call_with_its_own_code() {
    let world = World::new().await;
    let mut client = StudioServiceClient::new(world.channel());
    let mut request = tonic::Request::new(GetStudioRequest { id: "held".into() });
    request.set_timeout(Duration::from_millis(200));
    let status = within(client.get_studio(request)).await.unwrap_err();
    // tonic's own timer may be the first.
    assert!(
        matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled),
        "{status:?}"
    );
}
