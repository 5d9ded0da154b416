//! Model providers: one [`Call`] in, one [`Answer`] or one classified [`CallError`] out. And any other server: see [`HttpCall`].
//!
//! A provider is the built-in offline model or an endpoint (`endpoint`): the operator's, or the one behind a company's
//! connection. From the outside in, a call passes its span (`telemetry`), the endpoint's breaker and limits (`guarded`), one
//! exchange (`remote`) and what the protocol makes of it (`openai`, `anthropic`, `ollama`, `flowise`).
//! What always holds: an answer's text is storable (see [`clean`]); the same cause has the same class on every provider;
//! no key is ever in an error, a log or a span; a call ends by its deadline; an address that a user names passes the guard.

mod anthropic;
pub mod clean;
mod config;
mod connected;
mod deadline;
mod embedding;
mod endpoint;
mod flowise;
mod guarded;
mod http_failure;
mod http_stage;
mod offline;
mod ollama;
mod openai;
mod pieces;
pub mod prices;
mod remote;
mod retry_after;
mod said;
mod sse;
mod stream;
mod strict_schema;
#[cfg(test)]
mod stub;
#[cfg(test)]
mod table;
mod telemetry;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::{Map, Value};
use service_kit::{ids::ConnectionId, outbound::Outbound};

pub use self::config::ProvidersConfig;
use self::connected::ConnectedProviders;
pub use self::embedding::{EmbedCall, Embedded};
pub use self::endpoint::{BaseUrl, ConfigError, Endpoint, KeyHeader, Limits, Protocol, TokenLimit};
pub use self::guarded::{BreakerState, StandingReport};
use self::guarded::{Guarded, Standing};
pub use self::http_stage::{HttpAnswer, HttpCall, METHODS};
pub use self::offline::{Offline, SUPPORTED_KEYWORDS, unsupported_keywords};
use self::prices::{Catalogue, Known};
use self::remote::Remote;
use self::telemetry::Traced;
use crate::engine::failure::FailureClass;

/// The name of the built-in provider; no endpoint can have it.
pub const OFFLINE: &str = "offline";

/// One call of a model.
#[derive(Debug, Clone, Default)]
pub struct Call {
    /// The provider's name.
    pub provider: String,
    /// The model, as the provider names it.
    pub model: String,
    /// The system message; may be empty.
    pub system: String,
    /// The rendered prompt.
    pub prompt: String,
    /// JSON Schema that the answer must fill.
    pub schema: Option<Value>,
    /// The chunks that were retrieved for the prompt, best first.
    pub sources: Vec<SourceText>,
    /// What the model is asked to do differently from its defaults.
    pub parameters: Parameters,
    /// How many tokens the model can read and write together, where that is known.
    pub context_length: Option<u32>,
    /// The conversation that the call belongs to, for servers that keep them; may be empty.
    pub session: String,
    /// Settings of a flow to override; of Flowise alone.
    pub overrides: Map<String, Value>,
    /// How long the call may take in all.
    pub timeout: Duration,
    /// Names the attempt; the same for a call that is sent again after a crash.
    pub idempotency_key: String,
}

/// A retrieved chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceText {
    /// The document.
    pub document_id: String,
    /// The chunk.
    pub chunk_id: String,
    /// The document's title.
    pub title: String,
    /// The headings above the chunk; empty where there is none.
    pub section: String,
    /// The chunk's text.
    pub content: String,
}

/// Parameters of a call; what is `None` is not sent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parameters {
    /// Sampling temperature.
    pub temperature: Option<f64>,
    /// The most tokens to answer with.
    pub max_tokens: Option<u32>,
    /// Nucleus sampling.
    pub top_p: Option<f64>,
    /// Seed of the sampling.
    pub seed: Option<i64>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
}

