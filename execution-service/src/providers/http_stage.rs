//! What an `http` stage sends, and what comes back.
//!
//! The address is the workflow's, so it passes the guard of the outbound client. A redirect is a failure: following it would
//! be a request that the workflow does not ask for. What is answered is made storable, is bounded, and leaves out cookies,
//! which are a session's secrets. A failure's `billing_uncertain` says whether the request may have been carried out.

use std::{collections::BTreeMap, time::Duration};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{CONTENT_TYPE, LOCATION, SET_COOKIE},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use service_kit::{
    clock::{Clock, SystemClock},
    outbound::{Destination, Outbound, Request, Response, member_headers},
    telemetry,
};
use tracing::{Instrument, Span, field::Empty};

use super::{
    CallError, clean,
    http_failure::{Reply, classify_plain, hidden, unanswered_by},
};
use crate::engine::failure::FailureClass;

/// The methods that a stage can use.
pub const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// The longest body of an answer; a longer one is a failure, as half of it would be wrong.
const MAX_ANSWER_BYTES: usize = clean::MAX_TEXT_BYTES;
/// The most headers of an answer that are kept.
const MAX_HEADERS: usize = 64;
/// How many bytes of them are kept.
const MAX_HEADER_BYTES: usize = 16 << 10;

/// A request, rendered.
#[derive(Debug, Clone, Copy)]
pub struct HttpCall<'a> {
    /// One of [`METHODS`].
    pub method: &'a str,
    /// The address.
    pub url: &'a str,
    /// The headers. Without a content type a body is sent as JSON if it is a list or an object, and else as text.
    pub headers: &'a BTreeMap<String, String>,
    /// The body; may be empty.
    pub body: &'a str,
    /// A header with a secret, over one of the same name.
    pub secret: Option<(&'a HeaderName, &'a SecretString)>,
    /// How long the exchange may take in all.
    pub timeout: Duration,
}

/// An answer of success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAnswer {
    /// The status, from 200 to 299.
    pub status: u16,
    /// The headers by their names in lower case; values of the same name are joined by commas.
    pub headers: BTreeMap<String, String>,
    /// The body: a value where it says that it is JSON and is, else its text.
    pub body: Value,
    /// Whether something had to be taken out to make it storable.
    pub cleaned: bool,
}

/// Sends the request.
pub(super) async fn send(outbound: &Outbound, call: &HttpCall<'_>) -> Result<HttpAnswer, CallError> {
    let to = Destination::member(call.url).map_err(|refusal| unanswered_by("the server", &refusal.into()))?;
    let request = request(call)?;
    let span = span(&request.method, &to);
    let exchange = async {
        let response = outbound.send(&to, request).await;
        let result = response
            .map_err(|error| unanswered_by("the server", &error))
            .and_then(|response| read(&response, &to));
        record(&Span::current(), &result);
        result
    };
    exchange.instrument(span).await
}

fn request(call: &HttpCall<'_>) -> Result<Request, CallError> {
    let refused = |message: String| CallError::new(FailureClass::Validation, "request", message);
    if !METHODS.contains(&call.method) {
        return Err(refused(format!("the method must be one of {}", METHODS.join(", "))));
    }
    let method: Method = call.method.parse().expect("these are methods");
    let given = call.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut headers = member_headers(given).map_err(|error| refused(error.to_string()))?;
    if let Some((name, secret)) = call.secret {
        let value = HeaderValue::from_str(secret.expose_secret());
        let mut value = value.map_err(|_| refused("the connection's secret cannot be sent in a header".into()))?;
        value.set_sensitive(true);
        headers.insert(name.clone(), value);
    }
    if !call.body.is_empty() && !headers.contains_key(CONTENT_TYPE) {
        headers.insert(CONTENT_TYPE, usual_type(call.body));
    }
    Ok(Request {
        method,
        headers,
        body: call.body.to_owned().into(),
        timeout: call.timeout,
        max_response_bytes: MAX_ANSWER_BYTES,
    })
}

