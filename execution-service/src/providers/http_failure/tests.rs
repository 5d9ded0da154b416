//! Every row of the classification, with bodies as servers send them.

use std::time::Duration;

use http::HeaderValue;
use proptest::prelude::*;
use serde_json::json;
use service_kit::outbound::Refusal;

use super::FailureClass::{ProviderError, RateLimit, Timeout, Validation};
use super::*;

fn of(status: u16, body: &str) -> CallError {
    classify(&Reply {
        status,
        headers: &HeaderMap::new(),
        body,
        now: OffsetDateTime::UNIX_EPOCH,
    })
}

fn error(kind: &str, code: impl Into<Value>, message: &str) -> String {
    json!({"error": {"message": message, "type": kind, "param": null, "code": code.into()}}).to_string()
}

#[test]
fn every_signal_has_its_class_reason_and_whether_it_may_pass() {
    let none = Value::Null;
    let html = "<html>bad gateway</html>".to_owned();
    for (status, body, class, reason, retryable, billing_uncertain) in [
        // deadlines
        (
            408,
            error("invalid_request_error", "408", "litellm.Timeout"),
            Timeout,
            "provider_timeout",
            true,
            true,
        ),
        (504, html.clone(), Timeout, "provider_timeout", true, true),
        // slowing down
        (
            429,
            error("rate_limit_error", "rate_limit_exceeded", "Rate limited"),
            RateLimit,
            "rate_limit",
            true,
            false,
        ),
        (
            429,
            error("requests", "rate_limit_exceeded", "Rate limit reached"),
            RateLimit,
            "rate_limit",
            true,
            false,
        ),
        (
            429,
            error("slow_down", none.clone(), "Slow down"),
            RateLimit,
            "rate_limit",
            true,
            false,
        ),
        (
            429,
            error("throttling_error", "429", "this is a mock rate limit error"),
            RateLimit,
            "rate_limit",
            true,
            false,
        ),
        (429, "<html>".to_owned(), RateLimit, "rate_limit", true, false),
        (429, String::new(), RateLimit, "rate_limit", true, false),
        // quota
        (
            429,
            error("insufficient_quota", "insufficient_quota", "You exceeded"),
            ProviderError,
            "quota",
            false,
            false,
        ),
        (
            429,
            error("throttling_error", "429", "You exceeded your current quota"),
            ProviderError,
            "quota",
            false,
            false,
        ),
        (
            429,
            error("x", "project_spend_limit_exceeded", ""),
            ProviderError,
            "quota",
            false,
            false,
        ),
        (
            429,
            error("workspace_usage_limit_exceeded", none.clone(), ""),
            ProviderError,
            "quota",
            false,
            false,
        ),
        (
            429,
            error("x", "credit_balance_exhausted", ""),
            ProviderError,
            "quota",
            false,
            false,
        ),
        (
            402,
            error("billing_error", none.clone(), "Pay"),
            ProviderError,
            "quota",
            false,
            false,
        ),
        (
            400,
            error("invalid_request_error", none.clone(), "Your credit balance is too low"),
            ProviderError,
            "quota",
            false,
            false,
        ),
        (
            500,
            error("insufficient_quota", none.clone(), ""),
            ProviderError,
            "quota",
            false,
            false,
        ),
        // the provider's own trouble
        (
            503,
            error("invalid_request_error", "no_fixture_match", "no fixture"),
            ProviderError,
            "overloaded",
            true,
            false,
        ),
        (
            529,
            error("overloaded_error", none.clone(), "Overloaded"),
            ProviderError,
            "overloaded",
            true,
            false,
        ),
        (
            500,
            error("overloaded_error", none.clone(), "Overloaded"),
            ProviderError,
            "overloaded",
            true,
            false,
        ),
        (
            500,
            error("internal_server_error", "500", "mock"),
            ProviderError,
            "server_error",
            true,
            true,
        ),
        (502, html.clone(), ProviderError, "server_error", true, true),
        (599, String::new(), ProviderError, "server_error", true, true),
        (409, String::new(), ProviderError, "conflict", true, false),
        // what the operator must mend
        (
            401,
            error("authentication_error", "401", "Incorrect API key"),
            ProviderError,
            "credentials",
            false,
            false,
        ),
        (
            403,
            error("permission_error", none.clone(), "No"),
            ProviderError,
            "credentials",
            false,
            false,
        ),
        (
            400,
            error("INVALID_ARGUMENT", 400, "API key not valid."),
            ProviderError,
            "credentials",
            false,
            false,
        ),
        (
            404,
            error(
                "invalid_request_error",
                "model_not_found",
                "The model `x` does not exist",
            ),
            ProviderError,
            "model_not_found",
            false,
            false,
        ),
        (
            404,
            error("not_found_error", none.clone(), "model: x"),
            ProviderError,
            "model_not_found",
            false,
            false,
        ),
        (
            404,
            json!({"detail": "Not Found"}).to_string(),
            ProviderError,
            "endpoint",
            false,
            false,
        ),
        (
            400,
            error(
                "invalid_request_error",
                "400",
                "There are no healthy deployments for this model",
            ),
            ProviderError,
            "model_not_found",
            false,
            false,
        ),
        (
            400,
            json!({"error": {"message": "Invalid model name: Model name 'nope' not found in model table"}}).to_string(),
            ProviderError,
            "model_not_found",
            false,
            false,
        ),
        (
            400,
            error(
                "invalid_request_error",
                "400",
                "/chat/completions: Invalid model name passed in model=nope. Call `/v1/models` to view available models for your key.",
            ),
            ProviderError,
            "model_not_found",
            false,
            false,
        ),
        (405, String::new(), ProviderError, "endpoint", false, false),
        (307, String::new(), ProviderError, "endpoint", false, false),
        // what the caller must mend
        (
            400,
            error("invalid_request_error", "400", "bad"),
            Validation,
            "request",
            false,
            false,
        ),
        (
            422,
            json!({"detail": "field required"}).to_string(),
            Validation,
            "request",
            false,
            false,
        ),
        (413, String::new(), Validation, "request_too_large", false, false),
        (
            400,
            error("invalid_request_error", "context_length_exceeded", "too long"),
            Validation,
            "context_length",
            false,
            false,
        ),
        (
            400,
            error(
                "invalid_request_error",
                "400",
                "This model's maximum context length is 8192 tokens.",
            ),
            Validation,
            "context_length",
            false,
            false,
        ),
        (
            413,
            error("x", none.clone(), "litellm.ContextWindowExceededError: x"),
            Validation,
            "context_length",
            false,
            false,
        ),
        (
            400,
            error("x", "content_filter", "filtered"),
            Validation,
            "content_filter",
            false,
            false,
        ),
        (
            403,
            error("x", "content_policy_violation", "no"),
            Validation,
            "content_filter",
            false,
            false,
        ),
        // errors within a 200
        (
            200,
            error("rate_limit_error", none.clone(), "Slow"),
            RateLimit,
            "rate_limit",
            true,
            false,
        ),
        (
            200,
            error("overloaded_error", none.clone(), "Busy"),
            ProviderError,
            "overloaded",
            true,
            false,
        ),
        (
            200,
            error("timeout_error", none.clone(), "Late"),
            Timeout,
            "provider_timeout",
            true,
            true,
        ),
        (
            200,
            error("api_error", none.clone(), "Oops"),
            ProviderError,
            "server_error",
            true,
            true,
        ),
        (
            200,
            error("invalid_request_error", none.clone(), "Bad"),
            Validation,
            "request",
            false,
            false,
        ),
        (
            200,
            error("insufficient_quota", none.clone(), "Pay"),
            ProviderError,
            "quota",
            false,
            false,
        ),
        (200, error("x", 429, "Slow"), RateLimit, "rate_limit", true, false),
        (
            200,
            error("x", "500", "Oops"),
            ProviderError,
            "server_error",
            true,
            true,
        ),
        (
            200,
            json!({"type": "error", "error": {"message": "no"}}).to_string(),
            ProviderError,
            "wrong_body",
            true,
            true,
        ),
        (200, html, ProviderError, "wrong_body", true, true),
    ] {
        let found = of(status, &body);
        let expected = (class, reason, retryable, billing_uncertain);
        assert_eq!(
            (found.class, found.reason, found.retryable, found.billing_uncertain),
            expected,
            "{status} {body}"
        );
    }
}

