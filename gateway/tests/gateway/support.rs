//! A gateway on port 0 before two small services that the test holds the strings of.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{BufMut, Bytes, BytesMut};
use gateway::{Config, Service};
use http::HeaderMap;
use prost::Message;
use reqwest::RequestBuilder;
use service_kit::lifecycle::Lifecycle;
use studios_proto::{
    core::{auth_service_server::AuthServiceServer, studio_service_server::StudioServiceServer},
    execution::{ExecutionEvent, execution_service_server::ExecutionServiceServer},
};
use tokio::{net::TcpListener, runtime::Runtime, sync::mpsc};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::server::Router;

use crate::services::{Core, Executions, Watch};

pub(crate) const GET_STUDIO: &str = "/studios.core.v1.StudioService/GetStudio";
pub(crate) const CREATE_STUDIO: &str = "/studios.core.v1.StudioService/CreateStudio";
pub(crate) const WATCH: &str = "/studios.execution.v1.ExecutionService/WatchExecution";

/// A service in a runtime of its own, so that it can die as a process does: at once, sockets and all.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Backend {
    pub(crate) fn start(router: Router) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move {
            let incoming = TcpListenerStream::new(TcpListener::from_std(listener).unwrap());
            router.serve_with_incoming(incoming).await.unwrap();
        });
        Self {
            address,
            runtime: Some(runtime),
        }
    }

    fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Everything that a test needs.
pub(crate) struct World {
    pub(crate) core: Arc<Core>,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) http: reqwest::Client,
    pub(crate) address: SocketAddr,
    watches: mpsc::UnboundedReceiver<(HeaderMap, Watch)>,
    backends: [Backend; 2],
}

impl World {
    /// With the default configuration.
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// With a changed configuration.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let core = Arc::new(Core::default());
        let (sender, watches) = mpsc::unbounded_channel();
        let (health, core_health) = tonic_health::server::health_reporter();
        drop(health);
        let (health, execution_health) = tonic_health::server::health_reporter();
        drop(health);
        let backends = [
            Backend::start(
                tonic::transport::Server::builder()
                    .add_service(StudioServiceServer::from_arc(core.clone()).max_decoding_message_size(64 << 20))
                    .add_service(AuthServiceServer::from_arc(core.clone()))
                    .add_service(core_health),
            ),
            Backend::start(
                tonic::transport::Server::builder()
                    .add_service(ExecutionServiceServer::new(Executions { watches: sender }))
                    .add_service(execution_health),
            ),
        ];
        let url = |backend: &Backend| format!("http://{}", backend.address).parse().unwrap();
        let listen = "127.0.0.1:0".parse().unwrap();
        let mut config = Config::new(listen, url(&backends[0]), url(&backends[1]));
        change(&mut config);

        let lifecycle = Lifecycle::new();
        let service = Service::bind(config, lifecycle.clone()).await.unwrap();
        let address = service.local_addr();
        drop(lifecycle.spawn("gateway", service.serve()));
        #[expect(
            clippy::disallowed_methods,
            reason = "it stands for a browser, not for a part of the product"
        )]
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self {
            core,
            lifecycle,
            http,
            address,
            watches,
            backends,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A POST of JSON, as curl sends it.
    pub(crate) fn json(&self, path: &str, body: &'static str) -> RequestBuilder {
        self.http
            .post(self.url(path))
            .header("content-type", "application/json")
            .header("authorization", "Bearer token")
            .body(body)
    }

    /// A call as a browser's gRPC-Web client sends it.
    pub(crate) fn grpc_web(&self, path: &str, message: &impl Message) -> RequestBuilder {
        self.http
            .post(self.url(path))
            .header("content-type", "application/grpc-web+proto")
            .header("x-grpc-web", "1")
            .body(framed(&message.encode_to_vec()))
    }

    /// A channel for native gRPC.
    pub(crate) fn channel(&self) -> tonic::transport::Channel {
        tonic::transport::Endpoint::from_shared(self.url(""))
            .unwrap()
            .connect_lazy()
    }

    /// The next watch that has come in, with its metadata.
    pub(crate) async fn watch(&mut self) -> (HeaderMap, Watch) {
        within(self.watches.recv()).await.unwrap()
    }

    pub(crate) fn kill_core(&mut self) {
        self.backends[0].kill();
    }

    pub(crate) fn kill_execution(&mut self) {
        self.backends[1].kill();
    }
}

/// Waits for what must come, and fails instead of hanging where it does not.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("it came in time")
}

/// A message as gRPC frames it.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.len()).unwrap());
    bytes.put_slice(message);
    bytes.freeze()
}

/// What a gRPC-Web answer holds: messages, and the trailers as text.
pub(crate) fn parsed(mut body: &[u8]) -> (Vec<Vec<u8>>, String) {
    let (mut messages, mut trailers) = (Vec::new(), String::new());
    while let [flag, a, b, c, d, rest @ ..] = body {
        let (content, after) = rest.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        match flag {
            0 => messages.push(content.to_vec()),
            0x80 => trailers.push_str(std::str::from_utf8(content).unwrap()),
            _ => panic!("flag {flag}"),
        }
        body = after;
    }
    (messages, trailers)
}

/// The text form of gRPC-Web: pieces of base64, each with its own padding.
pub(crate) fn from_text(text: &[u8]) -> Vec<u8> {
    text.chunks(4).flat_map(|quad| STANDARD.decode(quad).unwrap()).collect()
}

/// An event that is told apart by its cursor.
pub(crate) fn event(cursor: i64) -> ExecutionEvent {
    ExecutionEvent {
        cursor,
        ..ExecutionEvent::default()
    }
}
