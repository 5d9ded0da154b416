//! An answer that comes as a stream of events.
//!
//! A stream has ended well when `[DONE]` came after a reason to finish, and in no other way: gateways close cleanly when
//! their provider is gone, or make up a reason. What counts as a sign of life is content (or the model's thoughts), never the
//! bytes: comments, pings, empty pieces and chunks with a role alone are sent by servers whose model is stuck. An event is
//! parsed once and where it lies; whoever watches is told once for what came together.

use std::time::Duration;

use http::HeaderMap;
use secrecy::SecretString;
use service_kit::{
    clock::{Clock, SystemClock},
    outbound::{Incoming, OutboundError},
};
use tokio::time::timeout;

use super::{
    super::{
        CallError, Usage, clean,
        http_failure::{Reply, classify, hidden, unanswered},
        pieces::Pieces,
        sse::{Event, Events},
    },
    answer::{self, Said},
    chunk::Chunk,
    deadline::Deadline,
};
use crate::engine::failure::FailureClass;

/// The longest event, in bytes.
const MAX_EVENT_BYTES: usize = 1 << 20;
/// How long the end of a body is waited for that has said all: its connection can be used again after it.
const END: Duration = Duration::from_millis(20);

/// Reads a stream to its end, telling `delta` what comes. `key` is taken out of what an error shows.
pub(super) async fn read(
    mut incoming: Incoming,
    mut deadline: Deadline,
    key: Option<&SecretString>,
    delta: &(dyn Fn(&str) + Send + Sync),
) -> Result<Said, CallError> {
    let mut events = Events::new(MAX_EVENT_BYTES);
    let mut reading = Reading::default();
    loop {
        let bytes = match deadline.within(incoming.chunk()).await {
            Ok(Ok(Some(bytes))) => bytes,
            Ok(Ok(None)) => return Err(reading.failed(incomplete("the provider's answer ended before it was whole"))),
            Ok(Err(error)) => return Err(reading.failed(unanswered(&error))),
            Err(late) => return Err(reading.failed(late)),
        };
        events.push(&bytes);
        let mut has_content = false;
        let mut is_done = false;
        while !is_done {
            let step = match events.next() {
                Ok(Some(event)) => reading.take(&event, incoming.headers(), key),
                Ok(None) => break,
                Err(_) => Err(unanswered(&OutboundError::TooLarge(MAX_EVENT_BYTES))),
            };
            match step {
                Ok(Step::Content) => has_content = true,
                Ok(Step::Nothing) => {}
                Ok(Step::Done) => is_done = true,
                Err(error) => return Err(reading.failed(error)),
            }
        }
        if is_done {
            reading.text.end();
        }
        let untold = reading.text.untold();
        if !untold.is_empty() {
            delta(untold);
        }
        if is_done {
            let _open_longer = timeout(END, async { while let Ok(Some(_)) = incoming.chunk().await {} }).await;
            return Ok(reading.said());
        }
        if has_content {
            deadline.alive();
        }
    }
}

/// What an event came to.
enum Step {
    Nothing,
    Content,
    Done,
}

/// What has come so far.
#[derive(Debug, Default)]
struct Reading {
    text: Pieces,
    refusal: Pieces,
    finish_reason: Option<String>,
    usage: Option<Usage>,
    model: Option<String>,
    id: Option<String>,
    /// The model has been at work.
    has_begun: bool,
}

impl Reading {
    fn take(&mut self, event: &Event<'_>, headers: &HeaderMap, key: Option<&SecretString>) -> Result<Step, CallError> {
        let data = event.data.trim_ascii();
        if data == b"[DONE]" {
            return match self.finish_reason {
                Some(_) => Ok(Step::Done),
                None => Err(incomplete("the provider ended its answer without a reason")),
            };
        }
        let failure = || {
            let body = hidden(&clean::text_of(data).0, key);
            classify(&Reply {
                status: 200,
                headers,
                body: &body,
                now: SystemClock.now(),
            })
        };
        match (event.name, serde_json::from_slice::<Chunk<'_>>(data)) {
            (b"error", _) => Err(failure()),
            (_, Ok(chunk)) if chunk.is_error() => Err(failure()),
            (_, Ok(chunk)) => Ok(self.add(chunk)),
            (_, Err(_)) if data.is_empty() => Ok(Step::Nothing),
            // Chunks have no name: it is an event of a gateway's own.
            (name, Err(_)) if !name.is_empty() && name != b"message" => Ok(Step::Nothing),
            (_, Err(_)) => {
                let message = "an event of the provider's answer is broken";
                let error = CallError::new(FailureClass::ProviderError, "wrong_body", message);
                let shown = hidden(&clean::text_of(data).0, key);
                Err(error.retryable().billing_uncertain().with_raw(&shown))
            }
        }
    }

    fn add(&mut self, chunk: Chunk<'_>) -> Step {
        let mut is_alive = false;
        if let Some(told) = chunk.usage {
            self.usage = answer::usage(&told).or(self.usage);
            is_alive = self.finish_reason.is_some();
        }
        if self.id.is_none() {
            self.id = chunk.id.map(|it| it.to_text());
        }
        if self.model.is_none() {
            self.model = chunk.model.map(|it| it.to_text()).filter(|it| !it.is_empty());
        }
        for choice in chunk
            .choices
            .into_iter()
            .flatten()
            .filter(|it| it.index.unwrap_or(0) == 0)
        {
            if let Some(delta) = choice.delta {
                is_alive |= delta.is_content();
                if let Some(piece) = delta.content {
                    self.text.push(piece.bytes());
                }
                if let Some(piece) = delta.refusal {
                    self.refusal.push(piece.bytes());
                }
            }
            if let Some(reason) = choice.finish_reason {
                self.finish_reason = Some(reason.to_text());
                is_alive = true;
            }
        }
        self.has_begun |= is_alive;
        if is_alive { Step::Content } else { Step::Nothing }
    }

    /// The failure with what had come before it. What the model has begun may be billed, whatever stopped it.
    fn failed(&mut self, error: CallError) -> CallError {
        self.text.end();
        let error = CallError {
            usage: self.usage.unwrap_or_default(),
            billing_uncertain: error.billing_uncertain || self.has_begun,
            ..error
        };
        if self.text.as_str().is_empty() {
            error
        } else {
            error.with_raw(self.text.as_str())
        }
    }

    fn said(mut self) -> Said {
        self.refusal.end();
        let (text, cleaned) = self.text.into_text();
        Said {
            text,
            cleaned,
            refusal: self.refusal.into_text().0,
            finish_reason: self.finish_reason.unwrap_or_default(),
            usage: self.usage,
            model: self.model,
            id: self.id,
        }
    }
}

fn incomplete(message: &str) -> CallError {
    CallError::new(FailureClass::ProviderError, "incomplete", message)
        .retryable()
        .billing_uncertain()
}
