//! Answers that come as a stream of events, and all that can come instead.

use std::{fmt::Write, sync::Arc};

use FailureClass::{ProviderError, RateLimit, Timeout, Validation};
use service_kit::lifecycle::Lifecycle;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Notify,
};

use super::*;
use crate::providers::stub::is_whole;

const SOON: Duration = Duration::from_millis(60);

/// The answer's head and the body in chunks; the last chunk's mark only where the body is whole.
fn chunked(kind: &str, pieces: &[&[u8]], is_whole: bool) -> Vec<u8> {
    let mut bytes =
        format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n").into_bytes();
    // An empty chunk would be the last one.
    for piece in pieces.iter().filter(|it| !it.is_empty()) {
        bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        bytes.extend_from_slice(piece);
        bytes.extend_from_slice(b"\r\n");
    }
    if is_whole {
        bytes.extend_from_slice(b"0\r\n\r\n");
    }
    bytes
}

fn stream(text: &str, is_whole: bool) -> Vec<u8> {
    chunked("text/event-stream; charset=utf-8", &[text.as_bytes()], is_whole)
}

/// An event of a delta with what a chunk has besides.
fn delta(delta: &Value) -> String {
    let chunk = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "gpt-x-2026",
                       "choices": [{"index": 0, "delta": delta, "finish_reason": null}], "usage": null});
    format!("data: {chunk}\n\n")
}

fn says(text: &str) -> String {
    delta(&json!({ "content": text }))
}

fn finish(reason: &str) -> String {
    format!(
        "data: {}\n\n",
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    )
}

const USAGE: &str = "data: {\"id\":\"chatcmpl-1\",\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":7,\"total_tokens\":18}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

fn hello() -> String {
    let role = delta(&json!({"role": "assistant", "content": ""}));
    [role.as_str(), &says("Hel"), &says("lo."), &finish("stop"), USAGE, DONE].concat()
}

/// What the call gives, and the pieces that were told.
async fn told(stub: &Stub) -> (Result<Answer, CallError>, Vec<String>) {
    let pieces = Mutex::new(Vec::new());
    let result = stub
        .provider
        .call(&call(), &|piece: &str| pieces.lock().unwrap().push(piece.to_owned()))
        .await;
    (result, pieces.into_inner().unwrap())
}

#[tokio::test]
async fn a_streams_pieces_are_its_text() {
    let (answer, pieces) = told(&Stub::replying(stream(&hello(), true)).await).await;
    let answer = answer.unwrap();
    assert_eq!((answer.text.as_str(), pieces.concat().as_str()), ("Hello.", "Hello."));
    assert_eq!(
        (answer.input_tokens, answer.output_tokens, answer.billing_uncertain),
        (11, 7, false)
    );
    assert_eq!(
        (
            answer.response_model.as_deref(),
            answer.response_id.as_deref(),
            answer.finish_reason.as_str()
        ),
        (Some("gpt-x-2026"), Some("chatcmpl-1"), "stop")
    );
    assert!(!answer.cleaned);
}

#[tokio::test]
async fn a_stream_is_read_whatever_it_is_cut_into_and_whatever_stands_between() {
    let mut noisy = String::from(
        "\u{FEFF}: processing\n\nretry: 3\n\nevent: ping\ndata: {}\n\nevent: ping\ndata: pong\n\ndata:\n\n",
    );
    let odd = "data: {\"prompt_filter_results\":[],\"choices\":[]}\n\ndata: {\"choices\":null}\n\ndata: {\"choices\":[{\"index\":1,\"delta\":{\"content\":\"no\"},\"finish_reason\":\"length\"}]}\n\ndata: {\"choices\":[{\"index\":0,\"delta\":null}]}\n\n";
    write!(noisy, "{odd}{}", hello()).unwrap();
    let windows = noisy.replace('\n', "\r\n");
    for text in [noisy, windows] {
        for size in [1, 2, 3, 7, 64] {
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            let (answer, told) = told(&Stub::replying(chunked("Text/Event-Stream", &pieces, true)).await).await;
            assert_eq!(
                (answer.unwrap().text.as_str(), told.concat().as_str()),
                ("Hello.", "Hello.")
            );
        }
    }
}

