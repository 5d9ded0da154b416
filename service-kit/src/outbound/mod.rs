//! The one HTTP client for calls to the outside.
//!
//! A request goes to a [`Destination`]: an address that the operator's configuration names, or one that a member of a company
//! has named, which the guard lets go to public addresses and to what the operator allows, and nowhere else. The client
//! follows no redirect and uses no proxy, so that stays true on the way.
//! An answer that is longer than the cap is dropped while it is read. Answers are read whole, under one deadline, or as they
//! come ([`Incoming`]), and then their reader keeps the time. It speaks HTTP/1.1 alone: a call has its connection for
//! itself, so none waits for another's stream, and giving one up closes it, which every server notices.

mod allow;
mod destination;
mod guard;
mod headers;
mod judge;
mod response;

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header::CONTENT_TYPE};
use reqwest::dns::Resolve;
use serde::Serialize;

pub use self::{
    allow::{AllowRule, NotARule},
    destination::Destination,
    guard::Refusal,
    headers::{HeaderError, member_header, member_headers},
    judge::{Verdict, judge},
    response::{Incoming, Response},
};
use self::{
    destination::Word,
    guard::{Guard, Guarded, System},
};
use crate::{
    error::{Error, Result},
    telemetry,
};

const USER_AGENT: &str = concat!("studios/", env!("CARGO_PKG_VERSION"));
/// How many connections to a host are kept for the next calls: as many as calls that are commonly under way.
const IDLE_PER_HOST: usize = 256;

/// Limits of all calls.
#[derive(Debug, Clone)]
pub struct OutboundConfig {
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// The longest answer, in bytes.
    pub max_response_bytes: usize,
    /// A PEM file of authorities to believe besides the system's.
    pub ca: Option<PathBuf>,
    /// Where members' requests may go besides public addresses.
    pub allow: Vec<AllowRule>,
}

impl Default for OutboundConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            max_response_bytes: 16 * 1024 * 1024,
            ca: None,
            allow: Vec::new(),
        }
    }
}

/// The client; clones share its connections.
#[derive(Debug, Clone)]
pub struct Outbound {
    /// For the operator's addresses.
    open: reqwest::Client,
    /// For members' addresses.
    guarded: GuardedClient,
    /// For members' addresses at the ports that the operator's rules name. A resolver is not told the port.
    guarded_at: Arc<BTreeMap<u16, GuardedClient>>,
    max_response_bytes: usize,
}

/// A client whose resolver answers only what its guard permits; literal addresses the guard has to be asked about.
#[derive(Debug, Clone)]
struct GuardedClient {
    guard: Guard,
    client: reqwest::Client,
}

