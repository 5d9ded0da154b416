//! SQL of files, for their users.

use serde_json::{Map, Value};
use service_kit::{
    error::Result,
    ids::{CompanyId, FileId, ObjectId, StudioId, UserId},
    page::Page,
};
use sqlx::{PgConnection, types::Json};
use time::OffsetDateTime;

use super::{CleanUp, Details, File, Filter, State, Version, download::Stored};
use crate::documents::AccessLevel;

struct Row {
    id: FileId,
    company: CompanyId,
    studio: StudioId,
    name: String,
    access_level: AccessLevel,
    metadata: Json<Map<String, Value>>,
    state: State,
    state_reason: String,
    version: i32,
    mime_type: String,
    size_bytes: i64,
    sha256: Vec<u8>,
    uploaded_by: UserId,
    last_accessed_at: Option<OffsetDateTime>,
    deleted_at: Option<OffsetDateTime>,
    revision: i64,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl From<Row> for File {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            company: row.company,
            studio: row.studio,
            details: Details {
                name: row.name,
                access_level: row.access_level,
                metadata: row.metadata.0,
            },
            state: row.state,
            state_reason: row.state_reason,
            version: row.version,
            mime_type: row.mime_type,
            size_bytes: row.size_bytes,
            sha256: row.sha256,
            uploaded_by: row.uploaded_by,
            last_accessed_at: row.last_accessed_at,
            deleted_at: row.deleted_at,
            revision: row.revision,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// The company of a studio that is reached and not deleted.
pub(super) async fn company_of(tx: &mut PgConnection, studio: StudioId) -> Result<Option<CompanyId>> {
    let company = sqlx::query_scalar!(
        r#"select company_id as "company: CompanyId" from core.studios where id = $1 and deleted_at is null"#,
        studio.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(company)
}

/// Holds the row until the end of the transaction, so that what is read next stays true.
pub(super) async fn lock(tx: &mut PgConnection, id: FileId) -> Result<()> {
    sqlx::query!("select from core.files where id = $1 for update", id.as_uuid())
        .execute(tx)
        .await?;
    Ok(())
}

pub(super) async fn find(tx: &mut PgConnection, id: FileId) -> Result<Option<File>> {
    let row = sqlx::query_as!(
        Row,
        r#"select id as "id: FileId", company_id as "company: CompanyId", studio_id as "studio: StudioId", name,
                  access_level as "access_level: AccessLevel", metadata as "metadata: Json<Map<String, Value>>",
                  state as "state: State", state_reason, version, mime_type, size_bytes, sha256,
                  uploaded_by as "uploaded_by: UserId", last_accessed_at, deleted_at, revision, created_at, updated_at
           from core.files
           where id = $1 and not core.studio_is_deleted(studio_id)"#,
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(File::from))
}

pub(super) async fn list(
    tx: &mut PgConnection,
    company: CompanyId,
    filter: &Filter,
    page: &Page<FileId>,
) -> Result<Vec<File>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select id as "id: FileId", company_id as "company: CompanyId", studio_id as "studio: StudioId", name,
                  access_level as "access_level: AccessLevel", metadata as "metadata: Json<Map<String, Value>>",
                  state as "state: State", state_reason, version, mime_type, size_bytes, sha256,
                  uploaded_by as "uploaded_by: UserId", last_accessed_at, deleted_at, revision, created_at, updated_at
           from core.files
           where company_id = $1 and studio_id = $2
             and ($3::text is null or mime_type = $3)
             and ($4::text is null or starts_with(lower(name), lower($4)))
             and ($5::uuid is null or uploaded_by = $5)
             and ($6::text is null or state = $6)
             and ($7 or deleted_at is null)
             and ($8::uuid is null or id < $8)
           order by id desc
           limit $9"#,
        company.as_uuid(),
        filter.studio.as_uuid(),
        filter.mime_type,
        filter.name_prefix,
        filter.uploaded_by.map(UserId::as_uuid),
        filter.state as Option<State>,
        filter.show_deleted,
        page.after.map(FileId::as_uuid),
        page.limit(),
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(File::from).collect())
}

/// What a clean-up is to delete, the oldest first. Held until the end of the transaction.
pub(super) async fn superfluous(tx: &mut PgConnection, company: CompanyId, clean_up: &CleanUp) -> Result<Vec<File>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select id as "id: FileId", company_id as "company: CompanyId", studio_id as "studio: StudioId", name,
                  access_level as "access_level: AccessLevel", metadata as "metadata: Json<Map<String, Value>>",
                  state as "state: State", state_reason, version, mime_type, size_bytes, sha256,
                  uploaded_by as "uploaded_by: UserId", last_accessed_at, deleted_at, revision, created_at, updated_at
           from core.files
           where company_id = $1 and studio_id = $2 and deleted_at is null
             and ($3::timestamptz is null or created_at < $3)
             and ($4::timestamptz is null or greatest(created_at, last_accessed_at) < $4)
             and ($5::bigint is null or size_bytes >= $5)
           order by id
           limit $6
           for update"#,
        company.as_uuid(),
        clean_up.studio.as_uuid(),
        clean_up.made_before,
        clean_up.unused_since,
        clean_up.least_bytes,
        clean_up.limit,
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(File::from).collect())
}

