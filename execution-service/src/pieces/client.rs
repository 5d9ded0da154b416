//! Calls of an ActivePieces instance, over one connection each.
//!
//! What always holds: a start is sent once and never again, whatever comes of it; only what reads is tried again by itself; a
//! token that is not taken any more is renewed once a call; an instance that fails five times in a row is left alone for a
//! while; no run id, key or token is in an error, a log or a span. The address is a member's: it passes the guard.

use std::{collections::HashSet, sync::Arc, time::Duration};

use http::{
    HeaderMap, HeaderValue, Method,
    header::{AUTHORIZATION, CONTENT_TYPE, LOCATION},
};
use moka::{policy::EvictionPolicy, sync::Cache};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use service_kit::{
    clock::SharedClock,
    ids::ConnectionId,
    outbound::{Destination, Outbound, OutboundError, Request, Response},
    telemetry,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::sleep;
use tracing::{Instrument, field::Empty};
use url::Url;

use super::{
    breaker::Breaker,
    failure::{Failure, Kind, is_platforms},
    flows::{Flow, FlowSummary},
    runs::{self, Detailed, Listed},
    scrub,
    session::{Session, SignedIn},
};
use crate::providers::clean;

/// How long a call may take that is no start.
const TIMEOUT: Duration = Duration::from_secs(15);
/// How long an instance may take to say that it has taken a start.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long what reads waits before it is tried again.
const AGAIN_AFTER: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];
/// The longest body of an answer.
const MAX_ANSWER: usize = 16 << 20;
/// The largest start: what a hosted instance takes.
const MAX_START: usize = 25 << 20;
/// How many runs a page of a list has.
const PAGE: u32 = 100;
/// How many connections' sessions are remembered.
const CONNECTIONS: u64 = 10_000;
/// How long a session is remembered that nobody uses.
const IDLE: Duration = Duration::from_hours(1);

/// The way to ActivePieces instances; clones share what is known of them.
#[derive(Clone)]
pub struct Pieces {
    outbound: Outbound,
    clock: SharedClock,
    known: Cache<(ConnectionId, i64), Arc<Known>>,
}

/// What is kept of a connection between calls.
#[derive(Default)]
struct Known {
    session: Session,
    breaker: Breaker,
}

/// A connection as calls need it.
#[derive(Clone)]
pub struct Account {
    /// The connection.
    pub connection: ConnectionId,
    /// Grows whenever the connection changes: what is known of it is forgotten then.
    pub revision: i64,
    /// Where the instance is, with or without its `/api/v1`.
    pub base_url: String,
    /// The project; without one that of who signs in.
    pub project: Option<String>,
    /// By what it is entered.
    pub auth: Auth,
}

/// By what an instance is entered.
#[derive(Clone)]
pub enum Auth {
    /// A key (not on a community edition).
    ApiKey(SecretString),
    /// A user's e-mail and password.
    SignIn {
        /// The e-mail.
        email: String,
        /// The password.
        password: SecretString,
    },
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account")
            .field("connection", &self.connection)
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Pieces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pieces").finish_non_exhaustive()
    }
}

/// What came of a start that may have begun a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Started {
    /// It was taken; the run, if one comes of it, has to be found.
    Taken,
    /// The flow answered it.
    Answered {
        /// The HTTP status that the flow chose.
        status: u16,
        /// What it says.
        body: Value,
    },
    /// Nobody knows; it is not to be sent again.
    Unknown,
}

/// What an instance says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probe {
    /// Its version.
    pub version: String,
    /// Its edition: `ce`, `ee` or `cloud`.
    pub edition: String,
    /// How long a flow may run.
    pub flow_timeout: Option<Duration>,
    /// How long a start waits for its answer.
    pub webhook_timeout: Option<Duration>,
    /// The project that the connection works in.
    pub project: String,
}

/// Which runs to list.
#[derive(Debug, Default)]
pub struct Runs<'a> {
    /// Of this flow.
    pub flow: Option<&'a str>,
    /// With this tag.
    pub tag: Option<&'a str>,
    /// Made after this.
    pub since: Option<OffsetDateTime>,
    /// With one of these ids; empty for all.
    pub ids: &'a [String],
}

/// Which flows to list.
#[derive(Debug, Default)]
pub struct Flows<'a> {
    /// Part of the name.
    pub name: &'a str,
    /// `ENABLED` or `DISABLED`; empty for both.
    pub status: &'a str,
    /// Where to go on.
    pub cursor: &'a str,
    /// The most of them.
    pub limit: u32,
}

