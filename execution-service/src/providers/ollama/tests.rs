//! What is sent, how the context is chosen, and how lines are read.

use std::{sync::Mutex, time::Duration};

use super::*;
use crate::{
    engine::failure::FailureClass,
    providers::{
        Parameters, Protocol, Provider,
        stub::{JSON, Stub, Then, reply},
    },
};

fn call() -> Call {
    Call {
        model: "llama3".into(),
        prompt: "Say hello.".into(),
        timeout: Duration::from_secs(20),
        ..Call::default()
    }
}

async fn stub(bytes: impl Into<Vec<u8>>) -> Stub {
    Stub::start(Protocol::Ollama, bytes.into(), Then::Close, |_| {}).await
}

fn lines(lines: &[Value]) -> String {
    let lines: Vec<_> = lines.iter().map(|line| format!("{line}\n")).collect();
    reply("200 OK", "application/x-ndjson", &lines.concat())
}

fn hello(reason: &str) -> Vec<Value> {
    let says =
        |text: &str| json!({"model": "llama3", "message": {"role": "assistant", "content": text}, "done": false});
    vec![
        says("Hel"),
        says("lo."),
        json!({"model": "llama3", "message": {"role": "assistant", "content": ""}, "done": true, "done_reason": reason,
               "prompt_eval_count": 11, "eval_count": 7}),
    ]
}

#[tokio::test]
async fn a_call_is_one_request_and_its_answer_in_lines_or_whole() {
    let stub = stub(lines(&hello("stop"))).await;
    let pieces = Mutex::new(String::new());
    let answered = stub
        .provider
        .call(&call(), &|it: &str| pieces.lock().unwrap().push_str(it))
        .await;
    let answer = answered.unwrap();
    assert_eq!(
        (answer.text.as_str(), pieces.into_inner().unwrap().as_str()),
        ("Hello.", "Hello.")
    );
    assert_eq!(
        (answer.input_tokens, answer.output_tokens, answer.billing_uncertain),
        (11, 7, false)
    );
    let (head, body) = stub.sent();
    assert!(head.starts_with("post /api/chat "), "{head}");
    assert_eq!(
        body,
        json!({"model": "llama3", "stream": true, "truncate": false, "options": {"num_ctx": 4096},
               "messages": [{"role": "user", "content": "Say hello."}]})
    );
    let whole = json!({"model": "llama3", "message": {"content": "Hello."}, "done": true, "done_reason": "stop"});
    let stub = self::stub(reply("200 OK", JSON, &whole.to_string())).await;
    let answer = stub.answer(&call()).await.unwrap();
    assert_eq!((answer.text.as_str(), answer.billing_uncertain), ("Hello.", true));
}

#[test]
fn the_context_is_the_next_power_of_two_and_never_more_than_the_models() {
    let of = |bytes: usize, max_tokens, context_length| {
        let call = Call {
            prompt: "x".repeat(bytes),
            parameters: Parameters {
                max_tokens,
                ..Parameters::default()
            },
            context_length,
            ..Call::default()
        };
        context(&call, 0)
    };
    assert_eq!(of(10, None, None), 4_096);
    assert_eq!(of(30_000, None, None), 16_384);
    assert_eq!(of(30_000, Some(10), None), 16_384);
    assert_eq!(of(30_000, None, Some(8_192)), 8_192);
    assert_eq!(of(10, None, Some(2_048)), 2_048);
    assert_eq!(of(10_000_000, None, None), MOST_CONTEXT);
}

#[tokio::test]
async fn any_schema_is_sent_and_said_in_words_too() {
    let stub = stub(lines(&hello("stop"))).await;
    let schema = json!({"type": "object", "minProperties": 1});
    let asked = Call {
        schema: Some(schema.clone()),
        ..call()
    };
    stub.answer(&asked).await.unwrap();
    let (_, body) = stub.sent();
    assert_eq!(body["format"], schema);
    assert!(body["messages"][0]["content"].as_str().unwrap().contains("JSON Schema"));
}

#[tokio::test]
async fn only_a_line_that_says_so_ends_a_stream_well() {
    for left in 0..2 {
        let error = stub(lines(&hello("stop")[..left]))
            .await
            .answer(&call())
            .await
            .unwrap_err();
        assert_eq!(
            (error.class, error.reason),
            (FailureClass::ProviderError, "incomplete"),
            "{left}"
        );
    }
    let cut = stub(lines(&hello("length"))).await.answer(&call()).await.unwrap_err();
    assert_eq!(
        (cut.class, cut.reason, cut.raw.as_deref()),
        (FailureClass::Validation, "max_tokens", Some("Hello."))
    );
    let mut broken = hello("stop");
    broken[1] = json!({"error": "an error was encountered while running the model: unexpected EOF"});
    let error = stub(lines(&broken)).await.answer(&call()).await.unwrap_err();
    assert_eq!(
        (error.class, error.raw.as_deref()),
        (FailureClass::ProviderError, Some("Hel"))
    );
}
