//! A stub of a model server that speaks OpenAI's chat completions and answers as a test wants: whole or as a stream, step by
//! step under the test's hand ([`Driver`]), slowly, wrongly, or not at all.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, Response, StatusCode},
    routing::post,
    serve::ListenerExt,
};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use url::Url;

/// How a call is answered.
#[derive(Debug, Clone)]
pub struct Reply {
    /// After this long.
    pub delay: Duration,
    /// With this status.
    pub status: u16,
    /// And these further headers.
    pub headers: Vec<(&'static str, String)>,
    /// And this body.
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    /// As it stands.
    Whole(Vec<u8>),
    /// As its driver says; of the first call that it is the reply to.
    Driven(Arc<Mutex<Option<mpsc::Receiver<Step>>>>),
}

/// Bytes of a body, or that the connection breaks.
type Step = io::Result<Vec<u8>>;

/// Writes the body of an answer that goes out while it is written. Dropping it ends the body cleanly where it is.
#[derive(Debug)]
pub struct Driver(mpsc::Sender<Step>);

impl Driver {
    /// Sends bytes as they stand.
    pub async fn send(&self, bytes: impl Into<Vec<u8>>) {
        // The client may have gone.
        let _ = self.0.send(Ok(bytes.into())).await;
    }

    /// Sends a piece of the answer.
    pub async fn say(&self, text: &str) {
        self.send(said(text)).await;
    }

    /// Ends the answer as it should end.
    pub async fn finish(self) {
        self.send(END).await;
    }

    /// Breaks the connection.
    pub async fn cut(self) {
        let _ = self.0.send(Err(io::Error::other("cut"))).await;
    }

    /// Waits until the client has hung up.
    pub async fn hung_up(&self) {
        self.0.closed().await;
    }
}

/// The event of a piece of an answer.
pub fn said(text: &str) -> String {
    let delta = json!({ "id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "stub-1",
        "choices": [{ "index": 0, "delta": { "content": text }, "finish_reason": null }] });
    format!("data: {delta}\n\n")
}

/// How a stream ends: the reason, the usage, the mark.
pub const END: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
    data: {\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":7,\"total_tokens\":18}}\n\n\
    data: [DONE]\n\n";

impl Reply {
    /// A well-formed completion.
    pub fn text(text: &str) -> Self {
        let body = json!({
            "id": "chatcmpl-1", "object": "chat.completion", "model": "stub-1",
            "choices": [{ "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": text } }],
            "usage": { "prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18 }
        });
        Self::raw(200, body.to_string())
    }

    /// Any status with any body, typed as JSON.
    pub fn raw(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            delay: Duration::ZERO,
            status,
            headers: Vec::new(),
            content: Content::Whole(body.into()),
        }
    }

    /// A stream of events as they stand.
    pub fn stream(events: impl Into<Vec<u8>>) -> Self {
        Self::raw(200, events).header("content-type", "text/event-stream")
    }

    /// A stream that goes out as it is written, for one call.
    pub fn driven() -> (Driver, Self) {
        let (driver, body) = mpsc::channel(1);
        let mut reply = Self::stream("");
        reply.content = Content::Driven(Arc::new(Mutex::new(Some(body))));
        (Driver(driver), reply)
    }

    /// The same, later.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// The same, with a header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

type Script = dyn Fn(usize, &Value) -> Reply + Send + Sync;

/// A running stub.
#[derive(Clone)]
pub struct Model {
    address: SocketAddr,
    state: Arc<Shared>,
}

struct Shared {
    script: Box<Script>,
    calls: Mutex<Vec<(HeaderMap, Value)>>,
    count: AtomicUsize,
    in_flight: AtomicUsize,
    changed: Notify,
}

impl Model {
    /// Starts a stub whose n-th call (from 0) is answered as the script says.
    pub async fn start(script: impl Fn(usize, &Value) -> Reply + Send + Sync + 'static) -> Self {
        let state = Arc::new(Shared {
            script: Box::new(script),
            calls: Mutex::default(),
            count: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            changed: Notify::new(),
        });
        let router = Router::new()
            .route("/v1/chat/completions", post(answer))
            .with_state(Arc::clone(&state));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let listener = listener.tap_io(|socket| socket.set_nodelay(true).expect("a connected socket"));
        drop(tokio::task::spawn(async move { axum::serve(listener, router).await }));
        Self { address, state }
    }

    /// The base URL that an OpenAI-compatible provider is configured with.
    pub fn base_url(&self) -> Url {
        format!("http://{}/v1", self.address)
            .parse()
            .expect("an address makes a URL")
    }

    /// The settings under which execution-service calls the stub as provider `stub`.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("STUDIOS_EXECUTION_PROVIDERS_STUB_BASE_URL", self.base_url().to_string()),
            ("STUDIOS_EXECUTION_PROVIDERS_STUB_API_KEY", "a-key-for-tests".to_owned()),
        ]
    }

    /// The bodies of the calls so far.
    pub fn calls(&self) -> Vec<Value> {
        self.state
            .calls
            .lock()
            .expect("no handler panics")
            .iter()
            .map(|(_, body)| body.clone())
            .collect()
    }

    /// The headers of the calls so far.
    pub fn headers(&self) -> Vec<HeaderMap> {
        self.state
            .calls
            .lock()
            .expect("no handler panics")
            .iter()
            .map(|(headers, _)| headers.clone())
            .collect()
    }

    /// How many calls are waiting for their answer.
    pub fn in_flight(&self) -> usize {
        self.state.in_flight.load(Ordering::SeqCst)
    }

    /// Waits until at least so many calls wait for their answer or its end.
    pub async fn until_in_flight(&self, calls: usize) {
        loop {
            let changed = self.state.changed.notified();
            if self.in_flight() >= calls {
                return;
            }
            changed.await;
        }
    }
}

async fn answer(State(state): State<Arc<Shared>>, headers: HeaderMap, body: String) -> Response<Body> {
    let body = serde_json::from_str(&body).unwrap_or(Value::Null);
    let n = state.count.fetch_add(1, Ordering::SeqCst);
    let reply = (state.script)(n, &body);
    state.calls.lock().expect("no handler panics").push((headers, body));
    let flight = Flight::enter(&state);
    tokio::time::sleep(reply.delay).await;
    let status = StatusCode::from_u16(reply.status).expect("a status");
    let mut response = Response::builder().status(status);
    if !reply.headers.iter().any(|(name, _)| *name == "content-type") {
        response = response.header("content-type", "application/json");
    }
    for (name, value) in &reply.headers {
        response = response.header(*name, value);
    }
    let body = match reply.content {
        Content::Whole(bytes) => Body::from(bytes),
        Content::Driven(body) => {
            let body = body.lock().expect("no handler panics").take();
            let steps = ReceiverStream::new(body.expect("a driver drives one answer")).then(move |step| {
                let _until_the_end = &flight;
                async move {
                    if step.is_err() {
                        // What was sent before goes out first.
                        tokio::task::yield_now().await;
                    }
                    step
                }
            });
            Body::from_stream(steps)
        }
    };
    response.body(body).expect("a response")
}

/// Counts a call under way, also when its client goes away.
struct Flight(Arc<Shared>);

impl Flight {
    fn enter(state: &Arc<Shared>) -> Self {
        state.in_flight.fetch_add(1, Ordering::SeqCst);
        state.changed.notify_waiters();
        Self(Arc::clone(state))
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }
}