/// A page of something.
#[derive(Debug, Clone, Deserialize)]
pub struct Page<T> {
    /// What is on it.
    pub data: Vec<T>,
    /// Where to go on; none at the end.
    #[serde(default)]
    pub next: Option<String>,
}

/// A call of an instance.
struct Call<'a> {
    method: Method,
    /// Below the API's base; without what may be secret it is the span's name.
    path: &'a str,
    /// For the span.
    name: &'static str,
    query: Vec<(&'static str, String)>,
    body: Option<Value>,
}

impl Pieces {
    /// Calls through this client.
    pub fn new(outbound: Outbound, clock: SharedClock) -> Self {
        let known = Cache::builder().max_capacity(CONNECTIONS).time_to_idle(IDLE);
        Self {
            outbound,
            clock,
            known: known.eviction_policy(EvictionPolicy::lru()).build(),
        }
    }

    /// Finds out what an instance is, and whether the connection may enter it.
    pub async fn probe(&self, account: &Account) -> Result<Probe, Failure> {
        let flags: Value = self.read_open(account, "/flags").await?;
        let text = |name: &str| flags[name].as_str().unwrap_or_default().to_owned();
        let seconds = |names: [&str; 2]| {
            let found = names.iter().find_map(|name| flags[*name].as_u64());
            found.map(Duration::from_secs)
        };
        let project = self.project(account).await?;
        let first = Flows {
            limit: 1,
            ..Flows::default()
        };
        self.flows(account, &first).await?;
        Ok(Probe {
            version: text("CURRENT_VERSION"),
            edition: text("EDITION"),
            flow_timeout: seconds(["FLOW_RUN_TIME_SECONDS", "FLOW_TIMEOUT_SECONDS"]),
            webhook_timeout: seconds(["WEBHOOK_TIMEOUT_SECONDS", "WEBHOOK_TIMEOUT"]),
            project,
        })
    }

    /// Lists flows of the connection's project.
    pub async fn flows(&self, account: &Account, wanted: &Flows<'_>) -> Result<Page<FlowSummary>, Failure> {
        let mut query = vec![
            ("projectId", self.project(account).await?),
            ("limit", wanted.limit.to_string()),
        ];
        for (name, value) in [
            ("name", wanted.name),
            ("status", wanted.status),
            ("cursor", wanted.cursor),
        ] {
            if !value.is_empty() {
                query.push((name, value.to_owned()));
            }
        }
        self.read(account, "flows.list", "/flows", query).await
    }

    /// A flow with its version in use.
    pub async fn flow(&self, account: &Account, id: &str) -> Result<Flow, Failure> {
        if !is_id(id) {
            return Err(Failure::new(Kind::FlowGone, NO_ID));
        }
        self.read(account, "flows.get", &format!("/flows/{id}"), Vec::new())
            .await
    }

    /// Whether the instance has a piece.
    pub async fn has_piece(&self, account: &Account, name: &str) -> Result<bool, Failure> {
        let path = format!("/pieces/{name}");
        let found: Result<Value, Failure> = self.read(account, "pieces.get", &path, Vec::new()).await;
        match found {
            Ok(_) => Ok(true),
            Err(failure) if failure.kind == Kind::NotFound => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Starts a flow, once. What is an error was certainly not begun.
    pub async fn start(
        &self,
        account: &Account,
        flow: &str,
        body: &Value,
        waits: Option<Duration>,
    ) -> Result<Started, Failure> {
        if !is_id(flow) {
            return Err(Failure::new(Kind::FlowGone, NO_ID));
        }
        let body = body.to_string();
        if body.len() > MAX_START {
            let message = format!(
                "the inputs have {} bytes, and ActivePieces takes at most {MAX_START}",
                body.len()
            );
            return Err(Failure::new(Kind::TooLarge, message));
        }
        let known = self.known(account);
        self.admit(&known)?;
        let path = match waits {
            None => format!("/webhooks/{flow}"),
            Some(_) => format!("/webhooks/{flow}/sync"),
        };
        let to = destination(account, &path, &[])?;
        let request = Request {
            method: Method::POST,
            headers: HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]),
            body: body.into(),
            timeout: waits.unwrap_or(START_TIMEOUT),
            max_response_bytes: clean::MAX_TEXT_BYTES,
        };
        let answer = self.send(&to, request, "webhooks.start").await;
        let started = read_start(answer, waits.is_some());
        let failed = match &started {
            Err(failure) => failure.kind.is_instances(),
            // A start that is waited for may take longer than that by itself.
            Ok(Started::Unknown) => waits.is_none(),
            Ok(_) => false,
        };
        known.breaker.record(failed, self.clock.monotonic());
        started
    }

