//! How chunks are put in order: by their likeness to a vector, and by their places in several lists.

use std::collections::HashMap;

use service_kit::ids::ChunkId;

/// What a place in a list is added to (Cormack, Clarke and Büttcher 2009), so that the first places do not decide alone.
const K: f64 = 60.0;

/// A chunk and how well it fits; more is better.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Hit {
    pub(super) chunk: ChunkId,
    pub(super) score: f64,
}

/// Puts the best first. Chunks that fit equally well keep an order of their own, so that equal searches have equal answers.
pub(super) fn sort(hits: &mut [Hit]) {
    hits.sort_by(|one, other| {
        let by_score = other.score.total_cmp(&one.score);
        by_score.then_with(|| one.chunk.as_uuid().cmp(&other.chunk.as_uuid()))
    });
}

/// Joins lists by the reciprocals of their members' places.
pub(super) fn fuse(lists: [&[Hit]; 2]) -> Vec<Hit> {
    let mut scores: HashMap<ChunkId, f64> = HashMap::new();
    for list in lists {
        for (place, hit) in (1_u32..).zip(list) {
            *scores.entry(hit.chunk).or_default() += 1.0 / (K + f64::from(place));
        }
    }
    let mut fused: Vec<Hit> = scores.into_iter().map(|(chunk, score)| Hit { chunk, score }).collect();
    sort(&mut fused);
    fused
}

/// The likeness of a vector and a stored one: the cosine of the angle between them, as far as whole numbers from -127 to 127
/// tell it. `None` where they are of different lengths, or one has no direction.
pub(super) fn likeness(vector: &[f32], stored: &[u8]) -> Option<f64> {
    if vector.len() != stored.len() {
        return None;
    }
    let (mut product, mut square, mut stored_square) = (0.0_f32, 0.0_f32, 0_i32);
    for (number, byte) in vector.iter().zip(stored) {
        let code = i8::from_le_bytes([*byte]);
        product += number * f32::from(code);
        square += number * number;
        stored_square += i32::from(code) * i32::from(code);
    }
    let lengths = f64::from(square).sqrt() * f64::from(stored_square).sqrt();
    (lengths > 0.0 && lengths.is_finite()).then(|| f64::from(product) / lengths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embeddings::stored;

    fn hits<const N: usize>(chunks: [ChunkId; N]) -> Vec<Hit> {
        chunks.map(|chunk| Hit { chunk, score: 1.0 }).to_vec()
    }

    #[test]
    fn what_is_in_both_lists_comes_before_what_is_high_in_one() {
        let [a, b, c] = [(); 3].map(|()| ChunkId::generate());
        let fused = fuse([&hits([a, b]), &hits([c, b])]);
        let order: Vec<_> = fused.iter().map(|it| it.chunk).collect();
        assert_eq!(order, [b, a, c]);
        assert!((fused[0].score - 2.0 / 62.0).abs() < 1e-12 && (fused[1].score - 1.0 / 61.0).abs() < 1e-12);
        assert_eq!(fuse([&[], &[]]), []);
        assert_eq!(fuse([&hits([a, b]), &[]]).len(), 2);
    }

    #[test]
    fn a_stored_vector_is_as_like_as_the_vector_was() {
        let one = [0.6, 0.0, -0.8];
        for (other, expected) in [
            ([0.6, 0.0, -0.8], 1.0),
            ([0.0, 1.0, 0.0], 0.0),
            ([-0.6, 0.0, 0.8], -1.0),
            ([0.8, 0.36, -0.48], 0.864),
        ] {
            let found = likeness(&one, &stored(&other).unwrap()).unwrap();
            assert!((found - expected).abs() < 0.01, "{other:?}: {found}");
        }
        assert_eq!(likeness(&one, &[1, 2]), None);
        assert_eq!(likeness(&[0.0; 3], &[1, 2, 3]), None);
    }
}
