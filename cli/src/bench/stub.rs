//! The model that benchmarks call: OpenAI's chat completions over HTTP, answered at once, as one JSON or as a stream.

use std::{convert::Infallible, net::Ipv4Addr};

use anyhow::Result;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Collected, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};

use super::{definitions::LARGE_MODEL, load};
use crate::output::Output;

/// What every call is answered with; the benchmarks' checks look for its first word.
pub(super) const ANSWER: &str = "OK: three stages, each with a prompt, an answer and a check that it passes.";

/// How long the answers of the model are that answers at length.
const LARGE_BYTES: usize = 8 << 10;

/// Serves until the process is ended. One thread does it all: the stub is to cost little beside what is measured.
pub(super) async fn serve() -> Result<()> {
    load::on_own_thread(listen).await
}

async fn listen() -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    Output { json: true }.result("", || json!({ "url": url }));
    let answers = Answers::new();
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let answers = answers.clone();
        connections.spawn(async move {
            let service = service_fn(|request| answers.answer(request));
            // A client that goes away is its own affair.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

#[derive(Clone)]
struct Answers {
    usual: Answer,
    large: Answer,
}

/// One answer in both its forms.
#[derive(Clone)]
struct Answer {
    whole: Bytes,
    streamed: Bytes,
}

impl Answer {
    fn of(text: &str) -> Self {
        let usage = json!({ "prompt_tokens": 42, "completion_tokens": 17, "total_tokens": 59 });
        let whole = json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "stub-1",
            "choices": [{ "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": text } }],
            "usage": usage,
        });
        let chunk = |choices, usage| {
            json!({
                "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "stub-1",
                "choices": choices, "usage": usage,
            })
        };
        let delta = |delta, finish| json!([{ "index": 0, "delta": delta, "finish_reason": finish }]);
        let null = json!(null);
        let events = [
            chunk(
                delta(json!({ "role": "assistant", "content": text }), null.clone()),
                null.clone(),
            ),
            chunk(delta(json!({}), json!("stop")), null),
            chunk(json!([]), usage),
        ];
        let mut streamed = String::new();
        for event in events.iter().map(Value::to_string).chain(["[DONE]".to_owned()]) {
            streamed.extend(["data: ", &event, "\n\n"]);
        }
        Self {
            whole: whole.to_string().into(),
            streamed: streamed.into(),
        }
    }
}

impl Answers {
    fn new() -> Self {
        let mut large = format!("{ANSWER} ").repeat(LARGE_BYTES / ANSWER.len());
        large.truncate(LARGE_BYTES);
        Self {
            usual: Answer::of(ANSWER),
            large: Answer::of(&large),
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        const STREAM: &[u8] = br#""stream":true"#;
        let body = request
            .into_body()
            .collect()
            .await
            .map(Collected::to_bytes)
            .unwrap_or_default();
        let says = |text: &[u8]| body.windows(text.len()).any(|window| window == text);
        let answer = if says(LARGE_MODEL.as_bytes()) {
            &self.large
        } else {
            &self.usual
        };
        let (answer, kind) = if says(STREAM) {
            (&answer.streamed, "text/event-stream")
        } else {
            (&answer.whole, "application/json")
        };
        let mut response = Response::new(Full::new(answer.clone()));
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        Ok(response)
    }
}