    /// Lists runs of the connection's project, up to so many pages.
    pub async fn runs(&self, account: &Account, wanted: &Runs<'_>, pages: usize) -> Result<Vec<Listed>, Failure> {
        let mut query = vec![("projectId", self.project(account).await?), ("limit", PAGE.to_string())];
        query.extend(wanted.flow.map(|it| ("flowId", it.to_owned())));
        query.extend(wanted.tag.map(|it| ("tags", it.to_owned())));
        let since = wanted.since.and_then(|it| it.format(&Rfc3339).ok());
        query.extend(since.map(|it| ("createdAfter", it)));
        query.extend(wanted.ids.iter().map(|it| ("flowRunIds", it.clone())));
        let mut found: Vec<Listed> = Vec::new();
        let mut seen = HashSet::new();
        let mut cursors = HashSet::new();
        let mut cursor = None;
        for _ in 0..pages {
            let mut query = query.clone();
            query.extend(cursor.iter().map(|it: &String| ("cursor", it.clone())));
            let page: Page<Listed> = self.read(account, "flow-runs.list", "/flow-runs", query).await?;
            let before = found.len();
            found.extend(page.data.into_iter().filter(|it| seen.insert(it.id.clone())));
            // A cursor that is not taken any more answers with the first page again, and would do so for ever.
            match page.next {
                Some(next) if found.len() > before && cursors.insert(next.clone()) => cursor = Some(next),
                _ => break,
            }
        }
        Ok(found)
    }

    /// A run with its steps.
    pub async fn run(&self, account: &Account, id: &str) -> Result<Detailed, Failure> {
        if !is_id(id) {
            return Err(Failure::new(Kind::NotFound, "that is no run's id"));
        }
        self.read(account, "flow-runs.get", &format!("/flow-runs/{id}"), Vec::new())
            .await
    }

    /// Asks to stop runs. ActivePieces says that it did whether or not it could.
    pub async fn cancel(&self, account: &Account, ids: &[String]) -> Result<(), Failure> {
        let body = json!({ "projectId": self.project(account).await?, "flowRunIds": ids });
        let call = Call {
            method: Method::POST,
            path: "/flow-runs/cancel",
            name: "flow-runs.cancel",
            query: Vec::new(),
            body: Some(body),
        };
        self.call(account, &call).await.map(drop)
    }

    /// The project that the connection works in.
    async fn project(&self, account: &Account) -> Result<String, Failure> {
        if let Some(project) = &account.project {
            return Ok(project.clone());
        }
        let known = self.known(account);
        let token = self.token(account, &known, None).await?;
        let none = || {
            Failure::new(
                Kind::Invalid,
                "the connection names no project, and its credentials belong to none",
            )
        };
        token.1.ok_or_else(none)
    }

