//! SQL of files for the worker's role: scans, what has expired, and the comparison with the store.

use std::time::Duration;

use service_kit::{
    error::Result,
    ids::{CompanyId, FileId, JobId, ObjectId, StudioId, UploadId},
};
use sqlx::PgConnection;

use super::{State, download::Stored};

/// A version that waits to be scanned, and where its bytes are.
pub(super) async fn scanned(tx: &mut PgConnection, file: FileId, version: i32) -> Result<Option<Stored>> {
    let stored = sqlx::query_as!(
        Stored,
        r#"select f.id as "file: FileId", f.company_id as "company: CompanyId", f.studio_id as "studio: StudioId", f.name,
                  v.object_id as "object: ObjectId", v.number as version, v.mime_type, v.size_bytes, v.sha256,
                  v.state as "state: State", v.created_at
           from core.files f join core.file_versions v on v.file_id = f.id
           where f.id = $1 and v.number = $2 and v.state = 'scanning'"#,
        file.as_uuid(),
        version,
    )
    .fetch_optional(tx)
    .await?;
    Ok(stored)
}

/// Lets a version be seen, and makes it the current one unless a newer one can be seen already.
pub(super) async fn release(tx: &mut PgConnection, file: FileId, version: i32) -> Result<()> {
    sqlx::query!("select from core.files where id = $1 for update", file.as_uuid())
        .execute(&mut *tx)
        .await?;
    sqlx::query!(
        "with released as (
             update core.file_versions set state = 'ready', state_reason = ''
             where file_id = $1 and number = $2 and state = 'scanning' returning *
         )
         update core.files f set state = 'ready', state_reason = '', version = r.number, mime_type = r.mime_type,
                                 size_bytes = r.size_bytes, sha256 = r.sha256
         from released r
         where f.id = r.file_id and (f.state <> 'ready' or f.version < r.number)",
        file.as_uuid(),
        version,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Lets a version be read by nobody; nor the file, where that is its current one.
pub(super) async fn hold(tx: &mut PgConnection, file: FileId, version: i32, state: State, reason: &str) -> Result<()> {
    sqlx::query!(
        "with held as (
             update core.file_versions set state = $3, state_reason = $4
             where file_id = $1 and number = $2 and state in ('scanning', 'ready') returning *
         )
         update core.files f set state = $3, state_reason = $4
         from held h
         where f.id = h.file_id and f.version = h.number",
        file.as_uuid(),
        version,
        state as State,
        reason,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Removes uploads whose time is over and that nobody writes.
pub(super) async fn expire_uploads(tx: &mut PgConnection, limit: i64) -> Result<u64> {
    let done = sqlx::query!(
        "delete from core.uploads where id in (
             select id from core.uploads where expires_at < now() and coalesce(leased_until < now(), true) limit $1)",
        limit,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

/// Erases files that were deleted softly so long ago.
pub(super) async fn erase(tx: &mut PgConnection, retention: Duration, limit: i64) -> Result<u64> {
    let done = sqlx::query!(
        "delete from core.files where id in (
             select id from core.files where deleted_at < now() - make_interval(secs => $1) limit $2)",
        retention.as_secs_f64(),
        limit,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

/// A name in the store that nothing refers to any more.
pub(super) struct Removal {
    pub(super) id: i64,
    pub(super) key: String,
    pub(super) multipart: Option<String>,
}

pub(super) async fn removals(tx: &mut PgConnection, after: i64, limit: i64) -> Result<Vec<Removal>> {
    let removals = sqlx::query_as!(
        Removal,
        "select id, key, multipart_id as multipart from core.object_removals where id > $1 order by id limit $2",
        after,
        limit,
    )
    .fetch_all(tx)
    .await?;
    Ok(removals)
}

pub(super) async fn forget_removals(tx: &mut PgConnection, ids: &[i64]) -> Result<()> {
    sqlx::query!("delete from core.object_removals where id = any ($1)", ids)
        .execute(tx)
        .await?;
    Ok(())
}

/// Companies whose objects are to be compared now; the next time is a day later.
pub(super) async fn due_sweeps(tx: &mut PgConnection, limit: i64) -> Result<Vec<CompanyId>> {
    let companies = sqlx::query_scalar!(
        r#"update core.object_sweeps set due_at = now() + interval '1 day'
           where company_id in (
               select company_id from core.object_sweeps where due_at < now() limit $1 for update skip locked)
           returning company_id as "company: CompanyId""#,
        limit,
    )
    .fetch_all(tx)
    .await?;
    Ok(companies)
}

pub(super) async fn enqueue_sweep(tx: &mut PgConnection, company: CompanyId) -> Result<()> {
    sqlx::query!(
        "insert into core.jobs (id, company_id, kind, payload) values ($1, $2, 'sweep_objects', '{}')",
        JobId::generate().as_uuid(),
        company.as_uuid(),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Which of these a company has rows for, as objects or as uploads under way.
pub(super) async fn known(tx: &mut PgConnection, company: CompanyId, ids: &[UploadId]) -> Result<Vec<UploadId>> {
    let ids: Vec<_> = ids.iter().map(|it| it.as_uuid()).collect();
    let known = sqlx::query_scalar!(
        r#"select id as "id!: UploadId" from core.objects where company_id = $1 and id = any ($2)
           union
           select id from core.uploads where company_id = $1 and id = any ($2)"#,
        company.as_uuid(),
        &ids,
    )
    .fetch_all(tx)
    .await?;
    Ok(known)
}

/// An object as its row says.
pub(super) struct Expected {
    pub(super) id: ObjectId,
    pub(super) sha256: Vec<u8>,
    pub(super) size_bytes: i64,
}

pub(super) async fn expected(
    tx: &mut PgConnection,
    company: CompanyId,
    after: Option<ObjectId>,
    limit: i64,
) -> Result<Vec<Expected>> {
    let expected = sqlx::query_as!(
        Expected,
        r#"select id as "id: ObjectId", sha256, size_bytes from core.objects
           where company_id = $1 and ($2::uuid is null or id > $2)
           order by id limit $3"#,
        company.as_uuid(),
        after.map(ObjectId::as_uuid),
        limit,
    )
    .fetch_all(tx)
    .await?;
    Ok(expected)
}

/// Notes that the store has lost an object, or has it again. Says for how many versions that is new.
pub(super) async fn set_lost(
    tx: &mut PgConnection,
    company: CompanyId,
    object: ObjectId,
    is_lost: bool,
) -> Result<u64> {
    let done = sqlx::query!(
        "with changed as (
             update core.file_versions
             set state = case when $3 then 'lost' else 'ready' end,
                 state_reason = case when $3 then 'Its bytes are no longer in the object store.' else '' end
             where company_id = $1 and object_id = $2 and state = case when $3 then 'ready' else 'lost' end
             returning *
         )
         update core.files f set state = c.state, state_reason = c.state_reason
         from changed c
         where f.id = c.file_id and f.version = c.number",
        company.as_uuid(),
        object.as_uuid(),
        is_lost,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}
