//! Anthropic's messages. A stream ends with `message_stop`; usage is cumulative and comes at the beginning and at the end;
//! `event: error` may follow a 200, and `ping` is no sign of life.

mod event;
mod request;

use http::{HeaderName, HeaderValue};
use serde_json::Value;

use self::event::{Message, MessageUsage, StreamEvent};
pub(super) use self::request::Body;
use super::{
    CallError, Usage,
    openai::Piece,
    remote::{Dialect, Unusable},
    said::{End, Said},
    sse::Event,
    stream::{Growing, Step, Told, incomplete},
};

/// The version of the interface that this is written against.
pub(super) const VERSION: (HeaderName, HeaderValue) = (
    HeaderName::from_static("anthropic-version"),
    HeaderValue::from_static("2023-06-01"),
);

/// How messages are read.
#[derive(Debug, Default)]
pub(super) struct Messages;

impl Dialect for Messages {
    fn take(&mut self, event: &Event<'_>, grown: &mut Growing, told: &Told<'_>) -> Result<Step, CallError> {
        let data = event.data.trim_ascii();
        let read = match serde_json::from_slice::<StreamEvent<'_>>(data) {
            _ if event.name == b"error" => return Err(told.failure(data)),
            Ok(read) => read,
            Err(_) if data.is_empty() => return Ok(Step::Nothing),
            Err(_) => return Err(told.broken(data)),
        };
        match (read.kind.as_ref().map_or(event.name, Piece::bytes), read.delta) {
            (b"message_start", _) => {
                if let Some(message) = read.message {
                    begin(grown, message);
                }
                Ok(Step::Nothing)
            }
            (b"content_block_delta", Some(delta)) => {
                if let Some(text) = &delta.text {
                    grown.text.push(text.bytes());
                }
                Ok(if delta.is_content() {
                    Step::Content
                } else {
                    Step::Nothing
                })
            }
            (b"message_delta", delta) => {
                if let Some(reason) = delta.and_then(|it| it.stop_reason) {
                    grown.end = Some(end(&reason));
                    grown.finish_reason = reason;
                }
                grown.usage = read.usage.and_then(|it| it.over(grown.usage)).or(grown.usage);
                Ok(Step::Content)
            }
            (b"message_stop", _) if grown.end.is_some() => Ok(Step::Done),
            (b"message_stop", _) => Err(incomplete("the provider ended its answer without a reason")),
            (b"error", _) => Err(told.failure(data)),
            _ => Ok(Step::Nothing),
        }
    }

    fn whole(&self, body: &Value) -> Result<Said, Unusable> {
        let blocks = body["content"]
            .as_array()
            .ok_or(Unusable("no_choices", "the provider's answer has no content"))?;
        let told = |value: &Value| value.as_str().map(str::to_owned);
        let finish_reason = told(&body["stop_reason"]).unwrap_or_default();
        let usage: Option<MessageUsage> = serde_json::from_value(body["usage"].clone()).ok();
        Ok(Said {
            text: blocks
                .iter()
                .filter(|block| block["type"] == "text")
                .filter_map(|block| block["text"].as_str())
                .collect(),
            cleaned: false,
            refusal: String::new(),
            end: end(&finish_reason),
            finish_reason,
            usage: usage.and_then(|it| it.over(None)),
            model: told(&body["model"]),
            id: told(&body["id"]),
        })
    }
}

fn begin(grown: &mut Growing, message: Message) {
    grown.id = message.id;
    grown.model = message.model;
    // What was written so far is no figure yet: a stream that is cut has none.
    grown.usage = message.usage.and_then(|it| it.over(None)).map(|usage| Usage {
        output_tokens: 0,
        ..usage
    });
}

fn end(stop_reason: &str) -> End {
    match stop_reason {
        "max_tokens" | "model_context_window_exceeded" => End::Cut,
        "refusal" => End::Refused,
        _ => End::Whole,
    }
}

#[cfg(test)]
mod tests;
