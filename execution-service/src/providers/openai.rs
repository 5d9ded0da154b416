//! OpenAI's chat completions, and whatever speaks them (Azure, vLLM, LiteLLM, llama.cpp): one request, and an answer that
//! comes as a stream of events, or whole from servers that do not stream. A stream ends with `[DONE]` after a reason to
//! finish; usage comes in a chunk without choices before it, or not at all.

mod chunk;
mod request;

use serde_json::Value;

use self::chunk::Chunk;
pub(super) use self::chunk::Piece;
pub(super) use self::request::Body;
use super::{
    CallError, Usage,
    remote::{Dialect, Unusable},
    said::{End, Said},
    sse::Event,
    stream::{Growing, Step, Told, incomplete},
};

/// How chat completions are read.
#[derive(Debug, Default)]
pub(super) struct Completions;

impl Dialect for Completions {
    fn take(&mut self, event: &Event<'_>, grown: &mut Growing, told: &Told<'_>) -> Result<Step, CallError> {
        let data = event.data.trim_ascii();
        if data == b"[DONE]" {
            return match grown.end {
                Some(_) => Ok(Step::Done),
                None => Err(incomplete("the provider ended its answer without a reason")),
            };
        }
        match (event.name, serde_json::from_slice::<Chunk<'_>>(data)) {
            (b"error", _) => Err(told.failure(data)),
            (_, Ok(chunk)) if chunk.is_error() => Err(told.failure(data)),
            (_, Ok(chunk)) => Ok(add(grown, chunk)),
            (_, Err(_)) if data.is_empty() => Ok(Step::Nothing),
            // Chunks have no name: it is an event of a gateway's own.
            (name, Err(_)) if !name.is_empty() && name != b"message" => Ok(Step::Nothing),
            (_, Err(_)) => Err(told.broken(data)),
        }
    }

    fn whole(&self, body: &Value) -> Result<Said, Unusable> {
        let choice = body["choices"]
            .get(0)
            .ok_or(Unusable("no_choices", "the provider's answer has no choices"))?;
        let told = |value: &Value| value.as_str().map(str::to_owned);
        let finish_reason = told(&choice["finish_reason"]).unwrap_or_default();
        Ok(Said {
            text: content(&choice["message"]["content"]),
            cleaned: false,
            refusal: told(&choice["message"]["refusal"]).unwrap_or_default(),
            end: end(&finish_reason),
            finish_reason,
            usage: usage(&body["usage"]),
            model: told(&body["model"]),
            id: told(&body["id"]),
        })
    }
}

fn add(grown: &mut Growing, chunk: Chunk<'_>) -> Step {
    let mut is_alive = false;
    if let Some(told) = chunk.usage {
        grown.usage = usage(&told).or(grown.usage);
        is_alive = grown.end.is_some();
    }
    if grown.id.is_none() {
        grown.id = chunk.id.map(|it| it.to_text()).filter(|it| !it.is_empty());
    }
    if grown.model.is_none() {
        grown.model = chunk.model.map(|it| it.to_text()).filter(|it| !it.is_empty());
    }
    let choices = chunk.choices.into_iter().flatten();
    for choice in choices.filter(|it| it.index.unwrap_or(0) == 0) {
        if let Some(delta) = choice.delta {
            is_alive |= delta.is_content();
            if let Some(piece) = delta.content {
                grown.text.push(piece.bytes());
            }
            if let Some(piece) = delta.refusal {
                grown.refusal.push(piece.bytes());
            }
        }
        if let Some(reason) = choice.finish_reason {
            grown.finish_reason = reason.to_text();
            grown.end = Some(end(&grown.finish_reason));
            is_alive = true;
        }
    }
    if is_alive { Step::Content } else { Step::Nothing }
}

fn end(finish_reason: &str) -> End {
    match finish_reason {
        "length" => End::Cut,
        "content_filter" => End::Filtered,
        _ => End::Whole,
    }
}

/// The text of a message: one text, or the texts of its parts.
fn content(content: &Value) -> String {
    let parts = content
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|part| part["text"].as_str());
    content.as_str().map_or_else(|| parts.collect(), str::to_owned)
}

/// What was used, where it is told.
fn usage(usage: &Value) -> Option<Usage> {
    Some(Usage {
        input_tokens: usage["prompt_tokens"].as_u64()?,
        output_tokens: usage["completion_tokens"].as_u64()?,
    })
}

#[cfg(test)]
mod tests;
