//! Files of a studio: their descriptions here, their bytes in the object store ([`objects`](crate::objects)).
//!
//! A file appears when all of its bytes are in the store and are what was claimed, in the commit that ends its upload; until
//! then there is a reservation of its size and nothing else. Its versions never change; a new one becomes the current one. What
//! is scanned is seen by who uploaded it alone until it is found clean. Deletion is soft for [`RETENTION`].

use std::{sync::Arc, time::Duration};

use serde::Serialize;
use serde_json::{Map, Value};
use service_kit::{
    audit::{self, About},
    auth::Caller,
    db::{Claims, TenantTx},
    error::{Error, Result},
    ids::{CompanyId, FileId, StudioId, UserId},
    page::Page,
    update,
};
use time::OffsetDateTime;
use tokio::sync::{Notify, Semaphore};
use tracing::{Span, field::display};

use crate::{App, companies::memberships, documents::AccessLevel};

pub mod api;
mod checksum;
mod convert;
pub mod download;
mod finish;
mod inspect;
mod mime;
mod pending;
mod reserve;
pub(crate) mod scan;
mod store;
pub(crate) mod sweep;
pub mod tidy;
pub mod transfer_api;
mod upload_store;
mod urls;
mod worker_store;
mod write;

pub use mime::Mime;
pub use scan::Scanner;

/// How long a softly deleted file can be brought back.
pub const RETENTION: Duration = Duration::from_hours(30 * 24);

/// How many uploads a replica writes at once. Each holds a part in memory; more wait.
const WRITERS: usize = 32;

/// What the feature is set up with.
#[derive(Debug)]
pub struct Settings {
    /// The largest file, in bytes.
    pub max_bytes: i64,
    /// What looks at files before they are seen, if anything does.
    pub scanner: Option<Scanner>,
    writers: Arc<Semaphore>,
    untidy: Notify,
}

impl Settings {
    /// Settings with nothing under way.
    pub fn new(max_bytes: i64, scanner: Option<Scanner>) -> Self {
        Self {
            max_bytes,
            scanner,
            writers: Arc::new(Semaphore::new(WRITERS)),
            untidy: Notify::new(),
        }
    }
}

/// A file, as its current version is.
#[derive(Clone, Debug)]
pub struct File {
    /// Its id.
    pub id: FileId,
    /// The company it belongs to.
    pub company: CompanyId,
    /// The studio it belongs to.
    pub studio: StudioId,
    /// What is said about it.
    pub details: Details,
    /// Whether it can be read.
    pub state: State,
    /// Why not, for people.
    pub state_reason: String,
    /// The number of its current version.
    pub version: i32,
    /// What its content is.
    pub mime_type: String,
    /// Its size.
    pub size_bytes: i64,
    /// SHA-256 of its bytes.
    pub sha256: Vec<u8>,
    /// Who uploaded it first.
    pub uploaded_by: UserId,
    /// When its bytes were last read, to within five minutes.
    pub last_accessed_at: Option<OffsetDateTime>,
    /// When it was deleted softly.
    pub deleted_at: Option<OffsetDateTime>,
    /// Grows with every update.
    pub revision: i64,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it last changed.
    pub updated_at: OffsetDateTime,
}

/// What is said about a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Details {
    /// Its name.
    pub name: String,
    /// Who reaches it.
    pub access_level: AccessLevel,
    /// Free JSON of the client's.
    pub metadata: Map<String, Value>,
}

/// One of a file's versions.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "named like the fields of `File`")]
pub struct Version {
    pub number: i32,
    pub mime_type: String,
    pub size_bytes: i64,
    pub sha256: Vec<u8>,
    pub state: State,
    pub uploaded_by: UserId,
    pub created_at: OffsetDateTime,
}

/// Whether a file can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum State {
    /// Waits to be scanned.
    Scanning,
    /// Can be read.
    Ready,
    /// The scanner found something in it.
    Quarantined,
    /// Its bytes are no longer in the store.
    Lost,
}

/// Which files to list.
#[derive(Clone, Debug, Serialize)]
pub struct Filter {
    /// Those of this studio.
    pub studio: StudioId,
    /// Only of this type.
    pub mime_type: Option<String>,
    /// Only those whose name begins so, whatever the case.
    pub name_prefix: Option<String>,
    /// Only those that this user uploaded.
    pub uploaded_by: Option<UserId>,
    /// Only those in this state.
    pub state: Option<State>,
    /// Also softly deleted ones.
    pub show_deleted: bool,
}

