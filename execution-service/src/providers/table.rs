//! The class table: every signal of every provider has the class, the reason and the chances that it has on all others.
//! Each row is a real exchange with a server on loopback, in each provider's own words.

use std::time::Duration;

use serde_json::json;

use super::{
    Call, Protocol,
    stub::{JSON, Stub, Then, reply},
};
use crate::engine::failure::FailureClass::{self, ProviderError, RateLimit, Timeout, Validation};

/// Class, reason, whether it may pass, whether it may be billed.
type Row = (FailureClass, &'static str, bool, bool);

const SOON: Duration = Duration::from_millis(80);

fn call() -> Call {
    Call {
        model: "m".into(),
        prompt: "Say hello.".into(),
        timeout: Duration::from_secs(20),
        ..Call::default()
    }
}

/// An error as the provider words it: its type, its code and what it says.
fn worded(protocol: Protocol, status: u16, kind: &str, code: &str, message: &str) -> String {
    match protocol {
        Protocol::OpenAi => json!({"error": {"message": message, "type": kind, "param": null, "code": code}}),
        Protocol::Azure => json!({"error": {"code": if code.is_empty() { kind } else { code }, "message": message}}),
        Protocol::Anthropic => {
            json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"})
        }
        Protocol::Ollama => json!({ "error": message }),
        Protocol::Flowise => {
            let said = format!("Error: predictionsServices.buildChatflow - Error in LLM node: {status} {message}");
            json!({"statusCode": 500, "success": false, "message": said, "stack": {}})
        }
    }
    .to_string()
}

/// A whole answer.
fn answer(protocol: Protocol, text: &str) -> String {
    match protocol {
        Protocol::OpenAi | Protocol::Azure => {
            json!({"choices": [{"index": 0, "finish_reason": "stop", "message": {"content": text}}]})
        }
        Protocol::Anthropic => {
            json!({"type": "message", "content": [{"type": "text", "text": text}], "stop_reason": "end_turn"})
        }
        Protocol::Ollama => json!({"message": {"content": text}, "done": true, "done_reason": "stop"}),
        Protocol::Flowise => json!({ "text": text }),
    }
    .to_string()
}

/// The beginning of a streamed answer, as its head and its events.
fn begun(protocol: Protocol, text: &str) -> (&'static str, String) {
    let event = |data: serde_json::Value| format!("data: {data}\n\n");
    match protocol {
        Protocol::OpenAi | Protocol::Azure => (
            "text/event-stream",
            event(json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]})),
        ),
        Protocol::Anthropic => (
            "text/event-stream",
            event(json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}})),
        ),
        Protocol::Ollama => (
            "application/x-ndjson",
            format!("{}\n", json!({"message": {"content": text}, "done": false})),
        ),
        Protocol::Flowise => ("text/event-stream", event(json!({"event": "token", "data": text}))),
    }
}

async fn outcome(protocol: Protocol, bytes: impl Into<Vec<u8>>, then: Then, call: &Call) -> super::CallError {
    let stub = Stub::start(protocol, bytes.into(), then, |it| {
        it.streams = true;
        it.first_token_timeout = Duration::from_secs(5);
        it.idle_timeout = SOON;
    })
    .await;
    stub.answer(call).await.unwrap_err()
}

async fn is(protocol: Protocol, bytes: impl Into<Vec<u8>>, then: Then, call: &Call, expected: Row, what: &str) {
    let error = outcome(protocol, bytes, then, call).await;
    let found = (error.class, error.reason, error.retryable, error.billing_uncertain);
    assert_eq!(found, expected, "{protocol}: {what}: {error:?}");
}

