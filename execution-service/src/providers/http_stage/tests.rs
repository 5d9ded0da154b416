//! What a stage sends, against a server that answers as it is told, byte by byte.

use serde_json::json;
use service_kit::{lifecycle::Lifecycle, outbound::OutboundConfig};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

fn outbound(allow: &[&str]) -> Outbound {
    Outbound::new(&OutboundConfig {
        allow: allow.iter().map(|it| it.parse().unwrap()).collect(),
        ..OutboundConfig::default()
    })
    .unwrap()
}

fn call<'a>(url: &'a str, headers: &'a BTreeMap<String, String>, body: &'a str) -> HttpCall<'a> {
    HttpCall {
        method: "POST",
        url,
        headers,
        body,
        secret: None,
        timeout: PATIENCE,
    }
}

/// A server that answers one request with this, and what it was sent.
async fn server(lifecycle: &Lifecycle, answer: impl Into<Vec<u8>>) -> (String, JoinHandle<String>) {
    let answer = answer.into();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook?key=hush", listener.local_addr().unwrap());
    let sent = lifecycle.spawn("stub", async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"}") {
            assert_ne!(socket.read_buf(&mut request).await.unwrap(), 0);
        }
        // The client may have hung up, which is what some tests are about.
        let _ = socket.write_all(&answer).await;
        String::from_utf8(request).unwrap()
    });
    (url, sent)
}

async fn answered(answer: impl Into<Vec<u8>>) -> Result<HttpAnswer, CallError> {
    let lifecycle = Lifecycle::new();
    let (url, _) = server(&lifecycle, answer).await;
    let none = BTreeMap::new();
    send(&outbound(&["127.0.0.1"]), &call(&url, &none, "{}")).await
}