/// An update of a file.
#[derive(Clone, Debug)]
pub struct FileUpdate {
    /// Which file.
    pub id: FileId,
    /// If not empty, what it must still have.
    pub etag: String,
    /// What becomes different.
    pub changes: Vec<Change>,
}

/// What an update changes.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "named like the fields of `Details`")]
pub enum Change {
    Name(String),
    AccessLevel(AccessLevel),
    Metadata(Map<String, Value>),
}

/// Which files are deleted together: those that every given condition holds for.
#[derive(Clone, Debug)]
pub struct CleanUp {
    /// Those of this studio.
    pub studio: StudioId,
    /// Made before that.
    pub made_before: Option<OffsetDateTime>,
    /// Not read since then, nor made since.
    pub unused_since: Option<OffsetDateTime>,
    /// At least as large.
    pub least_bytes: Option<i64>,
    /// Delete nothing.
    pub dry_run: bool,
    /// At most this many.
    pub limit: i64,
}

/// Reads a file that is not deleted, or that its uploader or an admin may bring back.
pub async fn get(app: &App, caller: &Caller, id: FileId) -> Result<File> {
    let mut tx = TenantTx::begin(&app.pool, "files.get", &Claims::user(caller.user)).await?;
    reached(&mut tx, id).await
}

/// Notes that somebody makes a URL by which whoever has it reads a file that he reaches.
pub async fn share(app: &App, caller: &Caller, id: FileId) -> Result<()> {
    let mut tx = TenantTx::begin(&app.pool, "files.share", &Claims::user(caller.user)).await?;
    let file = reached(&mut tx, id).await?;
    app.audit.record(&mut tx, about(&file)).await?;
    tx.commit().await
}

/// Lists a studio's files, newest first.
pub async fn list(app: &App, caller: &Caller, filter: &Filter, page: &Page<FileId>) -> Result<Vec<File>> {
    let mut tx = TenantTx::begin(&app.pool, "files.list", &Claims::user(caller.user)).await?;
    let company = company_of(&mut tx, filter.studio).await?;
    store::list(&mut tx, company, filter, page).await
}

/// Lists a file's versions, newest first.
pub async fn versions(app: &App, caller: &Caller, id: FileId, page: &Page<i32>) -> Result<Vec<Version>> {
    let mut tx = TenantTx::begin(&app.pool, "files.versions", &Claims::user(caller.user)).await?;
    reached(&mut tx, id).await?;
    store::versions(&mut tx, id, page).await
}

/// Changes what is said about a file; who uploaded it and admins may.
pub async fn update(app: &App, caller: &Caller, update: &FileUpdate) -> Result<File> {
    let mut tx = TenantTx::begin(&app.pool, "files.update", &Claims::user(caller.user)).await?;
    let file = enter(&mut tx, caller, update.id).await?;
    update::check_etag(&update.etag, file.revision)?;
    if file.deleted_at.is_some() {
        return Err(Error::FailedPrecondition {
            reason: "FILE_DELETED",
            message: "the file is deleted; bring it back first".into(),
        });
    }
    let mut details = file.details.clone();
    for change in update.changes.iter().cloned() {
        match change {
            Change::Name(it) => details.name = it,
            Change::AccessLevel(it) => details.access_level = it,
            Change::Metadata(it) => details.metadata = it,
        }
    }
    if details == file.details {
        return Ok(file);
    }
    if details.access_level == AccessLevel::Private && file.uploaded_by != caller.user {
        return Err(Error::PermissionDenied {
            reason: "UPLOADER_REQUIRED",
            message: "only who uploaded a file can make it private".into(),
        });
    }
    let named = Mime::parse(&file.mime_type).filter(|it| it.contradicts(&details.name));
    if let Some(mime) = named {
        return Err(Error::invalid(
            "file.name",
            format!("its ending says something else than {}", mime.name()),
        ));
    }
    store::update(&mut tx, file.id, &details).await?;
    let file = reached(&mut tx, file.id).await?;
    app.audit.record(&mut tx, about(&file)).await?;
    tx.commit().await?;
    Ok(file)
}