/// What every provider says with a status, and what that is.
#[tokio::test]
async fn every_status_has_its_class_on_every_provider() {
    const QUOTA: Row = (ProviderError, "quota", false, false);
    let limit: Row = (RateLimit, "rate_limit", true, false);
    let rows: [(u16, &str, &str, &str, Row); 17] = [
        (
            408,
            "invalid_request_error",
            "408",
            "Request timed out",
            (Timeout, "provider_timeout", true, true),
        ),
        (
            504,
            "timeout_error",
            "504",
            "Gateway timeout",
            (Timeout, "provider_timeout", true, true),
        ),
        (
            429,
            "rate_limit_error",
            "rate_limit_exceeded",
            "Rate limit reached",
            limit,
        ),
        (429, "slow_down", "slow_down", "Slow down", limit),
        (
            429,
            "insufficient_quota",
            "insufficient_quota",
            "You exceeded your current quota",
            QUOTA,
        ),
        (
            429,
            "x_spend_limit_exceeded",
            "x_spend_limit_exceeded",
            "You exceeded your current quota",
            QUOTA,
        ),
        (402, "billing_error", "billing_error", "Pay first", QUOTA),
        (
            503,
            "overloaded_error",
            "503",
            "overloaded",
            (ProviderError, "overloaded", true, false),
        ),
        (
            529,
            "overloaded_error",
            "529",
            "Overloaded",
            (ProviderError, "overloaded", true, false),
        ),
        (
            500,
            "api_error",
            "500",
            "Oops",
            (ProviderError, "server_error", true, true),
        ),
        (
            502,
            "api_error",
            "502",
            "Bad gateway",
            (ProviderError, "server_error", true, true),
        ),
        (
            401,
            "authentication_error",
            "invalid_api_key",
            "Incorrect API key",
            (ProviderError, "credentials", false, false),
        ),
        (
            403,
            "permission_error",
            "forbidden",
            "No",
            (ProviderError, "credentials", false, false),
        ),
        (
            404,
            "not_found_error",
            "model_not_found",
            "model \"m\" not found",
            (ProviderError, "model_not_found", false, false),
        ),
        (
            400,
            "invalid_request_error",
            "400",
            "Bad",
            (Validation, "request", false, false),
        ),
        (
            413,
            "request_too_large",
            "413",
            "Too large",
            (Validation, "request_too_large", false, false),
        ),
        (
            400,
            "invalid_request_error",
            "context_length_exceeded",
            "prompt is too long: the maximum context length is 8192",
            (Validation, "context_length", false, false),
        ),
    ];
    for protocol in Protocol::ALL {
        for (status, kind, code, message, expected) in rows {
            let body = worded(protocol, status, kind, code, message);
            // Its flows' failures are all the same status.
            let status = if protocol == Protocol::Flowise { 500 } else { status };
            let bytes = reply(&format!("{status} X"), JSON, &body);
            is(
                protocol,
                bytes,
                Then::Close,
                &call(),
                expected,
                &format!("{status} {code}"),
            )
            .await;
        }
    }
}

