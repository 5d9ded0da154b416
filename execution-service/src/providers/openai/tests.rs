//! The adapter against a server that answers as it is told, byte by byte.

use std::{sync::Mutex, time::Duration};

use secrecy::SecretString;
use serde_json::json;
use tokio::net::TcpListener;

use super::*;
use crate::{
    engine::failure::FailureClass,
    providers::{
        Answer, Call, Endpoint, KeyHeader, Parameters, Protocol, Provider,
        remote::Remote,
        stub::{JSON, KEY, Stub, Then, reply},
    },
};

mod streaming;

fn completion(finish_reason: impl Into<Value>, message: &Value) -> String {
    json!({"id": "chatcmpl-1", "model": "gpt-x-2026", "choices": [{"index": 0, "finish_reason": finish_reason.into(), "message": message}],
           "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}})
    .to_string()
}

fn ok(finish_reason: &str, message: &Value) -> String {
    reply("200 OK", JSON, &completion(finish_reason, message))
}

fn call() -> Call {
    Call {
        provider: "openai".into(),
        model: "gpt-x".into(),
        system: "Be brief.".into(),
        prompt: "Say hello.".into(),
        timeout: Duration::from_secs(20),
        idempotency_key: "execution/stage/1".into(),
        ..Call::default()
    }
}

#[tokio::test]
async fn a_call_is_one_request_and_its_answer() {
    let stub = Stub::replying(ok("stop", &json!({"role": "assistant", "content": "Hello."}))).await;
    let pieces = Mutex::new(String::new());
    let answer = stub
        .provider
        .call(&call(), &|piece: &str| pieces.lock().unwrap().push_str(piece))
        .await
        .unwrap();
    assert_eq!(
        (answer.text.as_str(), pieces.into_inner().unwrap().as_str()),
        ("Hello.", "Hello.")
    );
    assert_eq!(
        (answer.input_tokens, answer.output_tokens, answer.finish_reason.as_str()),
        (11, 7, "stop")
    );
    assert_eq!(
        (answer.response_model.as_deref(), answer.response_id.as_deref()),
        (Some("gpt-x-2026"), Some("chatcmpl-1"))
    );
    assert!(!answer.cleaned && !answer.billing_uncertain);
    let (head, body) = stub.sent();
    assert!(head.starts_with("post /v1/chat/completions "), "{head}");
    assert!(
        head.contains(&format!("authorization: bearer {KEY}")) && head.contains("idempotency-key: execution/stage/1"),
        "{head}"
    );
    assert_eq!(
        body,
        json!({"model": "gpt-x", "stream": true, "stream_options": {"include_usage": true},
               "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hello."}]})
    );
}

#[tokio::test]
async fn parameters_that_are_set_are_sent() {
    let stub = Stub::replying(ok("stop", &json!({"content": "x"}))).await;
    let parameters = Parameters {
        temperature: Some(0.5),
        max_tokens: Some(9),
        top_p: Some(0.9),
        seed: Some(-3),
        stop: vec!["END".into()],
    };
    stub.answer(&Call {
        parameters,
        system: String::new(),
        ..call()
    })
    .await
    .unwrap();
    let (_, body) = stub.sent();
    assert_eq!(body["messages"].as_array().unwrap().len(), 1);
    let sent = json!([
        body["temperature"],
        body["max_tokens"],
        body["top_p"],
        body["seed"],
        body["stop"]
    ]);
    assert_eq!(sent, json!([0.5, 9, 0.9, -3, ["END"]]));
}