/// What a model answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The answer; JSON text where the call had a schema.
    pub text: String,
    /// Tokens read, by the provider's own count.
    pub input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
    /// Whether the provider did not say how many tokens that were; they are 0 then.
    pub billing_uncertain: bool,
    /// Why the model stopped; an answer that was cut is a [`CallError`] instead.
    pub finish_reason: String,
    /// The model that the provider says answered.
    pub response_model: Option<String>,
    /// The provider's id of the answer.
    pub response_id: Option<String>,
    /// Whether something had to be taken out to make the text storable.
    pub cleaned: bool,
}

/// Tokens that a failed call used all the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens read.
    pub input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallError {
    /// The class.
    pub class: FailureClass,
    /// What it was within the class; stable.
    pub reason: &'static str,
    /// What happened, in words for people: no secrets, no internals.
    pub message: String,
    /// Whether the same call may succeed later.
    pub retryable: bool,
    /// How long the provider asked us to wait.
    pub retry_after: Option<Duration>,
    /// Whether the provider may have worked, and bill, without our knowing. Of a plain HTTP request: whether it may have been
    /// carried out, so that what must not happen twice is not sent again.
    pub billing_uncertain: bool,
    /// Whether it was sent and no whole answer came: nobody knows what was done. Said of plain HTTP requests alone.
    pub unanswered: bool,
    /// What the provider sent, where it helps to see it; storable.
    pub raw: Option<String>,
    /// What the call is known to have used.
    pub usage: Usage,
}

impl CallError {
    /// A failure that is final, costs nothing and has nothing to show; the `with_` functions say otherwise.
    pub fn new(class: FailureClass, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            class,
            reason,
            message: message.into(),
            retryable: false,
            retry_after: None,
            billing_uncertain: false,
            unanswered: false,
            raw: None,
            usage: Usage::default(),
        }
    }

    /// The same call may succeed later.
    #[must_use]
    pub const fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    /// The provider may have worked, and bill, without our knowing.
    #[must_use]
    pub const fn billing_uncertain(mut self) -> Self {
        self.billing_uncertain = true;
        self
    }

    /// Shows what the provider sent, as far as it can be stored.
    #[must_use]
    pub fn with_raw(mut self, raw: &str) -> Self {
        self.raw = Some(clean::storable(raw).0).filter(|raw| !raw.is_empty());
        self
    }

    /// The call used this much all the same.
    #[must_use]
    pub const fn with_usage(mut self, usage: Usage) -> Self {
        self.usage = usage;
        self
    }

    /// The answer came to its token limit, so it is not whole. Trying again is the stage's decision.
    fn cut(text: &str, usage: Usage) -> Self {
        Self::new(
            FailureClass::Validation,
            "max_tokens",
            "the answer reached its token limit and is not whole",
        )
        .retryable()
        .with_raw(text)
        .with_usage(usage)
    }
}

/// Something that answers calls.
pub trait Provider: Send + Sync {
    /// Answers the call before its timeout. `delta` gets the answer's text piece by piece as it comes, for people who
    /// watch; together the pieces are the text, unless the call fails. Dropping the future gives the call up.
    fn call<'a>(
        &'a self,
        call: &'a Call,
        delta: &'a (dyn Fn(&str) + Send + Sync),
    ) -> BoxFuture<'a, Result<Answer, CallError>>;

    /// Makes texts comparable: one vector of length 1 for each. Not every provider can.
    fn embed<'a>(&'a self, call: &'a EmbedCall) -> BoxFuture<'a, Result<Embedded, CallError>>;
}

/// Every provider that stages can call, by name, and the way to any other server.
pub struct Providers {
    by_name: BTreeMap<String, Arc<dyn Provider>>,
    protocols: BTreeMap<String, Protocol>,
    catalogue: Catalogue,
    standings: BTreeMap<String, Arc<Standing>>,
    connected: ConnectedProviders,
    outbound: Outbound,
}

