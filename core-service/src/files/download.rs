//! Reading files' bytes: for RPCs, for signed URLs, and for what else in this service needs them.

use bytes::Bytes;
use futures::stream::BoxStream;
use service_kit::{
    db::{Claims, TenantTx},
    error::{Error, Result},
    ids::{CompanyId, FileId, ObjectId, StudioId, UserId},
};
use time::OffsetDateTime;

use super::{State, store, tell};
use crate::{App, objects::Key};

/// A version of a file, and where its bytes are.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "named like the fields of `File`")]
pub struct Stored {
    pub file: FileId,
    pub company: CompanyId,
    pub studio: StudioId,
    pub name: String,
    pub object: ObjectId,
    pub version: i32,
    pub mime_type: String,
    pub size_bytes: i64,
    pub sha256: Vec<u8>,
    pub state: State,
    pub created_at: OffsetDateTime,
}

/// Bytes as they come.
pub type Content = BoxStream<'static, Result<Bytes>>;

/// Finds what a user may read, and notes that it is read. The current version, if none is named.
///
/// # Errors
/// `NotFound` where the user does not reach it, `FailedPrecondition` where it cannot be read.
pub async fn find(app: &App, user: UserId, id: FileId, version: Option<i32>) -> Result<Stored> {
    let mut tx = TenantTx::begin(&app.pool, "files.read", &Claims::user(user)).await?;
    let stored = store::stored(&mut tx, id, version).await?;
    let stored = stored.ok_or_else(|| super::not_found(id))?;
    tell(stored.studio, stored.company);
    let why = match stored.state {
        State::Ready => None,
        State::Scanning => Some(("FILE_SCANNING", "the file waits to be scanned")),
        State::Quarantined => Some(("FILE_QUARANTINED", "the scanner found something in the file")),
        State::Lost => Some(("FILE_LOST", "the file's bytes are no longer in the object store")),
    };
    if let Some((reason, message)) = why {
        return Err(Error::FailedPrecondition {
            reason,
            message: message.into(),
        });
    }
    store::touch(&mut tx, id).await?;
    tx.commit().await?;
    Ok(stored)
}

/// Reads bytes of what was found. The range must lie within its size.
///
/// # Errors
/// `FailedPrecondition` where they are gone, `Unavailable` where the store is.
pub async fn read(app: &App, stored: &Stored, offset: i64, length: i64) -> Result<Content> {
    let key = Key::object(stored.company, &stored.sha256, stored.object);
    range(app, &key, offset, length).await
}

/// Reads bytes of an object. The range must lie within its size.
///
/// # Errors
/// `FailedPrecondition` where they are gone, `Unavailable` where the store is.
pub async fn range(app: &App, key: &Key, offset: i64, length: i64) -> Result<Content> {
    let at = |it: i64| u64::try_from(it).map_err(Error::internal);
    let range = at(offset)?..at(offset + length)?;
    if range.is_empty() {
        return Ok(Box::pin(futures::stream::empty()));
    }
    let content = app.objects.read(key, range).await?;
    content.ok_or_else(|| {
        tracing::error!(%key, "an object is missing");
        Error::FailedPrecondition {
            reason: "FILE_LOST",
            message: "the file's bytes are no longer in the object store".into(),
        }
    })
}
