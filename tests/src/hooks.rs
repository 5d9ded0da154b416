//! A receiver of webhooks, which answers what it is told to, and keeps what it gets.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use serde_json::Value;
use tokio::{net::TcpListener, sync::watch, time::timeout};

use crate::world::PATIENCE;

/// A running receiver; it ends with the test's runtime.
pub struct Hooks {
    /// Where it listens.
    pub address: SocketAddr,
    got: watch::Receiver<Vec<Hook>>,
}

/// What it got.
#[derive(Debug, Clone)]
pub struct Hook {
    /// The headers.
    pub headers: HeaderMap,
    /// The body as it came.
    pub body: Bytes,
}

impl Hook {
    /// A header's text.
    pub fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().expect("it is ASCII")
    }

    /// The body's JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("it is JSON")
    }
}

struct Receiver {
    answers: Mutex<Vec<u16>>,
    got: watch::Sender<Vec<Hook>>,
}

impl Hooks {
    /// Starts one that gives these answers first, and 204 then.
    pub async fn start(answers: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let (sender, got) = watch::channel(Vec::new());
        let receiver = Arc::new(Receiver {
            answers: Mutex::new(answers.iter().rev().copied().collect()),
            got: sender,
        });
        let router = Router::new().route("/{*path}", post(receive)).with_state(receiver);
        #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, got }
    }

    /// Its address for a channel.
    pub fn url(&self) -> String {
        format!("http://{}/hooks", self.address)
    }

    /// Waits until it has got so many, and returns all.
    pub async fn got(&mut self, count: usize) -> Vec<Hook> {
        let enough = self.got.wait_for(|got| got.len() >= count);
        let got = timeout(PATIENCE, enough).await.expect("they come in time");
        got.expect("the receiver runs").clone()
    }
}

async fn receive(State(receiver): State<Arc<Receiver>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let answer = receiver.answers.lock().expect("nobody panics with it").pop();
    receiver.got.send_modify(|got| got.push(Hook { headers, body }));
    StatusCode::from_u16(answer.unwrap_or(204)).expect("it is a status")
}
