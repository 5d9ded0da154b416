//! Documents and chunks as the contract writes them.

use std::{collections::BTreeSet, ops::RangeInclusive};

use serde_json::{Map, Value};
use service_kit::{
    error::{Error, Result, Violations},
    ids::{FileId, StudioId},
    update,
};
use studios_proto::core as proto;

use super::{
    AccessLevel, Chunk, Document, Language, Listing, MimeType, ProcessingStatus, Reading,
    change::{Change, DocumentUpdate},
    create::{Content, NewDocument, TEXT_BYTES, Text},
};
use crate::requests::Key;

/// The RPC that makes a document, by which its idempotency keys are known.
pub(super) const CREATE: &str = "/studios.core.v1.DocumentService/CreateDocument";

/// Why a value that was read is there once the violations are finished.
pub(super) const MISSING: &str = "a missing one is a violation";

const CHANGEABLE: &[&str] = &["title", "access_level", "metadata", "language", "tags"];
const LEAST_BYTES: i64 = 4;
const TITLE: RangeInclusive<usize> = 1..=255;
const METADATA_BYTES: usize = 16 * 1024;
const MOST_TAGS: usize = 20;
const TAG: RangeInclusive<usize> = 1..=50;

impl TryFrom<proto::CreateDocumentRequest> for NewDocument {
    type Error = Error;

    fn try_from(request: proto::CreateDocumentRequest) -> Result<Self> {
        let mut violations = Violations::new();
        let key = Key::read(&mut violations, CREATE, &request.request_id, &request);
        let given = request.document.unwrap_or_default();
        let studio = violations.id::<StudioId>("document.studio_id", &given.studio_id);
        let title = violations.text("document.title", &given.title, TITLE);
        let of_file = !request.file_id.is_empty();
        let mime_type = (!of_file)
            .then(|| mime_type(&mut violations, &given.mime_type))
            .flatten();
        let access_level = access_level(&mut violations, given.access_level);
        let metadata = metadata(&mut violations, given.metadata.as_ref());
        let language = language(&mut violations, &given.language);
        let tags = tags(&mut violations, "document.tags", &given.tags);
        let content = if of_file {
            if !request.text.is_empty() {
                violations.add("file_id", "must not be given together with a text");
            }
            let file = violations.id("file_id", &request.file_id);
            let version = file_version(&mut violations, request.file_version);
            file.map(|file| Content::File(file, version))
        } else {
            let text = Text::read(request.text).map_err(|description| violations.add("text", description));
            let text = mime_type.zip(text.ok());
            text.map(|(mime_type, text)| Content::Text { mime_type, text })
        };
        violations.finish()?;
        Ok(Self {
            key,
            studio: studio.expect(MISSING),
            title: title.expect(MISSING),
            access_level: access_level.expect(MISSING),
            metadata: metadata.expect(MISSING),
            language,
            tags,
            content: content.expect(MISSING),
        })
    }
}

impl TryFrom<proto::UpdateDocumentRequest> for DocumentUpdate {
    type Error = Error;

    fn try_from(request: proto::UpdateDocumentRequest) -> Result<Self> {
        let mut violations = Violations::new();
        let given = request.document.unwrap_or_default();
        let id = violations.id("document.id", &given.id);
        let set = [
            ("title", !given.title.is_empty()),
            ("access_level", given.access_level != 0),
            ("metadata", given.metadata.is_some()),
            ("language", !given.language.is_empty()),
            ("tags", !given.tags.is_empty()),
        ];
        let set: Vec<_> = set
            .into_iter()
            .filter_map(|(path, is_set)| is_set.then_some(path))
            .collect();
        let paths = violations.include(update::paths(request.update_mask.as_ref(), CHANGEABLE, &set))?;
        let mut changes = Vec::new();
        for path in paths.unwrap_or_default() {
            changes.extend(match path {
                "title" => violations
                    .text("document.title", &given.title, TITLE)
                    .map(Change::Title),
                "access_level" => access_level(&mut violations, given.access_level).map(Change::AccessLevel),
                "metadata" => metadata(&mut violations, given.metadata.as_ref()).map(Change::Metadata),
                "language" => Some(Change::Language(language(&mut violations, &given.language))),
                "tags" => Some(Change::Tags(tags(&mut violations, "document.tags", &given.tags))),
                _ => None,
            });
        }
        violations.finish()?;
        Ok(Self {
            id: id.expect(MISSING),
            etag: given.etag,
            changes,
        })
    }
}

/// The number of a file's version; none where it is not given.
fn file_version(violations: &mut Violations, given: i32) -> Option<i32> {
    if given < 0 {
        violations.add("file_version", "must not be negative");
    }
    (given > 0).then_some(given)
}

fn mime_type(violations: &mut Violations, given: &str) -> Option<MimeType> {
    match given {
        "text/plain" => Some(MimeType::Plain),
        "text/markdown" => Some(MimeType::Markdown),
        _ => {
            violations.add("document.mime_type", "must be text/plain or text/markdown");
            None
        }
    }
}