    /// Reads something, trying again what may pass.
    async fn read<T: for<'de> Deserialize<'de>>(
        &self,
        account: &Account,
        name: &'static str,
        path: &str,
        query: Vec<(&'static str, String)>,
    ) -> Result<T, Failure> {
        let call = Call {
            method: Method::GET,
            path,
            name,
            query,
            body: None,
        };
        let mut pauses = AGAIN_AFTER.into_iter();
        loop {
            let failure = match self.call(account, &call).await {
                Ok(answer) => return readable(&answer),
                Err(failure) => failure,
            };
            let passes = failure.kind.is_instances() || failure.kind == Kind::InProgress;
            match pauses.next() {
                Some(pause) if passes => sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await,
                _ => return Err(failure),
            }
        }
    }

    /// Reads what needs no credentials.
    async fn read_open<T: for<'de> Deserialize<'de>>(&self, account: &Account, path: &str) -> Result<T, Failure> {
        let to = destination(account, path, &[])?;
        let answer = self.exchange(&to, Method::GET, HeaderMap::new(), None, "flags").await?;
        readable(&answer)
    }

    /// Makes a call, renewing the session once where it has ended.
    async fn call(&self, account: &Account, call: &Call<'_>) -> Result<Response, Failure> {
        let known = self.known(account);
        self.admit(&known)?;
        let to = destination(account, call.path, &call.query)?;
        let mut stale = None;
        loop {
            let (authorization, _, generation) = match self.token_or_key(account, &known, stale).await {
                Ok(given) => given,
                Err(failure) => {
                    known
                        .breaker
                        .record(failure.kind.is_instances(), self.clock.monotonic());
                    return Err(failure);
                }
            };
            let headers = HeaderMap::from_iter([(AUTHORIZATION, authorization)]);
            let came = self
                .exchange(&to, call.method.clone(), headers, call.body.as_ref(), call.name)
                .await;
            let failure = match came {
                Ok(answer) => {
                    known.breaker.record(false, self.clock.monotonic());
                    return Ok(answer);
                }
                Err(failure) => failure,
            };
            let ended = matches!(failure.kind, Kind::Unauthorised | Kind::SessionExpired);
            if ended && generation.is_some() && stale.is_none() {
                stale = generation;
                continue;
            }
            known
                .breaker
                .record(failure.kind.is_instances(), self.clock.monotonic());
            return Err(failure);
        }
    }

    async fn exchange(
        &self,
        to: &Destination,
        method: Method,
        mut headers: HeaderMap,
        body: Option<&Value>,
        name: &'static str,
    ) -> Result<Response, Failure> {
        if body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let request = Request {
            method,
            headers,
            body: body.map(Value::to_string).unwrap_or_default().into(),
            timeout: TIMEOUT,
            max_response_bytes: MAX_ANSWER,
        };
        let answer = self.send(to, request, name).await;
        let answer = answer.map_err(|error| Failure::of_silence(&error))?;
        if answer.status.is_redirection() {
            let message = "ActivePieces redirects, which is not followed: the connection's address is not quite right";
            return Err(Failure::new(Kind::Invalid, message));
        }
        if answer.status.is_success() {
            Ok(answer)
        } else {
            Err(Failure::of_answer(&answer))
        }
    }

    /// Sends a request under a span that has neither path nor query: a run's id can stand in both.
    async fn send(&self, to: &Destination, request: Request, name: &'static str) -> Result<Response, OutboundError> {
        let span = tracing::info_span!(
            target: telemetry::TRACES_ONLY,
            "activepieces call",
            otel.name = format!("activepieces {name}"),
            otel.kind = "client",
            otel.status_code = Empty,
            http.request.method = request.method.as_str(),
            http.response.status_code = Empty,
            server.address = to.host(),
            server.port = to.port(),
        );
        let exchange = async {
            let answer = self.outbound.send(to, request).await;
            let span = tracing::Span::current();
            match &answer {
                Ok(answer) => span.record("http.response.status_code", answer.status.as_u16()),
                Err(_) => span.record("otel.status_code", "ERROR"),
            };
            answer
        };
        exchange.instrument(span).await
    }

    fn admit(&self, known: &Known) -> Result<(), Failure> {
        known.breaker.admit(self.clock.monotonic()).map_err(|wait| Failure {
            retry_after: Some(wait),
            ..Failure::new(
                Kind::CircuitOpen,
                "ActivePieces failed five times in a row and is left alone for a while",
            )
        })
    }

    fn known(&self, account: &Account) -> Arc<Known> {
        self.known
            .get_with((account.connection, account.revision), Arc::default)
    }

    async fn token_or_key(
        &self,
        account: &Account,
        known: &Known,
        stale: Option<u64>,
    ) -> Result<(HeaderValue, Option<String>, Option<u64>), Failure> {
        match &account.auth {
            Auth::ApiKey(key) => Ok((bearer(key)?, None, None)),
            Auth::SignIn { .. } => {
                let (header, project, generation) = self.token(account, known, stale).await?;
                Ok((header, project, Some(generation)))
            }
        }
    }

    async fn token(
        &self,
        account: &Account,
        known: &Known,
        stale: Option<u64>,
    ) -> Result<(HeaderValue, Option<String>, u64), Failure> {
        let Auth::SignIn { email, password } = &account.auth else {
            return Err(Failure::new(
                Kind::Invalid,
                "a connection with an API key has to name its project",
            ));
        };
        let sign_in = || async {
            let to = destination(account, "/authentication/sign-in", &[])?;
            let body = json!({ "email": email, "password": password.expose_secret() });
            let answer = self
                .exchange(&to, Method::POST, HeaderMap::new(), Some(&body), "sign-in")
                .await?;
            let given: Given = readable(&answer)?;
            Ok(SignedIn {
                token: given.token,
                project: given.project_id,
            })
        };
        let token = known.session.token(stale, || self.clock.monotonic(), sign_in).await?;
        Ok((bearer(&token.text)?, token.project, token.generation))
    }
}

/// What signing in answers.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Given {
    token: SecretString,
    #[serde(default)]
    project_id: Option<String>,
}

