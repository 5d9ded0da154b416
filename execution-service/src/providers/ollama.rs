//! Ollama's own chat interface. Its `/v1` cannot set a model's context length, and what is longer than the default is cut
//! off without a word: an answer to half a prompt. Here the length is asked for, and a prompt that does not fit is refused
//! (`truncate: false`, which servers that do not know it pass over). A stream is lines of JSON and ends with `done: true`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Call, CallError, Usage,
    endpoint::Endpoint,
    openai::Piece,
    remote::{Dialect, Unusable, with_schema},
    said::{End, Said},
    sse::Event,
    stream::{Growing, Step, Told},
};

/// The least context that is asked for: what servers give anyway.
const LEAST_CONTEXT: u64 = 4_096;
/// The most, where the model's own length is not known.
const MOST_CONTEXT: u64 = 131_072;
/// Tokens that an answer is given room for where it has no limit.
const USUAL_ANSWER: u64 = 2_048;

/// The body that asks for the call's answer.
#[derive(Debug, Serialize)]
pub(super) struct Body<'c> {
    model: &'c str,
    messages: Vec<Message<'c>>,
    stream: bool,
    truncate: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<Cow<'c, Value>>,
    options: Options<'c>,
}

#[derive(Debug, Serialize)]
struct Message<'c> {
    role: &'static str,
    content: Cow<'c, str>,
}

#[derive(Debug, Serialize)]
struct Options<'c> {
    num_ctx: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    num_predict: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop: &'c [String],
}

impl<'c> Body<'c> {
    pub(super) fn new(call: &'c Call, endpoint: &Endpoint) -> Self {
        // Schemas become grammars there, so that any is taken and none is refused; still the model writes better what it
        // has read than what it is forced to.
        let system = match &call.schema {
            Some(schema) => Cow::Owned(with_schema(&call.system, schema)),
            None => Cow::Borrowed(call.system.as_str()),
        };
        let format = call.schema.as_ref().map(|schema| {
            if endpoint.takes_schemas {
                Cow::Borrowed(schema)
            } else {
                Cow::Owned(json!("json"))
            }
        });
        let message = |role, content| Message { role, content };
        let num_ctx = context(call, system.len());
        let system = Some(system).filter(|it| !it.is_empty());
        let parameters = &call.parameters;
        Self {
            model: &call.model,
            messages: system
                .map(|system| message("system", system))
                .into_iter()
                .chain([message("user", Cow::Borrowed(call.prompt.as_str()))])
                .collect(),
            stream: endpoint.streams,
            truncate: false,
            format,
            options: Options {
                num_ctx,
                num_predict: parameters.max_tokens,
                temperature: parameters.temperature,
                top_p: parameters.top_p,
                seed: parameters.seed,
                stop: &parameters.stop,
            },
        }
    }
}

/// How many tokens of context are asked for: the next power of two, as every other length makes the server load the model
/// anew. Three bytes a token leave room for what a token's bytes vary by.
fn context(call: &Call, system_bytes: usize) -> u64 {
    let prompt = (call.prompt.len() + system_bytes) as u64 / 3;
    let answer = call.parameters.max_tokens.map_or(USUAL_ANSWER, u64::from);
    let most = call.context_length.map_or(MOST_CONTEXT, u64::from).max(1);
    (prompt + answer).next_power_of_two().max(LEAST_CONTEXT).min(most)
}

/// A line of a streamed answer, or all of one that came whole.
#[derive(Debug, Deserialize)]
struct Part<'p> {
    #[serde(borrow, default)]
    message: Option<Spoken<'p>>,
    #[serde(default)]
    done: bool,
    #[serde(default)]
    done_reason: Option<String>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    prompt_eval_count: Option<u64>,
    #[serde(default)]
    eval_count: Option<u64>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Spoken<'p> {
    #[serde(borrow, default)]
    content: Option<Piece<'p>>,
    /// What a model thinks is no answer, but shows that it is at work.
    #[serde(borrow, default)]
    thinking: Option<Piece<'p>>,
}

impl Part<'_> {
    /// A prompt that the server has in its cache is not counted, and then nobody knows how long it was.
    fn usage(&self) -> Option<Usage> {
        Some(Usage {
            input_tokens: self.prompt_eval_count?,
            output_tokens: self.eval_count?,
        })
    }
}

/// How chats are read.
#[derive(Debug, Default)]
pub(super) struct Chat;

impl Dialect for Chat {
    const STREAM: &'static str = "application/x-ndjson";
    const HAS_LINES: bool = true;

    fn take(&mut self, event: &Event<'_>, grown: &mut Growing, told: &Told<'_>) -> Result<Step, CallError> {
        let Ok(part) = serde_json::from_slice::<Part<'_>>(&event.data) else {
            return Err(told.broken(&event.data));
        };
        if part.error.is_some() {
            return Err(told.failure(&event.data));
        }
        if part.done {
            grown.usage = part.usage();
            grown.finish_reason = part.done_reason.clone().unwrap_or_default();
            grown.end = Some(end(&grown.finish_reason));
        }
        grown.model = grown.model.take().or(part.model);
        let mut is_alive = false;
        if let Some(message) = part.message {
            let is_said = |it: &Option<Piece<'_>>| it.as_ref().is_some_and(|it| !it.bytes().is_empty());
            is_alive = is_said(&message.content) || is_said(&message.thinking);
            if let Some(text) = message.content {
                grown.text.push(text.bytes());
            }
        }
        Ok(match (part.done, is_alive) {
            (true, _) => Step::Done,
            (false, true) => Step::Content,
            (false, false) => Step::Nothing,
        })
    }

    fn whole(&self, body: &Value) -> Result<Said, Unusable> {
        let text = body["message"]["content"]
            .as_str()
            .ok_or(Unusable("no_choices", "the provider's answer has no message"))?;
        if body["done"] != true {
            return Err(Unusable(
                "incomplete",
                "the provider's answer says that it is not whole",
            ));
        }
        let finish_reason = body["done_reason"].as_str().unwrap_or_default().to_owned();
        Ok(Said {
            text: text.to_owned(),
            cleaned: false,
            refusal: String::new(),
            end: end(&finish_reason),
            finish_reason,
            usage: body["prompt_eval_count"].as_u64().zip(body["eval_count"].as_u64()).map(
                |(input_tokens, output_tokens)| Usage {
                    input_tokens,
                    output_tokens,
                },
            ),
            model: body["model"].as_str().map(str::to_owned),
            id: None,
        })
    }
}

fn end(done_reason: &str) -> End {
    if done_reason == "length" { End::Cut } else { End::Whole }
}

#[cfg(test)]
mod tests;