#[tokio::test]
async fn a_character_that_is_spread_over_events_is_whole_and_half_of_one_is_replaced() {
    let event = |content: &[u8]| {
        [
            b"data: {\"choices\":[{\"delta\":{\"content\":\"",
            content,
            b"\"}}]}\n\n",
        ]
        .concat()
    };
    for (pieces, expected, cleaned) in [
        ([&b"a\\ud83d"[..], b"\\ude00b"], "a\u{1F600}b", false),
        ([&b"a\xF0\x9F"[..], b"\x98\x80b"], "a\u{1F600}b", false),
        ([&b"a\\ud83d"[..], b"b"], "a\u{FFFD}b", true),
        ([&b"a\\u0000"[..], b"\xFFb"], "a\u{FFFD}b", true),
        ([&b"a"[..], b"\\ud83d"], "a\u{FFFD}", true),
    ] {
        let end = [finish("stop"), DONE.to_owned()].concat().into_bytes();
        let body = [event(pieces[0]), event(pieces[1]), end].concat();
        let stub = Stub::replying(chunked("text/event-stream", &[&body], true)).await;
        let (answer, told) = told(&stub).await;
        let answer = answer.unwrap();
        assert_eq!((answer.text.as_str(), told.concat().as_str()), (expected, expected));
        assert_eq!(answer.cleaned, cleaned, "{expected}");
    }
}

#[tokio::test]
async fn without_usage_the_tokens_are_0_and_it_is_said() {
    let text = [says("Hello."), finish("stop"), DONE.to_owned()].concat();
    let answer = Stub::replying(stream(&text, true)).await.answer(&call()).await.unwrap();
    assert_eq!(
        (answer.input_tokens, answer.output_tokens, answer.billing_uncertain),
        (0, 0, true)
    );
}

#[tokio::test]
async fn a_servers_json_in_place_of_a_stream_is_its_answer() {
    let (answer, pieces) = told(&Stub::replying(ok("stop", &json!({"content": "Hello."}))).await).await;
    assert_eq!(
        (answer.unwrap().text.as_str(), pieces),
        ("Hello.", vec!["Hello.".to_owned()])
    );
}

/// A server notices that its client is gone at once, but for a busy machine.
async fn soon(future: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(5), future)
        .await
        .expect("it happens soon");
}

/// What a failure is told as: class, reason, whether it may pass and may be billed, and what had come before it.
type Told<'t> = (FailureClass, &'t str, bool, bool, Option<&'t str>);

fn shown(error: &CallError) -> Told<'_> {
    (
        error.class,
        error.reason,
        error.retryable,
        error.billing_uncertain,
        error.raw.as_deref(),
    )
}

