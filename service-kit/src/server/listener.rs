//! A server's port and what comes in at it: connections, through TLS where that is set.
//!
//! Handshakes run beside each other and beside the accepting, so that a slow one holds up nobody, and are bounded in time
//! and number: one too many is hung up on.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::tls::ServerTls;
use crate::error::{Error, Result};

const MOST_HANDSHAKES: usize = 1024;

/// Between a failed accept and the next: it fails while the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound port.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    tls: Option<ServerTls>,
}

impl Listener {
    /// Binds an address; port 0 is any free one.
    pub async fn bind(address: SocketAddr) -> Result<Self> {
        let socket = TcpListener::bind(address).await.map_err(Error::internal)?;
        let address = socket.local_addr().map_err(Error::internal)?;
        Ok(Self {
            socket,
            address,
            tls: None,
        })
    }

    /// The same port, with TLS where there is one.
    #[must_use]
    pub fn with_tls(mut self, tls: Option<ServerTls>) -> Self {
        self.tls = tls;
        self
    }

    /// The address that is bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What it speaks, as a URL says it.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    pub(super) fn tls(&self) -> Option<ServerTls> {
        self.tls.clone()
    }

    /// The connections that come in, ready to be served.
    pub(super) fn incoming(self) -> impl Stream<Item = io::Result<Connection>> + Send {
        let incoming = Incoming {
            socket: self.socket,
            tls: self.tls,
            handshakes: JoinSet::new(),
        };
        stream::unfold(incoming, |mut incoming| async move {
            let connection = incoming.next().await;
            Some((Ok(connection), incoming))
        })
    }
}

struct Incoming {
    socket: TcpListener,
    tls: Option<ServerTls>,
    handshakes: JoinSet<io::Result<Connection>>,
}

impl Incoming {
    async fn next(&mut self) -> Connection {
        loop {
            tokio::select! {
                accepted = self.socket.accept() => {
                    if let Some(connection) = self.begin(accepted).await {
                        return connection;
                    }
                }
                Some(done) = self.handshakes.join_next() => match done {
                    Ok(Ok(connection)) => return connection,
                    Ok(Err(error)) => tracing::debug!(error = %error, "handshake failed"),
                    Err(error) => tracing::error!(error = %error, "a handshake panicked"),
                },
            }
        }
    }

    /// A connection without TLS is ready at once; with it, the handshake begins.
    async fn begin(&mut self, accepted: io::Result<(TcpStream, SocketAddr)>) -> Option<Connection> {
        let accepted = accepted.and_then(|(stream, _)| stream.set_nodelay(true).map(|()| stream));
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(error = %error, "connection not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                return None;
            }
        };
        let Some(tls) = self.tls.clone() else {
            return Some(Connection::Plain(stream));
        };
        if self.handshakes.len() < MOST_HANDSHAKES {
            self.handshakes.spawn(async move { tls.accept(stream).await });
        } else {
            tracing::debug!("connection dropped: too many handshakes at a time");
        }
        None
    }
}

/// A caller's connection, with TLS or without.
#[derive(Debug)]
pub enum Connection {
    /// As it came.
    Plain(TcpStream),
    /// After the handshake.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        match self {
            Self::Plain(stream) => stream.connect_info(),
            Self::Tls(stream) => stream.get_ref().0.connect_info(),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
