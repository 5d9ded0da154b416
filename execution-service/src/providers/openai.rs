//! OpenAI's chat completions, and whatever speaks them (Azure, Ollama, vLLM, LiteLLM): one request, one answer, no stream.
//!
//! Nothing is believed unseen: a 200 with another content type, without choices, with an error in it or cut short is a
//! failure. Calls have one deadline over all and a cap on their size. After an end that leaves open whether the provider
//! worked, the error says that the call may be billed. The key is in the request's header and nowhere else.

mod answer;
mod request;

use futures::future::BoxFuture;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{ACCEPT, AUTHORIZATION},
};
use secrecy::ExposeSecret;
use service_kit::{
    clock::{Clock, SystemClock},
    outbound::Outbound,
};

use super::{
    Answer, Call, CallError, Provider,
    config::{Endpoint, KeyHeader},
    http_failure::unanswered,
};
use crate::engine::failure::FailureClass;

const API_KEY: HeaderName = HeaderName::from_static("api-key");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// An endpoint as a provider.
pub struct OpenAi {
    endpoint: Endpoint,
    outbound: Outbound,
}

impl OpenAi {
    /// The endpoint, called through `outbound`.
    pub const fn new(endpoint: Endpoint, outbound: Outbound) -> Self {
        Self { endpoint, outbound }
    }

    async fn complete(&self, call: &Call) -> Result<Answer, CallError> {
        let url = self.endpoint.base_url.join(&["chat", "completions"]);
        let body = request::body(call, &self.endpoint);
        let response = self
            .outbound
            .post_json(&url, self.headers(call)?, &body, call.timeout)
            .await;
        let response = response.map_err(|error| unanswered(&error))?;
        answer::read(&response, call, self.endpoint.api_key.as_ref(), SystemClock.now())
    }

    fn headers(&self, call: &Call) -> Result<HeaderMap, CallError> {
        let mut headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
        if let Ok(key) = HeaderValue::from_str(&call.idempotency_key) {
            headers.insert(IDEMPOTENCY_KEY, key);
        }
        if let Some(key) = &self.endpoint.api_key {
            let (name, text) = match self.endpoint.key_header {
                KeyHeader::Authorization => (AUTHORIZATION, format!("Bearer {}", key.expose_secret())),
                KeyHeader::ApiKey => (API_KEY, key.expose_secret().to_owned()),
            };
            let mut value = HeaderValue::from_str(&text).map_err(|_| {
                CallError::new(
                    FailureClass::ProviderError,
                    "credentials",
                    "the configured key cannot be sent in a header",
                )
            })?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(headers)
    }
}

impl Provider for OpenAi {
    fn call<'a>(
        &'a self,
        call: &'a Call,
        delta: &'a (dyn Fn(&str) + Send + Sync),
    ) -> BoxFuture<'a, Result<Answer, CallError>> {
        Box::pin(async move {
            let answer = self.complete(call).await?;
            delta(&answer.text);
            Ok(answer)
        })
    }
}

#[cfg(test)]
mod tests;
