//! An endpoint as a provider: one exchange over HTTP, whatever it speaks.
//!
//! Nothing is believed unseen: a 200 with another content type, without an answer, with an error in it or cut short is a
//! failure. A call has three deadlines (`deadline`) and a cap on its size. After an end that leaves open whether the provider
//! worked, the error says that the call may be billed. The key is in the request's header and nowhere else.

use futures::future::BoxFuture;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{ACCEPT, AUTHORIZATION},
};
use secrecy::ExposeSecret;
use serde::Serialize;
use serde_json::Value;
use service_kit::{
    clock::{Clock, SystemClock},
    outbound::{Destination, Outbound, Response},
};

use super::{
    Answer, Call, CallError, EmbedCall, Embedded, Provider, anthropic, clean,
    deadline::Deadline,
    embedding,
    endpoint::{Endpoint, KeyHeader, Protocol},
    flowise,
    http_failure::{Reply, classify, hidden, is_error, unanswered},
    ollama, openai,
    said::Said,
    sse::Event,
    stream::{self, Growing, Step, Told},
};
use crate::engine::failure::FailureClass;

const API_KEY: HeaderName = HeaderName::from_static("api-key");
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// How a protocol's answers are read.
pub(super) trait Dialect: Send {
    /// The content type of its streams.
    const STREAM: &'static str = "text/event-stream";
    /// Whether a stream's events are lines of JSON.
    const HAS_LINES: bool = false;

    /// Takes an event of a stream.
    fn take(&mut self, event: &Event<'_>, grown: &mut Growing, told: &Told<'_>) -> Result<Step, CallError>;

    /// Reads an answer that came whole. Its text is made storable by the caller.
    fn whole(&self, body: &Value) -> Result<Said, Unusable>;

    /// What a reply's failure is.
    fn classify(reply: &Reply<'_>) -> CallError {
        classify(reply)
    }
}

/// An answer is none: the reason and the words for it.
pub(super) struct Unusable(pub &'static str, pub &'static str);

/// An endpoint as a provider.
pub(super) struct Remote {
    pub(super) endpoint: Endpoint,
    /// Where models are called; of Flowise it is what a flow's id is joined to.
    chat: Destination,
    embeddings: Option<Destination>,
    /// What every call carries; none where the key cannot be sent.
    headers: Option<HeaderMap>,
    pub(super) outbound: Outbound,
}

impl Remote {
    /// The endpoint, called through `outbound`.
    pub(super) fn new(endpoint: Endpoint, outbound: Outbound) -> Self {
        let at = |segments: &[&str]| endpoint.base_url.join(segments);
        let (chat, embeddings) = match endpoint.protocol {
            Protocol::OpenAi | Protocol::Azure => (at(&["chat", "completions"]), Some(at(&["embeddings"]))),
            Protocol::Anthropic => (at(&["messages"]), None),
            Protocol::Ollama => (at(&["api", "chat"]), Some(at(&["api", "embed"]))),
            Protocol::Flowise => (at(&flowise::PATH), None),
        };
        Self {
            chat,
            embeddings,
            headers: headers(&endpoint),
            endpoint,
            outbound,
        }
    }

    async fn answer(&self, call: &Call, delta: &(dyn Fn(&str) + Send + Sync)) -> Result<Answer, CallError> {
        let endpoint = &self.endpoint;
        match endpoint.protocol {
            Protocol::OpenAi | Protocol::Azure => {
                let body = openai::Body::new(call, endpoint);
                self.complete(&self.chat, call, &body, openai::Completions, delta).await
            }
            Protocol::Anthropic => {
                let body = anthropic::Body::new(call, endpoint);
                self.complete(&self.chat, call, &body, anthropic::Messages, delta).await
            }
            Protocol::Ollama => {
                let body = ollama::Body::new(call, endpoint);
                self.complete(&self.chat, call, &body, ollama::Chat, delta).await
            }
            Protocol::Flowise => {
                let to = endpoint.base_url.join(&flowise::path(&call.model));
                let body = flowise::Body::new(call, endpoint);
                self.complete(&to, call, &body, flowise::Prediction::default(), delta)
                    .await
            }
        }
    }

