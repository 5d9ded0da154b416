//! SQL of uploads, for their users, and of what becomes of them.

use std::time::Duration;

use serde_json::{Map, Value};
use service_kit::{
    error::Result,
    ids::{CompanyId, FileId, LeaseId, ObjectId, StudioId, UploadId, UserId},
};
use sqlx::{PgConnection, types::Json};
use time::OffsetDateTime;

use super::{
    State,
    reserve::{NewFile, Upload},
};
use crate::documents::AccessLevel;

struct Row {
    id: UploadId,
    company: CompanyId,
    studio: StudioId,
    file: Option<FileId>,
    name: String,
    mime_type: String,
    access_level: AccessLevel,
    metadata: Json<Map<String, Value>>,
    expected_sha256: Option<Vec<u8>>,
    size_bytes: i64,
    received_bytes: i64,
    part_bytes: i32,
    multipart: Option<String>,
    parts: Vec<String>,
    tail: Vec<u8>,
    inspection: Option<Vec<u8>>,
    expires_at: OffsetDateTime,
}

impl From<Row> for Upload {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            company: row.company,
            studio: row.studio,
            file: row.file,
            name: row.name,
            mime_type: row.mime_type,
            access_level: row.access_level,
            metadata: row.metadata.0,
            expected_sha256: row.expected_sha256,
            size_bytes: row.size_bytes,
            received_bytes: row.received_bytes,
            part_bytes: row.part_bytes,
            multipart: row.multipart,
            parts: row.parts,
            tail: row.tail,
            inspection: row.inspection,
            expires_at: row.expires_at,
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "each is a column")]
pub(super) async fn insert(
    tx: &mut PgConnection,
    id: UploadId,
    company: CompanyId,
    created_by: UserId,
    new: &NewFile,
    part_bytes: i32,
    lease: Option<LeaseId>,
    expires_at: OffsetDateTime,
) -> Result<()> {
    sqlx::query!(
        "insert into core.uploads (id, company_id, studio_id, file_id, name, mime_type, access_level, metadata,
                                   expected_sha256, size_bytes, part_bytes, lease_id, leased_until, expires_at, created_by)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, case when $12::uuid is null then null else $13::timestamptz end, $13, $14)",
        id.as_uuid(),
        company.as_uuid(),
        new.studio.as_uuid(),
        new.file.map(FileId::as_uuid),
        new.name,
        new.mime.name(),
        new.access_level as AccessLevel,
        Json(&new.metadata) as _,
        new.sha256.as_deref(),
        new.size_bytes,
        part_bytes,
        lease.map(LeaseId::as_uuid),
        expires_at,
        created_by.as_uuid(),
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn find(tx: &mut PgConnection, id: UploadId) -> Result<Option<Upload>> {
    let row = sqlx::query_as!(
        Row,
        r#"select id as "id: UploadId", company_id as "company: CompanyId", studio_id as "studio: StudioId",
                  file_id as "file: FileId", name, mime_type, access_level as "access_level: AccessLevel",
                  metadata as "metadata: Json<Map<String, Value>>", expected_sha256, size_bytes, received_bytes, part_bytes,
                  multipart_id as multipart, parts, tail, inspection, expires_at
           from core.uploads
           where id = $1 and expires_at > now()"#,
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(Upload::from))
}

