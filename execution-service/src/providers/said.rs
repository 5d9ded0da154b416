//! What a model said, in whatever protocol, and whether that is an answer.

use super::{Answer, CallError, Usage};
use crate::engine::failure::FailureClass;

/// What a model said, however it came.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// The answer; storable.
    pub text: String,
    /// Whether the text is not quite what came.
    pub cleaned: bool,
    /// Why it refused; empty where it did not.
    pub refusal: String,
    /// What its end means.
    pub end: End,
    /// How the provider calls that; empty where nothing says so.
    pub finish_reason: String,
    /// What it used, where that is told.
    pub usage: Option<Usage>,
    /// The model that answered.
    pub model: Option<String>,
    /// The answer's id.
    pub id: Option<String>,
}

/// What the end of an answer means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum End {
    /// The model was done.
    #[default]
    Whole,
    /// It came to its token limit.
    Cut,
    /// A content filter stopped it.
    Filtered,
    /// It refused.
    Refused,
}

impl Said {
    /// Whether that is an answer.
    pub(super) fn judge(self) -> Result<Answer, CallError> {
        let usage = self.usage.unwrap_or_default();
        let billing_uncertain = self.usage.is_none();
        let failed = |error: CallError| CallError {
            billing_uncertain,
            usage,
            ..error
        };
        let refused = |reason, message: &str, raw: &str| {
            let error = CallError::new(FailureClass::Validation, reason, message);
            Err(failed(error.with_raw(raw)))
        };
        match self.end {
            _ if !self.refusal.is_empty() => refused("refusal", "the model refused", &self.refusal),
            End::Refused => refused("refusal", "the model refused", &self.text),
            End::Filtered => refused(
                "content_filter",
                "the provider's content filter cut the answer off",
                &self.text,
            ),
            End::Cut => Err(failed(CallError::cut(&self.text, usage))),
            End::Whole if self.text.trim().is_empty() => {
                let message = "the model answered nothing";
                let error = CallError::new(FailureClass::ProviderError, "empty_answer", message);
                Err(failed(error.retryable()))
            }
            End::Whole => Ok(Answer {
                input_tokens: usage.input_tokens,
                output_tokens: usage.output_tokens,
                billing_uncertain,
                finish_reason: if self.finish_reason.is_empty() {
                    "unknown".to_owned()
                } else {
                    self.finish_reason
                },
                text: self.text,
                response_model: self.model,
                response_id: self.id,
                cleaned: self.cleaned,
            }),
        }
    }
}
