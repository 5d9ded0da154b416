//! Searches as the contract writes them.

use std::ops::RangeInclusive;

use prost_types::Timestamp;
use service_kit::{
    error::{Error, Result, Violations},
    ids::DocumentId,
    update,
};
use studios_proto::core as proto;
use time::OffsetDateTime;

use super::{Answer, Filter, Found, MatchMode, Mode, Query, QueryVector};
use crate::documents::{
    MimeType,
    convert::{MISSING, tags},
};

const WORDS: RangeInclusive<usize> = 1..=1000;
const MODEL: RangeInclusive<usize> = 1..=500;
const DIMENSIONS: RangeInclusive<usize> = 1..=16_384;
const DEFAULT_RESULTS: u16 = 10;
const MOST_RESULTS: u16 = 100;
/// The documents that one search may be narrowed to.
const MOST_DOCUMENTS: usize = 1000;

impl TryFrom<proto::SearchChunksRequest> for Query {
    type Error = Error;

    fn try_from(request: proto::SearchChunksRequest) -> Result<Self> {
        let mut violations = Violations::new();
        let studio = violations.id("studio_id", &request.studio_id);
        let words = violations.text("query", &request.query, WORDS);
        let limit = u16::try_from(request.limit.min(MOST_RESULTS.into()));
        if limit.is_err() {
            violations.add("limit", "must not be negative");
        }
        let documents = documents(&mut violations, &request.document_ids);
        let matching = match proto::MatchMode::try_from(request.match_mode) {
            Ok(proto::MatchMode::Any) => MatchMode::Any,
            Ok(proto::MatchMode::Unspecified | proto::MatchMode::All) => MatchMode::All,
            Err(_) => {
                violations.add("match_mode", "must be one of the match modes");
                MatchMode::All
            }
        };
        let mode = match proto::SearchMode::try_from(request.mode) {
            Ok(proto::SearchMode::Unspecified | proto::SearchMode::Automatic) => Mode::Automatic,
            Ok(proto::SearchMode::Text) => Mode::Text,
            Ok(proto::SearchMode::Vector) => Mode::Vector,
            Ok(proto::SearchMode::Fused) => Mode::Fused,
            Err(_) => {
                violations.add("mode", "must be one of the search modes");
                Mode::Automatic
            }
        };
        if request.vector.is_none() && matches!(mode, Mode::Vector | Mode::Fused) {
            violations.add("vector", "must be given in the modes vector and fused");
        }
        let vector = request.vector.and_then(|it| vector(&mut violations, it));
        let filter = filter(&mut violations, documents, &request.filter.unwrap_or_default());
        violations.finish()?;
        Ok(Self {
            studio: studio.expect(MISSING),
            filter,
            words: words.expect(MISSING),
            matching,
            mode,
            vector,
            limit: usize::from(limit.ok().filter(|it| *it > 0).unwrap_or(DEFAULT_RESULTS)),
        })
    }
}

fn documents(violations: &mut Violations, given: &[String]) -> Vec<DocumentId> {
    if given.len() > MOST_DOCUMENTS {
        violations.add("document_ids", format!("must be at most {MOST_DOCUMENTS}"));
    }
    let mut documents = Vec::new();
    for (place, id) in given.iter().take(MOST_DOCUMENTS).enumerate() {
        documents.extend(violations.id::<DocumentId>(format!("document_ids[{place}]"), id));
    }
    documents
}

fn vector(violations: &mut Violations, given: proto::QueryVector) -> Option<QueryVector> {
    let model = violations.text("vector.model", &given.model, MODEL);
    let is_vector = DIMENSIONS.contains(&given.numbers.len()) && given.numbers.iter().all(|it| it.is_finite());
    if !is_vector {
        violations.add("vector.numbers", "must be 1 to 16,384 finite numbers");
    }
    model.map(|model| QueryVector {
        model,
        numbers: given.numbers,
    })
}

