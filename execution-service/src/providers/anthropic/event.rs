//! The events of a streamed message, as far as they are needed.

use serde::Deserialize;

use super::super::{Usage, openai::Piece};

/// An event. What is new in the protocol is passed over, as its documentation asks for.
#[derive(Debug, Deserialize)]
pub(super) struct StreamEvent<'e> {
    #[serde(borrow, default, rename = "type")]
    pub kind: Option<Piece<'e>>,
    #[serde(default)]
    pub message: Option<Message>,
    #[serde(borrow, default)]
    pub delta: Option<Delta<'e>>,
    #[serde(default)]
    pub usage: Option<MessageUsage>,
}

/// What a message begins with.
#[derive(Debug, Deserialize)]
pub(super) struct Message {
    #[serde(default)]
    pub id: Option<String>,
    #[serde(default)]
    pub model: Option<String>,
    #[serde(default)]
    pub usage: Option<MessageUsage>,
}

/// What a block grows by, or how the message ends.
#[derive(Debug, Deserialize)]
pub(super) struct Delta<'e> {
    #[serde(borrow, default)]
    pub text: Option<Piece<'e>>,
    /// What a model thinks is no answer, but shows that it is at work.
    #[serde(borrow, default)]
    thinking: Option<Piece<'e>>,
    #[serde(borrow, default)]
    partial_json: Option<Piece<'e>>,
    #[serde(default)]
    pub stop_reason: Option<String>,
}

impl Delta<'_> {
    /// Whether the model has said or thought something.
    pub(super) fn is_content(&self) -> bool {
        [&self.text, &self.thinking, &self.partial_json]
            .into_iter()
            .flatten()
            .any(|it| !it.bytes().is_empty())
    }
}

/// Tokens so far: each figure replaces the one before. What was read from or written to the provider's cache is told apart
/// and is input all the same.
#[derive(Debug, Deserialize)]
#[expect(clippy::struct_field_names, reason = "these are the provider's names")]
pub(super) struct MessageUsage {
    #[serde(default)]
    input_tokens: Option<u64>,
    #[serde(default)]
    cache_creation_input_tokens: Option<u64>,
    #[serde(default)]
    cache_read_input_tokens: Option<u64>,
    #[serde(default)]
    output_tokens: Option<u64>,
}

impl MessageUsage {
    /// The figures over earlier ones, if there are any.
    pub(super) fn over(&self, earlier: Option<Usage>) -> Option<Usage> {
        let cached = [self.cache_creation_input_tokens, self.cache_read_input_tokens];
        let cached = cached.into_iter().flatten().fold(0, u64::saturating_add);
        let input = self.input_tokens.map(|it| it.saturating_add(cached));
        Some(Usage {
            input_tokens: input.or(earlier.map(|it| it.input_tokens))?,
            output_tokens: self.output_tokens.or(earlier.map(|it| it.output_tokens))?,
        })
    }
}
