//! Vectors without a model: the stems of a text's words and the letters that they are made of, each hashed to a place and a
//! sign (feature hashing: Weinberger et al. 2009), the often repeated counting less.
//!
//! The same text always has the same vector, on every machine and version. Texts that share words, or parts of words, lie
//! close together; that two different words mean the same it does not know. So it finds like a search by words does, and
//! not what a trained model finds.

use sha2::{Digest, Sha256};

use super::{
    super::{CallError, EmbedCall, Embedded, embedding::of_length_one},
    words,
};
use crate::engine::failure::FailureClass;

/// How many numbers a vector has where nothing is said.
pub(super) const DIMENSIONS: u32 = 512;
/// How many it can have.
const CHOICES: std::ops::RangeInclusive<u32> = 16..=4_096;
/// What three letters of a word count beside the whole of it.
const PART_WEIGHT: f32 = 0.25;

/// The texts' vectors.
pub(super) fn embed(call: &EmbedCall) -> Result<Embedded, CallError> {
    let dimensions = call.dimensions.unwrap_or(DIMENSIONS);
    if !CHOICES.contains(&dimensions) {
        let message = "the offline model's vectors have 16 to 4,096 numbers";
        return Err(CallError::new(FailureClass::Validation, "request", message));
    }
    let tokens: usize = call.inputs.iter().map(|text| text.split_whitespace().count()).sum();
    Ok(Embedded {
        vectors: call.inputs.iter().map(|text| vector(text, dimensions)).collect(),
        input_tokens: tokens as u64,
        billing_uncertain: false,
        response_model: Some(call.model.clone()),
    })
}

fn vector(text: &str, dimensions: u32) -> Vec<f32> {
    let mut sums = vec![0.0; dimensions as usize];
    let mut add = |feature: &str, weight: f32| {
        let digest = Sha256::digest(feature);
        let number = u64::from_le_bytes(digest[..8].try_into().expect("a digest is longer"));
        let place = usize::try_from(number % u64::from(dimensions)).expect("it is below a u32");
        let sign = if digest[8] & 1 == 0 { 1.0 } else { -1.0 };
        sums[place] += sign * weight;
    };
    let mut terms = words::terms(text);
    if terms.is_empty() {
        // Nothing but words without content: those are what it is about, then.
        terms = words::words(text).map(|(_, word)| word.to_lowercase()).collect();
    }
    terms.sort_unstable();
    for same in terms.chunk_by(|one, other| one == other) {
        let term = &same[0];
        #[expect(clippy::cast_precision_loss, reason = "no text has so many words")]
        let weight = (same.len() as f32).sqrt();
        add(term, weight);
        let letters: Vec<char> = format!("^{term}$").chars().collect();
        for part in letters.windows(3) {
            let part: String = part.iter().collect();
            add(&format!("#{part}"), weight * PART_WEIGHT);
        }
    }
    of_length_one(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vectors(texts: &[&str]) -> Vec<Vec<f32>> {
        let call = EmbedCall {
            inputs: texts.iter().map(|it| (*it).to_owned()).collect(),
            ..EmbedCall::default()
        };
        embed(&call).unwrap().vectors
    }

    fn likeness(one: &[f32], other: &[f32]) -> f32 {
        one.iter().zip(other).map(|(one, other)| one * other).sum()
    }

    #[test]
    fn texts_that_share_words_lie_closer_than_those_that_do_not() {
        let found = vectors(&[
            "How do I return a damaged parcel?",
            "Damaged parcels can be returned within 30 days.",
            "The board meets every second Tuesday.",
        ]);
        let (near, far) = (likeness(&found[0], &found[1]), likeness(&found[0], &found[2]));
        assert!(near > 0.4 && near > 3.0 * far.abs(), "{near} {far}");
        assert!((likeness(&found[0], &found[0]) - 1.0).abs() < 1e-5);
    }

    #[test]
    fn a_text_has_the_same_vector_for_ever() {
        let found = &vectors(&["The desk opens at nine."])[0];
        assert_eq!(found.len(), DIMENSIONS as usize);
        assert_eq!(found, &vectors(&["The desk opens at nine."])[0]);
        let bytes: Vec<u8> = found.iter().flat_map(|it| it.to_le_bytes()).collect();
        assert_eq!(hex::encode(&Sha256::digest(bytes)[..8]), "d396ac977c9d6662");
    }

    #[test]
    fn only_texts_without_any_word_have_no_direction() {
        let found = vectors(&["", "...", "it is"]);
        for empty in &found[..2] {
            assert!(likeness(empty, empty).abs() < f32::EPSILON);
        }
        assert!((likeness(&found[2], &found[2]) - 1.0).abs() < 1e-5);
    }

    #[test]
    fn the_length_can_be_chosen_within_bounds() {
        let of = |dimensions| EmbedCall {
            inputs: vec!["x".into()],
            dimensions: Some(dimensions),
            ..EmbedCall::default()
        };
        assert_eq!(embed(&of(64)).unwrap().vectors[0].len(), 64);
        for wrong in [0, 15, 4_097] {
            assert_eq!(embed(&of(wrong)).unwrap_err().class, FailureClass::Validation);
        }
    }
}
