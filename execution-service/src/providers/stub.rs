//! A server that answers as it is told, byte by byte, for the adapters' tests.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use secrecy::SecretString;
use serde_json::Value;
use service_kit::{
    lifecycle::Lifecycle,
    outbound::{Outbound, OutboundConfig},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::Notify,
    time::sleep,
};

use super::{Answer, BaseUrl, Call, CallError, Endpoint, Protocol, Provider, remote::Remote};

pub(super) const KEY: &str = "sk-a-key-for-tests";
pub(super) const JSON: &str = "application/json";

/// What the server does once it has replied.
#[derive(Clone, Copy)]
pub(super) enum Then {
    /// It closes the connection.
    Close,
    /// It keeps the connection and sends nothing more.
    Hang,
    /// It goes on sending this.
    Repeat(&'static str),
}

/// How often a server sends again what it repeats.
const BEAT: Duration = Duration::from_millis(2);

/// A server that gives every request this reply, and what it was sent.
pub(super) struct Stub {
    pub(super) provider: Remote,
    pub(super) requests: Arc<Mutex<Vec<String>>>,
    /// A client has hung up on a server that was not done.
    pub(super) hung_up: Arc<Notify>,
    _lifecycle: Lifecycle,
}

impl Stub {
    /// One that speaks OpenAI's protocol.
    pub(super) async fn replying(reply: impl Into<Vec<u8>>) -> Self {
        Self::start(Protocol::OpenAi, reply.into(), Then::Close, |_| {}).await
    }

    pub(super) async fn start(protocol: Protocol, reply: Vec<u8>, then: Then, set: impl FnOnce(&mut Endpoint)) -> Self {
        let lifecycle = Lifecycle::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url: BaseUrl = format!("http://{}/v1", listener.local_addr().unwrap()).parse().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let hung_up = Arc::new(Notify::new());
        let (kept, told) = (requests.clone(), hung_up.clone());
        lifecycle.spawn("stub", async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut request = Vec::new();
                while !is_whole(&request) && socket.read_buf(&mut request).await.unwrap() > 0 {}
                kept.lock().unwrap().push(String::from_utf8(request).unwrap());
                // The client may have hung up, which is what some tests are about.
                let _ = socket.write_all(&reply).await;
                match then {
                    Then::Close => {}
                    Then::Hang => {
                        let _ = socket.read(&mut [0]).await;
                        told.notify_one();
                    }
                    Then::Repeat(text) => {
                        while socket.write_all(text.as_bytes()).await.is_ok() {
                            sleep(BEAT).await;
                        }
                        told.notify_one();
                    }
                }
            }
        });
        let mut endpoint = Endpoint::new(protocol, base_url);
        endpoint.api_key = Some(SecretString::from(KEY));
        endpoint.first_token_timeout = Duration::from_secs(20);
        endpoint.idle_timeout = Duration::from_secs(20);
        set(&mut endpoint);
        let config = OutboundConfig {
            max_response_bytes: 64 << 10,
            ..OutboundConfig::default()
        };
        Self {
            provider: Remote::new(endpoint, Outbound::new(&config).unwrap()),
            requests,
            hung_up,
            _lifecycle: lifecycle,
        }
    }

    pub(super) async fn answer(&self, call: &Call) -> Result<Answer, CallError> {
        self.provider.call(call, &|_| {}).await
    }

    /// The last request's head and body.
    pub(super) fn sent(&self) -> (String, Value) {
        let request = self.requests.lock().unwrap().last().unwrap().clone();
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        (head.to_lowercase(), serde_json::from_str(body).unwrap())
    }
}

pub(super) fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .split("content-length: ")
        .nth(1)
        .and_then(|rest| rest.lines().next()?.parse::<usize>().ok());
    body.len() >= length.unwrap_or(0)
}

/// A whole response.
pub(super) fn reply(status: &str, kind: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}