fn reply(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn a_request_goes_out_as_it_was_rendered_and_a_body_says_what_it_is() {
    let lifecycle = Lifecycle::new();
    let allowed = outbound(&["127.0.0.1"]);
    let given = [("X-Api-Key", "k"), ("Accept", "application/json")];
    let given = given.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let typed = [("Content-Type".to_owned(), "application/x-ndjson".to_owned())].into();
    for (headers, body, kind) in [
        (&given, "{\"a\": 1}", "application/json"),
        (&given, "so {it is}", "text/plain; charset=utf-8"),
        (&typed, "{}\n{}", "application/x-ndjson"),
    ] {
        let (url, sent) = server(&lifecycle, reply("204 None", "", "")).await;
        let answer = send(&allowed, &call(&url, headers, body)).await.unwrap();
        assert_eq!((answer.status, answer.body), (204, json!("")));
        let sent = sent.await.unwrap().to_lowercase();
        assert!(sent.starts_with("post /hook?key=hush http/1.1\r\n"), "{sent}");
        assert!(sent.contains(&format!("content-type: {kind}\r\n")), "{sent}");
        assert!(sent.ends_with(&format!("\r\n\r\n{body}")), "{sent}");
        assert_eq!(sent.contains("x-api-key: k\r\n"), headers.contains_key("X-Api-Key"));
    }
}

#[tokio::test]
async fn json_is_a_value_where_it_says_so_and_is_and_else_text() {
    let json = "content-type: application/problem+json\r\n";
    for (headers, body, expected) in [
        (json, r#"{"a":[1]}"#, json!({"a": [1]})),
        (json, r#"{"a":"#, json!(r#"{"a":"#)),
        (json, "", json!("")),
        ("content-type: text/html\r\n", "[1]", json!("[1]")),
        ("", "[1]", json!("[1]")),
    ] {
        let answer = answered(reply("200 OK", headers, body)).await.unwrap();
        assert_eq!((answer.body, answer.cleaned), (expected, false), "{headers}{body}");
    }
}

#[tokio::test]
async fn what_cannot_be_stored_is_cleaned_and_said() {
    let json = "content-type: application/json\r\n";
    let answer = answered(reply("200 OK", json, r#"{"a":"x\u0000\ud800"}"#))
        .await
        .unwrap();
    assert_eq!((answer.body, answer.cleaned), (json!({"a": "x\u{FFFD}"}), true));
    let latin = b"HTTP/1.1 200 OK\r\nx-name: J\xfcrgen\r\ncontent-length: 3\r\n\r\na\0\xff";
    let answer = answered(latin).await.unwrap();
    assert_eq!(answer.headers["x-name"], "J\u{FFFD}rgen");
    assert_eq!((answer.body, answer.cleaned), (json!("a\u{FFFD}"), true));
    let deep = format!("{}{}", "[".repeat(60), "]".repeat(60));
    assert_eq!(answered(reply("200 OK", json, &deep)).await.unwrap().body, json!(deep));
}

#[tokio::test]
async fn headers_come_in_lower_case_joined_bounded_and_without_cookies() {
    let headers = "X-Two: a\r\nx-two: b\r\nSet-Cookie: session=hush\r\n";
    let answer = answered(reply("200 OK", headers, "")).await.unwrap();
    assert_eq!(answer.headers["x-two"], "a, b");
    assert!(!answer.headers.contains_key("set-cookie") && !answer.cleaned);
    let many: Vec<String> = (0..80).map(|it| format!("x-{it}: 1\r\n")).collect();
    let many = many.concat();
    let answer = answered(reply("200 OK", &many, "")).await.unwrap();
    assert_eq!((answer.headers.len(), answer.cleaned), (MAX_HEADERS, true));
    let long = format!("x-long: {}\r\nx-short: 1\r\n", "a".repeat(MAX_HEADER_BYTES));
    let answer = answered(reply("200 OK", &long, "")).await.unwrap();
    assert!(!answer.headers.contains_key("x-long") && answer.cleaned);
    assert_eq!(answer.headers["x-short"], "1");
}

#[tokio::test]
async fn a_status_other_than_success_is_the_class_of_its_failure() {
    use FailureClass::{ProviderError, RateLimit, Timeout, Validation};
    for (status, class, reason, retryable, uncertain) in [
        (400, Validation, "request", false, false),
        (401, ProviderError, "credentials", false, false),
        (402, ProviderError, "quota", false, false),
        (403, ProviderError, "credentials", false, false),
        (404, ProviderError, "endpoint", false, false),
        (405, Validation, "request", false, false),
        (408, Timeout, "provider_timeout", true, true),
        (409, Validation, "request", false, false),
        (413, Validation, "request_too_large", false, false),
        (422, Validation, "request", false, false),
        (429, RateLimit, "rate_limit", true, false),
        (500, ProviderError, "server_error", true, true),
        (502, ProviderError, "server_error", true, true),
        (503, ProviderError, "overloaded", true, false),
        (504, Timeout, "provider_timeout", true, true),
    ] {
        // What it says of models and contexts is of no meaning here.
        let body = r#"{"error": {"code": "context_length_exceeded", "message": "model not found: sk-hush1234"}}"#;
        let error = answered(reply(&format!("{status} No"), "retry-after: 7\r\n", body))
            .await
            .unwrap_err();
        let found = (error.class, error.reason, error.retryable, error.billing_uncertain);
        assert_eq!(
            found,
            (class, reason, retryable, uncertain),
            "{status}: {}",
            error.message
        );
        assert_eq!(
            error.retry_after,
            retryable.then_some(Duration::from_secs(7)),
            "{status}"
        );
        let shown = format!("{error:?}");
        assert!(
            error.message.contains("the server") && !shown.contains("hush"),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn a_redirect_is_a_failure_that_names_where_it_leads() {
    for (status, location, told, uncertain) in [
        (
            302,
            "location: http://169.254.169.254/latest?key=hush\r\n",
            " to 169.254.169.254,",
            true,
        ),
        (303, "location: /done\r\n", " to 127.0.0.1,", true),
        (308, "location: //Other.example/x\r\n", " to other.example,", false),
        (307, "", "redirects,", false),
    ] {
        let error = answered(reply(&format!("{status} Away"), location, ""))
            .await
            .unwrap_err();
        let found = (error.class, error.reason, error.retryable, error.billing_uncertain);
        assert_eq!(found, (FailureClass::Validation, "redirect", false, uncertain));
        assert!(
            error.message.contains(told) && !error.message.contains("hush"),
            "{}",
            error.message
        );
    }
}

#[tokio::test]
async fn a_failure_without_an_answer_says_whether_the_request_may_have_been_carried_out() {
    use FailureClass::{ProviderError, Timeout};
    let check = |result: Result<HttpAnswer, CallError>, expected| {
        let error = result.unwrap_err();
        let found = (error.class, error.reason, error.retryable, error.billing_uncertain);
        assert_eq!(found, expected, "{}", error.message);
        assert!(error.message.starts_with("the server") && !error.message.contains("hush"));
    };
    let cut = answered("HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{").await;
    check(cut, (ProviderError, "connection_lost", true, true));
    check(answered("").await, (ProviderError, "connection_lost", true, true));
    let long = answered(format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
        MAX_ANSWER_BYTES + 1
    ))
    .await;
    check(long, (ProviderError, "answer_too_large", false, true));
    let encoded = answered(reply("200 OK", "content-encoding: gzip\r\n", "x")).await;
    check(encoded, (ProviderError, "wrong_body", false, true));

    let (allowed, none) = (outbound(&["127.0.0.1"]), BTreeMap::new());
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let timeout = Duration::from_millis(20);
    let late = send(
        &allowed,
        &HttpCall {
            timeout,
            ..call(&url, &none, "{}")
        },
    )
    .await;
    check(late, (Timeout, "total", true, true));
    drop(silent);
    let gone = send(&allowed, &call(&url, &none, "{}")).await;
    check(gone, (ProviderError, "unreachable", true, false));
}

#[tokio::test]
async fn what_must_not_be_sent_is_refused_with_its_reason_and_never_leaves() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (guarded, allowed, none) = (outbound(&[]), outbound(&["127.0.0.1"]), BTreeMap::new());
    let host = [("Host".to_owned(), "other.example".to_owned())].into();
    let trace = HttpCall {
        method: "TRACE",
        ..call(&url, &none, "")
    };
    for (outbound, call, reason, told) in [
        (
            &guarded,
            call(&url, &none, "{}"),
            "address",
            "the server: 127.0.0.1 must not be called",
        ),
        (
            &allowed,
            call("ftp://crm.example/", &none, ""),
            "address",
            "http:// or https://",
        ),
        (
            &allowed,
            call("http://me:hush@crm.example/", &none, ""),
            "address",
            "credentials",
        ),
        (
            &allowed,
            call(&url, &host, ""),
            "request",
            "the header host cannot be set",
        ),
        (&allowed, trace, "request", "the method must be one of GET,"),
    ] {
        let error = send(outbound, &call).await.unwrap_err();
        let found = (error.class, error.reason, error.retryable, error.billing_uncertain);
        assert_eq!(
            found,
            (FailureClass::Validation, reason, false, false),
            "{}",
            error.message
        );
        assert!(
            error.message.contains(told) && !error.message.contains("hush"),
            "{}",
            error.message
        );
    }
    // Nothing waits to be accepted.
    let accepted =
        std::future::poll_fn(|context| std::task::Poll::Ready(listener.poll_accept(context).is_ready())).await;
    assert!(!accepted);
}
