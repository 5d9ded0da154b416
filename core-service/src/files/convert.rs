//! Files as the contract writes them.

use std::time::Duration;

use serde_json::{Map, Value};
use service_kit::{
    error::{Error, Result, Violations},
    update,
};
use studios_proto::core as proto;
use time::OffsetDateTime;

use super::{
    Change, CleanUp, File, FileUpdate, Filter, Mime, State, Version, checksum::Checksum, download::Stored,
    mime::name_objection, reserve::NewFile,
};
use crate::{documents::AccessLevel, privacy::Archive, requests::Key};

/// Why a value that was read is there once the violations are finished.
pub(super) const MISSING: &str = "a missing one is a violation";

/// The RPC that takes a file, by which its idempotency keys are known.
const UPLOAD: &str = "/studios.core.v1.FileService/UploadFile";

const METADATA_BYTES: usize = 16 * 1024;
const CHANGEABLE: &[&str] = &["name", "access_level", "metadata"];
const MOST_CLEANED: i32 = 1000;

/// How long a download's URL is good, unless it is said.
const URL_LIFETIME: Duration = Duration::from_mins(5);
const LONGEST_URL_LIFETIME: Duration = Duration::from_hours(24);

impl TryFrom<proto::NewFile> for NewFile {
    type Error = Error;

    fn try_from(given: proto::NewFile) -> Result<Self> {
        let mut violations = Violations::new();
        let studio = violations.id("file.studio_id", &given.studio_id);
        let file = violations.optional_id("file.file_id", &given.file_id);
        let name = name(&mut violations, &given.name);
        let mime = Mime::parse(&given.mime_type);
        match (mime, &name) {
            (None, _) => violations.add("file.mime_type", "must be one of the types that are taken"),
            (Some(mime), Some(name)) if mime.contradicts(name) => {
                violations.add("file.mime_type", "is not what the name's ending says");
            }
            _ => {}
        }
        if given.size_bytes < 1 {
            violations.add("file.size_bytes", "must be at least 1");
        }
        let access_level = access_level(&mut violations, given.access_level);
        let metadata = metadata(&mut violations, given.metadata.as_ref());
        let sha256 = match &*given.sha256 {
            "" => None,
            text => match hex::decode(text) {
                Ok(hash) if hash.len() == 32 => Some(hash),
                _ => {
                    violations.add("file.sha256", "must be 64 hexadecimal digits");
                    None
                }
            },
        };
        let key = Key::read(&mut violations, UPLOAD, &given.request_id, &given);
        violations.finish()?;
        Ok(Self {
            key,
            studio: studio.expect(MISSING),
            file,
            name: name.expect(MISSING),
            mime: mime.expect(MISSING),
            size_bytes: given.size_bytes,
            access_level: access_level.expect(MISSING),
            metadata: metadata.expect(MISSING),
            sha256,
        })
    }
}

impl TryFrom<proto::UpdateFileRequest> for FileUpdate {
    type Error = Error;

