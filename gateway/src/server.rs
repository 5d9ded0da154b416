//! Connections: accepted up to a bound, each served until its caller, the soft or the hard end of the process ends it.
//!
//! After the soft end a connection finishes what it has begun. After the hard one it has a moment to send the trailers by
//! which its streams are ended.

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use service_kit::lifecycle::Lifecycle;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::headers;

const MAX_CONNECTIONS: u32 = 16_384;

/// How long a connection may be idle, or take to send the head of a request.
const HEAD_PATIENCE: Duration = Duration::from_mins(1);

/// How often a silent peer is asked whether it is still there: a watch may be silent for hours.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Between two looks at the beginning of a connection that comes in pieces.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What HTTP/1.1 may buffer; the size of its headers is checked below that.
const READ_BUFFER_BYTES: usize = 64 << 10;

const STREAMS_PER_CONNECTION: u32 = 1024;

/// Between a failed accept and the next: it fails while the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// From the hard end to the end of a connection.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// Serves until the soft end, then waits for the connections to finish.
pub(crate) async fn serve(listener: TcpListener, router: Router, lifecycle: Lifecycle) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS as usize));
    let builder = builder();
    loop {
        let accepted = tokio::select! {
            biased;
            () = lifecycle.soft().cancelled_owned() => break,
            accepted = accept(&listener, &connections) => accepted,
        };
        match accepted {
            Ok((stream, permit)) => {
                let connection = drive(builder.clone(), stream, router.clone(), lifecycle.clone(), permit);
                drop(lifecycle.spawn("gateway connection", connection));
            }
            Err(error) => {
                tracing::warn!(error = %error, "connection not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let _all = connections
        .acquire_many(MAX_CONNECTIONS)
        .await
        .expect("the semaphore is never closed");
}

async fn accept(listener: &TcpListener, connections: &Arc<Semaphore>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = connections
        .clone()
        .acquire_owned()
        .await
        .expect("the semaphore is never closed");
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE);
    SockRef::from(&stream).set_tcp_keepalive(&keep_alive)?;
    Ok((stream, permit))
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(READ_BUFFER_BYTES)
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .max_header_list_size(headers::MOST_BYTES);
    builder
}

async fn drive(
    builder: Builder<TokioExecutor>,
    stream: TcpStream,
    router: Router,
    lifecycle: Lifecycle,
    _permit: OwnedSemaphorePermit,
) {
    let soft = lifecycle.soft();
    let begun = soft.run_until_cancelled(timeout(HEAD_PATIENCE, begin(&stream))).await;
    if !matches!(begun, Some(Ok(Ok(())))) {
        return;
    }
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = lifecycle.soft().cancelled_owned() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended,
                () = last_words(&lifecycle) => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "connection ended");
    }
}

/// Waits for as much as tells HTTP/1.1 from HTTP/2: the builder, which tells them apart, would wait for it without an end.
async fn begin(stream: &TcpStream) -> io::Result<()> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut head = [0; PREFACE.len()];
    loop {
        let length = stream.peek(&mut head).await?;
        if length == 0 || length == PREFACE.len() || head[..length] != PREFACE[..length] {
            return Ok(());
        }
        // What was only looked at stays readable, so waiting until there is something to read would not wait.
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn last_words(lifecycle: &Lifecycle) {
    lifecycle.hard().cancelled_owned().await;
    tokio::time::sleep(LAST_WORDS).await;
}
