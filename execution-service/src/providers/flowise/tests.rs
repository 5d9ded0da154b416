//! What a flow is asked, what it answers, and how its failures are told apart; bodies as Flowise 3.0.13 sent them.

use std::{sync::Mutex, time::Duration};

use serde_json::json;

use super::*;
use crate::{
    engine::failure::FailureClass::{self, ProviderError, RateLimit, Timeout, Validation},
    providers::{
        Protocol, Provider,
        stub::{JSON, KEY, Stub, Then, reply},
    },
};

const FLOW: &str = "e0667d8c-0ebe-43b4-8e93-70f233bc90d3";

fn call() -> Call {
    Call {
        model: FLOW.into(),
        prompt: "hello".into(),
        session: "an execution".into(),
        overrides: json!({"temperature": 0.5}).as_object().unwrap().clone(),
        timeout: Duration::from_secs(20),
        ..Call::default()
    }
}

async fn stub(bytes: impl Into<Vec<u8>>) -> Stub {
    Stub::start(Protocol::Flowise, bytes.into(), Then::Close, |it| {
        it.base_url = it.base_url.to_string().replace("/v1", "").parse().unwrap();
    })
    .await
}

async fn streaming(bytes: String) -> Stub {
    Stub::start(Protocol::Flowise, bytes.into(), Then::Close, |it| it.streams = true).await
}

fn events(events: &[(&str, Value)]) -> String {
    let events: Vec<_> = events
        .iter()
        .map(|(name, data)| format!("message:\ndata:{}\n\n", json!({"event": name, "data": data})))
        .collect();
    reply("200 OK", "text/event-stream", &events.concat())
}

#[tokio::test]
async fn a_flow_is_asked_its_question_in_the_executions_session() {
    let body = json!({"text": "echo: hello", "question": "hello", "chatId": "c", "chatMessageId": "m", "isStreamValid": false, "sessionId": "s"});
    let stub = stub(reply("200 OK", JSON, &body.to_string())).await;
    let answer = stub.answer(&call()).await.unwrap();
    assert_eq!(
        (answer.text.as_str(), answer.response_id.as_deref()),
        ("echo: hello", Some("m"))
    );
    assert!(answer.billing_uncertain, "a flow says nothing of its tokens");
    let (head, body) = stub.sent();
    assert!(head.starts_with(&format!("post /api/v1/prediction/{FLOW} ")), "{head}");
    assert!(head.contains(&format!("authorization: bearer {KEY}")), "{head}");
    assert_eq!(
        body,
        json!({"question": "hello", "sessionId": "an execution", "chatId": "an execution",
               "overrideConfig": {"temperature": 0.5}, "streaming": false})
    );
}

