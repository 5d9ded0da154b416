//! Texts as vectors, so that what means the same lies close together.
//!
//! A call takes any number of texts. It is split by what providers take at once: [`MAX_INPUTS`] texts, [`MAX_REQUEST_BYTES`]
//! of them together. How long one may be (8,192 tokens at OpenAI) only the provider can count; what is longer it refuses,
//! which is `context_length`. All vectors are of length 1, so that their product is their likeness.

use std::{ops::Range, time::Duration};

use serde::Serialize;
use serde_json::Value;

use super::{CallError, deadline::Deadline, endpoint::Protocol, remote::Remote};
use crate::engine::failure::FailureClass;

/// The most texts of a request.
const MAX_INPUTS: usize = 2_048;
/// The most bytes of a request's texts: 300,000 tokens, of which few have less than two bytes.
const MAX_REQUEST_BYTES: usize = 600_000;
/// The most numbers of a vector that are believed.
const MAX_DIMENSIONS: usize = 16_384;

/// Texts to make comparable.
#[derive(Debug, Clone, Default)]
pub struct EmbedCall {
    /// The model, as the provider names it.
    pub model: String,
    /// The texts; none of them empty.
    pub inputs: Vec<String>,
    /// How many numbers a vector is to have, where the model can choose.
    pub dimensions: Option<u32>,
    /// How long the call may take in all.
    pub timeout: Duration,
    /// Names the call; the same for one that is sent again after a crash.
    pub idempotency_key: String,
}

/// The texts' vectors.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// One for each text, in their order; all of the same length.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens read, by the provider's own count.
    pub input_tokens: u64,
    /// Whether the provider did not say how many tokens that were.
    pub billing_uncertain: bool,
    /// The model that the provider says it was.
    pub response_model: Option<String>,
}

#[derive(Debug, Serialize)]
struct Body<'c> {
    model: &'c str,
    input: &'c [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding_format: Option<&'static str>,
    /// Ollama alone: a text that is too long is refused and not cut off.
    #[serde(skip_serializing_if = "Option::is_none")]
    truncate: Option<bool>,
}

/// The vectors that an endpoint makes of the texts.
pub(super) async fn remote(remote: &Remote, call: &EmbedCall) -> Result<Embedded, CallError> {
    let protocol = remote.endpoint.protocol;
    let Some(to) = remote.embeddings() else {
        let message = format!("{protocol} makes no embeddings");
        return Err(CallError::new(FailureClass::Validation, "no_embeddings", message));
    };
    let is_ollama = protocol == Protocol::Ollama;
    let deadline = Deadline::new(call.timeout, call.timeout, call.timeout);
    let mut embedded = Embedded {
        vectors: Vec::with_capacity(call.inputs.len()),
        input_tokens: 0,
        billing_uncertain: false,
        response_model: None,
    };
    for part in parts(&call.inputs) {
        let key = format!("{}/{}", call.idempotency_key, part.start);
        let inputs = &call.inputs[part];
        let body = Body {
            model: &call.model,
            input: inputs,
            dimensions: call.dimensions,
            encoding_format: (!is_ollama).then_some("float"),
            truncate: is_ollama.then_some(false),
        };
        let answer = remote.post(to, &body, &key, &deadline).await?;
        let vectors = if is_ollama {
            whole(&answer)
        } else {
            indexed(&answer, inputs.len())
        };
        let vectors = vectors.filter(|it| are_vectors(it, inputs.len(), embedded.vectors.first()));
        embedded
            .vectors
            .extend(vectors.ok_or_else(no_vectors)?.into_iter().map(of_length_one));
        let tokens = answer["usage"]["prompt_tokens"]
            .as_u64()
            .or(answer["prompt_eval_count"].as_u64());
        embedded.billing_uncertain |= tokens.is_none();
        embedded.input_tokens = embedded.input_tokens.saturating_add(tokens.unwrap_or(0));
        embedded.response_model = answer["model"].as_str().map(str::to_owned);
    }
    Ok(embedded)
}

