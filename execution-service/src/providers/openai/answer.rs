//! What a response says: the answer, or why there is none.

use secrecy::SecretString;
use serde_json::Value;
use service_kit::outbound::Response;
use time::OffsetDateTime;

use super::super::{
    Answer, Call, CallError, Usage, clean,
    http_failure::{Reply, classify, hidden, is_error},
};
use crate::engine::failure::FailureClass;

/// Reads a response. `key` is taken out of what an error shows.
pub(super) fn read(
    response: &Response,
    call: &Call,
    key: Option<&SecretString>,
    now: OffsetDateTime,
) -> Result<Answer, CallError> {
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
    let told = usage(&body);
    let (answered, cut) = clean::storable(&content(&choice["message"]["content"]));
    let usage = told.unwrap_or_else(|| estimated(call, &answered));
    let refused = |reason, message: &str| {
        CallError::new(FailureClass::Validation, reason, message)
            .with_usage(usage)
            .with_raw(&answered)
    };
    let refusal = choice["message"]["refusal"]
        .as_str()
        .filter(|refusal| !refusal.is_empty());
    match (choice["finish_reason"].as_str().unwrap_or_default(), refusal) {
        (_, Some(refusal)) => Err(refused("refusal", "the model refused").with_raw(refusal)),
        ("content_filter", None) => Err(refused(
            "content_filter",
            "the provider's content filter cut the answer off",
        )),
        ("length", None) => Err(CallError::cut(&answered, usage)),
        _ if answered.trim().is_empty() => {
            let error = CallError::new(
                FailureClass::ProviderError,
                "empty_answer",
                "the model answered nothing",
            );
            Err(error.retryable().with_usage(usage))
        }
        (reason, None) => Ok(Answer {
            text: answered,
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            finish_reason: if reason.is_empty() {
                "unknown".to_owned()
            } else {
                reason.to_owned()
            },
            response_model: body["model"].as_str().map(str::to_owned),
            response_id: body["id"].as_str().map(str::to_owned),
            cleaned: replaced || cleaned || cut,
        }),
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

fn usage(body: &Value) -> Option<Usage> {
    let usage = &body["usage"];
    Some(Usage {
        input_tokens: usage["prompt_tokens"].as_u64()?,
        output_tokens: usage["completion_tokens"].as_u64()?,
    })
}

/// A quarter of the characters, where the provider does not say.
fn estimated(call: &Call, answer: &str) -> Usage {
    let tokens = |texts: &[&str]| {
        let characters: usize = texts.iter().map(|text| text.chars().count()).sum();
        u64::try_from(characters.div_ceil(4)).unwrap_or(u64::MAX)
    };
    Usage {
        input_tokens: tokens(&[&call.system, &call.prompt]),
        output_tokens: tokens(&[answer]),
    }
}