#[test]
fn the_error_is_found_in_every_shape_of_body() {
    for body in [
        json!({"error": {"message": "too much"}}),
        json!({"error": "too much"}),
        json!({"message": "too much"}),
        json!({"detail": "too much"}),
        json!([{"error": {"message": "too much", "status": "INVALID_ARGUMENT"}}]),
        json!({"error": null, "message": "too  much"}),
    ] {
        assert_eq!(
            of(400, &body.to_string()).message,
            "the provider refused the request (HTTP 400): too much",
            "{body}"
        );
    }
    assert_eq!(
        of(400, "<p>too much</p>").message,
        "the provider refused the request (HTTP 400)"
    );
}

#[test]
fn what_the_provider_sent_is_kept_short_and_storable() {
    let found = of(500, &format!("{}\0", "é".repeat(MAX_RAW_BYTES)));
    let raw = found.raw.unwrap();
    assert!(raw.len() <= MAX_RAW_BYTES && !raw.contains('\0'));
    let found = of(500, &error("x", "x", &"long ".repeat(500)));
    assert!(found.message.chars().count() < MAX_EXCERPT + 60);
}

#[test]
fn headers_say_when_and_whether_to_try_again() {
    let with = |status, pairs: &[(&'static str, &'static str)]| {
        let headers = pairs
            .iter()
            .map(|(name, value)| ((*name).parse().unwrap(), HeaderValue::from_static(value)))
            .collect();
        classify(&Reply {
            status,
            headers: &headers,
            body: "",
            now: OffsetDateTime::UNIX_EPOCH,
        })
    };
    let found = with(429, &[("retry-after", "7")]);
    assert_eq!(
        (found.retryable, found.retry_after),
        (true, Some(Duration::from_secs(7)))
    );
    let found = with(503, &[("retry-after", "7"), ("x-should-retry", "false")]);
    assert_eq!((found.retryable, found.retry_after), (false, None));
    let found = with(400, &[("retry-after-ms", "7"), ("x-should-retry", "true")]);
    assert_eq!(
        (found.class, found.retryable, found.retry_after),
        (Validation, true, Some(Duration::from_millis(7)))
    );
}