#[tokio::test]
async fn a_result_without_text_is_the_object_that_it_is() {
    let added =
        json!({"question": "hello", "chatId": "c", "chatMessageId": "m", "isStreamValid": false, "sessionId": "s"});
    for (result, expected) in [
        (json!({"a": 1, "b": ["x"]}), r#"{"a":1,"b":["x"]}"#),
        (json!({"json": {"a": 1}, "text": ""}), r#"{"a":1}"#),
        (json!({"text": {"a": 1}}), r#"{"a":1}"#),
    ] {
        let mut body = result.as_object().unwrap().clone();
        body.extend(added.as_object().unwrap().clone());
        let answer = stub(reply("200 OK", JSON, &Value::Object(body).to_string()))
            .await
            .answer(&call())
            .await;
        assert_eq!(answer.unwrap().text, expected);
    }
    let empty = stub(reply("200 OK", JSON, &added.to_string()))
        .await
        .answer(&call())
        .await;
    assert_eq!(empty.unwrap_err().reason, "empty_answer");
}

#[tokio::test]
async fn the_tokens_of_all_models_of_an_agent_flow_are_counted() {
    let node = |input, output| json!({"data": {"output": {"usageMetadata": {"input_tokens": input, "output_tokens": output}}}});
    let body = json!({"text": "x", "agentFlowExecutedData": [{"data": {"output": {}}}, node(10, 2), node(5, 3)]});
    let answer = stub(reply("200 OK", JSON, &body.to_string()))
        .await
        .answer(&call())
        .await
        .unwrap();
    assert_eq!(
        (answer.input_tokens, answer.output_tokens, answer.billing_uncertain),
        (15, 5, false)
    );
}

#[tokio::test]
async fn a_stream_ends_with_its_end_and_an_error_before_it_counts() {
    let token = |text: &str| ("token", json!(text));
    let whole = [
        ("agentFlowEvent", json!("INPROGRESS")),
        token(""),
        token("hel"),
        token("lo"),
        ("usageMetadata", json!({"input_tokens": 10, "output_tokens": 2})),
        ("metadata", json!({"chatMessageId": "m"})),
        ("end", json!("[DONE]")),
    ];
    let pieces = Mutex::new(String::new());
    let stub = streaming(events(&whole)).await;
    let answered = stub
        .provider
        .call(&call(), &|it: &str| pieces.lock().unwrap().push_str(it))
        .await;
    let answer = answered.unwrap();
    assert_eq!(
        (answer.text.as_str(), pieces.into_inner().unwrap().as_str()),
        ("hello", "hello")
    );
    assert_eq!((answer.input_tokens, answer.output_tokens), (10, 2));
    let cut = streaming(events(&whole[..4])).await.answer(&call()).await.unwrap_err();
    assert_eq!((cut.reason, cut.raw.as_deref()), ("incomplete", Some("hello")));
    let failing = [
        token("hel"),
        (
            "error",
            json!("Error: predictionsServices.buildChatflow - Error in LLM node: 429 You exceeded your current quota"),
        ),
        ("end", json!("[DONE]")),
    ];
    let error = streaming(events(&failing)).await.answer(&call()).await.unwrap_err();
    assert_eq!(
        (error.class, error.reason, error.retryable),
        (ProviderError, "quota", false)
    );
    // A flow that cannot stream answers JSON.
    let plain = streaming(reply("200 OK", JSON, r#"{"text": "x"}"#)).await;
    assert_eq!(plain.answer(&call()).await.unwrap().text, "x");
}

#[tokio::test]
async fn what_a_flows_upstream_said_decides_the_class() {
    let said = |text: &str| {
        json!({"statusCode": 500, "success": false, "message": format!("Error: predictionsServices.buildChatflow - {text}"), "stack": {}}).to_string()
    };
    let failed = |text: &str| reply("500 Internal Server Error", JSON, &said(text));
    for (bytes, class, reason) in [
        (
            failed("Error in LLM node: 429 You exceeded your current quota"),
            ProviderError,
            "quota",
        ),
        (
            failed("Error: NodeVM Execution Error: Error: 429 Rate limit reached upstream"),
            RateLimit,
            "rate_limit",
        ),
        (
            failed("Error in LLM node: 401 Incorrect API key provided"),
            ProviderError,
            "credentials",
        ),
        (failed("Unauthorized"), ProviderError, "credentials"),
        (
            failed("Error in LLM node: 404 The model `x` does not exist"),
            ProviderError,
            "model_not_found",
        ),
        (
            failed("Error in LLM node: 400 This model's maximum context length is 8192 tokens."),
            Validation,
            "context_length",
        ),
        (
            failed("Error in LLM node: Request timed out."),
            Timeout,
            "provider_timeout",
        ),
        (failed("Error in LLM node: 529 overloaded"), ProviderError, "overloaded"),
        (
            failed("Error in LLM node: Connection error."),
            ProviderError,
            "server_error",
        ),
        (
            reply(
                "404 Not Found",
                JSON,
                r#"{"statusCode":404,"message":"Chatflow x not found in the database!"}"#,
            ),
            ProviderError,
            "flow_not_found",
        ),
        (
            reply(
                "400 Bad Request",
                JSON,
                r#"{"statusCode":400,"message":"Invalid Chatflow ID"}"#,
            ),
            ProviderError,
            "flow_not_found",
        ),
        (
            reply(
                "400 Bad Request",
                JSON,
                r#"{"statusCode":400,"message":"Unexpected end of JSON input"}"#,
            ),
            Validation,
            "request",
        ),
    ] {
        let shown = bytes.clone();
        let error = stub(bytes).await.answer(&call()).await.unwrap_err();
        assert_eq!((error.class, error.reason), (class, reason), "{shown}");
    }
    let limited =
        "HTTP/1.1 429 Too Many\r\ncontent-type: text/html\r\nretry-after: 60\r\ncontent-length: 9\r\n\r\nslow down";
    let error = stub(limited).await.answer(&call()).await.unwrap_err();
    assert_eq!(
        (error.class, error.retry_after),
        (FailureClass::RateLimit, Some(Duration::from_mins(1)))
    );
}