/// The texts of each request.
fn parts(inputs: &[String]) -> impl Iterator<Item = Range<usize>> {
    let mut next = 0;
    std::iter::from_fn(move || {
        let begin = next;
        let mut bytes = 0;
        while let Some(input) = inputs.get(next) {
            bytes += input.len();
            if next > begin && (bytes > MAX_REQUEST_BYTES || next - begin == MAX_INPUTS) {
                break;
            }
            next += 1;
        }
        (next > begin).then_some(begin..next)
    })
}

/// `{"data": [{"index", "embedding"}]}`, in whatever order.
fn indexed(answer: &Value, count: usize) -> Option<Vec<Vec<f32>>> {
    let mut vectors = vec![Vec::new(); count];
    for (place, item) in answer["data"].as_array()?.iter().enumerate() {
        let index = item["index"]
            .as_u64()
            .map_or(Some(place), |it| usize::try_from(it).ok())?;
        *vectors.get_mut(index)? = numbers(&item["embedding"])?;
    }
    Some(vectors)
}

/// `{"embeddings": [[…]]}`
fn whole(answer: &Value) -> Option<Vec<Vec<f32>>> {
    answer["embeddings"].as_array()?.iter().map(numbers).collect()
}

fn numbers(vector: &Value) -> Option<Vec<f32>> {
    #[expect(clippy::cast_possible_truncation, reason = "models compute with no more digits")]
    let number = |it: &Value| it.as_f64().map(|it| it as f32).filter(|it| it.is_finite());
    vector.as_array()?.iter().map(number).collect()
}

/// Whether there is one for each text, and all are of one length, also with those before.
fn are_vectors(vectors: &[Vec<f32>], count: usize, earlier: Option<&Vec<f32>>) -> bool {
    let length = earlier.or(vectors.first()).map_or(0, Vec::len);
    vectors.len() == count && (1..=MAX_DIMENSIONS).contains(&length) && vectors.iter().all(|it| it.len() == length)
}

fn no_vectors() -> CallError {
    let message = "the provider's answer has not one vector for each text";
    CallError::new(FailureClass::ProviderError, "wrong_body", message)
        .retryable()
        .billing_uncertain()
}

/// The vector's direction; nothing stays nothing.
pub(super) fn of_length_one(mut vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|it| it * it).sum::<f32>().sqrt();
    if length > 0.0 && length.is_finite() {
        for number in &mut vector {
            *number /= length;
        }
    }
    vector
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_are_split_by_what_providers_take_at_once() {
        let split = |inputs: Vec<String>| parts(&inputs).map(|it| it.len()).collect::<Vec<_>>();
        assert_eq!(split(vec!["a".into(); 5_000]), [2_048, 2_048, 904]);
        assert_eq!(split(vec!["a".repeat(250_000); 5]), [2, 2, 1]);
        assert_eq!(split(vec!["a".repeat(MAX_REQUEST_BYTES + 1), "b".into()]), [1, 1]);
        assert!(split(Vec::new()).is_empty());
    }

    #[test]
    fn vectors_are_put_in_the_texts_order_and_must_be_one_for_each() {
        let answer = json!({"data": [{"index": 1, "embedding": [0.0, 2.0]}, {"index": 0, "embedding": [1, 0]}]});
        let vectors = indexed(&answer, 2).unwrap();
        assert_eq!(vectors, [[1.0, 0.0], [0.0, 2.0]]);
        assert!(are_vectors(&vectors, 2, None) && !are_vectors(&vectors, 2, Some(&vec![1.0])));
        let missing = indexed(&json!({"data": [{"index": 1, "embedding": [1.0]}]}), 2).unwrap();
        assert!(!are_vectors(&missing, 2, None));
        assert!(indexed(&json!({"data": [{"index": 7, "embedding": [1.0]}]}), 2).is_none());
        assert!(indexed(&json!({"data": [{"embedding": ["x"]}]}), 1).is_none());
        assert_eq!(whole(&json!({"embeddings": [[0.5]]})), Some(vec![vec![0.5]]));
        assert_eq!(of_length_one(vec![3.0, 4.0]), [0.6, 0.8]);
        assert_eq!(of_length_one(vec![0.0]), [0.0]);
    }
}