fn access_level(violations: &mut Violations, given: i32) -> Option<AccessLevel> {
    match proto::AccessLevel::try_from(given) {
        Ok(proto::AccessLevel::Private) => Some(AccessLevel::Private),
        Ok(proto::AccessLevel::Unspecified | proto::AccessLevel::Studio) => Some(AccessLevel::Studio),
        Ok(proto::AccessLevel::Company) => Some(AccessLevel::Company),
        Err(_) => {
            violations.add("document.access_level", "must be one of the access levels");
            None
        }
    }
}

fn metadata(violations: &mut Violations, given: Option<&prost_types::Struct>) -> Option<Map<String, Value>> {
    let metadata = violations.object("document.metadata", given)?;
    let bytes = serde_json::to_vec(&metadata).map_or(usize::MAX, |json| json.len());
    if bytes > METADATA_BYTES {
        violations.add(
            "document.metadata",
            format!("must have at most {METADATA_BYTES} bytes as JSON"),
        );
    }
    Some(metadata)
}

/// What the text is written in, where that is told.
fn language(violations: &mut Violations, given: &str) -> Option<Language> {
    let told = Language::parse(given);
    if told.is_none() && !given.is_empty() {
        violations.add(
            "document.language",
            "must be the code of a language that texts are searched in, or und",
        );
    }
    told
}

/// Tags, each once and in order.
pub(super) fn tags(violations: &mut Violations, field: &str, given: &[String]) -> Vec<String> {
    if given.len() > MOST_TAGS {
        violations.add(field, format!("must be at most {MOST_TAGS}"));
    }
    let mut tags = BTreeSet::new();
    for (place, tag) in given.iter().take(MOST_TAGS).enumerate() {
        tags.extend(violations.text(format!("{field}[{place}]"), tag, TAG));
    }
    tags.into_iter().collect()
}

impl TryFrom<proto::GetDocumentTextRequest> for Reading {
    type Error = Error;

    fn try_from(request: proto::GetDocumentTextRequest) -> Result<Self> {
        let mut violations = Violations::new();
        let id = violations.id("id", &request.id);
        for (field, given) in [("offset", request.offset), ("limit_bytes", request.limit_bytes.into())] {
            if given < 0 {
                violations.add(field, "must not be negative");
            }
        }
        violations.finish()?;
        let longest = i64::try_from(TEXT_BYTES).unwrap_or(i64::MAX);
        Ok(Self {
            id: id.expect(MISSING),
            from: request.offset,
            most: match request.limit_bytes {
                0 => longest,
                // No character is longer than the least.
                limit => i64::from(limit).clamp(LEAST_BYTES, longest),
            },
        })
    }
}

impl TryFrom<&proto::ListDocumentsRequest> for Listing {
    type Error = Error;

    fn try_from(request: &proto::ListDocumentsRequest) -> Result<Self> {
        let mut violations = Violations::new();
        let studio = violations.id("studio_id", &request.studio_id);
        let status = proto::ProcessingStatus::try_from(request.status);
        if status.is_err() {
            violations.add("status", "must be one of the processing states");
        }
        let file = violations.optional_id::<FileId>("file_id", &request.file_id);
        let file_version = file_version(&mut violations, request.file_version);
        if request.file_id.is_empty() && file_version.is_some() {
            violations.add("file_version", "must be given together with file_id");
        }
        violations.finish()?;
        Ok(Self {
            studio: studio.expect(MISSING),
            status: status.ok().and_then(known),
            file,
            file_version,
        })
    }
}

fn known(status: proto::ProcessingStatus) -> Option<ProcessingStatus> {
    Some(match status {
        proto::ProcessingStatus::Unspecified => return None,
        proto::ProcessingStatus::Pending => ProcessingStatus::Pending,
        proto::ProcessingStatus::Processing => ProcessingStatus::Processing,
        proto::ProcessingStatus::Completed => ProcessingStatus::Completed,
        proto::ProcessingStatus::Failed => ProcessingStatus::Failed,
    })
}

impl From<AccessLevel> for proto::AccessLevel {
    fn from(level: AccessLevel) -> Self {
        match level {
            AccessLevel::Private => Self::Private,
            AccessLevel::Studio => Self::Studio,
            AccessLevel::Company => Self::Company,
        }
    }
}

impl From<ProcessingStatus> for proto::ProcessingStatus {
    fn from(status: ProcessingStatus) -> Self {
        match status {
            ProcessingStatus::Pending => Self::Pending,
            ProcessingStatus::Processing => Self::Processing,
            ProcessingStatus::Completed => Self::Completed,
            ProcessingStatus::Failed => Self::Failed,
        }
    }
}

