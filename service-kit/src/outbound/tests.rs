//! The client against servers that answer as they are told, byte by byte.

use http::StatusCode;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use url::Url;

use super::*;
use crate::lifecycle::Lifecycle;

mod guarded;

const DEADLINE: Duration = Duration::from_secs(20);

fn outbound(max_response_bytes: usize) -> Outbound {
    Outbound::new(&OutboundConfig {
        max_response_bytes,
        ..OutboundConfig::default()
    })
    .unwrap()
}

/// A server that reads a request whole, answers every connection with these bytes and closes it; and its address.
async fn server(lifecycle: &Lifecycle, answer: impl Into<Vec<u8>>) -> Destination {
    let answer = answer.into();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/chat?key=secret", listener.local_addr().unwrap());
    lifecycle.spawn("stub", async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            read(&mut socket).await;
            // The client may have hung up, which is what some tests are about.
            let _ = socket.write_all(&answer).await;
        }
    });
    configured(&url)
}

fn configured(url: &str) -> Destination {
    #[expect(clippy::disallowed_methods, reason = "the test is the operator")]
    Destination::configured(Url::parse(url).unwrap())
}

/// Reads a request whose body is `{}`.
async fn read(socket: &mut TcpStream) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"{}") {
        assert_ne!(socket.read_buf(&mut request).await.unwrap(), 0);
    }
    String::from_utf8(request).unwrap()
}

async fn post(outbound: &Outbound, to: &Destination) -> Result<Response, OutboundError> {
    outbound.post_json(to, HeaderMap::new(), &json!({}), DEADLINE).await
}

#[tokio::test]
async fn an_answer_is_read_whole_whatever_its_status() {
    let lifecycle = Lifecycle::new();
    let answer = "HTTP/1.1 429 Too Many\r\ncontent-type: Application/JSON; charset=utf-8\r\n\
                  retry-after: 7\r\ncontent-length: 2\r\n\r\n[]";
    let url = server(&lifecycle, answer).await;
    let response = post(&outbound(1024), &url).await.unwrap();
    assert_eq!((response.status.as_u16(), &response.body[..]), (429, &b"[]"[..]));
    assert_eq!(response.headers["retry-after"], "7");
    assert!(response.is_json());
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let lifecycle = Lifecycle::new();
    let elsewhere = "HTTP/1.1 307 Away\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n";
    let url = server(&lifecycle, elsewhere).await;
    assert_eq!(post(&outbound(1024), &url).await.unwrap().status.as_u16(), 307);
}

#[tokio::test]
async fn a_longer_answer_than_the_cap_is_dropped_announced_or_not() {
    let lifecycle = Lifecycle::new();
    let announced = "HTTP/1.1 200 OK\r\ncontent-length: 9999999999\r\n\r\n";
    let chunked = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}",
        "10\r\n0123456789abcdef\r\n".repeat(99)
    );
    for answer in [announced.to_owned(), chunked] {
        let url = server(&lifecycle, answer).await;
        assert!(matches!(
            post(&outbound(1024), &url).await,
            Err(OutboundError::TooLarge(1024))
        ));
    }
}

#[tokio::test]
async fn an_answer_is_read_as_it_comes_and_up_to_the_cap() {
    let lifecycle = Lifecycle::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = configured(&format!("http://{}/", listener.local_addr().unwrap()));
    let (step, mut steps) = tokio::sync::mpsc::channel::<&str>(1);
    lifecycle.spawn("stub", async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        read(&mut socket).await;
        while let Some(text) = steps.recv().await {
            socket.write_all(text.as_bytes()).await.unwrap();
        }
    });
    step.send(
        "HTTP/1.1 200 OK\r\ncontent-type: Text/Event-Stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n",
    )
    .await
    .unwrap();
    let outbound = outbound(12);
    let mut incoming = outbound.open_json(&url, HeaderMap::new(), &json!({})).await.unwrap();
    assert!(
        incoming.media_type().eq_ignore_ascii_case("text/event-stream")
            && !incoming.is_json()
            && incoming.status() == StatusCode::OK
    );
    for (frame, data) in [("6\r\ndata 1\r\n", "data 1"), ("6\r\ndata 2\r\n", "data 2")] {
        // The next is sent only after this one has come.
        step.send(frame).await.unwrap();
        assert_eq!(incoming.chunk().await.unwrap().unwrap(), data);
    }
    step.send("1\r\n!\r\n").await.unwrap();
    assert!(matches!(incoming.chunk().await, Err(OutboundError::TooLarge(12))));
}

#[tokio::test]
async fn giving_an_answer_up_closes_its_connection() {
    let lifecycle = Lifecycle::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = configured(&format!("http://{}/", listener.local_addr().unwrap()));
    let server = lifecycle.spawn("stub", async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        read(&mut socket).await;
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.read(&mut [0]).await.map_or(0, |it| it)
    });
    let outbound = outbound(12);
    drop(outbound.open_json(&url, HeaderMap::new(), &json!({})).await.unwrap());
    let read = tokio::time::timeout(DEADLINE, server).await.unwrap().unwrap();
    assert_eq!(read, 0, "the server sees the end");
}

#[tokio::test]
async fn what_went_wrong_says_whether_the_request_may_have_been_carried_out() {
    let lifecycle = Lifecycle::new();
    let cut = server(&lifecycle, "HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{").await;
    let error = post(&outbound(1024), &cut).await.unwrap_err();
    assert!(matches!(error, OutboundError::Broken(_)), "{error:?}");
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");

    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = post(&outbound(1024), &configured(&format!("http://{gone}/")))
        .await
        .unwrap_err();
    assert!(matches!(error, OutboundError::Connect(_)), "{error:?}");

    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = configured(&format!("http://{}/", silent.local_addr().unwrap()));
    let short = Duration::from_millis(20);
    let answer = outbound(1024)
        .post_json(&url, HeaderMap::new(), &json!({}), short)
        .await;
    assert!(matches!(answer, Err(OutboundError::Timeout(it)) if it == short));
}
