//! What is sent, and how a stream of events is read.

use std::{sync::Mutex, time::Duration};

use serde_json::json;

use super::*;
use crate::{
    engine::failure::FailureClass,
    providers::{
        Answer, Call, Parameters, Protocol, Provider,
        stub::{JSON, KEY, Stub, Then, reply},
    },
};

fn call() -> Call {
    Call {
        model: "claude-sonnet-4-5".into(),
        system: "Be brief.".into(),
        prompt: "Say hello.".into(),
        timeout: Duration::from_secs(20),
        idempotency_key: "execution/stage/1".into(),
        ..Call::default()
    }
}

async fn stub(bytes: impl Into<Vec<u8>>) -> Stub {
    Stub::start(Protocol::Anthropic, bytes.into(), Then::Close, |_| {}).await
}

fn message(stop_reason: &str) -> String {
    let body = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x",
        "content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Hel"}, {"type": "text", "text": "lo."}],
        "stop_reason": stop_reason, "stop_sequence": null,
        "usage": {"input_tokens": 3, "cache_creation_input_tokens": 4, "cache_read_input_tokens": 5, "output_tokens": 7},
    });
    reply("200 OK", JSON, &body.to_string())
}

fn events(events: &[Value]) -> String {
    let lines = events.iter().map(|event| {
        let name = event["type"].as_str().unwrap_or_default();
        format!("event: {name}\ndata: {event}\n\n")
    });
    reply("200 OK", "text/event-stream", &lines.collect::<String>())
}

fn hello() -> Vec<Value> {
    let delta =
        |text: &str| json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}});
    vec![
        json!({"type": "message_start", "message": {"id": "msg_1", "model": "claude-x", "usage": {"input_tokens": 12, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "ping"}),
        delta("Hel"),
        delta("lo."),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}}),
        json!({"type": "message_stop"}),
    ]
}

fn is_hello(answer: &Answer) {
    let told = (
        answer.text.as_str(),
        answer.input_tokens,
        answer.output_tokens,
        answer.finish_reason.as_str(),
    );
    assert_eq!(told, ("Hello.", 12, 7, "end_turn"));
    assert_eq!(answer.response_model.as_deref(), Some("claude-x"));
    assert_eq!(answer.response_id.as_deref(), Some("msg_1"));
    assert!(!answer.billing_uncertain && !answer.cleaned);
}

#[tokio::test]
async fn a_call_is_one_request_and_its_answer_whole_or_in_events() {
    let whole = stub(message("end_turn")).await;
    is_hello(&whole.answer(&call()).await.unwrap());
    let streamed = stub(events(&hello())).await;
    let pieces = Mutex::new(String::new());
    let answered = streamed
        .provider
        .call(&call(), &|it: &str| pieces.lock().unwrap().push_str(it))
        .await;
    is_hello(&answered.unwrap());
    assert_eq!(pieces.into_inner().unwrap(), "Hello.");
    let (head, body) = streamed.sent();
    assert!(head.starts_with("post /v1/messages "), "{head}");
    assert!(
        head.contains(&format!("x-api-key: {KEY}")) && head.contains("anthropic-version: 2023-06-01"),
        "{head}"
    );
    assert_eq!(
        body,
        json!({"model": "claude-sonnet-4-5", "max_tokens": 4096, "stream": true, "system": "Be brief.",
               "messages": [{"role": "user", "content": "Say hello."}]})
    );
}

#[tokio::test]
async fn a_schema_is_sent_where_the_model_keeps_to_it_and_asked_for_in_words_elsewhere() {
    let strict = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": false});
    let limited = json!({"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}, "required": ["a"], "additionalProperties": false});
    let stub = stub(message("end_turn")).await;
    for (schema, is_sent) in [(strict, true), (limited, false)] {
        let asked = Call {
            schema: Some(schema.clone()),
            ..call()
        };
        stub.answer(&asked).await.unwrap();
        let (_, body) = stub.sent();
        let system = body["system"].as_str().unwrap();
        if is_sent {
            assert_eq!(
                body["output_config"],
                json!({"format": {"type": "json_schema", "schema": schema}})
            );
            assert_eq!(system, "Be brief.");
        } else {
            assert_eq!(body.get("output_config"), None);
            assert!(
                system.contains("JSON Schema") && system.ends_with(&schema.to_string()),
                "{system}"
            );
        }
    }
}

#[tokio::test]
async fn parameters_that_are_set_are_sent_by_their_names_there() {
    let stub = stub(message("end_turn")).await;
    let parameters = Parameters {
        temperature: Some(0.5),
        max_tokens: Some(9),
        top_p: Some(0.9),
        seed: Some(3),
        stop: vec!["END".into()],
    };
    stub.answer(&Call { parameters, ..call() }).await.unwrap();
    let (_, body) = stub.sent();
    let sent = json!([
        body["temperature"],
        body["max_tokens"],
        body["top_p"],
        body["seed"],
        body["stop_sequences"]
    ]);
    assert_eq!(sent, json!([0.5, 9, 0.9, null, ["END"]]));
}

#[tokio::test]
async fn only_its_own_mark_ends_a_stream_well() {
    for left in 0..hello().len() {
        let error = stub(events(&hello()[..left])).await.answer(&call()).await.unwrap_err();
        let expected = (FailureClass::ProviderError, "incomplete", true, true);
        assert_eq!(
            (error.class, error.reason, error.retryable, error.billing_uncertain),
            expected,
            "{left} events"
        );
        if left > 5 {
            assert_eq!(error.raw.as_deref(), Some("Hello."), "what came is kept");
        }
    }
    let mut no_reason = hello();
    no_reason.remove(6);
    let error = stub(events(&no_reason)).await.answer(&call()).await.unwrap_err();
    assert_eq!(error.reason, "incomplete");
}

#[tokio::test]
async fn an_error_after_a_200_is_the_error_that_it_is() {
    use FailureClass::{ProviderError, RateLimit};
    for (kind, class, reason) in [
        ("overloaded_error", ProviderError, "overloaded"),
        ("rate_limit_error", RateLimit, "rate_limit"),
        ("api_error", ProviderError, "server_error"),
    ] {
        let mut broken = hello();
        broken.truncate(4);
        broken.push(json!({"type": "error", "error": {"type": kind, "message": "no"}}));
        let error = stub(events(&broken)).await.answer(&call()).await.unwrap_err();
        assert_eq!((error.class, error.reason), (class, reason), "{kind}");
        assert!(error.billing_uncertain, "it had begun");
        assert_eq!(error.raw.as_deref(), Some("Hel"));
    }
}

#[tokio::test]
async fn what_stops_an_answer_decides_whether_it_is_one() {
    use FailureClass::Validation;
    for (reason, expected) in [
        ("end_turn", None),
        ("stop_sequence", None),
        ("max_tokens", Some((Validation, "max_tokens", true))),
        ("model_context_window_exceeded", Some((Validation, "max_tokens", true))),
        ("refusal", Some((Validation, "refusal", false))),
    ] {
        let answered = stub(message(reason)).await.answer(&call()).await;
        let found = answered.err().map(|it| (it.class, it.reason, it.retryable));
        assert_eq!(found, expected, "{reason}");
    }
}
