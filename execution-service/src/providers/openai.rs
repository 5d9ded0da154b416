//! OpenAI's chat completions, and whatever speaks them (Azure, Ollama, vLLM, LiteLLM): one request, and an answer that comes
//! as a stream of events, or whole from servers that do not stream.
//!
//! Nothing is believed unseen: a 200 with another content type, without choices, with an error in it or cut short is a
//! failure. A call has three deadlines (`deadline`) and a cap on its size. After an end that leaves open whether the provider
//! worked, the error says that the call may be billed. The key is in the request's header and nowhere else.

mod answer;
mod chunk;
mod deadline;
mod request;
mod stream;

use futures::future::BoxFuture;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{ACCEPT, AUTHORIZATION},
};
use secrecy::ExposeSecret;
use service_kit::{
    clock::{Clock, SystemClock},
    outbound::{Destination, Outbound},
};

use self::{deadline::Deadline, request::Body};
use super::{
    Answer, Call, CallError, Provider,
    endpoint::{Endpoint, KeyHeader},
    http_failure::unanswered,
};
use crate::engine::failure::FailureClass;

const API_KEY: HeaderName = HeaderName::from_static("api-key");
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// An endpoint as a provider.
pub struct OpenAi {
    endpoint: Endpoint,
    chat: Destination,
    /// What every call carries; none where the key cannot be sent.
    headers: Option<HeaderMap>,
    outbound: Outbound,
}

impl OpenAi {
    /// The endpoint, called through `outbound`.
    pub fn new(endpoint: Endpoint, outbound: Outbound) -> Self {
        Self {
            chat: endpoint.base_url.join(&["chat", "completions"]),
            headers: headers(&endpoint),
            endpoint,
            outbound,
        }
    }

    async fn complete(&self, call: &Call, delta: &(dyn Fn(&str) + Send + Sync)) -> Result<Answer, CallError> {
        let endpoint = &self.endpoint;
        let first_token = if endpoint.streams {
            endpoint.first_token_timeout
        } else {
            call.timeout
        };
        let deadline = Deadline::new(call.timeout, first_token, endpoint.idle_timeout);
        let body = Body::new(call, endpoint);
        let opening = self.outbound.open_json(&self.chat, self.headers(call)?, &body);
        let incoming = deadline.within(opening).await?.map_err(|error| unanswered(&error))?;
        let key = endpoint.api_key.as_ref();
        let is_stream = incoming.status().is_success() && incoming.is_event_stream();
        if is_stream && !incoming.is_encoded() {
            return stream::read(incoming, deadline, key, delta).await?.judge();
        }
        let response = deadline.within(incoming.whole()).await?;
        let response = response.map_err(|error| unanswered(&error))?;
        let answer = answer::read(&response, key, SystemClock.now())?;
        delta(&answer.text);
        Ok(answer)
    }

    fn headers(&self, call: &Call) -> Result<HeaderMap, CallError> {
        let mut headers = self.headers.clone().ok_or_else(|| {
            CallError::new(
                FailureClass::ProviderError,
                "credentials",
                "the configured key cannot be sent in a header",
            )
        })?;
        if let Ok(key) = HeaderValue::from_str(&call.idempotency_key) {
            headers.insert(IDEMPOTENCY_KEY, key);
        }
        Ok(headers)
    }
}

fn headers(endpoint: &Endpoint) -> Option<HeaderMap> {
    let accepted = if endpoint.streams {
        "text/event-stream, application/json"
    } else {
        "application/json"
    };
    let mut headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accepted))]);
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

impl Provider for OpenAi {
    fn call<'a>(
        &'a self,
        call: &'a Call,
        delta: &'a (dyn Fn(&str) + Send + Sync),
    ) -> BoxFuture<'a, Result<Answer, CallError>> {
        Box::pin(self.complete(call, delta))
    }
}

#[cfg(test)]
mod tests;
