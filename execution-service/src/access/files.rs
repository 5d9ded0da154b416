//! Files of core-service and the documents of their texts, as a user reaches them.

use std::time::Duration;

use futures::stream;
use service_kit::{
    error::{Error, Result},
    ids::{CompanyId, DocumentId, FileId, StudioId, UserId},
    status,
};
use sha2::{Digest, Sha256};
use studios_proto::core::{
    CreateDocumentRequest, Document, FileVersion, GetDocumentRequest, GetFileRequest, ListDocumentsRequest,
    ListFileVersionsRequest, NewFile, UploadFileRequest,
};
use uuid::Uuid;

use super::{CoreClient, convert};

/// How much of a file goes in one message.
const MESSAGE_BYTES: usize = 64 << 10;
/// How long core-service may take to keep a file.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long core-service may take to say one thing of a file.
const FILE_TIMEOUT: Duration = Duration::from_secs(5);

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

/// Whether passages can be found in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextState {
    /// They can.
    Ready,
    /// Its text is still being taken and cut.
    Coming,
    /// There is none.
    Failed {
        /// The document's title.
        title: String,
        /// Why, for people.
        reason: String,
    },
}

/// The document that is wanted of a version of a file.
#[derive(Clone, Copy, Debug)]
pub struct NewText<'n> {
    /// The studio that it is to be found in.
    pub studio: StudioId,
    /// The file.
    pub file: FileId,
    /// The version.
    pub version: i32,
    /// What it is called.
    pub title: &'n str,
    /// Who reaches it.
    pub level: Level,
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

    /// The document of a file's version: one that the user sees in the studio, or else a new one. None where no text can be taken
    /// from such a file.
    pub async fn text_of(&self, user: UserId, wanted: NewText<'_>) -> Result<Option<DocumentId>> {
        let known = self.known_text(user, wanted.studio, (wanted.file, wanted.version));
        if let Some(found) = known.await? {
            return Ok(Some(found));
        }
        // The same wish made twice at once, or again after a crash, makes one.
        match self.make_text(user, wanted, request_id(user, wanted)).await {
            // The one that this made before was deleted since.
            Err(Error::NotFound { .. }) => self.make_text(user, wanted, Uuid::now_v7()).await,
            other => other,
        }
    }

    /// Whether passages can be found in a document that the user reaches.
    pub async fn text_state(&self, user: UserId, id: DocumentId) -> Result<TextState> {
        let request = GetDocumentRequest { id: id.to_string() };
        let mut documents = self.documents.clone();
        let answer = documents.get_document(self.call(user, request, FILE_TIMEOUT)).await;
        Ok(convert::text_state(&answer.map_err(status::from_status)?.into_inner()))
    }

    /// The document of a file's version that the user sees in a studio: the newest that has not failed, or else the newest.
    pub async fn known_text(
        &self,
        user: UserId,
        studio: StudioId,
        (file, version): (FileId, i32),
    ) -> Result<Option<DocumentId>> {
        let request = ListDocumentsRequest {
            studio_id: studio.to_string(),
            file_id: file.to_string(),
            file_version: version,
            ..Default::default()
        };
        let mut documents = self.documents.clone();
        let answer = documents.list_documents(self.call(user, request, FILE_TIMEOUT)).await;
        let known = answer.map_err(status::from_status)?.into_inner().documents;
        let failed = |it: &&Document| matches!(convert::text_state(it), TextState::Failed { .. });
        let best = known.iter().find(|it| !failed(it)).or_else(|| known.first());
        best.map(|it| convert::id(&it.id)).transpose()
    }

    async fn make_text(&self, user: UserId, wanted: NewText<'_>, request_id: Uuid) -> Result<Option<DocumentId>> {
        let request = CreateDocumentRequest {
            document: Some(Document {
                studio_id: wanted.studio.to_string(),
                title: wanted.title.to_owned(),
                access_level: convert::level(wanted.level).into(),
                ..Default::default()
            }),
            request_id: request_id.to_string(),
            file_id: wanted.file.to_string(),
            file_version: wanted.version,
            ..Default::default()
        };
        let mut documents = self.documents.clone();
        let answer = documents.create_document(self.call(user, request, FILE_TIMEOUT)).await;
        match answer.map_err(status::from_status) {
            Ok(made) => convert::id(&made.into_inner().id).map(Some),
            Err(Error::FailedPrecondition {
                reason: "FILE_HAS_NO_TEXT",
                ..
            }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn part(bytes: &[u8]) -> UploadFileRequest {
    UploadFileRequest {
        file: None,
        data: bytes.to_vec().into(),
    }
}

/// The same for all of the same wish.
fn request_id(user: UserId, wanted: NewText<'_>) -> Uuid {
    let NewText {
        studio,
        file,
        version,
        title,
        level,
    } = wanted;
    let wish = format!("execution-file/{user}/{studio}/{file}/{version}/{level:?}/{title}");
    named(wish)
}

/// The UUID that stands for a name.
pub fn named(name: impl AsRef<[u8]>) -> Uuid {
    let hash: [u8; 32] = Sha256::digest(name).into();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wish_has_one_request_id_and_another_one_another() {
        let (user, studio, file) = (UserId::generate(), StudioId::generate(), FileId::generate());
        let wanted = NewText {
            studio,
            file,
            version: 1,
            title: "Contract",
            level: Level::Studio,
        };
        assert_eq!(request_id(user, wanted), request_id(user, wanted));
        for other in [
            NewText { version: 2, ..wanted },
            NewText {
                title: "Other",
                ..wanted
            },
            NewText {
                level: Level::Private,
                ..wanted
            },
        ] {
            assert_ne!(request_id(user, wanted), request_id(user, other));
        }
        assert_ne!(request_id(user, wanted), request_id(UserId::generate(), wanted));
    }
}
