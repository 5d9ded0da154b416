//! An ActivePieces that behaves as a real one does (community edition 0.85.4), over real HTTP: no idempotency, async starts that
//! are taken and leave no row while no worker is there, sync starts that are silent for the whole timeout, cursors that are
//! invalid and answer with the first page, a cancel that says yes and does nothing, sessions that end, sign-ins that are
//! limited. What it does can be checked against recorded exchanges (`tests/data/activepieces-exchanges.md`).
//!
//! A flow does what its definition says as far as tests need it (tags, Return Response, Delay, Approval; `sleepMs` and `fail` of
//! the body), or what a test has set for it ([`Behaviour`]).

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::sync::Notify;

mod flows;
mod routes;
mod runs;
mod wire;

pub use flows::definition;
pub use runs::{Behaviour, CallBack, Reaction};

/// Who may sign in.
pub const EMAIL: &str = "dev@ap.com";
/// His password.
pub const PASSWORD: &str = "12345678-canary-password";
/// The key that an enterprise edition takes.
pub const API_KEY: &str = "sk-canary-1234567890";
/// The project that everything belongs to.
pub const PROJECT: &str = "L4zBU318LaCBizt9p20AV";

/// How an instance is set up.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// How long a sync start waits for its answer.
    pub webhook_timeout: Duration,
    /// How long a flow may run.
    pub flow_timeout: Duration,
    /// How long a session lasts.
    pub session: Duration,
    /// Sign-ins a minute.
    pub sign_ins: u32,
    /// Whether it takes [`API_KEY`].
    pub takes_keys: bool,
    /// Whether a session that has ended is answered with 403 SESSION_EXPIRED instead of 401.
    pub says_expired: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            webhook_timeout: Duration::from_millis(400),
            flow_timeout: Duration::from_mins(10),
            session: Duration::from_hours(24 * 7),
            sign_ins: 50,
            takes_keys: false,
            says_expired: true,
        }
    }
}

/// A running instance.
#[derive(Debug, Clone)]
pub struct Pieces {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    setup: Setup,
    state: Mutex<State>,
    changed: Notify,
    worker_is_up: AtomicBool,
    /// Whether every request but webhooks is answered with 503.
    is_down: AtomicBool,
    next: AtomicU64,
    http: reqwest::Client,
}

#[derive(Debug, Default)]
struct State {
    flows: BTreeMap<String, flows::Flow>,
    runs: Vec<runs::Run>,
    /// By token, when it was given.
    sessions: HashMap<String, Instant>,
    sign_ins: Vec<Instant>,
    behaviours: HashMap<String, Behaviour>,
    missing_pieces: Vec<String>,
    requests: Vec<(Instant, String)>,
    bodies: Vec<Value>,
}

impl Pieces {
    /// Starts one.
    pub async fn start(setup: Setup) -> Self {
        let shared = Arc::new(Shared {
            setup,
            state: Mutex::default(),
            changed: Notify::new(),
            worker_is_up: AtomicBool::new(true),
            is_down: AtomicBool::new(false),
            next: AtomicU64::new(1),
            http: reqwest::Client::builder()
                .no_proxy()
                .build()
                .expect("a client without anything"),
        });
        let router = routes::router(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        drop(tokio::task::spawn(async move { axum::serve(listener, router).await }));
        Self { address, shared }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The settings under which workflows may call it.
    pub fn settings(&self) -> (&'static str, String) {
        ("STUDIOS_EXECUTION_OUTBOUND_ALLOW", self.address.to_string())
    }

    /// Makes a flow that is published and enabled.
    pub fn flow(&self, name: &str, trigger: Value) -> String {
        let id = self.shared.id();
        let flow = flows::Flow::published(&id, name, trigger);
        self.state().flows.insert(id.clone(), flow);
        id
    }

    /// Sets what a flow does when it is started.
    pub fn behave(&self, flow: &str, behaviour: Behaviour) {
        self.state().behaviours.insert(flow.to_owned(), behaviour);
    }

    /// Disables a flow.
    pub fn disable(&self, flow: &str) {
        if let Some(flow) = self.state().flows.get_mut(flow) {
            flow.is_enabled = false;
        }
    }

    /// Takes a flow back to before it was published.
    pub fn unpublish(&self, flow: &str) {
        if let Some(flow) = self.state().flows.get_mut(flow) {
            (flow.is_enabled, flow.is_published) = (false, false);
        }
    }

    /// Deletes a flow.
    pub fn delete(&self, flow: &str) {
        self.state().flows.remove(flow);
    }

    /// Takes a piece from the instance.
    pub fn uninstall(&self, piece: &str) {
        self.state().missing_pieces.push(piece.to_owned());
    }

    /// Stops the worker, or starts it: what was taken meanwhile gets its rows then.
    pub fn worker(&self, is_up: bool) {
        self.shared.worker_is_up.store(is_up, Ordering::SeqCst);
        if is_up {
            runs::catch_up(&self.shared);
        }
    }

    /// Has everything answered with 503, or not.
    pub fn down(&self, is_down: bool) {
        self.shared.is_down.store(is_down, Ordering::SeqCst);
    }

    /// Ends all sessions.
    pub fn end_sessions(&self) {
        self.state().sessions.clear();
    }

    /// How often starts were taken, whatever came of them.
    pub fn starts(&self) -> usize {
        self.state().bodies.len()
    }

    /// What the starts carried, in order.
    pub fn bodies(&self) -> Vec<Value> {
        self.state().bodies.clone()
    }

    /// How many runs there are.
    pub fn runs(&self) -> usize {
        self.state().runs.len()
    }

    /// The ids of all runs.
    pub fn run_ids(&self) -> Vec<String> {
        self.state().runs.iter().map(|run| run.id.clone()).collect()
    }

    /// The states of all runs.
    pub fn run_states(&self) -> Vec<String> {
        let now = Instant::now();
        let timeout = self.shared.setup.flow_timeout;
        self.state()
            .runs
            .iter()
            .map(|run| run.state(now, timeout).to_owned())
            .collect()
    }

    /// The requests of a kind (`GET /flow-runs`) since a moment.
    pub fn requests_since(&self, since: Instant, kind: &str) -> usize {
        let state = self.state();
        state
            .requests
            .iter()
            .filter(|(at, it)| *at >= since && it.starts_with(kind))
            .count()
    }

    /// How often somebody signed in.
    pub fn sign_ins(&self) -> usize {
        let state = self.state();
        state.requests.iter().filter(|(_, it)| it.contains("/sign-in")).count()
    }

    /// Waits until starts have come.
    pub async fn until_starts(&self, count: usize) {
        loop {
            let changed = self.shared.changed.notified();
            if self.starts() >= count {
                return;
            }
            changed.await;
        }
    }

    /// Ends all runs well now; each calls back if its flow does.
    pub fn finish_all(&self) {
        runs::finish_all(&self.shared);
    }

    /// Posts to a start's call-back URL what a flow would; answers the status.
    pub async fn call_back(&self, start: &Value, body: &Value) -> u16 {
        let url = start["studios"]["callback_url"].as_str().expect("a call-back URL");
        let answer = self.shared.http.post(url).json(body).send().await.expect("an answer");
        answer.status().as_u16()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no handler panics")
    }

    /// 21 letters and digits.
    fn id(&self) -> String {
        let n = self.next.fetch_add(1, Ordering::SeqCst);
        let scrambled = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        format!("A{scrambled:016x}{:04}", n % 10_000)
    }
}

/// The body that a connection of the kind activepieces is made with, for who signs in.
pub fn sign_in_settings() -> Value {
    json!({ "project_id": PROJECT, "email": EMAIL })
}
