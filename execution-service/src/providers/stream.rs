//! An answer that comes as a stream of events, in whatever protocol.
//!
//! A stream has ended well when its protocol's mark came, and in no other way: gateways close cleanly when their provider is
//! gone, or make up a reason. What counts as a sign of life is content (or the model's thoughts), never the bytes: comments,
//! pings, empty pieces and chunks with a role alone are sent by servers whose model is stuck. An event is parsed once and
//! where it lies; whoever watches is told once for what came together.

use std::time::Duration;

use http::HeaderMap;
use secrecy::SecretString;
use service_kit::{
    clock::{Clock, SystemClock},
    outbound::{Incoming, OutboundError},
};
use tokio::time::timeout;

use super::{
    CallError, Usage, clean,
    deadline::Deadline,
    http_failure::{Reply, hidden, unanswered},
    pieces::Pieces,
    remote::Dialect,
    said::{End, Said},
    sse::Events,
};
use crate::engine::failure::FailureClass;

/// The longest event, in bytes.
const MAX_EVENT_BYTES: usize = 1 << 20;
/// How long the end of a body is waited for that has said all: its connection can be used again after it.
const END: Duration = Duration::from_millis(20);

/// Reads a stream to its end, telling `delta` what comes. `key` is taken out of what an error shows.
pub(super) async fn read<D: Dialect>(
    mut dialect: D,
    mut incoming: Incoming,
    mut deadline: Deadline,
    key: Option<&SecretString>,
    delta: &(dyn Fn(&str) + Send + Sync),
) -> Result<Said, CallError> {
    let mut events = if D::HAS_LINES {
        Events::of_lines(MAX_EVENT_BYTES)
    } else {
        Events::new(MAX_EVENT_BYTES)
    };
    let mut grown = Growing::default();
    loop {
        let bytes = match deadline.within(incoming.chunk()).await {
            Ok(Ok(Some(bytes))) => bytes,
            Ok(Ok(None)) => return Err(grown.failed(incomplete("the provider's answer ended before it was whole"))),
            Ok(Err(error)) => return Err(grown.failed(unanswered(&error))),
            Err(late) => return Err(grown.failed(late)),
        };
        events.push(&bytes);
        let mut has_content = false;
        let mut is_done = false;
        while !is_done {
            let told = Told {
                headers: incoming.headers(),
                key,
                classify: D::classify,
            };
            let step = match events.next() {
                Ok(Some(event)) => dialect.take(&event, &mut grown, &told),
                Ok(None) => break,
                Err(_) => Err(unanswered(&OutboundError::TooLarge(MAX_EVENT_BYTES))),
            };
            match step {
                Ok(Step::Content) => {
                    has_content = true;
                    grown.has_begun = true;
                }
                Ok(Step::Nothing) => {}
                Ok(Step::Done) => is_done = true,
                Err(error) => return Err(grown.failed(error)),
            }
        }
        if is_done {
            grown.text.end();
        }
        let untold = grown.text.untold();
        if !untold.is_empty() {
            delta(untold);
        }
        if is_done {
            let _open_longer = timeout(END, async { while let Ok(Some(_)) = incoming.chunk().await {} }).await;
            return Ok(grown.said());
        }
        if has_content {
            deadline.alive();
        }
    }
}

/// What an event came to.
pub(super) enum Step {
    /// Nothing that shows the model at work.
    Nothing,
    /// The model has been at work.
    Content,
    /// The answer is whole.
    Done,
}

/// What has come so far.
#[derive(Debug, Default)]
pub(super) struct Growing {
    /// The answer.
    pub text: Pieces,
    /// Why the model refuses.
    pub refusal: Pieces,
    /// What the end means, once it is there.
    pub end: Option<End>,
    /// How the provider calls it.
    pub finish_reason: String,
    /// What it used, where that is told.
    pub usage: Option<Usage>,
    /// The model that answers.
    pub model: Option<String>,
    /// The answer's id.
    pub id: Option<String>,
    /// The model has been at work.
    pub has_begun: bool,
}

/// What is needed to say what is wrong with an event.
pub(super) struct Told<'a> {
    headers: &'a HeaderMap,
    key: Option<&'a SecretString>,
    classify: fn(&Reply<'_>) -> CallError,
}

impl Told<'_> {
    /// The failure that an event tells of, as if it were a body.
    pub(super) fn failure(&self, data: &[u8]) -> CallError {
        let body = hidden(&clean::text_of(data).0, self.key);
        (self.classify)(&Reply {
            status: 200,
            headers: self.headers,
            body: &body,
            now: SystemClock.now(),
        })
    }

    /// The event cannot be read.
    pub(super) fn broken(&self, data: &[u8]) -> CallError {
        let message = "an event of the provider's answer is broken";
        let error = CallError::new(FailureClass::ProviderError, "wrong_body", message);
        let shown = hidden(&clean::text_of(data).0, self.key);
        error.retryable().billing_uncertain().with_raw(&shown)
    }
}

impl Growing {
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
            end: self.end.unwrap_or_default(),
            finish_reason: self.finish_reason,
            usage: self.usage,
            model: self.model,
            id: self.id,
        }
    }
}

/// The answer is not whole, although its stream says so or has ended.
pub(super) fn incomplete(message: &str) -> CallError {
    CallError::new(FailureClass::ProviderError, "incomplete", message)
        .retryable()
        .billing_uncertain()
}
