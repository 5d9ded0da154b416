//! Batches of chunks and their vectors as the contract writes them.

use std::ops::RangeInclusive;

use service_kit::error::{Error, Result, Violations};
use studios_proto::core as proto;

use super::{Batch, Made, Wanted, stored};

const COMPANIES: usize = 1_000;
const MODEL: RangeInclusive<usize> = 1..=500;
const REFUSAL: RangeInclusive<usize> = 0..=1_000;
const CHUNKS: RangeInclusive<i32> = 1..=128;
const DIMENSIONS: usize = 16_384;

/// What is wanted, and how many chunks at most.
pub(super) fn wanted(request: &proto::ClaimChunksRequest) -> Result<(Vec<Wanted>, i64)> {
    let mut violations = Violations::new();
    if request.models.len() > COMPANIES {
        violations.add("models", format!("must be at most {COMPANIES}"));
    }
    let mut all = Vec::new();
    for (place, it) in request.models.iter().take(COMPANIES).enumerate() {
        let company = violations.id(format!("models[{place}].company_id"), &it.company_id);
        let model = violations.text(format!("models[{place}].model"), &it.model, MODEL);
        all.extend(company.zip(model).map(|(company, model)| Wanted { company, model }));
    }
    if !CHUNKS.contains(&request.limit) {
        violations.add("limit", "must be 1 to 128");
    }
    violations.finish()?;
    Ok((all, request.limit.into()))
}

impl TryFrom<proto::StoreVectorsRequest> for Made {
    type Error = Error;

    fn try_from(request: proto::StoreVectorsRequest) -> Result<Self> {
        let mut violations = Violations::new();
        let document = violations.id("document_id", &request.document_id);
        let model = violations.text("model", &request.model, MODEL);
        let refusal = violations.text("refusal", &request.refusal, REFUSAL);
        let mut vectors = Vec::new();
        for (place, it) in request.vectors.iter().enumerate() {
            let chunk = violations.id(format!("vectors[{place}].chunk_id"), &it.chunk_id);
            let is_vector = (1..=DIMENSIONS).contains(&it.numbers.len()) && it.numbers.iter().all(|it| it.is_finite());
            if !is_vector {
                violations.add(
                    format!("vectors[{place}].numbers"),
                    "must be 1 to 16,384 finite numbers",
                );
                continue;
            }
            // A text without any word may have a vector without direction; it is near to nothing.
            let vector = stored(&it.numbers).unwrap_or_else(|| vec![0; it.numbers.len()]);
            vectors.extend(chunk.map(|chunk| (chunk, vector)));
        }
        violations.finish()?;
        Ok(Self {
            document: document.expect("a missing one is a violation"),
            model: model.expect("a missing one is a violation"),
            vectors,
            refusal: refusal.filter(|it| !it.is_empty()),
        })
    }
}

impl From<Batch> for proto::ClaimChunksResponse {
    fn from(batch: Batch) -> Self {
        let chunk = |it: &super::ChunkText| proto::ChunkText {
            chunk_id: it.id.to_string(),
            text: it.text(),
        };
        Self {
            company_id: batch.company.to_string(),
            document_id: batch.document.to_string(),
            chunks: batch.chunks.iter().map(chunk).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use service_kit::ids::{ChunkId, DocumentId};

    use super::*;

    fn fields<T>(result: Result<T>) -> Vec<String> {
        match result {
            Err(Error::Invalid(violations)) => violations.into_iter().map(|it| it.field).collect(),
            _ => panic!("not refused for its input"),
        }
    }

    #[test]
    fn everything_wrong_with_a_claim_is_named() {
        let request = proto::ClaimChunksRequest {
            models: vec![proto::CompanyModel {
                company_id: "x".into(),
                model: String::new(),
            }],
            limit: 129,
        };
        assert_eq!(
            fields(wanted(&request)),
            ["models[0].company_id", "models[0].model", "limit"]
        );
    }

    #[test]
    fn vectors_are_finite_and_one_without_direction_is_kept_as_nothing() {
        let vector = |numbers: &[f32]| proto::ChunkVector {
            chunk_id: ChunkId::generate().to_string(),
            numbers: numbers.to_vec(),
        };
        let mut request = proto::StoreVectorsRequest {
            document_id: DocumentId::generate().to_string(),
            model: "m".into(),
            vectors: vec![vector(&[0.0, 0.0]), vector(&[1.0, 0.0])],
            refusal: String::new(),
        };
        let made = Made::try_from(request.clone()).unwrap();
        let stored: Vec<_> = made.vectors.iter().map(|(_, it)| it.clone()).collect();
        assert_eq!(stored, [vec![0, 0], vec![127, 0]]);
        request.vectors = vec![vector(&[]), vector(&[f32::NAN])];
        assert_eq!(
            fields(Made::try_from(request)),
            ["vectors[0].numbers", "vectors[1].numbers"]
        );
    }
}