impl Providers {
    /// The offline model, and the configured endpoints, which all call through `outbound`.
    pub fn new(config: &ProvidersConfig, outbound: Outbound) -> Self {
        let mut standings = BTreeMap::new();
        let mut by_name = BTreeMap::new();
        for (name, endpoint) in config.endpoints() {
            let (provider, standing) = provider(name, endpoint, &outbound);
            by_name.insert(name.to_owned(), provider);
            standings.insert(name.to_owned(), standing);
        }
        let protocols = config.endpoints().map(|(name, it)| (name.to_owned(), it.protocol));
        let offline: Arc<dyn Provider> = Arc::new(Traced::new(Offline, telemetry::STUDIOS, None));
        by_name.insert(OFFLINE.to_owned(), offline);
        Self {
            by_name,
            protocols: protocols.collect(),
            catalogue: config.catalogue().clone(),
            standings,
            connected: ConnectedProviders::default(),
            outbound,
        }
    }

    /// The provider behind a company's connection, which is this endpoint as of this revision. It is made once: its breaker
    /// and its limits hold over all calls of this process, and begin anew when the connection changes.
    pub fn connected(&self, key: ConnectionId, revision: i64, endpoint: &Endpoint) -> Arc<dyn Provider> {
        self.connected
            .get_or_make(key, revision, || provider(&key.to_string(), endpoint, &self.outbound))
    }

    /// What is known beforehand of a model of one of the operator's endpoints.
    pub fn known(&self, provider: &str, model: &str) -> Option<&Known> {
        self.catalogue.known(*self.protocols.get(provider)?, model)
    }

    /// What is known beforehand of models, by what their server speaks.
    pub const fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// How a connection has done in this process since it was last called anew; nothing if it was not called.
    pub fn connection_standing(&self, key: ConnectionId) -> Option<StandingReport> {
        self.connected.get(key).map(|it| it.standing.report())
    }

    /// How the operator's endpoints have done in this process, by name.
    pub fn standings(&self) -> impl Iterator<Item = (&str, StandingReport)> {
        self.standings.iter().map(|(name, it)| (name.as_str(), it.report()))
    }

    /// Sends what a stage asks for to a server that its workflow names. Dropping the future gives the request up.
    pub async fn http(&self, call: &HttpCall<'_>) -> Result<HttpAnswer, CallError> {
        http_stage::send(&self.outbound, call).await
    }

    /// The provider with this name.
    pub fn get(&self, provider: &str) -> Option<Arc<dyn Provider>> {
        self.by_name.get(provider).cloned()
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }
}

/// The endpoint as a provider, and how that stands. `name` is what logs call it.
fn provider(name: &str, endpoint: &Endpoint, outbound: &Outbound) -> (Arc<dyn Provider>, Arc<Standing>) {
    let remote = Remote::new(endpoint.clone(), outbound.clone());
    let standing = Arc::new(Standing::new(name, endpoint.limits));
    let guarded = Guarded::new(remote, standing.clone());
    let name = telemetry::provider_name(endpoint.protocol);
    (Arc::new(Traced::new(guarded, name, Some(&endpoint.base_url))), standing)
}

#[cfg(test)]
mod tests {
    use service_kit::{config::Reader, outbound::OutboundConfig};

    use super::*;

    #[tokio::test]
    async fn the_offline_model_is_always_there_beside_what_is_configured() {
        let flags = [("providers_box_base_url".to_owned(), "http://127.0.0.1:9/v1".to_owned())];
        let config = ProvidersConfig::read(&mut Reader::load(&["STUDIOS_NO_SUCH_PREFIX_"], None, &flags));
        let providers = Providers::new(&config, Outbound::new(&OutboundConfig::default()).unwrap());
        assert_eq!(providers.names().collect::<Vec<_>>(), ["box", OFFLINE]);
        assert!(providers.get("openai").is_none());
        let call = Call {
            provider: OFFLINE.into(),
            model: "offline-extractive-1".into(),
            prompt: "Summarise the text.\n\nThe desk opens at nine.".into(),
            timeout: Duration::from_secs(5),
            idempotency_key: "k".into(),
            ..Call::default()
        };
        let answer = providers.get(OFFLINE).unwrap().call(&call, &|_| {}).await.unwrap();
        assert!(answer.text.starts_with("The desk opens at nine."), "{}", answer.text);
    }
}