fn usual_type(body: &str) -> HeaderValue {
    let is_json =
        body.trim_start().starts_with(['{', '[']) && serde_json::from_str::<serde::de::IgnoredAny>(body).is_ok();
    HeaderValue::from_static(if is_json {
        "application/json"
    } else {
        "text/plain; charset=utf-8"
    })
}

fn read(response: &Response, to: &Destination) -> Result<HttpAnswer, CallError> {
    let status = response.status.as_u16();
    if response.status.is_redirection() {
        return Err(redirected(response, to));
    }
    let (text, replaced) = clean::text_of(&response.body);
    if !response.status.is_success() {
        return Err(classify_plain(&Reply {
            status,
            headers: &response.headers,
            body: &hidden(&text, None),
            now: SystemClock.now(),
        }));
    }
    if response.is_encoded() {
        let message = "the server's answer is compressed, which it was not asked for";
        return Err(CallError::new(FailureClass::ProviderError, "wrong_body", message).billing_uncertain());
    }
    let (headers, headers_cleaned) = headers(&response.headers);
    let json = Some(&text)
        .filter(|_| response.is_json())
        .map(|it| clean::parse_json(it));
    let (body, body_cleaned) = if let Some(Ok((value, cleaned))) = json {
        (value, cleaned)
    } else {
        let (text, cut) = clean::storable(&text);
        (Value::String(text), cut)
    };
    Ok(HttpAnswer {
        status,
        headers,
        body,
        cleaned: replaced || headers_cleaned || body_cleaned,
    })
}

/// The failure of a request that was sent on to somewhere else.
fn redirected(response: &Response, to: &Destination) -> CallError {
    let status = response.status.as_u16();
    let location = response.headers.get(LOCATION).and_then(|it| it.to_str().ok());
    let place = location.and_then(|it| to.url().join(it).ok());
    let host = place.as_ref().and_then(|it| it.host_str());
    let whereto = host.map_or_else(String::new, |host| format!(" to {host}"));
    let message = format!("the server redirects{whereto}, which is not followed (HTTP {status})");
    let error = CallError::new(FailureClass::Validation, "redirect", message);
    match status {
        // These say that the request is still to be made, elsewhere; the others come after it was carried out, too.
        307 | 308 => error,
        _ => error.billing_uncertain(),
    }
}

/// The headers that are kept, and whether some are not or are not quite what came.
fn headers(given: &HeaderMap) -> (BTreeMap<String, String>, bool) {
    let mut kept = BTreeMap::new();
    let (mut bytes, mut cleaned) = (0, false);
    for name in given.keys().filter(|name| *name != SET_COOKIE) {
        let values: Vec<&[u8]> = given.get_all(name).iter().map(HeaderValue::as_bytes).collect();
        let (value, replaced) = clean::text_of(&values.join(&b", "[..]));
        let longer = bytes + name.as_str().len() + value.len();
        if kept.len() == MAX_HEADERS || longer > MAX_HEADER_BYTES {
            cleaned = true;
            continue;
        }
        (bytes, cleaned) = (longer, cleaned || replaced);
        kept.insert(name.as_str().to_owned(), value);
    }
    (kept, cleaned)
}

/// By OpenTelemetry's semantic conventions for HTTP. It holds neither path nor query, which can carry secrets.
fn span(method: &Method, to: &Destination) -> Span {
    tracing::info_span!(
        target: telemetry::TRACES_ONLY,
        "http call",
        otel.name = method.as_str(),
        otel.kind = "client",
        otel.status_code = Empty,
        http.request.method = method.as_str(),
        http.response.status_code = Empty,
        server.address = to.host(),
        server.port = to.port(),
        error.type = Empty,
    )
}

fn record(span: &Span, result: &Result<HttpAnswer, CallError>) {
    match result {
        Ok(answer) => span.record("http.response.status_code", answer.status),
        Err(error) => span
            .record("error.type", error.reason)
            .record("otel.status_code", "ERROR"),
    };
}

#[cfg(test)]
mod tests;
