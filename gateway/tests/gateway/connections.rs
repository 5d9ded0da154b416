//! What connections may do: so many from an address, so long without a request, and only what is HTTP.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{GET_STUDIO, World, within};

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";

/// Sends bytes over a connection of its own.
async fn send(world: &World, bytes: &[u8]) -> TcpStream {
    let mut socket = TcpStream::connect(world.address).await.unwrap();
    // One that is hung up on may take nothing any more.
    let _ = socket.write_all(bytes).await;
    socket
}

/// Whether an answer comes, and not an end.
async fn is_answered(socket: &mut TcpStream) -> bool {
    let mut head = [0; 12];
    within(socket.read_exact(&mut head))
        .await
        .is_ok_and(|_| head.starts_with(b"HTTP/1.1 200"))
}

/// Everything until the connection's end, which an error is too.
async fn rest(mut socket: TcpStream) -> String {
    let mut all = Vec::new();
    let _ = within(socket.read_to_end(&mut all)).await;
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test]
async fn one_connection_too_many_from_an_address_is_hung_up_on_until_another_has_gone() {
    let world = World::with(|config| config.max_connections_per_address = 2).await;
    let mut first = send(&world, HEALTH).await;
    let mut second = send(&world, HEALTH).await;
    assert!(is_answered(&mut first).await && is_answered(&mut second).await);
    assert!(!is_answered(&mut send(&world, HEALTH).await).await);
    drop(first);
    within(async {
        while !is_answered(&mut send(&world, HEALTH).await).await {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_connection_without_a_request_is_ended_whatever_it_began_with() {
    let world = World::with(|config| config.head_timeout = Duration::from_millis(100)).await;
    for begun in [
        b"".as_slice(),
        b"PRI * HTTP/2.0\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /x HTTP/1.1\r\nhost:",
    ] {
        let said = rest(send(&world, begun).await).await;
        assert!(!said.contains("200"), "{said:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_malformed_is_the_callers_mistake() {
    let world = World::new().await;
    let head = format!(
        "POST {GET_STUDIO} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nauthorization: Bearer token\r\n\
         transfer-encoding: chunked\r\n\r\n"
    );
    let said = rest(send(&world, format!("{head}no length\r\n{{}}\r\n0\r\n\r\n").as_bytes()).await).await;
    assert!(
        said.starts_with("HTTP/1.1 400") && said.contains("invalid_argument"),
        "{said}"
    );
    assert_eq!(world.core.calls(), 0);
}
