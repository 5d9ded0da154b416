//! What an HTTP provider's failure is: status, headers and body to a [`CallError`]. Pure.
//!
//! The status decides, refined by the error's code and type, and by its message where gateways lose those. The same cause
//! has the same class whoever tells it, also within a 200. Bodies come in with keys already hidden (see [`hidden`]).

use std::sync::LazyLock;

use http::HeaderMap;
use regex::Regex;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use service_kit::outbound::OutboundError;
use time::OffsetDateTime;

use super::CallError;
use super::retry_after::{retry_after, should_retry};
use crate::engine::failure::FailureClass;

/// The longest excerpt of a provider's message in ours, in characters.
const MAX_EXCERPT: usize = 300;
/// The longest body that is kept beside it.
const MAX_RAW_BYTES: usize = 16 << 10;

/// An answer that tells of a failure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reply<'a> {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The body, keys hidden.
    pub body: &'a str,
    /// The time of day.
    pub now: OffsetDateTime,
}

/// Why a provider failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Timeout,
    RateLimit,
    Quota,
    Overloaded,
    Server,
    Conflict,
    Credentials,
    Model,
    Endpoint,
    Flow,
    Context,
    Filter,
    TooLarge,
    Request,
    NoAnswer,
}

impl Cause {
    /// Class, reason, whether it may pass, whether the provider may have worked for nothing, and in words.
    const fn table(self) -> (FailureClass, &'static str, bool, bool, &'static str) {
        use FailureClass::{ProviderError, RateLimit, Timeout, Validation};
        match self {
            Self::Timeout => (Timeout, "provider_timeout", true, true, "the provider took too long"),
            Self::RateLimit => (RateLimit, "rate_limit", true, false, "the provider asks to slow down"),
            Self::Quota => (
                ProviderError,
                "quota",
                false,
                false,
                "the account's quota with the provider is used up",
            ),
            Self::Overloaded => (ProviderError, "overloaded", true, false, "the provider is overloaded"),
            Self::Server => (ProviderError, "server_error", true, true, "the provider failed"),
            Self::Conflict => (
                ProviderError,
                "conflict",
                true,
                false,
                "the provider was not ready for the request",
            ),
            Self::Credentials => (
                ProviderError,
                "credentials",
                false,
                false,
                "the provider refused the configured key",
            ),
            Self::Model => (
                ProviderError,
                "model_not_found",
                false,
                false,
                "the provider does not have the model",
            ),
            Self::Endpoint => (
                ProviderError,
                "endpoint",
                false,
                false,
                "the configured address does not serve models",
            ),
            Self::Flow => (
                ProviderError,
                "flow_not_found",
                false,
                false,
                "the server does not have the flow",
            ),
            Self::Context => (
                Validation,
                "context_length",
                false,
                false,
                "the prompt is longer than the model can read",
            ),
            Self::Filter => (
                Validation,
                "content_filter",
                false,
                false,
                "the provider's content filter refused",
            ),
            Self::TooLarge => (
                Validation,
                "request_too_large",
                false,
                false,
                "the request is too large for the provider",
            ),
            Self::Request => (Validation, "request", false, false, "the provider refused the request"),
            Self::NoAnswer => (ProviderError, "wrong_body", true, true, "the provider's answer is none"),
        }
    }
}

/// The failure that a reply tells of, with a status other than success or with an error in its body.
pub(super) fn classify(reply: &Reply<'_>) -> CallError {
    let told = Told::read(reply.body);
    let cause = cause(reply.status, &told);
    let (.., words) = cause.table();
    failure(cause, words, reply, &told)
}

/// The failure that a reply of Flowise tells of. Its flows' failures are all HTTP 500: what their upstream said is found in
/// the message, with its status where that is told.
pub(super) fn classify_flow(reply: &Reply<'_>) -> CallError {
    static UPSTREAM: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(?:^|[\s:(])([45]\d\d)(?:[\s:)]|$)").expect("the pattern is fixed and tested"));
    let told = Told::read(reply.body);
    let cause = match reply.status {
        404 => Cause::Flow,
        400 if told.says(&["chatflow"]) => Cause::Flow,
        200..=299 | 500 => {
            let upstream = UPSTREAM.captures(&told.message).and_then(|found| found[1].parse().ok());
            match upstream {
                _ if told.says(&["unauthorized"]) => Cause::Credentials,
                Some(status) if status < 500 => cause(status, &told),
                _ if told.says(&["timed out", "timeout"]) => Cause::Timeout,
                _ if told.says(&["overloaded"]) => Cause::Overloaded,
                _ if told.says(&["rate limit"]) && !told.is_quota() => Cause::RateLimit,
                _ => match told.refusal() {
                    Some(refusal) => refusal,
                    None if told.message.is_empty() && reply.status != 500 => Cause::NoAnswer,
                    None => cause(upstream.unwrap_or(500), &told),
                },
            }
        }
        status => cause(status, &told),
    };
    let (.., words) = cause.table();
    failure(cause, words, reply, &told)
}