/// Deletes a file softly; who uploaded it and admins may.
pub async fn delete(app: &App, caller: &Caller, id: FileId, etag: &str) -> Result<File> {
    let mut tx = TenantTx::begin(&app.pool, "files.delete", &Claims::user(caller.user)).await?;
    let file = enter(&mut tx, caller, id).await?;
    update::check_etag(etag, file.revision)?;
    if file.deleted_at.is_some() {
        return Ok(file);
    }
    store::set_deleted(&mut tx, &[id], Some(app.clock.now())).await?;
    let file = reached(&mut tx, id).await?;
    app.audit.record(&mut tx, about(&file)).await?;
    tx.commit().await?;
    Ok(file)
}

/// Brings a softly deleted file back; who uploaded it and admins may.
pub async fn undelete(app: &App, caller: &Caller, id: FileId) -> Result<File> {
    let mut tx = TenantTx::begin(&app.pool, "files.undelete", &Claims::user(caller.user)).await?;
    let file = enter(&mut tx, caller, id).await?;
    let Some(deleted_at) = file.deleted_at else {
        return Ok(file);
    };
    if app.clock.now() > deleted_at + RETENTION {
        return Err(Error::FailedPrecondition {
            reason: "FILE_RETENTION_OVER",
            message: "the file was deleted more than 30 days ago".into(),
        });
    }
    store::set_deleted(&mut tx, &[id], None).await?;
    let file = reached(&mut tx, id).await?;
    app.audit.record(&mut tx, about(&file)).await?;
    tx.commit().await?;
    Ok(file)
}

/// Deletes files softly by what they are, or says which they would be; admins may.
pub async fn clean_up(app: &App, caller: &Caller, clean_up: &CleanUp) -> Result<Vec<File>> {
    let mut tx = TenantTx::begin(&app.pool, "files.clean_up", &Claims::user(caller.user)).await?;
    let company = company_of(&mut tx, clean_up.studio).await?;
    memberships::place(&mut tx, company).await?.require_admin()?;
    let mut files = store::superfluous(&mut tx, company, clean_up).await?;
    if !clean_up.dry_run && !files.is_empty() {
        let now = app.clock.now();
        let ids: Vec<_> = files.iter().map(|it| it.id).collect();
        store::set_deleted(&mut tx, &ids, Some(now)).await?;
        let cleaned = About::company(company, "studio", clean_up.studio).with("files", files.len());
        app.audit.record(&mut tx, cleaned).await?;
        tx.commit().await?;
        for file in &mut files {
            (file.deleted_at, file.revision) = (Some(now), file.revision + 1);
        }
        tracing::info!(files = files.len(), "files cleaned up");
    }
    Ok(files)
}

/// A file that the caller reaches, deleted softly or not.
async fn reached(tx: &mut TenantTx, id: FileId) -> Result<File> {
    let file = store::find(tx, id).await?.ok_or_else(|| not_found(id))?;
    tell(file.studio, file.company);
    Ok(file)
}

/// A file that the caller may change, held until the end of the transaction.
async fn enter(tx: &mut TenantTx, caller: &Caller, id: FileId) -> Result<File> {
    store::lock(tx, id).await?;
    let file = reached(tx, id).await?;
    let place = memberships::place(tx, file.company).await?;
    place.require_admin_unless(file.uploaded_by == caller.user)?;
    Ok(file)
}

/// The company of a studio that the caller reaches.
async fn company_of(tx: &mut TenantTx, studio: StudioId) -> Result<CompanyId> {
    let company = store::company_of(tx, studio).await?;
    let company = company.ok_or_else(|| Error::not_found("studio", studio))?;
    tell(studio, company);
    Ok(company)
}

/// Names whose data a call is about in its logs and trace.
fn tell(studio: StudioId, company: CompanyId) {
    let span = Span::current();
    span.record("studio", display(studio))
        .record("company", display(company));
}

fn about(file: &File) -> About {
    About::company(file.company, "file", file.id)
}

/// Records what is done by the caller, or by the user whose signed URL is used.
async fn record(app: &App, tx: &mut TenantTx, user: UserId, about: About) -> Result<()> {
    match audit::current_origin().and_then(|it| it.actor.clone()) {
        Some(_) => app.audit.record(tx, about).await,
        None => app.audit.record_by(tx, user, about).await,
    }
}

fn not_found(id: FileId) -> Error {
    Error::not_found("file", id)
}