impl From<Document> for proto::Document {
    fn from(document: Document) -> Self {
        Self {
            id: document.id.to_string(),
            company_id: document.company.to_string(),
            studio_id: document.studio.to_string(),
            title: document.title,
            mime_type: document.mime_type.name().into(),
            access_level: proto::AccessLevel::from(document.access_level).into(),
            status: proto::ProcessingStatus::from(document.status).into(),
            failure_reason: document.failure_reason,
            size_bytes: document.size_bytes,
            sha256: hex::encode(document.sha256),
            chunk_count: document.chunk_count,
            language: document.language.code().into(),
            tags: document.tags,
            metadata: Some(update::json_to_struct(&document.metadata)),
            created_by: document.created_by.to_string(),
            create_time: Some(update::timestamp(document.created_at)),
            update_time: Some(update::timestamp(document.updated_at)),
            text_cleaned: document.text_cleaned,
            file_id: document.file.map(|id| id.to_string()).unwrap_or_default(),
            file_version: document.file_version.unwrap_or_default(),
            etag: update::etag(document.revision),
        }
    }
}

impl From<Chunk> for proto::Chunk {
    fn from(chunk: Chunk) -> Self {
        Self {
            id: chunk.id.to_string(),
            document_id: chunk.document.to_string(),
            index: chunk.index,
            section: chunk.section,
            overlap: chunk.overlap,
            content: chunk.content,
            token_count: chunk.token_count,
            page: chunk.page.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use service_kit::ids::FileId;

    use super::*;

    fn fields<T: std::fmt::Debug>(result: Result<T>) -> Vec<String> {
        match result {
            Err(Error::Invalid(violations)) => violations.into_iter().map(|violation| violation.field).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn request() -> proto::CreateDocumentRequest {
        proto::CreateDocumentRequest {
            document: Some(proto::Document {
                studio_id: StudioId::generate().to_string(),
                title: " Notes ".into(),
                mime_type: "text/markdown".into(),
                ..Default::default()
            }),
            text: "# A".into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_document_is_its_studios_if_not_told_otherwise() {
        let new = NewDocument::try_from(request()).unwrap();
        assert_eq!(new.access_level, AccessLevel::Studio);
        assert_eq!(new.title, "Notes");
        assert!(matches!(
            new.content,
            Content::Text {
                mime_type: MimeType::Markdown,
                ..
            }
        ));
        assert!(new.key.is_none());
    }

    #[test]
    fn a_document_is_made_from_a_text_or_from_a_file_but_not_from_both() {
        let file = FileId::generate();
        let mut both = request();
        both.file_id = file.to_string();
        assert_eq!(fields(NewDocument::try_from(both.clone())), ["file_id"]);
        both.text = String::new();
        let new = NewDocument::try_from(both.clone()).unwrap();
        assert!(matches!(new.content, Content::File(it, None) if it == file));
        both.file_version = 3;
        let new = NewDocument::try_from(both.clone()).unwrap();
        assert!(matches!(new.content, Content::File(it, Some(3)) if it == file));
        both.file_version = -1;
        assert_eq!(fields(NewDocument::try_from(both.clone())), ["file_version"]);
        both.file_version = 0;
        both.file_id = "x".into();
        assert_eq!(fields(NewDocument::try_from(both)), ["file_id"]);
    }

    #[test]
    fn everything_wrong_with_a_new_document_is_named() {
        let empty = NewDocument::try_from(proto::CreateDocumentRequest::default());
        assert_eq!(
            fields(empty),
            ["document.studio_id", "document.title", "document.mime_type", "text"]
        );
        let mut large = request();
        let document = large.document.as_mut().unwrap();
        document.access_level = 9;
        document.metadata = Some(update::json_to_struct(&Map::from_iter([(
            "a".to_owned(),
            Value::String("x".repeat(METADATA_BYTES)),
        )])));
        document.language = "xx".into();
        document.tags = vec!["a".into(), String::new()];
        large.text = " ".into();
        large.request_id = "x".into();
        assert_eq!(
            fields(NewDocument::try_from(large)),
            [
                "request_id",
                "document.access_level",
                "document.metadata",
                "document.language",
                "document.tags[1]",
                "text",
            ]
        );
    }

    #[test]
    fn a_text_is_read_from_a_place_and_up_to_a_length() {
        let id = service_kit::ids::DocumentId::generate().to_string();
        let read = |offset, limit_bytes| {
            let id = id.clone();
            Reading::try_from(proto::GetDocumentTextRequest {
                id,
                offset,
                limit_bytes,
            })
        };
        let most = |limit| read(7, limit).map(|it| (it.from, it.most)).unwrap();
        assert_eq!(
            [most(0), most(1), most(100), most(i32::MAX)],
            [(7, 4 << 20), (7, 4), (7, 100), (7, 4 << 20)]
        );
        assert_eq!(fields(read(-1, -1)), ["offset", "limit_bytes"]);
    }

    #[test]
    fn a_list_is_of_a_studio_and_of_a_known_state() {
        let wrong = proto::ListDocumentsRequest {
            studio_id: "x".into(),
            status: 9,
            file_id: "x".into(),
            file_version: -1,
            ..Default::default()
        };
        assert_eq!(
            fields(Listing::try_from(&wrong)),
            ["studio_id", "status", "file_id", "file_version"]
        );
    }
}