/// The failure that the reply of any HTTP server tells of. Its status alone decides: nothing is known about its body, which
/// is only shown.
pub(super) fn classify_plain(reply: &Reply<'_>) -> CallError {
    let (cause, words) = plain_cause(reply.status);
    failure(cause, words, reply, &Told::read(reply.body))
}

fn failure(cause: Cause, words: &str, reply: &Reply<'_>, told: &Told) -> CallError {
    let (class, reason, retryable, billing_uncertain, _) = cause.table();
    let excerpt: String = told
        .message
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .take(MAX_EXCERPT)
        .collect();
    // What providers say about a key repeats parts of it.
    let says = if excerpt.is_empty() || cause == Cause::Credentials {
        String::new()
    } else {
        format!(": {excerpt}")
    };
    let retryable = should_retry(reply.headers).unwrap_or(retryable);
    CallError {
        retryable,
        retry_after: retryable
            .then(|| retry_after(reply.headers, &told.message, reply.now))
            .flatten(),
        billing_uncertain,
        ..CallError::new(class, reason, format!("{words} (HTTP {}){says}", reply.status))
    }
    .with_raw(if cause == Cause::Credentials {
        ""
    } else {
        &reply.body[..reply.body.floor_char_boundary(MAX_RAW_BYTES)]
    })
}

/// Whether a body says of itself that it is an error.
pub(super) fn is_error(body: &Value) -> bool {
    body.get("error").is_some_and(|error| !error.is_null()) || body.get("type").is_some_and(|kind| kind == "error")
}

/// The failure of a call that has no answer at all.
pub(super) fn unanswered(error: &OutboundError) -> CallError {
    unanswered_by("the provider", error)
}

/// As [`unanswered`], of whom these words name.
pub(super) fn unanswered_by(whom: &str, error: &OutboundError) -> CallError {
    let (class, reason) = match error {
        OutboundError::Timeout(_) => (FailureClass::Timeout, "total"),
        OutboundError::Connect(_) => (FailureClass::ProviderError, "unreachable"),
        OutboundError::Broken(_) => (FailureClass::ProviderError, "connection_lost"),
        OutboundError::TooLarge(_) => (FailureClass::ProviderError, "answer_too_large"),
        OutboundError::Request(_) => (FailureClass::ProviderError, "endpoint"),
        OutboundError::Refused(refusal) if refusal.may_pass() => (FailureClass::ProviderError, "address"),
        OutboundError::Refused(_) => (FailureClass::Validation, "address"),
    };
    let unanswered = matches!(
        error,
        OutboundError::Timeout(_) | OutboundError::Broken(_) | OutboundError::TooLarge(_)
    );
    CallError {
        retryable: match error {
            OutboundError::Timeout(_) | OutboundError::Connect(_) | OutboundError::Broken(_) => true,
            OutboundError::TooLarge(_) | OutboundError::Request(_) => false,
            OutboundError::Refused(refusal) => refusal.may_pass(),
        },
        billing_uncertain: unanswered,
        unanswered,
        ..CallError::new(class, reason, format!("{whom}: {error}"))
    }
}

/// The text without the key and without what looks like one.
pub(super) fn hidden(text: &str, key: Option<&SecretString>) -> String {
    static KEYS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\b(?:sk|pk|rk|gsk|xai|key)-[A-Za-z0-9*_.-]{4,}|(?i:\bbearer) [A-Za-z0-9*_.=+/-]{4,}")
            .expect("the pattern is fixed and tested")
    });
    let key = key.map(ExposeSecret::expose_secret).filter(|key| !key.is_empty());
    let without = key.map_or_else(|| text.to_owned(), |key| text.replace(key, "[key]"));
    KEYS.replace_all(&without, "[key]").into_owned()
}

/// What a body tells about its error, in lower case but for the message.
#[derive(Debug, Default)]
struct Told {
    kind: String,
    code: String,
    message: String,
}