#[tokio::test]
async fn a_stream_that_does_not_end_as_it_should_has_failed_with_its_class() {
    let part = says("par");
    let (stop, error) = (finish("stop"), |body: &str| format!("data: {{\"error\":{body}}}\n\n"));
    let overloaded = r#"{"type":"overloaded_error","message":"no room"}"#;
    let litellm = r#"{"message":"upstream died","type":null,"param":null,"code":"500"}"#;
    let limited = r#"{"type":"rate_limit_error","message":"slow down"}"#;
    let quota = r#"{"code":"insufficient_quota","message":"pay"}"#;
    let long = format!("data: {}\n\n", "x".repeat(70_000));
    for (name, body, is_whole, expected) in [
        (
            "cut in mid event",
            format!("{part}data: {{\"choi"),
            false,
            (ProviderError, "connection_lost", true, true, Some("par")),
        ),
        (
            "cut before anything",
            String::new(),
            false,
            (ProviderError, "connection_lost", true, true, None),
        ),
        (
            "closed without a mark",
            part.clone(),
            true,
            (ProviderError, "incomplete", true, true, Some("par")),
        ),
        (
            "closed without anything",
            String::new(),
            true,
            (ProviderError, "incomplete", true, true, None),
        ),
        (
            "closed after a reason that is made up",
            format!("{part}{stop}"),
            true,
            (ProviderError, "incomplete", true, true, Some("par")),
        ),
        (
            "a mark without its empty line",
            format!("{part}{stop}data: [DONE]"),
            true,
            (ProviderError, "incomplete", true, true, Some("par")),
        ),
        (
            "a mark without a reason",
            format!("{part}{DONE}"),
            true,
            (ProviderError, "incomplete", true, true, Some("par")),
        ),
        (
            "an event that is no JSON",
            format!("{part}data: {{oops\n\n{stop}{DONE}"),
            true,
            (ProviderError, "wrong_body", true, true, Some("par")),
        ),
        (
            "an event that is no chunk",
            "data: 7\n\n".to_owned(),
            true,
            (ProviderError, "wrong_body", true, true, Some("7")),
        ),
        (
            "an error in band",
            format!("{part}{}", error(litellm)),
            true,
            (ProviderError, "server_error", true, true, Some("par")),
        ),
        (
            "overloaded in band",
            format!("{part}{}", error(overloaded)),
            true,
            (ProviderError, "overloaded", true, true, Some("par")),
        ),
        (
            "a limit in band",
            format!("{part}{}", error(limited)),
            true,
            (RateLimit, "rate_limit", true, true, Some("par")),
        ),
        (
            "quota in band",
            format!("{part}{}", error(quota)),
            true,
            (ProviderError, "quota", false, true, Some("par")),
        ),
        (
            "an error event",
            format!("{part}event: error\ndata: {overloaded}\n\n"),
            true,
            (ProviderError, "overloaded", true, true, Some("par")),
        ),
        (
            "an error event that is no JSON",
            format!("{part}event: error\ndata: broken\n\n"),
            true,
            (ProviderError, "wrong_body", true, true, Some("par")),
        ),
        (
            "an error of its type",
            "data: {\"object\":\"error\",\"code\":400,\"message\":\"bad\"}\n\n".to_owned(),
            true,
            (
                Validation,
                "request",
                false,
                false,
                Some(r#"{"object":"error","code":400,"message":"bad"}"#),
            ),
        ),
        (
            "a filter",
            format!("{part}{}{USAGE}{DONE}", finish("content_filter")),
            true,
            (Validation, "content_filter", false, false, Some("par")),
        ),
        (
            "a limit of tokens",
            format!("{part}{}{USAGE}{DONE}", finish("length")),
            true,
            (Validation, "max_tokens", true, false, Some("par")),
        ),
        (
            "a refusal",
            format!(
                "{}{}{stop}{USAGE}{DONE}",
                delta(&json!({"refusal": "I can"})),
                delta(&json!({"refusal": "not"}))
            ),
            true,
            (Validation, "refusal", false, false, Some("I cannot")),
        ),
        (
            "nothing said",
            format!("{stop}{USAGE}{DONE}"),
            true,
            (ProviderError, "empty_answer", true, false, None),
        ),
        (
            "more than may be",
            format!("{part}{long}"),
            true,
            (ProviderError, "answer_too_large", false, true, Some("par")),
        ),
    ] {
        let error = Stub::replying(stream(&body, is_whole))
            .await
            .answer(&call())
            .await
            .unwrap_err();
        assert_eq!(shown(&error), expected, "{name}");
    }
}

#[tokio::test]
async fn a_200_that_is_no_stream_and_no_json_is_a_providers_error() {
    for (kind, encoding) in [
        ("text/html", ""),
        ("text/plain", ""),
        ("", ""),
        ("text/event-stream", "content-encoding: gzip\r\n"),
    ] {
        let body = hello();
        let bytes = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{encoding}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let error = Stub::replying(bytes).await.answer(&call()).await.unwrap_err();
        let (class, reason, ..) = shown(&error);
        assert_eq!((class, reason), (ProviderError, "wrong_body"), "{kind} {encoding}");
    }
}

#[tokio::test]
async fn a_status_says_what_it_says_without_a_stream_too() {
    let quota = r#"{"error":{"code":"insufficient_quota"}}"#;
    let late = "retry-after: 7\r\n";
    for (status, header, body, expected, wait) in [
        ("429 Slow", late, "{}", (RateLimit, "rate_limit", true), Some(7_000)),
        (
            "429 Slow",
            "retry-after-ms: 2500\r\n",
            "{}",
            (RateLimit, "rate_limit", true),
            Some(2_500),
        ),
        (
            "429 Slow",
            "x-ratelimit-reset-requests: 6m0s\r\n",
            "{}",
            (RateLimit, "rate_limit", true),
            Some(360_000),
        ),
        (
            "429 Slow",
            "x-should-retry: false\r\n",
            "{}",
            (RateLimit, "rate_limit", false),
            None,
        ),
        ("429 Pay", late, quota, (ProviderError, "quota", false), None),
        ("402 Pay", "", "{}", (ProviderError, "quota", false), None),
        ("503 Busy", "", "{}", (ProviderError, "overloaded", true), None),
        ("529 Busy", "", "{}", (ProviderError, "overloaded", true), None),
        ("500 Oops", "", "<html>", (ProviderError, "server_error", true), None),
        ("408 Late", "", "{}", (Timeout, "provider_timeout", true), None),
        ("504 Late", "", "{}", (Timeout, "provider_timeout", true), None),
        ("401 Who", "", "{}", (ProviderError, "credentials", false), None),
        ("404 Where", "", "{}", (ProviderError, "endpoint", false), None),
        ("400 Bad", "", "{}", (Validation, "request", false), None),
        ("413 Large", "", "{}", (Validation, "request_too_large", false), None),
    ] {
        let bytes = format!(
            "HTTP/1.1 {status}\r\n{header}content-type: text/event-stream\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let error = Stub::replying(bytes).await.answer(&call()).await.unwrap_err();
        let wait = wait.map(Duration::from_millis);
        assert_eq!(
            (error.class, error.reason, error.retryable),
            expected,
            "{status} {header}"
        );
        assert_eq!(error.retry_after, wait, "{status} {header}");
    }
}

#[tokio::test]
async fn a_model_that_does_not_begin_is_given_up_after_its_time_whatever_its_server_sends() {
    let role = delta(&json!({"role": "assistant", "content": ""}));
    let open = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n".to_owned();
    for (name, reply, then) in [
        ("no head", String::new(), Then::Hang),
        ("a head", open.clone(), Then::Hang),
        ("a role", format!("{open}{role}"), Then::Hang),
        ("comments", open.clone(), Then::Repeat(": keep-alive\n\n")),
        ("pings", open.clone(), Then::Repeat("event: ping\ndata: {}\n\n")),
        (
            "empty pieces",
            open.clone(),
            Then::Repeat("data: {\"choices\":[{\"delta\":{\"content\":\"\"}}]}\n\n"),
        ),
    ] {
        let stub = Stub::start(Protocol::OpenAi, reply.into_bytes(), then, |it| {
            it.first_token_timeout = SOON;
        })
        .await;
        let error = stub.answer(&call()).await.unwrap_err();
        assert_eq!(shown(&error), (Timeout, "first_token", true, true, None), "{name}");
        soon(stub.hung_up.notified()).await;
    }
}

#[tokio::test]
async fn a_model_that_falls_silent_is_given_up_whatever_its_server_sends() {
    let begun = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n{}",
        says("par")
    );
    for (name, then) in [
        ("nothing", Then::Hang),
        ("comments", Then::Repeat(": keep-alive\n\n")),
        ("pings", Then::Repeat("event: ping\ndata: {}\n\n")),
        ("half an event", Then::Repeat("data: {")),
    ] {
        let stub = Stub::start(Protocol::OpenAi, begun.clone().into_bytes(), then, |it| {
            it.idle_timeout = SOON;
        })
        .await;
        let error = stub.answer(&call()).await.unwrap_err();
        assert_eq!(shown(&error), (Timeout, "idle", true, true, Some("par")), "{name}");
        soon(stub.hung_up.notified()).await;
    }
}

#[tokio::test]
async fn a_model_at_work_has_all_its_time_and_no_more() {
    let open = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n".to_vec();
    for (drip, raw) in [
        ("data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n", true),
        (
            "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\"}}]}\n\n",
            false,
        ),
        (
            "data: {\"choices\":[{\"delta\":{\"reasoning\":\"hm\",\"content\":null}}]}\n\n",
            false,
        ),
    ] {
        let stub = Stub::start(Protocol::OpenAi, open.clone(), Then::Repeat(drip), |it| {
            it.idle_timeout = Duration::from_secs(5);
        })
        .await;
        let timeout = Duration::from_millis(150);
        let error = stub.answer(&Call { timeout, ..call() }).await.unwrap_err();
        assert_eq!((error.class, error.reason), (Timeout, "total"), "{drip}");
        assert_eq!(error.raw.is_some_and(|it| it.starts_with("xx")), raw, "{drip}");
    }
}

#[tokio::test]
async fn what_never_ends_is_given_up_at_its_cap() {
    let open = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n".to_vec();
    let answer = "data: {\"choices\":[{\"delta\":{\"content\":\"again and again\"}}]}\n\n";
    for drip in [answer, ": a comment\n\n", "no line ever ends here"] {
        let large = drip.repeat(1_000).leak();
        let stub = Stub::start(Protocol::OpenAi, open.clone(), Then::Repeat(large), |_| {}).await;
        let error = stub.answer(&call()).await.unwrap_err();
        let (class, reason, retryable, billing_uncertain, _) = shown(&error);
        let expected = (ProviderError, "answer_too_large", false, true);
        assert_eq!((class, reason, retryable, billing_uncertain), expected, "{drip}");
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_hangs_up() {
    let begun = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n{}",
        says("par")
    );
    let stub = Stub::start(Protocol::OpenAi, begun.into_bytes(), Then::Hang, |_| {}).await;
    let piece = Notify::new();
    let (call, tell) = (call(), |_: &str| piece.notify_one());
    tokio::select! {
        result = stub.provider.call(&call, &tell) => panic!("{result:?}"),
        () = piece.notified() => {}
    }
    soon(stub.hung_up.notified()).await;
}

#[tokio::test]
async fn connections_are_used_again() {
    const CALLS: usize = 50;
    let lifecycle = Lifecycle::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}/v1", listener.local_addr().unwrap()).parse().unwrap();
    let connections = Arc::new(Mutex::new(0));
    let counted = connections.clone();
    let tasks = lifecycle.clone();
    lifecycle.spawn("stub", async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            *counted.lock().unwrap() += 1;
            socket.set_nodelay(true).unwrap();
            tasks.spawn("stub.connection", async move {
                loop {
                    let mut request = Vec::new();
                    while !is_whole(&request) {
                        if !matches!(socket.read_buf(&mut request).await, Ok(1..)) {
                            return;
                        }
                    }
                    let whole = stream(&hello(), true);
                    // The end of the body comes a little later than the mark.
                    let (answer, end) = whole.split_at(whole.len() - 5);
                    socket.write_all(answer).await.unwrap();
                    tokio::task::yield_now().await;
                    socket.write_all(end).await.unwrap();
                }
            });
        }
    });
    let template = Stub::replying("").await;
    let endpoint = Endpoint {
        base_url,
        ..template.provider.endpoint.clone()
    };
    let provider = Remote::new(endpoint, template.provider.outbound.clone());
    for _ in 0..CALLS {
        assert_eq!(provider.call(&call(), &|_| {}).await.unwrap().text, "Hello.");
    }
    // A connection may still be on its way back when the next call looks for one.
    let connections = *connections.lock().unwrap();
    assert!(connections < CALLS / 5, "{connections} connections for {CALLS} calls");
}
