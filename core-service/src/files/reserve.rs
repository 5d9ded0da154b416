//! The beginning of an upload: its size is taken from the company's quota before the first byte, and given back with the
//! upload's row, whichever way that goes.

use std::time::Duration;

use serde_json::{Map, Value};
use service_kit::{
    audit::About,
    auth::Caller,
    db::{Claims, TenantTx},
    error::{Error, Result},
    ids::{CompanyId, FileId, LeaseId, StudioId, UploadId, UserId},
};
use time::OffsetDateTime;

use super::{Mime, company_of, enter, record, upload_store};
use crate::{App, companies::storage, documents::AccessLevel, requests};

/// How long a resumable upload may take.
const RESUMABLE: Duration = Duration::from_hours(24);

/// How long who writes has an upload for himself; renewed as bytes come.
pub(super) const LEASE: Duration = Duration::from_mins(1);

/// What is to be uploaded.
#[derive(Clone, Debug)]
pub(super) struct NewFile {
    pub(super) studio: StudioId,
    /// The file that it is a new version of.
    pub(super) file: Option<FileId>,
    pub(super) name: String,
    pub(super) mime: Mime,
    pub(super) size_bytes: i64,
    pub(super) access_level: AccessLevel,
    pub(super) metadata: Map<String, Value>,
    pub(super) sha256: Option<Vec<u8>>,
    /// Makes a repeated upload answer with the first one's file.
    pub(super) key: Option<requests::Key>,
}

/// An upload under way.
#[derive(Clone, Debug)]
pub(super) struct Upload {
    pub(super) id: UploadId,
    pub(super) company: CompanyId,
    pub(super) studio: StudioId,
    pub(super) file: Option<FileId>,
    pub(super) name: String,
    pub(super) mime_type: String,
    pub(super) access_level: AccessLevel,
    pub(super) metadata: Map<String, Value>,
    pub(super) expected_sha256: Option<Vec<u8>>,
    pub(super) size_bytes: i64,
    pub(super) received_bytes: i64,
    pub(super) part_bytes: i32,
    pub(super) multipart: Option<String>,
    pub(super) parts: Vec<String>,
    pub(super) tail: Vec<u8>,
    pub(super) inspection: Option<Vec<u8>>,
    pub(super) expires_at: OffsetDateTime,
}

/// Reserves a resumable upload's size.
pub(super) async fn resumable(app: &App, caller: &Caller, new: &NewFile) -> Result<Upload> {
    let until = app.clock.now() + RESUMABLE;
    reserve(app, caller, UploadId::generate(), new, None, until).await
}

/// Reserves the size of an upload that its stream ends with, one way or the other.
pub(super) async fn at_once(app: &App, caller: &Caller, lease: LeaseId, new: &NewFile) -> Result<Upload> {
    let until = app.clock.now() + LEASE;
    reserve(app, caller, UploadId::generate(), new, Some(lease), until).await
}

async fn reserve(
    app: &App,
    caller: &Caller,
    id: UploadId,
    new: &NewFile,
    lease: Option<LeaseId>,
    until: OffsetDateTime,
) -> Result<Upload> {
    if new.size_bytes > app.files.max_bytes {
        return Err(Error::invalid(
            "file.size_bytes",
            format!("must be 1 to {}", app.files.max_bytes),
        ));
    }
    let mut tx = TenantTx::begin(&app.pool, "files.reserve", &Claims::user(caller.user)).await?;
    let company = company_of(&mut tx, new.studio).await?;
    if let Some(file) = new.file {
        let file = enter(&mut tx, caller, file).await?;
        if file.studio != new.studio {
            return Err(super::not_found(file.id));
        }
        if new.mime.contradicts(&file.details.name) {
            return Err(Error::invalid("file.mime_type", "is not what the file's name says"));
        }
    }
    let part_bytes = i32::try_from(app.objects.part_bytes()).map_err(Error::internal)?;
    upload_store::insert(&mut tx, id, company, caller.user, new, part_bytes, lease, until).await?;
    let upload = upload_store::find(&mut tx, id).await?;
    let upload = upload.ok_or_else(|| Error::internal("an upload is not there after its insert"))?;
    if lease.is_none() {
        app.audit.record(&mut tx, About::company(company, "upload", id)).await?;
    }
    storage::commit(app, caller, tx, company).await?;
    Ok(upload)
}

/// Reads an upload of the user's.
pub(super) async fn find(app: &App, user: UserId, id: UploadId) -> Result<Upload> {
    let mut tx = TenantTx::begin(&app.pool, "files.upload", &Claims::user(user)).await?;
    upload_store::find(&mut tx, id).await?.ok_or_else(|| gone(id))
}

/// Gives an upload up, unless somebody is writing it.
pub(super) async fn end(app: &App, user: UserId, id: UploadId, lease: Option<LeaseId>) -> Result<()> {
    let mut tx = TenantTx::begin(&app.pool, "files.end_upload", &Claims::user(user)).await?;
    let upload = upload_store::find(&mut tx, id).await?;
    if !upload_store::delete(&mut tx, id, lease).await? {
        return Err(if upload.is_some() { in_use() } else { gone(id) });
    }
    // What ends by itself was never there.
    if let (Some(upload), None) = (upload, lease) {
        let about = About::company(upload.company, "upload", id);
        record(app, &mut tx, user, about).await?;
    }
    tx.commit().await?;
    app.files.untidy.notify_one();
    Ok(())
}

pub(super) fn gone(id: UploadId) -> Error {
    Error::not_found("upload", id)
}

pub(super) fn in_use() -> Error {
    Error::Aborted {
        reason: "UPLOAD_IN_USE",
        message: "another request is writing this upload".into(),
    }
}
