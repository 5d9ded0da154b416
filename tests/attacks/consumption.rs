//! Requests that ask for more than there is, or say something else than they seem to.
//!
//! Bodies that are too large or come too slowly, and callers who read nothing, are the gateway's own tests: `connections`,
//! `faults`, `native`, `grpc_web`.

use std::time::Duration;

use serde_json::json;
use studios_tests::{
    call,
    rows::{Door, ROWS},
    tenant::Tenant,
    world::World,
};
use tokio::net::TcpStream;
use tonic::Code;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_list_gives_more_than_a_page_whatever_is_asked_for() {
    let world = World::start().await;
    let it = Tenant::make(&world).await;
    let mut lists = 0;
    for row in ROWS.iter().filter(|row| matches!(row.door, Door::Member)) {
        if call::method(row.method)
            .input()
            .get_field_by_name("page_size")
            .is_none()
        {
            continue;
        }
        lists += 1;
        for size in [i32::MAX, -1, i32::MIN] {
            let mut body = (row.body)(&it);
            body["pageSize"] = json!(size);
            match world.call(row.method, body, Some(&it.token)).await {
                Ok(answer) => assert!(size > 0, "{} with {size}: {answer}", row.method),
                Err(status) => assert!(
                    matches!(status.code(), Code::InvalidArgument | Code::FailedPrecondition),
                    "{} with {size}: {status:?}",
                    row.method
                ),
            }
        }
    }
    assert!(lists > 12, "{lists}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_one_of_those_that_there_are_and_never_sql() {
    let world = World::start().await;
    let it = Tenant::make(&world).await;
    let mut lists = 0;
    for row in ROWS {
        if call::method(row.method).input().get_field_by_name("order_by").is_none() {
            continue;
        }
        lists += 1;
        for order in [
            "name; drop table core.users",
            "(select pg_sleep(10))",
            "name desc, (select email from core.users limit 1)",
            "name' or '1'='1",
            "1",
            "company_id",
        ] {
            let mut body = (row.body)(&it);
            body["orderBy"] = json!(order);
            let refused = world.refused(row.method, body, &it.token).await;
            assert_eq!(refused.code(), Code::InvalidArgument, "{} by {order}", row.method);
        }
    }
    assert!(lists >= 2, "{lists}");
}

#[tokio::test]
async fn what_is_compressed_is_not_blown_up_for_a_caller() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    // A gRPC frame that says it is compressed, in an encoding that no service takes.
    let bomb = [&[1_u8, 0, 0, 0, 10][..], &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]].concat();
    for (name, value) in [
        ("grpc-encoding", "gzip"),
        ("content-encoding", "gzip"),
        ("grpc-encoding", "identity"),
    ] {
        let answer = reqwest::Client::new()
            .post(world.url("studios.core.v1.StudioService/ListStudios"))
            .bearer_auth(&it.token)
            .header("content-type", "application/grpc-web+proto")
            .header(name, value)
            .body(bomb.clone())
            .send()
            .await
            .unwrap();
        let status = answer
            .headers()
            .get("grpc-status")
            .map(|it| it.to_str().unwrap().to_owned());
        let body = answer.bytes().await.unwrap();
        let text = String::from_utf8_lossy(&body);
        assert!(
            status.as_deref().is_some_and(|it| it != "0") || !text.contains("grpc-status:0"),
            "{name}: {value}: {status:?} {text}"
        );
        assert!(!text.contains(&it.studio), "{name}: {value}");
    }
    // By JSON a compressed body is no JSON.
    let answer = reqwest::Client::new()
        .post(world.url("studios.core.v1.StudioService/ListStudios"))
        .bearer_auth(&it.token)
        .header("content-type", "application/json")
        .header("content-encoding", "gzip")
        .body(bomb)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status().as_u16(), 501, "no encoding is taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_streams_that_are_opened_and_reset_at_once_hold_up_nobody() {
    let world = World::start().await;
    let (it, other) = (Tenant::with_studio(&world).await, Tenant::with_studio(&world).await);
    let list = "studios.core.v1.StudioService/ListStudios";
    // A request and its reset in one go, as CVE-2023-44487 does it; the server may hang up on it, and then it comes again.
    let gateway: url::Url = world.url("").parse().unwrap();
    let address = (gateway.host_str().unwrap().to_owned(), gateway.port().unwrap());
    let attack = async {
        for _ in 0..10 {
            let socket = TcpStream::connect(address.clone()).await.unwrap();
            let (client, connection) = h2::client::handshake(socket).await.unwrap();
            // It ends with the socket.
            drop(tokio::spawn(connection));
            for _ in 0..1_000 {
                let request = http::Request::post(world.url(list))
                    .header("content-type", "application/grpc")
                    .header("te", "trailers")
                    .header("authorization", format!("Bearer {}", it.token))
                    .body(())
                    .unwrap();
                let Ok(mut ready) = client.clone().ready().await else {
                    break;
                };
                let Ok((_, mut stream)) = ready.send_request(request, false) else {
                    break;
                };
                stream.send_reset(h2::Reason::CANCEL);
            }
        }
    };
    let served = async {
        for _ in 0..20 {
            let call = world.call(list, json!({ "companyId": other.company }), Some(&other.token));
            let answer = tokio::time::timeout(Duration::from_secs(3), call).await;
            answer.expect("others are served").expect("and well");
        }
    };
    tokio::join!(attack, served);
}