#[tokio::test]
async fn a_strict_schema_is_sent_and_any_other_is_asked_for_in_words() {
    let stub = Stub::replying(ok("stop", &json!({"content": "{}"}))).await;
    let strict =
        json!({"$schema": "x", "type": "object", "properties": {}, "required": [], "additionalProperties": false});
    stub.answer(&Call {
        schema: Some(strict),
        ..call()
    })
    .await
    .unwrap();
    let format = &stub.sent().1["response_format"];
    assert_eq!(
        (&format["type"], &format["json_schema"]["strict"]),
        (&json!("json_schema"), &json!(true))
    );
    assert_eq!(format["json_schema"]["schema"]["$schema"], Value::Null);
    stub.answer(&Call {
        schema: Some(json!({"type": "object"})),
        ..call()
    })
    .await
    .unwrap();
    let (_, body) = stub.sent();
    assert_eq!(body["response_format"], json!({"type": "json_object"}));
    let system = body["messages"][0]["content"].as_str().unwrap();
    assert!(
        system.starts_with("Be brief.\n\n")
            && system.contains("JSON Schema")
            && system.ends_with(r#"{"type":"object"}"#),
        "{system}"
    );
}

#[tokio::test]
async fn an_answer_is_read_in_parts_and_without_a_reason_and_says_that_its_tokens_are_not_known() {
    let body = json!({"choices": [{"message": {"content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]}}]});
    let stub = Stub::replying(reply("200 OK", "application/json; charset=utf-8", &body.to_string())).await;
    let answer = stub.answer(&call()).await.unwrap();
    assert_eq!(
        (answer.text.as_str(), answer.finish_reason.as_str()),
        ("Hello", "unknown")
    );
    assert_eq!(
        (answer.input_tokens, answer.output_tokens, answer.billing_uncertain),
        (0, 0, true)
    );
}

#[tokio::test]
async fn an_answer_that_cannot_be_stored_is_cleaned_and_says_so() {
    let body = r#"{"choices":[{"finish_reason":"stop","message":{"content":"a\u0000b\ud800c"}}]}"#;
    let answer = Stub::replying(reply("200 OK", JSON, body))
        .await
        .answer(&call())
        .await
        .unwrap();
    assert_eq!((answer.text.as_str(), answer.cleaned), ("ab\u{FFFD}c", true));
    let mut bytes = reply(
        "200 OK",
        JSON,
        r#"{"choices":[{"finish_reason":"stop","message":{"content":"a?"}}]}"#,
    )
    .into_bytes();
    let odd = bytes.iter().rposition(|&byte| byte == b'?').unwrap();
    bytes[odd] = 0xFF;
    let answer = Stub::replying(bytes).await.answer(&call()).await.unwrap();
    assert_eq!((answer.text.as_str(), answer.cleaned), ("a\u{FFFD}", true));
}

#[tokio::test]
async fn what_is_no_answer_is_a_failure_with_its_class() {
    use FailureClass::{ProviderError, RateLimit, Validation};
    let chunked =
        format!("HTTP/1.1 200 OK\r\ncontent-type: {JSON}\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{{\"a\":\r\n");
    let large = reply("200 OK", JSON, &" ".repeat(100_000));
    for (bytes, class, reason, retryable, billing_uncertain) in [
        (
            reply("200 OK", "text/html", "<html>login</html>"),
            ProviderError,
            "wrong_body",
            true,
            true,
        ),
        (
            reply("200 OK", "text/html", &completion("stop", &json!({"content": "x"}))),
            ProviderError,
            "wrong_body",
            true,
            true,
        ),
        (
            reply("200 OK", JSON, "{malformed json: <<<"),
            ProviderError,
            "wrong_body",
            true,
            true,
        ),
        (
            reply("200 OK", JSON, r#"{"choices":[]}"#),
            ProviderError,
            "no_choices",
            true,
            true,
        ),
        (reply("200 OK", JSON, "7"), ProviderError, "no_choices", true, true),
        (
            reply("200 OK", JSON, r#"{"type":"error","error":{"message":"no"}}"#),
            ProviderError,
            "wrong_body",
            true,
            true,
        ),
        (
            reply("200 OK", JSON, r#"{"error":{"type":"rate_limit_error"}}"#),
            RateLimit,
            "rate_limit",
            true,
            false,
        ),
        (
            ok("stop", &json!({"content": null})),
            ProviderError,
            "empty_answer",
            true,
            false,
        ),
        (
            ok("tool_calls", &json!({"content": null, "tool_calls": [{}]})),
            ProviderError,
            "empty_answer",
            true,
            false,
        ),
        (
            ok("stop", &json!({"content": null, "refusal": "I cannot"})),
            Validation,
            "refusal",
            false,
            false,
        ),
        (
            ok("content_filter", &json!({"content": "par"})),
            Validation,
            "content_filter",
            false,
            false,
        ),
        (
            ok("length", &json!({"content": "cut by"})),
            Validation,
            "max_tokens",
            true,
            false,
        ),
        (reply("503 Busy", JSON, "{}"), ProviderError, "overloaded", true, false),
        (reply("307 Away", JSON, ""), ProviderError, "endpoint", false, false),
        (chunked, ProviderError, "connection_lost", true, true),
        (large, ProviderError, "answer_too_large", false, true),
    ] {
        let shown: String = bytes.chars().take(120).collect();
        let error = Stub::replying(bytes).await.answer(&call()).await.unwrap_err();
        let expected = (class, reason, retryable, billing_uncertain);
        assert_eq!(
            (error.class, error.reason, error.retryable, error.billing_uncertain),
            expected,
            "{shown}"
        );
    }
}

#[tokio::test]
async fn a_failed_answer_keeps_what_it_used_and_said() {
    let error = Stub::replying(ok("length", &json!({"content": "cut by"})))
        .await
        .answer(&call())
        .await
        .unwrap_err();
    assert_eq!(
        (
            error.usage.input_tokens,
            error.usage.output_tokens,
            error.raw.as_deref()
        ),
        (11, 7, Some("cut by"))
    );
    let error = Stub::replying(ok("stop", &json!({"refusal": "I cannot"})))
        .await
        .answer(&call())
        .await
        .unwrap_err();
    assert_eq!(error.raw.as_deref(), Some("I cannot"));
}

#[tokio::test]
async fn silence_ends_at_the_deadline_and_nobody_at_home_at_once() {
    let stub = Stub::start(Protocol::OpenAi, Vec::new(), Then::Hang, |_| {}).await;
    let error = stub
        .answer(&Call {
            timeout: Duration::from_millis(30),
            ..call()
        })
        .await
        .unwrap_err();
    assert_eq!(
        (error.class, error.reason, error.billing_uncertain),
        (FailureClass::Timeout, "total", true)
    );
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let endpoint = Endpoint {
        base_url: format!("http://{gone}").parse().unwrap(),
        ..stub.provider.endpoint.clone()
    };
    let error = Remote::new(endpoint, stub.provider.outbound.clone())
        .call(&call(), &|_| {})
        .await
        .unwrap_err();
    assert_eq!(
        (error.class, error.reason, error.retryable, error.billing_uncertain),
        (FailureClass::ProviderError, "unreachable", true, false)
    );
}

#[tokio::test]
async fn the_key_is_in_no_error_whatever_the_provider_repeats() {
    let body = json!({"error": {"message": format!("your key {KEY} is bad"), "type": "x"}}).to_string();
    for status in ["400 Bad", "401 Who", "500 Oops", "200 OK"] {
        for kind in [JSON, "text/plain"] {
            let error = Stub::replying(reply(status, kind, &body))
                .await
                .answer(&call())
                .await
                .unwrap_err();
            assert!(!format!("{error:?}").contains(KEY), "{error:?}");
        }
    }
}

#[tokio::test]
async fn azures_header_carries_the_key_alone() {
    let answer = ok("stop", &json!({"content": "x"})).into_bytes();
    let stub = Stub::start(Protocol::OpenAi, answer.clone(), Then::Close, |it| {
        it.key_header = KeyHeader::ApiKey;
    })
    .await;
    stub.answer(&call()).await.unwrap();
    let (head, _) = stub.sent();
    assert!(
        head.contains(&format!("api-key: {KEY}")) && !head.contains("authorization"),
        "{head}"
    );
    let stub = Stub::start(Protocol::OpenAi, answer, Then::Close, |it| {
        it.api_key = Some(SecretString::from("bad\nkey"));
    })
    .await;
    assert_eq!(stub.answer(&call()).await.unwrap_err().reason, "credentials");
}

#[tokio::test]
async fn a_server_that_does_not_stream_is_asked_for_its_answer_whole() {
    let answer = ok("stop", &json!({"content": "x"})).into_bytes();
    let stub = Stub::start(Protocol::OpenAi, answer, Then::Close, |it| {
        it.streams = false;
        it.first_token_timeout = Duration::ZERO;
    })
    .await;
    stub.answer(&call()).await.unwrap();
    let (head, body) = stub.sent();
    assert_eq!((&body["stream"], body.get("stream_options")), (&json!(false), None));
    assert!(!head.contains("event-stream"), "{head}");
}