impl Told {
    fn read(body: &str) -> Self {
        let value: Value = serde_json::from_str(body).unwrap_or_default();
        let value = value.get(0).unwrap_or(&value);
        let error = value.get("error").filter(|error| !error.is_null()).unwrap_or(value);
        let text = |from: &Value, name: &str| match from.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => String::new(),
        };
        let message = [
            text(error, "message"),
            error.as_str().unwrap_or_default().to_owned(),
            text(value, "message"),
            text(value, "detail"),
        ];
        let kind = [text(error, "type"), text(error, "status")];
        let first = |of: &[String]| of.iter().find(|text| !text.is_empty()).cloned().unwrap_or_default();
        Self {
            kind: first(&kind).to_lowercase(),
            code: text(error, "code").to_lowercase(),
            message: first(&message),
        }
    }

    fn is_named(&self, names: &[&str]) -> bool {
        names.contains(&self.code.as_str()) || names.contains(&self.kind.as_str())
    }

    fn says(&self, words: &[&str]) -> bool {
        let message = self.message.to_lowercase();
        words.iter().any(|word| message.contains(word))
    }

    fn is_quota(&self) -> bool {
        let families = ["_spend_limit_exceeded", "_usage_limit_exceeded"];
        let names = [
            "insufficient_quota",
            "billing_hard_limit_reached",
            "billing_not_active",
            "billing_error",
            "credit_balance_exhausted",
        ];
        self.is_named(&names)
            || families
                .iter()
                .any(|family| self.code.ends_with(family) || self.kind.ends_with(family))
            || self.says(&[
                "exceeded your current quota",
                "credit balance is too low",
                "insufficient credits",
            ])
    }

    /// What a request was refused for, if it is more than being bad.
    fn refusal(&self) -> Option<Cause> {
        if self.is_quota() {
            Some(Cause::Quota)
        } else if self.is_named(&["context_length_exceeded", "exceed_context_size_error"])
            || self.says(&[
                "maximum context length",
                "contextwindowexceeded",
                "context window",
                "prompt is too long",
                "exceeds the context length",
                "exceeds the available context size",
            ])
        {
            Some(Cause::Context)
        } else if self.is_named(&[
            "content_filter",
            "content_policy_violation",
            "responsibleaipolicyviolation",
        ]) || self.says(&["content filtering policy"])
        {
            Some(Cause::Filter)
        } else if self.is_named(&[
            "invalid_api_key",
            "authentication_error",
            "permission_error",
            "unauthenticated",
        ]) || self.says(&["api key not valid", "incorrect api key"])
        {
            Some(Cause::Credentials)
        } else if self.is_named(&["model_not_found", "deploymentnotfound", "not_found_error"])
            || self.says(&["no healthy deployments for this model", "invalid model name"])
            || (self.says(&["model"]) && self.says(&["not found", "does not exist"]))
        {
            Some(Cause::Model)
        } else {
            None
        }
    }
}

fn cause(status: u16, told: &Told) -> Cause {
    match status {
        200..=299 => in_band(told),
        408 | 504 => Cause::Timeout,
        429 if told.is_quota() => Cause::Quota,
        429 => Cause::RateLimit,
        402 => Cause::Quota,
        401 => Cause::Credentials,
        403 => told
            .refusal()
            .filter(|cause| matches!(cause, Cause::Quota | Cause::Filter))
            .unwrap_or(Cause::Credentials),
        404 => {
            if told.refusal() == Some(Cause::Model) {
                Cause::Model
            } else {
                Cause::Endpoint
            }
        }
        413 => {
            if told.refusal() == Some(Cause::Context) {
                Cause::Context
            } else {
                Cause::TooLarge
            }
        }
        400 | 422 => told.refusal().unwrap_or(Cause::Request),
        409 | 425 => Cause::Conflict,
        _ if status < 500 => Cause::Endpoint,
        _ if told.is_quota() => Cause::Quota,
        503 | 529 => Cause::Overloaded,
        _ if told.is_named(&["overloaded_error", "overloaded"]) => Cause::Overloaded,
        _ => Cause::Server,
    }
}

/// The cause of a plain HTTP server's failure, and in words.
const fn plain_cause(status: u16) -> (Cause, &'static str) {
    match status {
        408 | 504 => (Cause::Timeout, "the server took too long"),
        429 => (Cause::RateLimit, "the server asks to slow down"),
        402 => (Cause::Quota, "the server wants to be paid first"),
        401 | 403 => (Cause::Credentials, "the server refused the credentials"),
        404 => (Cause::Endpoint, "the server does not have the address"),
        413 => (Cause::TooLarge, "the request is too large for the server"),
        503 | 529 => (Cause::Overloaded, "the server is overloaded"),
        500.. => (Cause::Server, "the server failed"),
        _ => (Cause::Request, "the server refused the request"),
    }
}

/// The cause of an error that came with a status of success.
fn in_band(told: &Told) -> Cause {
    if let Some(status) = told.code.parse().ok().filter(|status| (400..600).contains(status)) {
        return cause(status, told);
    }
    if let Some(cause) = told.refusal() {
        return cause;
    }
    if told.is_named(&["rate_limit_error", "rate_limit_exceeded", "slow_down"]) {
        Cause::RateLimit
    } else if told.is_named(&["overloaded_error", "overloaded"]) {
        Cause::Overloaded
    } else if told.is_named(&["timeout_error", "timeout"]) {
        Cause::Timeout
    } else if told.is_named(&["api_error", "server_error", "internal_server_error"]) {
        Cause::Server
    } else if told.is_named(&["invalid_request_error"]) {
        Cause::Request
    } else {
        Cause::NoAnswer
    }
}

#[cfg(test)]
mod tests;