pub(super) async fn versions(tx: &mut PgConnection, file: FileId, page: &Page<i32>) -> Result<Vec<Version>> {
    let versions = sqlx::query_as!(
        Version,
        r#"select number, mime_type, size_bytes, sha256, state as "state: State", uploaded_by as "uploaded_by: UserId",
                  created_at
           from core.file_versions
           where file_id = $1 and ($2::int is null or number < $2)
           order by number desc
           limit $3"#,
        file.as_uuid(),
        page.after,
        page.limit(),
    )
    .fetch_all(tx)
    .await?;
    Ok(versions)
}

pub(super) async fn update(tx: &mut PgConnection, id: FileId, details: &Details) -> Result<()> {
    sqlx::query!(
        "update core.files set name = $2, access_level = $3, metadata = $4 where id = $1",
        id.as_uuid(),
        details.name,
        details.access_level as AccessLevel,
        Json(&details.metadata) as _,
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn set_deleted(tx: &mut PgConnection, ids: &[FileId], at: Option<OffsetDateTime>) -> Result<()> {
    let ids: Vec<_> = ids.iter().map(|it| it.as_uuid()).collect();
    sqlx::query!("update core.files set deleted_at = $2 where id = any ($1)", &ids, at)
        .execute(tx)
        .await?;
    Ok(())
}

/// Where a version's bytes are; the current one's, if none is named.
pub(super) async fn stored(tx: &mut PgConnection, id: FileId, version: Option<i32>) -> Result<Option<Stored>> {
    let stored = sqlx::query_as!(
        Stored,
        r#"select f.id as "file: FileId", f.company_id as "company: CompanyId", f.studio_id as "studio: StudioId", f.name,
                  v.object_id as "object: ObjectId", v.number as version, v.mime_type, v.size_bytes, v.sha256,
                  v.state as "state: State", v.created_at
           from core.files f join core.file_versions v on v.file_id = f.id and v.number = coalesce($2, f.version)
           where f.id = $1 and f.deleted_at is null and not core.studio_is_deleted(f.studio_id)"#,
        id.as_uuid(),
        version,
    )
    .fetch_optional(tx)
    .await?;
    Ok(stored)
}

/// Notes that a file's bytes are read, unless that has been noted within five minutes.
pub(super) async fn touch(tx: &mut PgConnection, id: FileId) -> Result<()> {
    sqlx::query!(
        "update core.files set last_accessed_at = now()
         where id = $1 and coalesce(last_accessed_at < now() - interval '5 minutes', true)",
        id.as_uuid(),
    )
    .execute(tx)
    .await?;
    Ok(())
}
