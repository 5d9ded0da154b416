//! Connections: accepted up to a bound, each served until its caller, the soft or the hard end of the process ends it.
//!
//! After the soft end a connection finishes what it has begun. After the hard one it has a moment to send the trailers by
//! which its streams are ended. A handshake is done in the connection's own task, so a slow one holds up nobody else.

use std::{future, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, extract::ConnectInfo};
use http::Request;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use service_kit::{
    client::FRAME_BYTES,
    lifecycle::Lifecycle,
    limits::TrustedPeers,
    server::{Connection, Patient, ServerTls},
};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
    time::timeout,
};
use tower::ServiceExt;

use crate::{
    connections::{Connections, Place},
    headers,
};

/// How often a silent peer is asked whether it is still there: a watch may be silent for hours.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// How long a connection of HTTP/1.1 may be idle, or take to send the head of a later request: longer than the minute after which
/// common proxies give up an idle connection, so that they do not send a request into one that has just ended.
const IDLE: Duration = Duration::from_secs(75);

/// What HTTP/1.1 may buffer; the size of its headers is checked below that.
const READ_BUFFER_BYTES: usize = 64 << 10;

const STREAMS_PER_CONNECTION: u32 = 1024;

/// Between a failed accept and the next: it fails while the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// From the hard end to the end of a connection.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// What every connection is served with.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) router: Router,
    pub(crate) tls: Option<ServerTls>,
    pub(crate) connections: Arc<Connections>,
    /// Proxies in front, from whose addresses everybody comes: they have no limit of connections.
    pub(crate) proxies: TrustedPeers,
    /// How long a connection may take to send the head of its first request.
    pub(crate) head_timeout: Duration,
    pub(crate) lifecycle: Lifecycle,
}

impl Server {
    /// Serves until the soft end, then waits for the connections to finish.
    pub(crate) async fn serve(self, listener: TcpListener) {
        let lifecycle = &self.lifecycle;
        if let Some(tls) = self.tls.clone() {
            drop(lifecycle.spawn("certificates", tls.keep_fresh(lifecycle.soft())));
        }
        let builder = builder();
        loop {
            let accepted = tokio::select! {
                biased;
                () = lifecycle.soft().cancelled_owned() => break,
                accepted = self.accept(&listener) => accepted,
            };
            match accepted {
                Ok((stream, peer, Some(place))) => {
                    let connection = self.clone().drive(builder.clone(), stream, peer, place);
                    drop(lifecycle.spawn("gateway connection", connection));
                }
                Ok((_, peer, None)) => tracing::debug!(peer = %peer.ip(), "too many connections from one address"),
                Err(error) => {
                    tracing::warn!(error = %error, "connection not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        self.connections.all_gone().await;
    }

    async fn accept(&self, listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr, Option<Place>)> {
        let free = self.connections.free().await;
        let (stream, peer) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE);
        SockRef::from(&stream).set_tcp_keepalive(&keep_alive)?;
        let is_proxy = self.proxies.contains(peer.ip());
        Ok((stream, peer, self.connections.take(free, peer.ip(), is_proxy)))
    }

    async fn drive(self, builder: Builder<TokioExecutor>, stream: TcpStream, peer: SocketAddr, _place: Place) {
        let soft = self.lifecycle.soft();
        let stream = match soft.run_until_cancelled(secured(self.tls, stream)).await {
            Some(Ok(stream)) => stream,
            Some(Err(error)) => return tracing::debug!(error = %error, "handshake failed"),
            None => return,
        };
        let begun = Arc::new(Notify::new());
        let tell = begun.clone();
        let service = self.router.map_request(move |mut request: Request<_>| {
            tell.notify_one();
            request.extensions_mut().insert(ConnectInfo(peer));
            request
        });
        let connection =
            builder.serve_connection(TokioIo::new(Patient::new(stream)), TowerToHyperService::new(service));
        let mut connection = std::pin::pin!(connection);
        let served = async {
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = soft.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    tokio::select! {
                        ended = connection => ended,
                        () = last_words(&self.lifecycle) => Ok(()),
                    }
                }
            }
        };
        tokio::select! {
            ended = served => if let Err(error) = ended {
                tracing::debug!(error, "connection ended");
            },
            () = never_begun(&begun, self.head_timeout) => tracing::debug!("connection without a request"),
        }
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(READ_BUFFER_BYTES)
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .max_frame_size(FRAME_BYTES)
        .max_header_list_size(headers::MOST_BYTES);
    builder
}

async fn secured(tls: Option<ServerTls>, stream: TcpStream) -> io::Result<Connection> {
    match tls {
        Some(tls) => tls.accept(stream).await,
        None => Ok(Connection::Plain(stream)),
    }
}

/// Returns if no request has come in time. What tells HTTP/1.1 from HTTP/2, and HTTP/2's beginning, would wait without an end.
async fn never_begun(begun: &Notify, patience: Duration) {
    if timeout(patience, begun.notified()).await.is_ok() {
        future::pending::<()>().await;
    }
}

async fn last_words(lifecycle: &Lifecycle) {
    lifecycle.hard().cancelled_owned().await;
    tokio::time::sleep(LAST_WORDS).await;
}
