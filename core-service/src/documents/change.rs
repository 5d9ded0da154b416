//! Changing what a document is called and found under, and who reaches it; its text never changes.

use serde_json::{Map, Value};
use service_kit::{
    audit::About,
    auth::Caller,
    db::{Claims, TenantTx},
    error::{Error, Result},
    ids::DocumentId,
    update,
};

use super::{AccessLevel, Document, Language, ProcessingStatus, reached, store};
use crate::{
    App,
    companies::memberships,
    jobs::{self, Task},
};

/// An update of a document.
#[derive(Clone, Debug)]
pub(super) struct DocumentUpdate {
    /// Which document.
    pub id: DocumentId,
    /// If not empty, what it must still have.
    pub etag: String,
    /// What becomes different.
    pub changes: Vec<Change>,
}

/// What an update changes.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Title(String),
    AccessLevel(AccessLevel),
    Metadata(Map<String, Value>),
    /// None has it found out.
    Language(Option<Language>),
    Tags(Vec<String>),
}

/// What an update has made of a document.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Details {
    pub title: String,
    pub access_level: AccessLevel,
    pub metadata: Map<String, Value>,
    pub language: Option<Language>,
    pub tags: Vec<String>,
}

impl Details {
    fn of(document: &Document) -> Self {
        Self {
            title: document.title.clone(),
            access_level: document.access_level,
            metadata: document.metadata.clone(),
            language: document.is_language_told.then_some(document.language),
            tags: document.tags.clone(),
        }
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::Title(it) => self.title = it,
            Change::AccessLevel(it) => self.access_level = it,
            Change::Metadata(it) => self.metadata = it,
            Change::Language(it) => self.language = it,
            Change::Tags(it) => self.tags = it,
        }
    }
}

/// Changes a document; its maker and the company's admins may. In another language it is cut anew, for its words have other stems.
pub(super) async fn update(app: &App, caller: &Caller, update: &DocumentUpdate) -> Result<Document> {
    let id = update.id;
    let mut tx = TenantTx::begin(&app.pool, "documents.update", &Claims::user(caller.user)).await?;
    store::lock(&mut tx, id).await?;
    let document = reached(&mut tx, id).await?;
    let place = memberships::place(&mut tx, document.company).await?;
    place.require_admin_unless(document.created_by == caller.user)?;
    update::check_etag(&update.etag, document.revision)?;
    let before = Details::of(&document);
    let mut details = before.clone();
    for change in update.changes.iter().cloned() {
        details.change(change);
    }
    if details == before {
        return Ok(document);
    }
    if details.access_level == AccessLevel::Private && document.created_by != caller.user {
        return Err(Error::PermissionDenied {
            reason: "MAKER_REQUIRED",
            message: "only who made a document can make it private".into(),
        });
    }
    store::update(&mut tx, id, &details).await?;
    let is_cut_anew = details.language != before.language;
    if is_cut_anew && document.status != ProcessingStatus::Pending {
        store::set_pending(&mut tx, id).await?;
        jobs::enqueue(&mut tx, document.company, Task::ProcessDocument { document: id }).await?;
    }
    let document = reached(&mut tx, id).await?;
    app.audit
        .record(&mut tx, About::company(document.company, "document", id))
        .await?;
    tx.commit().await?;
    if is_cut_anew {
        app.job_signal.wake();
    }
    Ok(document)
}