    fn try_from(request: proto::UpdateFileRequest) -> Result<Self> {
        let mut violations = Violations::new();
        let given = request.file.unwrap_or_default();
        let id = violations.id("file.id", &given.id);
        let set = [
            ("name", !given.name.is_empty()),
            ("access_level", given.access_level != 0),
            ("metadata", given.metadata.is_some()),
        ];
        let set: Vec<_> = set
            .into_iter()
            .filter_map(|(path, is_set)| is_set.then_some(path))
            .collect();
        let paths = violations.include(update::paths(request.update_mask.as_ref(), CHANGEABLE, &set))?;
        let mut changes = Vec::new();
        for path in paths.unwrap_or_default() {
            changes.extend(match path {
                "name" => name(&mut violations, &given.name).map(Change::Name),
                "access_level" => access_level(&mut violations, given.access_level).map(Change::AccessLevel),
                "metadata" => metadata(&mut violations, given.metadata.as_ref()).map(Change::Metadata),
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

impl TryFrom<&proto::ListFilesRequest> for Filter {
    type Error = Error;

    fn try_from(request: &proto::ListFilesRequest) -> Result<Self> {
        let mut violations = Violations::new();
        let studio = violations.id("studio_id", &request.studio_id);
        let uploaded_by = violations.optional_id("uploaded_by", &request.uploaded_by);
        let mime = Mime::parse(&request.mime_type);
        if mime.is_none() && !request.mime_type.is_empty() {
            violations.add("mime_type", "must be one of the types that are taken");
        }
        let prefix = violations.text("name_prefix", &request.name_prefix, 0..=255);
        let state = proto::FileState::try_from(request.state);
        if state.is_err() {
            violations.add("state", "must be one of the file states");
        }
        violations.finish()?;
        Ok(Self {
            studio: studio.expect(MISSING),
            mime_type: mime.map(|it| it.name().to_owned()),
            name_prefix: prefix.filter(|it| !it.is_empty()),
            uploaded_by,
            state: state.ok().and_then(known),
            show_deleted: request.show_deleted,
        })
    }
}

impl TryFrom<&proto::CleanUpFilesRequest> for CleanUp {
    type Error = Error;

    fn try_from(request: &proto::CleanUpFilesRequest) -> Result<Self> {
        let mut violations = Violations::new();
        let studio = violations.id("studio_id", &request.studio_id);
        let mut moment = |field: &str, given: Option<&prost_types::Timestamp>| {
            let given = given?;
            let moment = update::moment(given);
            if moment.is_none() {
                violations.add(field, "must be a time of the years 1 to 9999");
            }
            moment
        };
        let made_before = moment("made_before", request.made_before.as_ref());
        let unused_since = moment("unused_since", request.unused_since.as_ref());
        if request.least_bytes < 0 {
            violations.add("least_bytes", "must not be negative");
        }
        if request.limit < 0 {
            violations.add("limit", "must not be negative");
        }
        if request.made_before.is_none() && request.unused_since.is_none() && request.least_bytes == 0 {
            violations.add("made_before", "this, unused_since or least_bytes must be given");
        }
        violations.finish()?;
        Ok(Self {
            studio: studio.expect(MISSING),
            made_before,
            unused_since,
            least_bytes: Some(request.least_bytes).filter(|it| *it > 0),
            dry_run: request.dry_run,
            limit: match request.limit {
                0 => MOST_CLEANED,
                limit => limit.min(MOST_CLEANED),
            }
            .into(),
        })
    }
}

/// When a download's URL ends.
pub(super) fn url_end(given: Option<&prost_types::Duration>, now: OffsetDateTime) -> Result<OffsetDateTime> {
    let lifetime = match given {
        None => URL_LIFETIME,
        Some(it) => Duration::try_from(*it)
            .ok()
            .filter(|it| (Duration::from_secs(1)..=LONGEST_URL_LIFETIME).contains(it))
            .ok_or_else(|| Error::invalid("lifetime", "must be a second to a day"))?,
    };
    Ok(now + lifetime)
}

/// The number of a version; none is the current one.
pub(super) fn version(given: i32) -> Result<Option<i32>> {
    match given {
        0 => Ok(None),
        1.. => Ok(Some(given)),
        _ => Err(Error::invalid("version", "must not be negative")),
    }
}

pub(super) fn checksum(given: proto::Checksum) -> Result<Checksum> {
    match (&*given.algorithm, given.sum.len()) {
        ("sha1", 20) => Ok(Checksum::Sha1(given.sum)),
        ("sha256", 32) => Ok(Checksum::Sha256(given.sum)),
        _ => Err(Error::invalid(
            "checksum",
            "must be a sum of 20 bytes by sha1 or of 32 by sha256",
        )),
    }
}

fn name(violations: &mut Violations, given: &str) -> Option<String> {
    match name_objection(given) {
        Some(why) => {
            violations.add("file.name", why);
            None
        }
        None => Some(given.to_owned()),
    }
}

fn access_level(violations: &mut Violations, given: i32) -> Option<AccessLevel> {
    match proto::AccessLevel::try_from(given) {
        Ok(proto::AccessLevel::Private) => Some(AccessLevel::Private),
        Ok(proto::AccessLevel::Unspecified | proto::AccessLevel::Studio) => Some(AccessLevel::Studio),
        Ok(proto::AccessLevel::Company) => Some(AccessLevel::Company),
        Err(_) => {
            violations.add("file.access_level", "must be one of the access levels");
            None
        }
    }
}

fn metadata(violations: &mut Violations, given: Option<&prost_types::Struct>) -> Option<Map<String, Value>> {
    let metadata = violations.object("file.metadata", given)?;
    let bytes = serde_json::to_vec(&metadata).map_or(usize::MAX, |json| json.len());
    if bytes > METADATA_BYTES {
        violations.add(
            "file.metadata",
            format!("must have at most {METADATA_BYTES} bytes as JSON"),
        );
    }
    Some(metadata)
}

fn known(state: proto::FileState) -> Option<State> {
    Some(match state {
        proto::FileState::Unspecified => return None,
        proto::FileState::Scanning => State::Scanning,
        proto::FileState::Ready => State::Ready,
        proto::FileState::Quarantined => State::Quarantined,
        proto::FileState::Lost => State::Lost,
    })
}

impl From<State> for proto::FileState {
    fn from(state: State) -> Self {
        match state {
            State::Scanning => Self::Scanning,
            State::Ready => Self::Ready,
            State::Quarantined => Self::Quarantined,
            State::Lost => Self::Lost,
        }
    }
}

impl From<File> for proto::File {
    fn from(file: File) -> Self {
        Self {
            id: file.id.to_string(),
            company_id: file.company.to_string(),
            studio_id: file.studio.to_string(),
            name: file.details.name,
            mime_type: file.mime_type,
            access_level: proto::AccessLevel::from(file.details.access_level).into(),
            state: proto::FileState::from(file.state).into(),
            state_reason: file.state_reason,
            size_bytes: file.size_bytes,
            sha256: hex::encode(file.sha256),
            version: file.version,
            metadata: Some(update::json_to_struct(&file.details.metadata)),
            uploaded_by: file.uploaded_by.to_string(),
            last_access_time: file.last_accessed_at.map(update::timestamp),
            create_time: Some(update::timestamp(file.created_at)),
            update_time: Some(update::timestamp(file.updated_at)),
            delete_time: file.deleted_at.map(update::timestamp),
            etag: update::etag(file.revision),
        }
    }
}

impl From<Version> for proto::FileVersion {
    fn from(version: Version) -> Self {
        Self {
            number: version.number,
            mime_type: version.mime_type,
            size_bytes: version.size_bytes,
            sha256: hex::encode(version.sha256),
            state: proto::FileState::from(version.state).into(),
            uploaded_by: version.uploaded_by.to_string(),
            create_time: Some(update::timestamp(version.created_at)),
        }
    }
}

/// What a download carries, of which range.
pub(super) fn download(stored: &Stored, offset: i64, length: i64, shown: bool) -> proto::Download {
    proto::Download {
        file_id: stored.file.to_string(),
        name: stored.name.clone(),
        mime_type: stored.mime_type.clone(),
        size_bytes: stored.size_bytes,
        sha256: hex::encode(&stored.sha256),
        version: stored.version,
        offset,
        length,
        create_time: Some(update::timestamp(stored.created_at)),
        shown,
    }
}

/// What the download of an export's archive carries.
pub(super) fn archive(archive: &Archive, offset: i64, length: i64) -> proto::Download {
    proto::Download {
        file_id: archive.request.to_string(),
        name: format!("studios-export-{}.zip", archive.request),
        mime_type: "application/zip".into(),
        size_bytes: archive.size_bytes,
        sha256: hex::encode(&archive.sha256),
        version: 1,
        offset,
        length,
        create_time: Some(update::timestamp(archive.made_at)),
        shown: false,
    }
}

#[cfg(test)]
mod tests {
    use service_kit::ids::StudioId;

    use super::*;

    fn fields<T: std::fmt::Debug>(result: Result<T>) -> Vec<String> {
        match result {
            Err(Error::Invalid(violations)) => violations.into_iter().map(|it| it.field).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn everything_wrong_with_a_new_file_is_named() {
        let wrong = proto::NewFile {
            studio_id: "x".into(),
            file_id: "x".into(),
            name: "../x".into(),
            mime_type: "image/svg+xml".into(),
            size_bytes: 0,
            access_level: 9,
            sha256: "ab".into(),
            metadata: Some(update::json_to_struct(&Map::from_iter([(
                "a".to_owned(),
                Value::String("x".repeat(METADATA_BYTES)),
            )]))),
            request_id: "x".into(),
        };
        assert_eq!(
            fields(NewFile::try_from(wrong)),
            [
                "file.studio_id",
                "file.file_id",
                "file.name",
                "file.mime_type",
                "file.size_bytes",
                "file.access_level",
                "file.metadata",
                "file.sha256",
                "request_id",
            ]
        );
    }

    #[test]
    fn a_clean_up_has_a_condition() {
        let request = proto::CleanUpFilesRequest {
            studio_id: StudioId::generate().to_string(),
            ..Default::default()
        };
        assert_eq!(fields(CleanUp::try_from(&request)), ["made_before"]);
        let request = proto::CleanUpFilesRequest {
            least_bytes: 5,
            ..request
        };
        let read = CleanUp::try_from(&request).unwrap();
        assert_eq!((read.limit, read.least_bytes), (1000, Some(5)));
    }

    #[test]
    fn a_url_is_good_for_five_minutes_or_as_long_as_said_up_to_a_day() {
        let now = OffsetDateTime::UNIX_EPOCH;
        assert_eq!(url_end(None, now).unwrap(), now + Duration::from_mins(5));
        let seconds = |seconds| prost_types::Duration { seconds, nanos: 0 };
        assert_eq!(url_end(Some(&seconds(9)), now).unwrap(), now + Duration::from_secs(9));
        for wrong in [-1, 0, 86_401] {
            assert_eq!(fields(url_end(Some(&seconds(wrong)), now)), ["lifetime"]);
        }
    }
}