fn filter(violations: &mut Violations, documents: Vec<DocumentId>, given: &proto::DocumentFilter) -> Filter {
    let mut mime_types = Vec::new();
    for (place, name) in given.mime_types.iter().take(MOST_DOCUMENTS).enumerate() {
        match MimeType::parse(name) {
            Some(known) => mime_types.push(known),
            None => violations.add(
                format!("filter.mime_types[{place}]"),
                "must be a type that text is taken from",
            ),
        }
    }
    let tags = tags(violations, "filter.tags", &given.tags);
    let mut moment = |field: &str, at: Option<&Timestamp>| -> Option<OffsetDateTime> {
        let moment = at.and_then(update::moment);
        if at.is_some() && moment.is_none() {
            violations.add(field, "must be a time");
        }
        moment
    };
    Filter {
        documents,
        mime_types,
        tags,
        created_from: moment("filter.created_from", given.created_from.as_ref()),
        created_before: moment("filter.created_before", given.created_before.as_ref()),
        updated_from: moment("filter.updated_from", given.updated_from.as_ref()),
        updated_before: moment("filter.updated_before", given.updated_before.as_ref()),
    }
}

impl From<Answer> for proto::SearchChunksResponse {
    fn from(answer: Answer) -> Self {
        Self {
            results: answer.found.into_iter().map(Into::into).collect(),
            corrected_query: answer.corrected.unwrap_or_default(),
        }
    }
}

impl From<Found> for proto::SearchResult {
    fn from(found: Found) -> Self {
        Self {
            chunk: Some(found.chunk.into()),
            document_title: found.document_title,
            score: found.score,
            snippet: found.snippet,
        }
    }
}

#[cfg(test)]
mod tests {
    use service_kit::ids::StudioId;

    use super::*;

    fn request() -> proto::SearchChunksRequest {
        proto::SearchChunksRequest {
            studio_id: StudioId::generate().to_string(),
            query: "a".into(),
            ..Default::default()
        }
    }

    fn fields(request: proto::SearchChunksRequest) -> Vec<String> {
        match Query::try_from(request) {
            Err(Error::Invalid(violations)) => violations.into_iter().map(|violation| violation.field).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_search_has_a_default_and_a_bound() {
        let limit = |limit| {
            let request = proto::SearchChunksRequest { limit, ..request() };
            Query::try_from(request).unwrap().limit
        };
        assert_eq!((limit(0), limit(3), limit(i32::MAX)), (10, 3, 100));
        let query = Query::try_from(request()).unwrap();
        assert_eq!((query.matching, query.mode), (MatchMode::All, Mode::Automatic));
    }

    #[test]
    fn everything_wrong_with_a_search_is_named() {
        let wrong = proto::SearchChunksRequest {
            studio_id: "x".into(),
            query: " ".into(),
            limit: -1,
            document_ids: vec![DocumentId::generate().to_string(), "x".into()],
            match_mode: 9,
            mode: 9,
            vector: Some(proto::QueryVector {
                model: String::new(),
                numbers: vec![f32::NAN],
            }),
            filter: Some(proto::DocumentFilter {
                mime_types: vec!["image/png".into()],
                tags: vec![String::new()],
                created_from: Some(Timestamp {
                    seconds: i64::MAX,
                    nanos: 0,
                }),
                ..Default::default()
            }),
        };
        assert_eq!(
            fields(wrong),
            [
                "studio_id",
                "query",
                "limit",
                "document_ids[1]",
                "match_mode",
                "mode",
                "vector.model",
                "vector.numbers",
                "filter.mime_types[0]",
                "filter.tags[0]",
                "filter.created_from",
            ]
        );
    }

    #[test]
    fn the_modes_that_compare_vectors_need_one() {
        for mode in [proto::SearchMode::Vector, proto::SearchMode::Fused] {
            let request = proto::SearchChunksRequest {
                mode: mode.into(),
                ..request()
            };
            assert_eq!(fields(request), ["vector"]);
        }
    }
}
