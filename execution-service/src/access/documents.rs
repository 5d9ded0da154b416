//! Documents as a user has them, read and made in his name.

use prost::Message;
use prost_types::{FieldMask, Struct};
use service_kit::{
    error::{Error, Result},
    ids::{DocumentId, FileId, StudioId, UserId},
    status,
};
use studios_proto::core::{
    CreateDocumentRequest, DeleteDocumentRequest, Document, GetDocumentRequest, GetDocumentTextRequest,
    ListDocumentsRequest, UpdateDocumentRequest,
};
use uuid::Uuid;

use super::{CoreClient, Level, SEARCH_TIMEOUT, convert, files::FILE_TIMEOUT, named};

/// The longest text that core-service sends, with what is around it.
const MESSAGE_BYTES: usize = 5 << 20;

/// A document without its text.
#[derive(Clone, Debug)]
pub struct Described {
    /// The studio it belongs to.
    pub studio: StudioId,
    /// For people.
    pub title: String,
    /// What kind of text it is.
    pub mime_type: String,
    /// The file that it was made from, if that is still there.
    pub file: Option<FileId>,
    /// Who made it.
    pub created_by: UserId,
    /// What else a document that takes its place has, as core-service says it.
    pub(super) rest: Rest,
}

/// What a document has that nothing here asks about.
#[derive(Clone, Debug, Default)]
pub(super) struct Rest {
    access_level: i32,
    language: String,
    tags: Vec<String>,
    metadata: Option<Struct>,
}

/// A document to be made.
#[derive(Clone, Debug)]
pub struct Made {
    /// As it is to be described; a file's kind of text is the file's.
    pub described: Described,
    /// What its text is taken from.
    pub origin: MadeOf,
    /// What it is made for. The same again for the same answers with the document of before.
    pub cause: String,
}

/// What a document's text is taken from.
#[derive(Clone, Debug)]
pub enum MadeOf {
    /// It is this one.
    Text(String),
    /// A version of a file.
    File(FileId, i32),
}

impl Described {
    /// A new document of markdown, which all see who reach the studio.
    pub fn markdown(studio: StudioId, title: String, user: UserId) -> Self {
        Self {
            studio,
            title,
            mime_type: "text/markdown".into(),
            file: None,
            created_by: user,
            rest: Rest::default(),
        }
    }

    /// Who reaches it.
    pub fn level(&self) -> Level {
        convert::level_of(self.rest.access_level)
    }
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

impl CoreClient {
    /// A document that the user reaches.
    pub async fn document(&self, user: UserId, id: DocumentId) -> Result<Described> {
        let request = self.call(user, GetDocumentRequest { id: id.to_string() }, SEARCH_TIMEOUT);
        let answer = self.documents.clone().get_document(request).await;
        let found = answer.map_err(status::from_status)?.into_inner();
        Ok(Described {
            studio: convert::id(&found.studio_id)?,
            file: match found.file_id.as_str() {
                "" => None,
                file => Some(convert::id(file)?),
            },
            created_by: convert::id(&found.created_by)?,
            title: found.title,
            mime_type: found.mime_type,
            rest: Rest {
                access_level: found.access_level,
                language: found.language,
                tags: found.tags,
                metadata: found.metadata,
            },
        })
    }

    /// The text of a document that the user reaches; empty until there is one.
    ///
    /// # Errors
    /// `FailedPrecondition` where it is longer than 4 MiB.
    pub async fn document_text(&self, user: UserId, id: DocumentId) -> Result<String> {
        let request = GetDocumentTextRequest {
            id: id.to_string(),
            ..GetDocumentTextRequest::default()
        };
        let request = self.call(user, request, SEARCH_TIMEOUT);
        let mut documents = self.documents.clone().max_decoding_message_size(MESSAGE_BYTES);
        let answer = documents.get_document_text(request).await;
        let found = answer.map_err(status::from_status)?.into_inner();
        if found.next_offset != 0 {
            return Err(Error::FailedPrecondition {
                reason: "DOCUMENT_TOO_LONG",
                message: format!(
                    "the document's text has {} bytes; one of more than 4 MiB cannot be changed here",
                    found.size_bytes
                ),
            });
        }
        Ok(found.text)
    }

    /// Makes a document in the user's name, once for its cause.
    pub async fn create_document(&self, user: UserId, made: &Made) -> Result<DocumentId> {
        let it = &made.described;
        let (text, file_id, file_version) = match &made.origin {
            MadeOf::Text(text) => (text.clone(), String::new(), 0),
            MadeOf::File(file, version) => (String::new(), file.to_string(), *version),
        };
        let mut request = CreateDocumentRequest {
            document: Some(Document {
                studio_id: it.studio.to_string(),
                title: it.title.clone(),
                mime_type: it.mime_type.clone(),
                access_level: it.rest.access_level,
                language: it.rest.language.clone(),
                tags: it.rest.tags.clone(),
                metadata: it.rest.metadata.clone(),
                ..Document::default()
            }),
            text,
            file_id,
            file_version,
            ..CreateDocumentRequest::default()
        };
        // One wish is one request: another one under the same id would be refused.
        let wish = [made.cause.as_bytes(), &request.encode_to_vec()].concat();
        request.request_id = named(wish).to_string();
        match self.send_document(user, request.clone()).await {
            // The one that this made before was deleted since.
            Err(Error::NotFound { .. }) => {
                request.request_id = Uuid::now_v7().to_string();
                self.send_document(user, request).await
            }
            other => other,
        }
    }

    async fn send_document(&self, user: UserId, request: CreateDocumentRequest) -> Result<DocumentId> {
        let request = self.call(user, request, SEARCH_TIMEOUT);
        let answer = self.documents.clone().create_document(request).await;
        convert::id(&answer.map_err(status::from_status)?.into_inner().id)
    }

    /// Calls a document otherwise in the user's name.
    pub async fn rename_document(&self, user: UserId, id: DocumentId, title: &str) -> Result<()> {
        let request = UpdateDocumentRequest {
            document: Some(Document {
                id: id.to_string(),
                title: title.to_owned(),
                ..Document::default()
            }),
            update_mask: Some(FieldMask {
                paths: vec!["title".into()],
            }),
        };
        let request = self.call(user, request, SEARCH_TIMEOUT);
        let answer = self.documents.clone().update_document(request).await;
        answer.map(drop).map_err(status::from_status)
    }

    /// Removes a document in the user's name.
    pub async fn delete_document(&self, user: UserId, id: DocumentId) -> Result<()> {
        let request = self.call(user, DeleteDocumentRequest { id: id.to_string() }, SEARCH_TIMEOUT);
        let answer = self.documents.clone().delete_document(request).await;
        answer.map(drop).map_err(status::from_status)
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
