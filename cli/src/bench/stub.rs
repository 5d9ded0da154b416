//! The model that benchmarks call: OpenAI's chat completions over HTTP, answered at once, as one JSON or as a stream.

use std::{convert::Infallible, net::Ipv4Addr, time::Duration};

use anyhow::Result;
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Collected, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};

use super::{
    definitions::{HELD_MODEL, LARGE_MODEL},
    load,
};
use crate::output::Output;

/// What every call is answered with; the benchmarks' checks look for its first word.
pub(super) const ANSWER: &str = "OK: three stages, each with a prompt, an answer and a check that it passes.";

/// How long the answers of the model are that answers at length.
const LARGE_BYTES: usize = 8 << 10;
/// How many pieces the answer has that takes a while, and how far they are apart.
const HELD_PIECES: u64 = 25;
const HELD_PAUSE: Duration = Duration::from_millis(200);

type Body = UnsyncBoxBody<Bytes, Infallible>;

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
    /// A piece and the end of the answer that takes a while.
    held: [Bytes; 2],
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
        let usual = Answer::of(ANSWER);
        let streamed = usual.streamed.clone();
        let end = streamed.windows(2).position(|it| it == b"\n\n").map_or(0, |it| it + 2);
        Self {
            held: [streamed.slice(..end), streamed.slice(end..)],
            usual,
            large: Answer::of(&large),
        }
    }

    /// A piece at a time.
    fn slowly(&self) -> Body {
        let [piece, end] = self.held.clone();
        let pieces = stream::iter(0..=HELD_PIECES).then(move |place| {
            let bytes = if place < HELD_PIECES {
                piece.clone()
            } else {
                end.clone()
            };
            async move {
                tokio::time::sleep(HELD_PAUSE).await;
                Ok(Frame::data(bytes))
            }
        });
        StreamBody::new(pieces).boxed_unsync()
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
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
        let full = |bytes: &Bytes| Full::new(bytes.clone()).boxed_unsync();
        let (answer, kind) = match says(STREAM) {
            true if says(HELD_MODEL.as_bytes()) => (self.slowly(), "text/event-stream"),
            true => (full(&answer.streamed), "text/event-stream"),
            false => (full(&answer.whole), "application/json"),
        };
        let mut response = Response::new(answer);
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        Ok(response)
    }
}
