//! The offline model: built in, deterministic, without key or network, and extractive.
//!
//! It finds the source text (the call's sources, else the text in the prompt), and answers with pieces of it: ranked sentences,
//! key phrases, facts, the best match among choices; as text, under the headings that the prompt asks for, or as JSON that
//! fills a schema. What always holds: every text it gives stands in the source word for word (whitespace folded) and every
//! number in it; only `enum`, `const`, offered choices, headings, what stands in brackets, and what a learning plan says to do are not
//! the source's. The same call has
//! the same answer. Answers in text say what made them in their last line, every answer in `response_model`.
//! Temperature, `top_p` and `seed` mean nothing to it.

mod choose;
mod corpus;
mod edit;
mod embed;
mod facts;
mod hint;
mod markdown;
mod material;
mod outline;
mod phrases;
mod plain;
mod plan;
mod rank;
mod schema;
mod sentences;
mod source;
mod text;
mod vocabulary;
mod words;

use std::borrow::Cow;
use std::fmt::Write;

use futures::future::BoxFuture;
use serde_json::Value;
use unicode_segmentation::UnicodeSegmentation;

use self::corpus::{Corpus, MAX_LINES, Passage};
use self::material::Material;
use self::schema::{Limits, Unfilled};
pub use self::schema::{SUPPORTED_KEYWORDS, unsupported_keywords};
use self::source::Source;
use super::{Answer, Call, CallError, EmbedCall, Embedded, Provider, Usage};
use crate::engine::failure::FailureClass;

/// The model's name in its answers.
const MODEL: &str = "offline-extractive-1";
/// Calls with more bytes than this are answered off the threads that serve others.
const INLINE_BYTES: usize = 16 << 10;

/// How much to give: first what was asked for, then less, until it fits the token limit.
const LIMITS: [Limits; 7] = [
    Limits {
        items: 5,
        sentences: 3,
        characters: 2_000,
        is_generous: true,
    },
    Limits {
        items: 4,
        sentences: 2,
        characters: 800,
        is_generous: false,
    },
    Limits {
        items: 3,
        sentences: 2,
        characters: 400,
        is_generous: false,
    },
    Limits {
        items: 2,
        sentences: 1,
        characters: 300,
        is_generous: false,
    },
    Limits {
        items: 1,
        sentences: 1,
        characters: 300,
        is_generous: false,
    },
    Limits {
        items: 1,
        sentences: 1,
        characters: 120,
        is_generous: false,
    },
    Limits {
        items: 1,
        sentences: 1,
        characters: 40,
        is_generous: false,
    },
];

/// The built-in provider.
#[derive(Debug, Clone, Copy, Default)]
pub struct Offline;

impl Provider for Offline {
    fn call<'a>(
        &'a self,
        call: &'a Call,
        delta: &'a (dyn Fn(&str) + Send + Sync),
    ) -> BoxFuture<'a, Result<Answer, CallError>> {
        Box::pin(async move {
            let bytes = call.prompt.len() + call.sources.iter().map(|source| source.content.len()).sum::<usize>();
            let answer = if bytes <= INLINE_BYTES {
                answer(call)?
            } else {
                let call = call.clone();
                let done = tokio::task::spawn_blocking(move || answer(&call)).await;
                done.unwrap_or_else(|_| Err(crashed()))?
            };
            for piece in answer.text.split_sentence_bounds() {
                delta(piece);
            }
            Ok(answer)
        })
    }

    fn embed<'a>(&'a self, call: &'a EmbedCall) -> BoxFuture<'a, Result<Embedded, CallError>> {
        Box::pin(async move {
            let bytes: usize = call.inputs.iter().map(String::len).sum();
            if bytes <= INLINE_BYTES {
                return embed::embed(call);
            }
            let call = call.clone();
            let done = tokio::task::spawn_blocking(move || embed::embed(&call)).await;
            done.unwrap_or_else(|_| Err(crashed()))
        })
    }
}

fn crashed() -> CallError {
    CallError::new(FailureClass::ProviderError, "crashed", "the offline model stopped")
}

/// Answers a call.
fn answer(call: &Call) -> Result<Answer, CallError> {
    let most = call.parameters.max_tokens.map_or(usize::MAX, |tokens| {
        usize::try_from(tokens).unwrap_or(usize::MAX).saturating_mul(4)
    });
    if let Some(text) = plan::answer(call) {
        return whole_or_cut(call, text, most);
    }
    if let Some(changed) = edit::answer(call) {
        return whole_or_cut(call, changed?, most);
    }
    let material = material::read(without_earlier(&without_sources(call)));
    let instructions = format!("{}\n{}", call.system, material.instructions);
    let outline = material.outline.clone().or_else(|| outline::quoted(&call.system));
    let mut source = Source::new(Corpus::read(&passages(call, material)), &instructions);
    source.is_numbered = !call.sources.is_empty();
    let mut text = String::new();
    for limits in LIMITS {
        text = match &call.schema {
            Some(schema) => filled(schema, &source, &instructions, limits)?,
            None => stopped(
                written(&source, &instructions, outline.as_ref(), limits)?,
                &call.parameters.stop,
            ),
        };
        if text.chars().count() <= most {
            break;
        }
    }
    whole_or_cut(call, text, most)
}

