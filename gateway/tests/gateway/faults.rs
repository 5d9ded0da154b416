//! What callers see of services that are gone, of a gateway at its limits, and of one that stops.

use std::{net::SocketAddr, time::Duration};

use futures::future::join_all;
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use studios_proto::{
    core::{GetStudioRequest, studio_service_client::StudioServiceClient},
    execution::WatchExecutionRequest,
};
use tokio::time::Instant;
use tonic::Code;
use tonic_types::StatusExt;

use crate::{
    line::Line,
    support::{CREATE_STUDIO, GET_STUDIO, WATCH, World, event, parsed, within},
};

#[tokio::test]
async fn a_service_that_is_down_is_unavailable_at_once() {
    let mut world = World::new().await;
    world.kill_core();
    let before = Instant::now();

    let response = within(world.json(GET_STUDIO, "{}").send()).await.unwrap();
    assert_eq!(response.status(), 503);
    let error: Value = response.json().await.unwrap();
    assert_eq!(error["code"], "unavailable");

    let response = within(world.grpc_web(GET_STUDIO, &GetStudioRequest::default()).send())
        .await
        .unwrap();
    assert_eq!(response.headers()["grpc-status"], "14");

    let mut client = StudioServiceClient::new(world.channel());
    let status = within(client.get_studio(GetStudioRequest::default()))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.get_details_retry_info().is_some());
    assert_eq!(status.get_details_error_info().unwrap().reason, "BACKEND_UNAVAILABLE");

    assert!(before.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_service_that_takes_no_connection_is_unavailable_to_all_who_wait() {
    let silent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    silent
        .bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into())
        .unwrap();
    silent.listen(0).unwrap();
    let address = silent.local_addr().unwrap().as_socket().unwrap();
    // Its queue is full: the operating system drops what comes now without a word.
    let _queued: Vec<_> = (0..4)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            drop(socket.connect(&address.into()));
            socket
        })
        .collect();
    let world = World::with(|config| config.core_url = format!("http://{address}").parse().unwrap()).await;

    let before = Instant::now();
    let answers = join_all((0..5).map(|_| world.json(GET_STUDIO, "{}").send())).await;
    assert!(answers.into_iter().all(|answer| answer.unwrap().status() == 503));
    assert!(before.elapsed() < Duration::from_secs(8));
}

