//! Taking a new document: its row, its text and the job that cuts it in one commit.

use serde_json::{Map, Value};
use service_kit::{
    audit::About,
    auth::Caller,
    db::{Claims, TenantTx},
    error::{Error, Result},
    ids::{DocumentId, FileId, StudioId},
};
use sha2::{Digest, Sha256};

use super::{AccessLevel, Document, Language, MimeType, chunker, company_of, parts, reached, store};
use crate::{
    App,
    companies::storage,
    files::download::{self, Stored},
    jobs::{self, Task},
    requests,
};

/// The longest text that is given, in bytes: it comes in one message.
pub(super) const TEXT_BYTES: usize = 4 * 1024 * 1024;

/// How much longer than a file its text may be: so small is what unpacks to much, and what makes trouble.
const TIMES_LONGER: i64 = 16;

/// The longest text that a file of so many bytes may have: no more than a given one where the file is small, and never more than
/// the longest of all.
pub(super) fn most_bytes(file_bytes: i64, longest: i64) -> i64 {
    let of_file = file_bytes.saturating_mul(TIMES_LONGER);
    longest.min(of_file.max(4 << 20))
}

/// What a document is made from.
#[derive(Clone, Debug)]
pub(super) struct NewDocument {
    pub(super) key: Option<requests::Key>,
    pub(super) studio: StudioId,
    pub(super) title: String,
    pub(super) access_level: AccessLevel,
    pub(super) metadata: Map<String, Value>,
    /// Found out from the text where nobody tells.
    pub(super) language: Option<Language>,
    pub(super) tags: Vec<String>,
    pub(super) content: Content,
}

/// Where its text comes from.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// It is given.
    Text {
        /// What kind of text it is.
        mime_type: MimeType,
        /// The text.
        text: Text,
    },
    /// It is extracted from this file, as this version or the current one has it.
    File(FileId, Option<i32>),
}

/// What is stored of the origin at first.
pub(super) enum Origin<'a> {
    Text(MimeType, &'a Text),
    /// With what its text may have.
    File(MimeType, &'a Stored, i64),
}

/// A text that can be stored and shows something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) content: String,
    /// Whether something had to be taken out of it.
    pub(super) cleaned: bool,
}

impl Text {
    /// Takes out what PostgreSQL cannot store. Says what the text must be if it is none that is taken.
    pub(super) fn read(text: String) -> Result<Self, &'static str> {
        if !(1..=TEXT_BYTES).contains(&text.len()) {
            return Err("must have 1 byte to 4 MiB");
        }
        let cleaned = text.contains('\0');
        let content = if cleaned { text.replace('\0', "") } else { text };
        if content.chars().all(chunker::is_blank) {
            return Err("must not be blank");
        }
        Ok(Self { content, cleaned })
    }

    pub(super) fn sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.content).into()
    }

    /// The text's length in bytes.
    pub(super) fn size_bytes(&self) -> i64 {
        parts::length(&self.content)
    }
}

/// Makes a document, or answers with the one made the first time.
pub(super) async fn create(app: &App, caller: &Caller, new: &NewDocument) -> Result<Document> {
    let file = match new.content {
        Content::File(id, version) => Some(download::find(app, caller.user, id, version).await?),
        Content::Text { .. } => None,
    };
    let mut tx = TenantTx::begin(&app.pool, "documents.create", &Claims::user(caller.user)).await?;
    let id = DocumentId::generate();
    if let Some(first) = requests::claim(&mut tx, new.key.as_ref(), id).await? {
        return reached(&mut tx, first).await;
    }
    let company = company_of(&mut tx, new.studio).await?;
    match (&new.content, &file) {
        (Content::Text { mime_type, text }, _) => {
            let origin = Origin::Text(*mime_type, text);
            store::insert(&mut tx, id, company, caller.user, new, &origin).await?;
            store::insert_text(&mut tx, id, company, &parts::of(&text.content, 0)).await?;
        }
        (Content::File(..), Some(file)) if file.company == company => {
            let most = most_bytes(file.size_bytes, app.max_document_bytes);
            let origin = Origin::File(extracted(file)?, file, most);
            store::insert(&mut tx, id, company, caller.user, new, &origin).await?;
        }
        // Text does not wander from one company to another.
        (Content::File(file, _), _) => return Err(Error::not_found("file", file)),
    }
    jobs::enqueue(&mut tx, company, Task::ProcessDocument { document: id }).await?;
    let document = reached(&mut tx, id).await?;
    app.audit
        .record(&mut tx, About::company(company, "document", id))
        .await?;
    storage::commit(app, caller, tx, company).await?;
    app.job_signal.wake();
    Ok(document)
}

/// The kind of a file that text can be taken from.
fn extracted(file: &Stored) -> Result<MimeType> {
    MimeType::parse(&file.mime_type).ok_or_else(|| Error::FailedPrecondition {
        reason: "FILE_HAS_NO_TEXT",
        message: format!("no text can be taken from files of the type {}", file.mime_type),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nul_is_taken_out_and_told() {
        let text = Text::read("a\0b\0".into()).unwrap();
        assert_eq!(
            (text.content.as_str(), text.cleaned, text.size_bytes()),
            ("ab", true, 2)
        );
        assert!(!Text::read("ab".into()).unwrap().cleaned);
    }

    #[test]
    fn a_text_is_not_too_long_for_its_file_and_never_longer_than_the_longest() {
        const MIB: i64 = 1 << 20;
        let most = |file: i64| most_bytes(file, 64 * MIB);
        assert_eq!(
            [most(0), most(MIB / 4), most(MIB), most(4 * MIB), most(i64::MAX)],
            [4, 4, 16, 64, 64].map(|it| it * MIB)
        );
        assert_eq!(most_bytes(9 * MIB, 1000), 1000);
    }

    #[test]
    fn a_text_has_a_length_and_shows_something() {
        assert!(Text::read("a".repeat(TEXT_BYTES)).is_ok());
        for text in [String::new(), "a".repeat(TEXT_BYTES + 1)] {
            assert_eq!(Text::read(text), Err("must have 1 byte to 4 MiB"));
        }
        for text in [" \n\t\u{a0}", "\0", "\u{feff}\0\n"] {
            assert_eq!(Text::read(text.into()), Err("must not be blank"));
        }
    }
}