/// The answer, where it has no more characters than it may.
fn whole_or_cut(call: &Call, text: String, most: usize) -> Result<Answer, CallError> {
    if text.chars().count() > most {
        let kept = cut(&text, most);
        return Err(CallError::cut(kept, usage(call, kept)));
    }
    let usage = usage(call, &text);
    Ok(Answer {
        text,
        input_tokens: usage.input_tokens,
        output_tokens: usage.output_tokens,
        billing_uncertain: false,
        finish_reason: "stop".to_owned(),
        response_model: Some(MODEL.to_owned()),
        response_id: None,
        cleaned: false,
    })
}

/// The prompt without the turns of a conversation before it: what is asked now is answered from the sources.
fn without_earlier(prompt: &str) -> &str {
    let (start, end) = crate::agents::prompt::EARLIER;
    let after = prompt.strip_prefix(start).and_then(|it| it.split_once(end));
    after.map_or(prompt, |(_, rest)| rest)
}

/// The prompt without the sources that were rendered into it, so that what else it holds can be told apart.
fn without_sources(call: &Call) -> Cow<'_, str> {
    let contents = call
        .sources
        .iter()
        .map(|source| source.content.trim())
        .filter(|content| !content.is_empty());
    contents.fold(Cow::Borrowed(call.prompt.as_str()), |prompt, content| {
        match prompt.find(content) {
            Some(at) => Cow::Owned(format!("{}{}", &prompt[..at], &prompt[at + content.len()..])),
            None => prompt,
        }
    })
}

/// The source text: the call's sources with the prompt's own texts beside them, or those texts alone.
fn passages(call: &Call, material: Material) -> Vec<Passage> {
    if call.sources.is_empty() {
        return material.passages;
    }
    let sources = call.sources.iter().map(|source| Passage {
        title: source.title.clone(),
        section: source.section.clone(),
        text: source.content.clone(),
        aside: false,
    });
    let beside = material
        .passages
        .into_iter()
        .filter(|passage| !passage.section.is_empty());
    sources
        .chain(beside.map(|passage| Passage { aside: true, ..passage }))
        .collect()
}

fn filled(schema: &Value, source: &Source, instructions: &str, limits: Limits) -> Result<String, CallError> {
    let unsupported = unsupported_keywords(schema);
    if !unsupported.is_empty() {
        let message = format!("the offline model cannot fill this schema: {}", unsupported.join(", "));
        return Err(CallError::new(FailureClass::Validation, "schema_unsupported", message));
    }
    let value = schema::fill(schema, source, instructions, limits).map_err(|unfilled| match unfilled {
        Unfilled::Nothing(place) => nothing(&format!("the source text has nothing for {place}")),
        Unfilled::TooMuch => {
            let message = "the schema asks for more than the offline model looks for";
            CallError::new(FailureClass::Validation, "schema_too_large", message)
        }
    })?;
    Ok(value.to_string())
}

fn written(
    source: &Source,
    instructions: &str,
    outline: Option<&outline::Outline>,
    limits: Limits,
) -> Result<String, CallError> {
    let plain =
        plain::answer(source, instructions, outline, limits).ok_or_else(|| nothing("there is no source text"))?;
    if plain.is_choice {
        return Ok(plain.text);
    }
    let mut text = format!(
        "{}\n\n{} extracted from the source text, nothing generated.",
        plain.text,
        material::NOTICE_START
    );
    if source.corpus.found > MAX_LINES {
        let _ = write!(
            text,
            " It is long: {MAX_LINES} of its {} lines were considered.",
            source.corpus.found
        );
    }
    text.push(')');
    Ok(text)
}

fn nothing(message: &str) -> CallError {
    CallError::new(FailureClass::Validation, "nothing_to_extract", message)
}

/// The text up to the first of the stop texts.
fn stopped(mut text: String, stops: &[String]) -> String {
    let first = stops
        .iter()
        .filter(|stop| !stop.is_empty())
        .filter_map(|stop| text.find(stop.as_str()))
        .min();
    text.truncate(first.unwrap_or(text.len()));
    text
}

/// The beginning of a text that has at most `most` characters, up to a sentence's end if there is one.
fn cut(text: &str, most: usize) -> &str {
    let end = text.char_indices().nth(most).map_or(text.len(), |(at, _)| at);
    let sentence = text
        .split_sentence_bound_indices()
        .map(|(at, piece)| at + piece.len())
        .take_while(|&at| at <= end)
        .last();
    &text[..sentence.unwrap_or(end)]
}

/// Tokens, estimated as a quarter of the characters.
fn usage(call: &Call, text: &str) -> Usage {
    let tokens = |characters: usize| u64::try_from(characters.div_ceil(4)).unwrap_or(u64::MAX);
    Usage {
        input_tokens: tokens(call.system.chars().count() + call.prompt.chars().count()),
        output_tokens: tokens(text.chars().count()),
    }
}

#[cfg(test)]
mod tests;
