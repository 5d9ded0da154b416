//! What a response says: the answer, or why there is none.

use secrecy::SecretString;
use serde_json::Value;
use service_kit::outbound::Response;
use time::OffsetDateTime;

use super::super::{
    Answer, CallError, Usage, clean,
    http_failure::{Reply, classify, hidden, is_error},
};
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
    /// Why it stopped; empty where nothing says so.
    pub finish_reason: String,
    /// What it used, where that is told.
    pub usage: Option<Usage>,
    /// The model that answered.
    pub model: Option<String>,
    /// The answer's id.
    pub id: Option<String>,
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
        match self.finish_reason.as_str() {
            _ if !self.refusal.is_empty() => refused("refusal", "the model refused", &self.refusal),
            "content_filter" => refused(
                "content_filter",
                "the provider's content filter cut the answer off",
                &self.text,
            ),
            "length" => Err(failed(CallError::cut(&self.text, usage))),
            _ if self.text.trim().is_empty() => {
                let message = "the model answered nothing";
                let error = CallError::new(FailureClass::ProviderError, "empty_answer", message);
                Err(failed(error.retryable()))
            }
            reason => Ok(Answer {
                input_tokens: usage.input_tokens,
                output_tokens: usage.output_tokens,
                billing_uncertain,
                finish_reason: Some(reason).filter(|it| !it.is_empty()).unwrap_or("unknown").to_owned(),
                text: self.text,
                response_model: self.model,
                response_id: self.id,
                cleaned: self.cleaned,
            }),
        }
    }
}

/// Reads a response that came whole. `key` is taken out of what an error shows.
pub(super) fn read(response: &Response, key: Option<&SecretString>, now: OffsetDateTime) -> Result<Answer, CallError> {
    let (text, replaced) = clean::text_of(&response.body);
    let failure = |body: &str| {
        let body = hidden(body, key);
        classify(&Reply {
            status: response.status.as_u16(),
            headers: &response.headers,
            body: &body,
            now,
        })
    };
    if !response.status.is_success() {
        return Err(failure(&text));
    }
    let unusable = |reason, message| {
        let error = CallError::new(FailureClass::ProviderError, reason, message);
        error.retryable().billing_uncertain().with_raw(&hidden(&text, key))
    };
    if !response.is_json() {
        return Err(unusable(
            "wrong_body",
            "the provider's answer is not JSON by its content type",
        ));
    }
    let (body, cleaned) =
        clean::parse_json(&text).map_err(|_| unusable("wrong_body", "the provider's answer is broken JSON"))?;
    if is_error(&body) {
        return Err(failure(&text));
    }
    let choice = body["choices"]
        .get(0)
        .ok_or_else(|| unusable("no_choices", "the provider's answer has no choices"))?;
    let (answered, cut) = clean::storable(&content(&choice["message"]["content"]));
    let told = |value: &Value| value.as_str().map(str::to_owned);
    Said {
        text: answered,
        cleaned: replaced || cleaned || cut,
        refusal: told(&choice["message"]["refusal"]).unwrap_or_default(),
        finish_reason: told(&choice["finish_reason"]).unwrap_or_default(),
        usage: usage(&body["usage"]),
        model: told(&body["model"]),
        id: told(&body["id"]),
    }
    .judge()
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
pub(super) fn usage(usage: &Value) -> Option<Usage> {
    Some(Usage {
        input_tokens: usage["prompt_tokens"].as_u64()?,
        output_tokens: usage["completion_tokens"].as_u64()?,
    })
}