#[test]
fn a_call_without_an_answer_says_whether_the_provider_may_have_worked() {
    let request = OutboundError::Request("no".into());
    for (error, class, reason, retryable, billing_uncertain) in [
        (
            OutboundError::Timeout(Duration::from_secs(1)),
            Timeout,
            "total",
            true,
            true,
        ),
        (
            OutboundError::TooLarge(10),
            ProviderError,
            "answer_too_large",
            false,
            true,
        ),
        (request, ProviderError, "endpoint", false, false),
        (Refusal::Name("h".into()).into(), ProviderError, "address", true, false),
        (Refusal::Host("h".into()).into(), Validation, "address", false, false),
    ] {
        let found = unanswered(&error);
        let expected = (class, reason, retryable, billing_uncertain);
        assert_eq!(
            (found.class, found.reason, found.retryable, found.billing_uncertain),
            expected
        );
    }
}

#[test]
fn keys_are_hidden_and_never_told() {
    let key = SecretString::from("s3cr3t");
    let text = "key s3cr3t, masked sk-proj-****abcd, Bearer abc.def-123 and no-key";
    assert_eq!(hidden(text, Some(&key)), "key [key], masked [key], [key] and no-key");
    assert_eq!(hidden("plain", None), "plain");
    assert_eq!(hidden("plain", Some(&SecretString::from(""))), "plain");
    let found = of(
        401,
        &error(
            "authentication_error",
            "invalid_api_key",
            "Incorrect API key provided: abcd",
        ),
    );
    assert_eq!(
        (found.message.as_str(), found.raw),
        ("the provider refused the configured key (HTTP 401)", None)
    );
}

#[test]
fn a_body_says_of_itself_that_it_is_an_error() {
    for (body, expected) in [
        (json!({"error": {"message": "x"}}), true),
        (json!({"error": "x"}), true),
        (json!({"type": "error"}), true),
        (json!({"error": null, "choices": []}), false),
        (json!([]), false),
    ] {
        assert_eq!(is_error(&body), expected, "{body}");
    }
}

proptest! {
    #[test]
    fn no_reply_is_too_odd_and_the_class_does_not_depend_on_the_message(status in 100_u16..1000, body in any::<String>()) {
        let found = of(status, &body);
        prop_assert!(found.message.contains(&status.to_string()));
        prop_assert!(FailureClass::ALL.contains(&found.class) && found.class != FailureClass::Capped);
    }
}