#[tokio::test]
async fn a_service_that_dies_in_mid_call_gives_a_connect_error() {
    let mut world = World::new().await;
    let request = world.json(GET_STUDIO, r#"{"id": "held"}"#).send();
    let core = world.core.clone();
    let (response, ()) = tokio::join!(within(request), async {
        within(core.arrived.notified()).await;
        world.kill_core();
    });
    let response = response.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(response.json::<Value>().await.unwrap()["code"], "unavailable");
}

#[tokio::test]
async fn a_read_whose_connection_breaks_is_asked_once_more_and_a_write_is_not() {
    let line = Line::start().await;
    let world = World::with(|config| line.stand_before(&mut config.core_url)).await;
    let core = &world.core;

    let held = world.json(CREATE_STUDIO, r#"{"studio": {"name": "held"}}"#).send();
    let cut_once = async {
        within(core.arrived.notified()).await;
        line.cut();
    };
    let (response, ()) = tokio::join!(within(held), cut_once);
    assert_eq!(response.unwrap().status(), 503);
    assert_eq!(core.calls(), 1);

    let held = within(world.grpc_web(GET_STUDIO, &studio("held")).send());
    let cut_twice = async {
        for _ in 0..2 {
            within(core.arrived.notified()).await;
            line.cut();
        }
    };
    let (response, ()) = tokio::join!(held, cut_twice);
    assert_eq!(response.unwrap().headers()["grpc-status"], "14", "once and not again");
    assert_eq!(core.calls(), 3);

    let held = within(world.json(GET_STUDIO, r#"{"id": "held"}"#).send());
    let cut_once = async {
        within(core.arrived.notified()).await;
        line.cut();
        within(core.arrived.notified()).await;
        // The service may not have seen yet that the first one is cut.
        core.gate.notify_waiters();
        core.gate.notify_one();
    };
    let (response, ()) = tokio::join!(held, cut_once);
    let response = response.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.json::<Value>().await.unwrap()["name"], "Studio held");
    assert_eq!(core.calls(), 5);
}

fn studio(id: &str) -> GetStudioRequest {
    GetStudioRequest { id: id.to_owned() }
}

#[tokio::test]
async fn one_request_too_many_is_refused_and_the_place_is_free_again_afterwards() {
    let mut world = World::with(|config| config.max_concurrent_requests = 1).await;
    let watching = within(world.grpc_web(WATCH, &WatchExecutionRequest::default()).send())
        .await
        .unwrap();
    let (_, watch) = world.watch().await;

    let refused = within(world.grpc_web(GET_STUDIO, &GetStudioRequest::default()).send())
        .await
        .unwrap();
    assert_eq!(refused.headers()["grpc-status"], "8");
    let refused = within(world.json(GET_STUDIO, "{}").send()).await.unwrap();
    assert_eq!(refused.status(), 429);

    drop(watching);
    within(watch.closed()).await;
    within(async {
        while world.json(GET_STUDIO, "{}").send().await.unwrap().status() != 200 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn callers_that_read_nothing_do_not_hold_up_others() {
    let mut world = World::new().await;
    let mut idle = Vec::new();
    for _ in 0..8 {
        idle.push(
            within(world.grpc_web(WATCH, &WatchExecutionRequest::default()).send())
                .await
                .unwrap(),
        );
        let (_, watch) = world.watch().await;
        let mut large = event(1);
        large.execution_id = "x".repeat(1 << 20);
        // As much as the way takes: the caller reads none of it.
        while tokio::time::timeout(Duration::from_millis(200), watch.send(Ok(large.clone())))
            .await
            .is_ok()
        {}
    }
    let mut busy = within(world.grpc_web(WATCH, &WatchExecutionRequest::default()).send())
        .await
        .unwrap();
    let (_, watch) = world.watch().await;
    watch.send(Ok(event(1))).await.unwrap();
    within(busy.chunk()).await.unwrap().unwrap();
}

#[tokio::test]
async fn many_watches_leave_room_for_calls() {
    let mut world = World::new().await;
    let watching = (0..300).map(|_| world.grpc_web(WATCH, &WatchExecutionRequest::default()).send());
    let watching = within(join_all(watching)).await;
    let mut watches = Vec::new();
    for _ in &watching {
        watches.push(world.watch().await);
    }
    let response = within(
        world
            .json("/studios.execution.v1.ExecutionService/GetExecution", "{}")
            .send(),
    )
    .await
    .unwrap();
    assert_eq!(response.status(), 501);
}

#[tokio::test]
async fn stopping_ends_streams_with_trailers_and_lets_calls_finish() {
    let mut world = World::new().await;
    let watching = within(world.grpc_web(WATCH, &WatchExecutionRequest::default()).send())
        .await
        .unwrap();
    let (_, _watch) = world.watch().await;
    let call = world.json(GET_STUDIO, r#"{"id": "held"}"#).send();
    let core = world.core.clone();
    let lifecycle = world.lifecycle.clone();
    let stop = async {
        within(core.arrived.notified()).await;
        let stopped = lifecycle.shut_down(Duration::from_secs(10));
        let finish = async {
            let (_, trailers) = parsed(&within(watching.bytes()).await.unwrap());
            core.gate.notify_one();
            trailers
        };
        tokio::join!(stopped, finish).1
    };
    let (response, trailers) = tokio::join!(within(call), stop);
    assert!(trailers.contains("grpc-status:14"), "{trailers}");
    assert_eq!(response.unwrap().status(), 200);
    assert!(
        world.json(GET_STUDIO, "{}").send().await.is_err(),
        "nobody listens any more"
    );
}
