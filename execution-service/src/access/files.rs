//! Files of core-service, as a user reaches them.

use std::time::Duration;

use futures::{StreamExt, stream};
use service_kit::{
    error::{Error, Result},
    ids::{CompanyId, FileId, StudioId, UserId},
    status,
};
use sha2::{Digest, Sha256};
use studios_proto::core::{
    DownloadFileRequest, FileVersion, GetFileRequest, ListFileVersionsRequest, NewFile, UploadFileRequest,
};
use uuid::Uuid;

use super::{CoreClient, convert};

/// How much of a file goes in one message.
const MESSAGE_BYTES: usize = 64 << 10;
/// The longest file that is read as a text.
const TEXT_BYTES: usize = 5 << 20;
/// How long core-service may take to keep a file, or to give it.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long core-service may take to say one thing of a file.
pub(super) const FILE_TIMEOUT: Duration = Duration::from_secs(5);

/// A file, and its current version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFacts {
    /// The company it belongs to.
    pub company: CompanyId,
    /// The studio it belongs to.
    pub studio: StudioId,
    /// Its name.
    pub name: String,
    /// Who reaches it.
    pub level: Level,
    /// Whether it is deleted softly, and could be brought back.
    pub is_deleted: bool,
    /// Its current version.
    pub current: VersionFacts,
}

/// A version of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionFacts {
    /// From 1.
    pub number: i32,
    /// Whether its bytes can be read.
    pub readable: Readable,
    /// What its content is.
    pub mime_type: String,
    /// Its size.
    pub size_bytes: i64,
    /// SHA-256 of its bytes, in lower-case hexadecimal.
    pub sha256: String,
}

/// Who reaches a file or a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Its maker alone.
    Private,
    /// Who reaches its studio.
    Studio,
    /// All of the company.
    Company,
}

/// Whether a version's bytes can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readable {
    /// They can.
    Yes,
    /// They wait to be scanned.
    NotYet,
    /// The scanner found something in them.
    Quarantined,
    /// They are no longer there.
    Lost,
}

/// A text that is to be kept as a file.
#[derive(Clone, Copy, Debug)]
pub struct NewUpload<'n> {
    /// The studio it will belong to.
    pub studio: StudioId,
    /// The file that it is a new version of, if it is one.
    pub file: Option<FileId>,
    /// Its name.
    pub name: &'n str,
    /// What its content is.
    pub mime_type: &'n str,
    /// Who reaches it.
    pub level: Level,
    /// Its content.
    pub content: &'n str,
    /// Makes a repeated upload answer with the first one's file.
    pub request_id: Uuid,
}

impl CoreClient {
    /// Keeps a text as a file, or finds the one that was kept of it before: its id, name and the version that the text is.
    pub async fn keep_file(&self, user: UserId, new: NewUpload<'_>) -> Result<(FileId, String, VersionFacts)> {
        let sha256 = hex::encode(Sha256::digest(new.content));
        let file = NewFile {
            studio_id: new.studio.to_string(),
            file_id: new.file.map(|it| it.to_string()).unwrap_or_default(),
            name: new.name.to_owned(),
            mime_type: new.mime_type.to_owned(),
            size_bytes: i64::try_from(new.content.len()).map_err(Error::internal)?,
            access_level: convert::level(new.level).into(),
            sha256: sha256.clone(),
            request_id: new.request_id.to_string(),
            ..Default::default()
        };
        let mut messages: Vec<_> = new.content.as_bytes().chunks(MESSAGE_BYTES).map(part).collect();
        if let Some(first) = messages.first_mut() {
            first.file = Some(file);
        }
        let mut files = self.files.clone();
        let answer = files
            .upload_file(self.call(user, stream::iter(messages), UPLOAD_TIMEOUT))
            .await;
        let kept = answer.map_err(status::from_status)?.into_inner();
        let (id, facts) = (convert::id(&kept.id)?, convert::file(kept)?);
        if facts.current.sha256 == sha256 {
            return Ok((id, facts.name, facts.current));
        }
        // A new version is not the current one until it is scanned, nor after another one.
        let found = self.version_where(user, id, |it| it.sha256 == sha256).await?;
        let version = found.ok_or_else(|| Error::not_found("version", id))?;
        Ok((id, facts.name, version))
    }

    /// A file that the user reaches; `NotFound` otherwise.
    pub async fn file(&self, user: UserId, id: FileId) -> Result<FileFacts> {
        let request = GetFileRequest { id: id.to_string() };
        let mut files = self.files.clone();
        let answer = files.get_file(self.call(user, request, FILE_TIMEOUT)).await;
        convert::file(answer.map_err(status::from_status)?.into_inner())
    }

    /// A version of a file that the user reaches, if there is such a one.
    pub async fn file_version(&self, user: UserId, id: FileId, number: i32) -> Result<Option<VersionFacts>> {
        self.version_where(user, id, |it| it.number == number).await
    }

    /// The newest such version of a file.
    async fn version_where(
        &self,
        user: UserId,
        id: FileId,
        is_it: impl Fn(&FileVersion) -> bool,
    ) -> Result<Option<VersionFacts>> {
        let mut request = ListFileVersionsRequest {
            file_id: id.to_string(),
            page_size: 1_000,
            page_token: String::new(),
        };
        let mut files = self.files.clone();
        loop {
            let asked = self.call(user, request.clone(), FILE_TIMEOUT);
            let page = files
                .list_file_versions(asked)
                .await
                .map_err(status::from_status)?
                .into_inner();
            if let Some(found) = page.versions.into_iter().find(&is_it) {
                return Ok(Some(convert::version(found)));
            }
            if page.next_page_token.is_empty() {
                return Ok(None);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// What the file's current version holds, if that is no more than a text may be, and its number.
    pub async fn file_text(&self, user: UserId, id: FileId) -> Result<(Option<String>, i32)> {
        let mut files = self.files.clone();
        let request = self.call(user, GetFileRequest { id: id.to_string() }, UPLOAD_TIMEOUT);
        let found = files.get_file(request).await.map_err(status::from_status)?.into_inner();
        if usize::try_from(found.size_bytes).map_or(true, |it| it > TEXT_BYTES) {
            return Ok((None, found.version));
        }
        let request = DownloadFileRequest {
            id: id.to_string(),
            version: found.version,
            ..DownloadFileRequest::default()
        };
        let request = self.call(user, request, UPLOAD_TIMEOUT);
        let mut pieces = files
            .download_file(request)
            .await
            .map_err(status::from_status)?
            .into_inner();
        let mut bytes = Vec::new();
        while let Some(piece) = pieces.next().await {
            bytes.extend(piece.map_err(status::from_status)?.data);
        }
        Ok((String::from_utf8(bytes).ok(), found.version))
    }
}

fn part(bytes: &[u8]) -> UploadFileRequest {
    UploadFileRequest {
        file: None,
        data: bytes.to_vec().into(),
    }
}

/// The UUID that stands for a name.
pub fn named(name: impl AsRef<[u8]>) -> Uuid {
    let hash: [u8; 32] = Sha256::digest(name).into();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}