    async fn complete<D: Dialect>(
        &self,
        to: &Destination,
        call: &Call,
        body: &impl Serialize,
        dialect: D,
        delta: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<Answer, CallError> {
        let endpoint = &self.endpoint;
        let first_token = if endpoint.streams {
            endpoint.first_token_timeout
        } else {
            call.timeout
        };
        let deadline = Deadline::new(call.timeout, first_token, endpoint.idle_timeout);
        let opening = self.outbound.open_json(to, self.headers(&call.idempotency_key)?, body);
        let incoming = deadline.within(opening).await?.map_err(|error| unanswered(&error))?;
        let is_stream = incoming.status().is_success() && incoming.media_type().eq_ignore_ascii_case(D::STREAM);
        if is_stream && !incoming.is_encoded() {
            let key = endpoint.api_key.as_ref();
            return stream::read(dialect, incoming, deadline, key, delta).await?.judge();
        }
        let response = deadline.within(incoming.whole()).await?;
        let response = response.map_err(|error| unanswered(&error))?;
        let (body, changed) = self.body(&response, D::classify)?;
        let said = dialect
            .whole(&body)
            .map_err(|Unusable(reason, message)| self.unusable(&response, reason, message))?;
        let (text, cut) = clean::storable(&said.text);
        let answer = Said {
            text,
            cleaned: changed || cut,
            ..said
        }
        .judge()?;
        delta(&answer.text);
        Ok(answer)
    }

    /// The JSON of a response, and whether it had to be changed to be stored.
    pub(super) fn body(
        &self,
        response: &Response,
        classify: fn(&Reply<'_>) -> CallError,
    ) -> Result<(Value, bool), CallError> {
        let (text, replaced) = clean::text_of(&response.body);
        let failure = || {
            let body = hidden(&text, self.endpoint.api_key.as_ref());
            classify(&Reply {
                status: response.status.as_u16(),
                headers: &response.headers,
                body: &body,
                now: SystemClock.now(),
            })
        };
        if !response.status.is_success() {
            return Err(failure());
        }
        let unusable = |message| self.unusable(response, "wrong_body", message);
        if !response.is_json() {
            return Err(unusable("the provider's answer is not JSON by its content type"));
        }
        let (body, cleaned) = clean::parse_json(&text).map_err(|_| unusable("the provider's answer is broken JSON"))?;
        if is_error(&body) {
            return Err(failure());
        }
        Ok((body, replaced || cleaned))
    }

    fn unusable(&self, response: &Response, reason: &'static str, message: &str) -> CallError {
        let (text, _) = clean::text_of(&response.body);
        CallError::new(FailureClass::ProviderError, reason, message)
            .retryable()
            .billing_uncertain()
            .with_raw(&hidden(&text, self.endpoint.api_key.as_ref()))
    }

    /// Posts a body to where embeddings are made and reads the JSON that it is answered with.
    pub(super) async fn post(
        &self,
        to: &Destination,
        body: &impl Serialize,
        key: &str,
        deadline: &Deadline,
    ) -> Result<Value, CallError> {
        let mut headers = self.headers(key)?;
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let exchange = async { self.outbound.open_json(to, headers, body).await?.whole().await };
        let response = deadline.within(exchange).await?;
        let response = response.map_err(|error| unanswered(&error))?;
        Ok(self.body(&response, classify)?.0)
    }

    /// Where embeddings are made, if the protocol has them.
    pub(super) const fn embeddings(&self) -> Option<&Destination> {
        self.embeddings.as_ref()
    }

    fn headers(&self, idempotency_key: &str) -> Result<HeaderMap, CallError> {
        let mut headers = self.headers.clone().ok_or_else(|| {
            CallError::new(
                FailureClass::ProviderError,
                "credentials",
                "the configured key cannot be sent in a header",
            )
        })?;
        if let Ok(key) = HeaderValue::from_str(idempotency_key) {
            headers.insert(IDEMPOTENCY_KEY, key);
        }
        Ok(headers)
    }
}

fn headers(endpoint: &Endpoint) -> Option<HeaderMap> {
    let accepted = match (endpoint.protocol, endpoint.streams) {
        (_, false) => "application/json",
        (Protocol::Ollama, true) => "application/x-ndjson, application/json",
        (_, true) => "text/event-stream, application/json",
    };
    let mut headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accepted))]);
    if endpoint.protocol == Protocol::Anthropic {
        headers.insert(anthropic::VERSION.0, anthropic::VERSION.1);
    }
    if let Some(key) = &endpoint.api_key {
        let (name, text) = match endpoint.key_header {
            KeyHeader::Authorization => (AUTHORIZATION, format!("Bearer {}", key.expose_secret())),
            KeyHeader::ApiKey => (API_KEY, key.expose_secret().to_owned()),
            KeyHeader::XApiKey => (X_API_KEY, key.expose_secret().to_owned()),
        };
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Some(headers)
}

/// The system message with the schema in words, where the provider cannot be given one otherwise; the answer is checked
/// by us. Some providers refuse to keep to JSON unless a message asks for it.
pub(super) fn with_schema(system: &str, schema: &Value) -> String {
    let asked =
        format!("Answer with one JSON value, and nothing else, that is valid against this JSON Schema:\n{schema}");
    if system.is_empty() {
        asked
    } else {
        format!("{system}\n\n{asked}")
    }
}

impl Provider for Remote {
    fn call<'a>(
        &'a self,
        call: &'a Call,
        delta: &'a (dyn Fn(&str) + Send + Sync),
    ) -> BoxFuture<'a, Result<Answer, CallError>> {
        Box::pin(self.answer(call, delta))
    }

    fn embed<'a>(&'a self, call: &'a EmbedCall) -> BoxFuture<'a, Result<Embedded, CallError>> {
        Box::pin(embedding::remote(self, call))
    }
}