/// A request of any kind.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The headers. Those that frame the request, and those of the trace, come by themselves.
    pub headers: HeaderMap,
    /// The body; may be empty.
    pub body: Bytes,
    /// How long the exchange may take in all.
    pub timeout: Duration,
    /// The longest answer to it, in bytes; not more than that of all calls.
    pub max_response_bytes: usize,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// No connection; nothing was sent.
    #[error("cannot connect")]
    Connect(#[source] reqwest::Error),
    /// The deadline passed; the request may have been carried out.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The connection broke; the request may have been carried out.
    #[error("the connection broke")]
    Broken(#[source] reqwest::Error),
    /// The answer is longer than so many bytes.
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
    /// The request itself cannot be made.
    #[error("the request cannot be made")]
    Request(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The guard does not let a member's request go there; nothing was sent.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl Outbound {
    /// A client with these limits.
    ///
    /// # Errors
    /// `Internal`: TLS cannot be set up, or the file of authorities cannot be used.
    pub fn new(config: &OutboundConfig) -> Result<Self> {
        Self::with_resolver(config, &(Arc::new(System) as _))
    }

    /// As [`new`](Self::new), with members' hosts looked up here.
    fn with_resolver(config: &OutboundConfig, resolver: &Arc<dyn Resolve>) -> Result<Self> {
        let authorities = match &config.ca {
            Some(path) => {
                let pem = fs::read(path).map_err(Error::internal)?;
                reqwest::Certificate::from_pem_bundle(&pem).map_err(Error::internal)?
            }
            None => Vec::new(),
        };
        let builder = || {
            #[expect(clippy::disallowed_methods, reason = "this is the outbound client")]
            let builder = reqwest::Client::builder();
            builder
                .tls_certs_merge(authorities.clone())
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .tcp_nodelay(true)
                .http1_only()
                .pool_max_idle_per_host(IDLE_PER_HOST)
                .connect_timeout(config.connect_timeout)
                .user_agent(USER_AGENT)
        };
        let guarded = |port| -> Result<GuardedClient> {
            let guard = Guard::at(port, &config.allow);
            let resolver = Guarded {
                guard: guard.clone(),
                resolver: resolver.clone(),
            };
            let client = builder().dns_resolver(resolver).build().map_err(Error::internal)?;
            Ok(GuardedClient { guard, client })
        };
        let ports = config.allow.iter().filter_map(AllowRule::port);
        let guarded_at: Result<_> = ports.map(|port| Ok((port, guarded(Some(port))?))).collect();
        Ok(Self {
            open: builder().build().map_err(Error::internal)?,
            guarded: guarded(None)?,
            guarded_at: Arc::new(guarded_at?),
            max_response_bytes: config.max_response_bytes,
        })
    }

    /// Posts JSON and reads the whole answer, all within `timeout`.
    pub async fn post_json(
        &self,
        to: &Destination,
        headers: HeaderMap,
        body: &(impl Serialize + ?Sized),
        timeout: Duration,
    ) -> Result<Response, OutboundError> {
        whole(self.open_json(to, headers, body), timeout).await
    }

    /// Posts JSON and answers once the answer's head is there. It takes as long as the server likes: the caller has the
    /// deadline. Giving up the wait, or dropping the answer, ends the exchange.
    ///
    /// # Errors
    /// `Connect` where no connection could be made within its own deadline.
    pub async fn open_json(
        &self,
        to: &Destination,
        mut headers: HeaderMap,
        body: &(impl Serialize + ?Sized),
    ) -> Result<Incoming, OutboundError> {
        let body = serde_json::to_vec(body).map_err(|error| OutboundError::Request(error.into()))?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.open(to, Method::POST, headers, body.into(), self.max_response_bytes)
            .await
    }

    /// Gets a resource and reads the whole answer, all within `timeout`.
    pub async fn get(&self, to: &Destination, timeout: Duration) -> Result<Response, OutboundError> {
        let cap = self.max_response_bytes;
        whole(self.open(to, Method::GET, HeaderMap::new(), Bytes::new(), cap), timeout).await
    }

    /// Sends a request of any kind and reads the whole answer, all within the request's time.
    pub async fn send(&self, to: &Destination, request: Request) -> Result<Response, OutboundError> {
        let cap = request.max_response_bytes.min(self.max_response_bytes);
        let opening = self.open(to, request.method, request.headers, request.body, cap);
        whole(opening, request.timeout).await
    }

    async fn open(
        &self,
        to: &Destination,
        method: Method,
        mut headers: HeaderMap,
        body: Bytes,
        cap: usize,
    ) -> Result<Incoming, OutboundError> {
        let client = self.client(to)?;
        telemetry::inject_headers(&mut headers);
        let request = client.request(method, to.url().clone()).headers(headers).body(body);
        Incoming::new(request.send().await.map_err(classified)?, cap)
    }

    /// The client that may call there.
    fn client(&self, to: &Destination) -> Result<&reqwest::Client, Refusal> {
        match to.word() {
            Word::Operator => Ok(&self.open),
            Word::Member => {
                let GuardedClient { guard, client } = self.guarded_at.get(&to.port()).unwrap_or(&self.guarded);
                guard.check(to.url())?;
                Ok(client)
            }
        }
    }
}

async fn whole(
    opening: impl Future<Output = Result<Incoming, OutboundError>>,
    timeout: Duration,
) -> Result<Response, OutboundError> {
    let exchange = async { opening.await?.whole().await };
    tokio::time::timeout(timeout, exchange)
        .await
        .unwrap_or(Err(OutboundError::Timeout(timeout)))
}

/// URLs can carry secrets, so errors are kept without theirs.
fn classified(error: reqwest::Error) -> OutboundError {
    let error = error.without_url();
    if let Some(refusal) = refusal(&error) {
        OutboundError::Refused(refusal)
    } else if error.is_builder() {
        OutboundError::Request(error.into())
    } else if error.is_connect() || error.is_timeout() {
        // The client has no timeout but the one for connecting.
        OutboundError::Connect(error)
    } else {
        OutboundError::Broken(error)
    }
}

/// What the guarded resolver said, if that is what went wrong.
fn refusal(error: &reqwest::Error) -> Option<Refusal> {
    let mut causes = std::iter::successors(std::error::Error::source(error), |it| it.source());
    causes.find_map(|it| it.downcast_ref().cloned())
}

#[cfg(test)]
mod tests;