const NO_ID: &str = "that is no flow's id: 21 letters and digits are";

/// Whether a text can be an id: anything else is answered with 400, or would lead elsewhere.
pub(crate) fn is_id(text: &str) -> bool {
    text.len() == 21 && text.bytes().all(|it| it.is_ascii_alphanumeric())
}

fn read_start(answer: Result<Response, OutboundError>, waits: bool) -> Result<Started, Failure> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error @ (OutboundError::Connect(_) | OutboundError::Request(_) | OutboundError::Refused(_))) => {
            return Err(Failure::of_silence(&error));
        }
        Err(OutboundError::Timeout(_) | OutboundError::Broken(_) | OutboundError::TooLarge(_)) => {
            return Ok(Started::Unknown);
        }
    };
    let status = answer.status.as_u16();
    let is_platforms = is_platforms(&answer.body);
    match status {
        204 | 408 | 500.. if waits => Ok(Started::Unknown),
        408 | 500.. => Ok(Started::Unknown),
        200..300 if waits => Ok(answered(&answer)),
        200..300 => Ok(Started::Taken),
        404 if is_platforms || !waits => Err(Failure::new(
            Kind::FlowDisabled,
            "the flow is disabled, or was never published, in ActivePieces",
        )),
        410 if is_platforms || !waits => Err(Failure::new(
            Kind::FlowGone,
            "ActivePieces has no such flow; it may have been deleted",
        )),
        413 => Err(Failure::of_answer(&answer)),
        300..400 if !waits => Err(Failure::new(
            Kind::Invalid,
            "ActivePieces redirects, which is not followed: the connection's address is not quite right",
        )),
        300.. if waits && !is_platforms => Ok(answered(&answer)),
        _ => Err(Failure::of_answer(&answer)),
    }
}

/// What the flow said, made storable; where it sends on, to where.
fn answered(answer: &Response) -> Started {
    let (text, _) = clean::text_of(&answer.body);
    let body = match clean::parse_json(&text) {
        Ok((value, _)) if answer.is_json() => value,
        _ => Value::String(clean::storable(&text).0),
    };
    let location = answer.headers.get(LOCATION).and_then(|it| it.to_str().ok());
    let body = match location {
        Some(location) if answer.status.is_redirection() => json!({ "location": location }),
        _ => body,
    };
    Started::Answered {
        status: answer.status.as_u16(),
        body: scrub::value(body, &[]),
    }
}

fn readable<T: for<'de> Deserialize<'de>>(answer: &Response) -> Result<T, Failure> {
    let message = "what ActivePieces answers is not what it should be; is the connection's address right?";
    runs::parse(&answer.body).ok_or_else(|| Failure::new(Kind::Unreadable, message))
}

fn bearer(secret: &SecretString) -> Result<HeaderValue, Failure> {
    let header = HeaderValue::from_str(&format!("Bearer {}", secret.expose_secret()));
    let mut header =
        header.map_err(|_| Failure::new(Kind::Unauthorised, "the connection's key cannot be sent in a header"))?;
    header.set_sensitive(true);
    Ok(header)
}

/// A place of the connection's instance.
fn destination(account: &Account, path: &str, query: &[(&'static str, String)]) -> Result<Destination, Failure> {
    let refused = |message: String| Failure::new(Kind::Refused, message);
    let base = account.base_url.trim_end_matches('/');
    let base = base.strip_suffix("/api/v1").unwrap_or(base);
    let url = Url::parse(&format!("{base}/api/v1{path}"));
    let mut url = url.map_err(|_| refused("the connection's address is none".into()))?;
    if !query.is_empty() {
        url.query_pairs_mut()
            .extend_pairs(query.iter().map(|(name, value)| (*name, value)));
    }
    Destination::member(url.as_str()).map_err(|refusal| refused(refusal.to_string()))
}