#[tokio::test]
async fn what_comes_with_a_200_and_is_no_answer_has_its_class_on_every_provider() {
    const WRONG: Row = (ProviderError, "wrong_body", true, true);
    for protocol in Protocol::ALL {
        let (kind, beginning) = begun(protocol, "Hel");
        let lie = answer(protocol, "Hello.");
        let mut rows = vec![
            ("a page", reply("200 OK", "text/html", "<html>login</html>"), WRONG),
            (
                "an answer that says it is a page",
                reply("200 OK", "text/html", &lie),
                WRONG,
            ),
            (
                "broken JSON",
                reply("200 OK", JSON, "{malformed json: <<<chaos>>>"),
                WRONG,
            ),
            (
                "an overload in band",
                reply(
                    "200 OK",
                    JSON,
                    r#"{"error": {"type": "overloaded_error", "message": "overloaded"}}"#,
                ),
                (ProviderError, "overloaded", true, false),
            ),
            (
                "nothing said",
                reply("200 OK", JSON, &answer(protocol, "")),
                (ProviderError, "empty_answer", true, true),
            ),
            (
                "a stream without its mark",
                reply("200 OK", kind, &beginning),
                (ProviderError, "incomplete", true, true),
            ),
            (
                "a broken event",
                reply("200 OK", kind, &format!("{beginning}data: {{\"broken\n\n")),
                WRONG,
            ),
            (
                "an answer that is too long",
                reply("200 OK", JSON, &" ".repeat(100_000)),
                (ProviderError, "answer_too_large", false, true),
            ),
        ];
        if protocol != Protocol::Flowise {
            rows.push((
                "another object",
                reply("200 OK", JSON, "{}"),
                (ProviderError, "no_choices", true, true),
            ));
        }
        for (what, bytes, expected) in rows {
            is(protocol, bytes, Then::Close, &call(), expected, what).await;
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_refused_or_filtered_is_a_failed_validation() {
    let openai = |reason: &str, message: serde_json::Value| json!({"choices": [{"finish_reason": reason, "message": message}], "usage": {"prompt_tokens": 1, "completion_tokens": 2}});
    let anthropic = |reason: &str| json!({"content": [{"type": "text", "text": "Hel"}], "stop_reason": reason, "usage": {"input_tokens": 1, "output_tokens": 2}});
    for (protocol, body, reason, retryable) in [
        (
            Protocol::OpenAi,
            openai("length", json!({"content": "Hel"})),
            "max_tokens",
            true,
        ),
        (
            Protocol::Azure,
            openai("length", json!({"content": "Hel"})),
            "max_tokens",
            true,
        ),
        (Protocol::Anthropic, anthropic("max_tokens"), "max_tokens", true),
        (
            Protocol::Ollama,
            json!({"message": {"content": "Hel"}, "done": true, "done_reason": "length", "prompt_eval_count": 1, "eval_count": 2}),
            "max_tokens",
            true,
        ),
        (
            Protocol::OpenAi,
            openai("stop", json!({"content": null, "refusal": "Hel"})),
            "refusal",
            false,
        ),
        (Protocol::Anthropic, anthropic("refusal"), "refusal", false),
        (
            Protocol::OpenAi,
            openai("content_filter", json!({"content": "Hel"})),
            "content_filter",
            false,
        ),
        (
            Protocol::Azure,
            openai("content_filter", json!({"content": "Hel"})),
            "content_filter",
            false,
        ),
    ] {
        let error = outcome(protocol, reply("200 OK", JSON, &body.to_string()), Then::Close, &call()).await;
        assert_eq!(
            (error.class, error.reason, error.retryable),
            (Validation, reason, retryable),
            "{protocol}"
        );
        assert_eq!(
            (error.usage.input_tokens, error.usage.output_tokens),
            (1, 2),
            "{protocol}"
        );
        assert_eq!(error.raw.as_deref(), Some("Hel"), "{protocol}: what came is kept");
    }
}

#[tokio::test]
async fn silence_and_drips_end_at_the_three_deadlines_on_every_provider() {
    let late = |reason| (Timeout, reason, true, true);
    let hurried = Call {
        timeout: SOON,
        ..call()
    };
    for protocol in Protocol::ALL {
        is(protocol, "", Then::Hang, &hurried, late("total"), "no head").await;
        let (kind, beginning) = begun(protocol, "Hel");
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n\r\n");
        is(
            protocol,
            format!("{head}{beginning}"),
            Then::Hang,
            &call(),
            late("idle"),
            "silence",
        )
        .await;
        if kind == "text/event-stream" {
            // Bytes are no sign of life.
            let drip = Then::Repeat(": keep-alive\n\n");
            is(
                protocol,
                format!("{head}{beginning}"),
                drip,
                &call(),
                late("idle"),
                "comments",
            )
            .await;
        }
        let stub = Stub::start(protocol, head.into_bytes(), Then::Hang, |it| {
            it.streams = true;
            it.first_token_timeout = SOON;
        })
        .await;
        let error = stub.answer(&call()).await.unwrap_err();
        assert_eq!((error.class, error.reason), (Timeout, "first_token"), "{protocol}");
    }
}

#[tokio::test]
async fn events_without_an_end_are_given_up_on_every_provider() {
    for protocol in Protocol::ALL {
        let (kind, beginning) = begun(protocol, "Hel");
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n\r\n{beginning}data: ");
        let endless = Then::Repeat(
            "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        );
        let stub = Stub::start(
            protocol,
            format!("{head}{}", "x".repeat(70_000)).into_bytes(),
            endless,
            |it| {
                it.streams = true;
            },
        )
        .await;
        let error = stub.answer(&call()).await.unwrap_err();
        assert_eq!(
            (error.class, error.reason),
            (ProviderError, "answer_too_large"),
            "{protocol}"
        );
        assert_eq!(error.raw.as_deref(), Some("Hel"), "{protocol}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_may_be_billed_and_one_that_is_not_made_is_not() {
    for protocol in Protocol::ALL {
        let cut = format!("HTTP/1.1 200 OK\r\ncontent-type: {JSON}\r\ncontent-length: 100\r\n\r\n{{\"a\":");
        is(
            protocol,
            cut,
            Then::Close,
            &call(),
            (ProviderError, "connection_lost", true, true),
            "cut",
        )
        .await;
        is(
            protocol,
            "",
            Then::Close,
            &call(),
            (ProviderError, "connection_lost", true, true),
            "nothing",
        )
        .await;
    }
}

#[tokio::test]
async fn the_time_to_wait_is_read_in_every_providers_headers() {
    for (protocol, headers, expected) in [
        (Protocol::OpenAi, "retry-after: 2", Some(2_000)),
        (Protocol::OpenAi, "retry-after-ms: 1500", Some(1_500)),
        (
            Protocol::OpenAi,
            "x-ratelimit-remaining-tokens: 0\r\nx-ratelimit-reset-tokens: 6m0s",
            Some(360_000),
        ),
        (Protocol::Azure, "retry-after-ms: 900\r\nretry-after: 1", Some(900)),
        (
            Protocol::Anthropic,
            "date: Fri, 20 Nov 2026 09:14:23 GMT\r\nanthropic-ratelimit-tokens-remaining: 0\r\nanthropic-ratelimit-tokens-reset: 2026-11-20T09:14:33Z",
            Some(10_000),
        ),
        (Protocol::Ollama, "retry-after: 1", Some(1_000)),
        (Protocol::Flowise, "retry-after: 60", Some(60_000)),
        (Protocol::OpenAi, "x-nothing: 1", None),
    ] {
        let bytes = format!("HTTP/1.1 429 Slow\r\n{headers}\r\ncontent-length: 0\r\n\r\n");
        let error = outcome(protocol, bytes, Then::Close, &call()).await;
        assert_eq!((error.class, error.reason), (RateLimit, "rate_limit"), "{protocol}");
        assert_eq!(
            error.retry_after.map(|it| it.as_millis()),
            expected,
            "{protocol} {headers}"
        );
    }
    for protocol in Protocol::ALL {
        let no = "HTTP/1.1 503 Busy\r\nx-should-retry: false\r\nretry-after: 5\r\ncontent-length: 0\r\n\r\n";
        let error = outcome(protocol, no, Then::Close, &call()).await;
        assert!(!error.retryable && error.retry_after.is_none(), "{protocol}: {error:?}");
    }
}
