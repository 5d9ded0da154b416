//! A stretch of network between two services, to be cut or to fall silent as a test wants.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};
use url::Url;

/// What becomes of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// They arrive here.
    Open(SocketAddr),
    /// Connections are made and stay, and nothing arrives.
    Silent,
    /// Connections are closed.
    Cut,
}

/// A relay of TCP connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    way: Arc<watch::Sender<Way>>,
}

impl Proxy {
    /// Listens; leads nowhere yet.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let way = Arc::new(watch::Sender::new(Way::Cut));
        let ways = Arc::clone(&way);
        drop(tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                drop(tokio::spawn(relay(client, ways.subscribe())));
            }
        }));
        Self { address, way }
    }

    /// Its base URL.
    pub fn url(&self) -> Url {
        format!("http://{}", self.address)
            .parse()
            .expect("an address makes a URL")
    }

    /// Leads to the server at this URL.
    pub fn lead_to(&self, server: &Url) {
        let host = server.host_str().expect("a host").parse().expect("an address");
        let port = server.port().expect("a port");
        self.way.send_replace(Way::Open(SocketAddr::new(host, port)));
    }

    /// Lets nothing through any more, and closes nothing.
    pub fn fall_silent(&self) {
        self.way.send_replace(Way::Silent);
    }
}

async fn relay(client: TcpStream, mut way: watch::Receiver<Way>) {
    let first = *way.borrow_and_update();
    let Way::Open(server) = first else {
        if first == Way::Silent {
            let _ = way.changed().await;
        }
        return;
    };
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::select! {
        () = pump(from_client, to_server, way.clone(), first) => {}
        () = pump(from_server, to_client, way, first) => {}
    }
}

/// Carries bytes one way until either end closes, or the way leads elsewhere.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut way: watch::Receiver<Way>, first: Way) {
    let mut bytes = vec![0; 16 << 10];
    loop {
        let now = *way.borrow_and_update();
        if now == Way::Silent {
            if way.changed().await.is_err() {
                return;
            }
            continue;
        }
        if now != first {
            return;
        }
        tokio::select! {
            _ = way.changed() => {}
            read = from.read(&mut bytes) => match read {
                Ok(read) if read > 0 && to.write_all(&bytes[..read]).await.is_ok() => {}
                _ => return,
            },
        }
    }
}