/// Takes an upload for oneself, if nobody has it.
pub(super) async fn lease(tx: &mut PgConnection, id: UploadId, lease: LeaseId, time: Duration) -> Result<bool> {
    let done = sqlx::query!(
        "update core.uploads set lease_id = $2, leased_until = now() + make_interval(secs => $3)
         where id = $1 and expires_at > now() and coalesce(leased_until < now(), true)",
        id.as_uuid(),
        lease.as_uuid(),
        time.as_secs_f64(),
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Has an upload for oneself longer; one that does not outlive its lease lives on with it. Says whether one still had it.
pub(super) async fn renew(tx: &mut PgConnection, id: UploadId, lease: LeaseId, time: Duration) -> Result<bool> {
    let done = sqlx::query!(
        "update core.uploads set leased_until = now() + make_interval(secs => $3),
                                 expires_at = greatest(expires_at, now() + make_interval(secs => $3))
         where id = $1 and lease_id = $2",
        id.as_uuid(),
        lease.as_uuid(),
        time.as_secs_f64(),
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Notes by what name the store knows the parts. Says whether one still had the upload.
pub(super) async fn set_multipart(
    tx: &mut PgConnection,
    id: UploadId,
    lease: LeaseId,
    multipart: &str,
) -> Result<bool> {
    let done = sqlx::query!(
        "update core.uploads set multipart_id = $3 where id = $1 and lease_id = $2",
        id.as_uuid(),
        lease.as_uuid(),
        multipart,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Keeps how far an upload is, and lets others have it where it is over. Says whether one still had it.
pub(super) async fn save(tx: &mut PgConnection, upload: &Upload, lease: LeaseId, is_over: bool) -> Result<bool> {
    let done = sqlx::query!(
        "update core.uploads set received_bytes = $3, parts = $4, tail = $5, inspection = $6,
                lease_id = case when $7 then null else lease_id end,
                leased_until = case when $7 then null else leased_until end
         where id = $1 and lease_id = $2",
        upload.id.as_uuid(),
        lease.as_uuid(),
        upload.received_bytes,
        &upload.parts,
        upload.tail,
        upload.inspection,
        is_over,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Lets others have an upload, as far as it was when it was taken.
pub(super) async fn release(tx: &mut PgConnection, id: UploadId, lease: LeaseId) -> Result<()> {
    sqlx::query!(
        "update core.uploads set lease_id = null, leased_until = null where id = $1 and lease_id = $2",
        id.as_uuid(),
        lease.as_uuid(),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Removes an upload that nobody has, or that one has oneself.
pub(super) async fn delete(tx: &mut PgConnection, id: UploadId, lease: Option<LeaseId>) -> Result<bool> {
    let done = sqlx::query!(
        "delete from core.uploads where id = $1 and (coalesce(leased_until < now(), true) or lease_id = $2)",
        id.as_uuid(),
        lease.map(LeaseId::as_uuid),
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The object of this content, if the company has it.
pub(super) async fn find_object(tx: &mut PgConnection, company: CompanyId, sha256: &[u8]) -> Result<Option<ObjectId>> {
    let object = sqlx::query_scalar!(
        r#"select core.find_object($1, $2) as "id: ObjectId""#,
        company.as_uuid(),
        sha256,
    )
    .fetch_one(tx)
    .await?;
    Ok(object)
}

/// Makes an object's row, or answers with the one of the same content. It stays until the end of the transaction.
pub(super) async fn keep_object(
    tx: &mut PgConnection,
    object: ObjectId,
    company: CompanyId,
    sha256: &[u8],
    size_bytes: i64,
) -> Result<Option<ObjectId>> {
    let kept = sqlx::query_scalar!(
        r#"select core.keep_object($1, $2, $3, $4) as "id: ObjectId""#,
        object.as_uuid(),
        company.as_uuid(),
        sha256,
        size_bytes,
    )
    .fetch_one(tx)
    .await?;
    Ok(kept)
}

pub(super) async fn insert_file(
    tx: &mut PgConnection,
    id: FileId,
    upload: &Upload,
    state: State,
    sha256: &[u8],
    uploaded_by: UserId,
) -> Result<()> {
    sqlx::query!(
        "insert into core.files (id, company_id, studio_id, name, access_level, metadata, state, version, mime_type,
                                 size_bytes, sha256, uploaded_by)
         values ($1, $2, $3, $4, $5, $6, $7, 1, $8, $9, $10, $11)",
        id.as_uuid(),
        upload.company.as_uuid(),
        upload.studio.as_uuid(),
        upload.name,
        upload.access_level as AccessLevel,
        Json(&upload.metadata) as _,
        state as State,
        upload.mime_type,
        upload.size_bytes,
        sha256,
        uploaded_by.as_uuid(),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// The number of a file's next version, held until the end of the transaction.
pub(super) async fn next_version(tx: &mut PgConnection, file: FileId) -> Result<i32> {
    let number = sqlx::query_scalar!(r#"select core.next_file_version($1) as "number!""#, file.as_uuid())
        .fetch_one(tx)
        .await?;
    Ok(number)
}

#[expect(clippy::too_many_arguments, reason = "each is a column")]
pub(super) async fn insert_version(
    tx: &mut PgConnection,
    file: FileId,
    number: i32,
    object: ObjectId,
    upload: &Upload,
    state: State,
    sha256: &[u8],
    uploaded_by: UserId,
) -> Result<()> {
    sqlx::query!(
        "insert into core.file_versions (file_id, number, company_id, object_id, mime_type, size_bytes, sha256, state, uploaded_by)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        file.as_uuid(),
        number,
        upload.company.as_uuid(),
        object.as_uuid(),
        upload.mime_type,
        upload.size_bytes,
        sha256,
        state as State,
        uploaded_by.as_uuid(),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Makes a version the file's current one.
pub(super) async fn set_current(
    tx: &mut PgConnection,
    file: FileId,
    number: i32,
    upload: &Upload,
    sha256: &[u8],
) -> Result<()> {
    sqlx::query!(
        "update core.files set state = 'ready', state_reason = '', version = $2, mime_type = $3, size_bytes = $4, sha256 = $5
         where id = $1",
        file.as_uuid(),
        number,
        upload.mime_type,
        upload.size_bytes,
        sha256,
    )
    .execute(tx)
    .await?;
    Ok(())
}
