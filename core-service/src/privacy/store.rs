//! SQL of privacy requests and of what is done for them. All but asking and reading is for the worker's role.

use std::time::Duration;

use futures::stream::BoxStream;
use serde_json::Value;
use service_kit::{
    error::{Error, Result, constraint},
    ids::{CompanyId, PrivacyRequestId, UserId},
    page::Page,
};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{Kind, Request, State, Subject};

struct Row {
    id: PrivacyRequestId,
    kind: Kind,
    company_id: Option<CompanyId>,
    user_id: Option<UserId>,
    state: State,
    due_at: OffsetDateTime,
    rows: i64,
    objects: i64,
    size_bytes: i64,
    sha256: Option<Vec<u8>>,
    error: String,
    expires_at: Option<OffsetDateTime>,
    finished_at: Option<OffsetDateTime>,
    created_at: OffsetDateTime,
    attempt: i32,
    part: Option<i32>,
    archive: Option<i32>,
}

impl From<Row> for Request {
    fn from(row: Row) -> Self {
        let company = row.company_id.map(Subject::Company);
        let subject = company.or(row.user_id.map(Subject::User));
        Self {
            id: row.id,
            kind: row.kind,
            subject: subject.expect("the table holds one of both"),
            state: row.state,
            due_at: row.due_at,
            rows: row.rows,
            objects: row.objects,
            size_bytes: row.size_bytes,
            sha256: row.sha256.unwrap_or_default(),
            error: row.error,
            expires_at: row.expires_at,
            finished_at: row.finished_at,
            created_at: row.created_at,
            attempt: row.attempt,
            part: row.part,
            archive: row.archive,
        }
    }
}

fn ids(subject: Subject) -> (Option<sqlx::types::Uuid>, Option<sqlx::types::Uuid>) {
    match subject {
        Subject::Company(company) => (Some(company.as_uuid()), None),
        Subject::User(user) => (None, Some(user.as_uuid())),
    }
}

pub(super) async fn insert(
    tx: &mut PgConnection,
    id: PrivacyRequestId,
    kind: Kind,
    subject: Subject,
    by: UserId,
    due_at: OffsetDateTime,
) -> Result<()> {
    let (company, user) = ids(subject);
    sqlx::query!(
        "insert into core.privacy_requests (id, kind, company_id, user_id, requested_by, due_at) values ($1, $2, $3, $4, $5, $6)",
        id.as_uuid(),
        kind as Kind,
        company,
        user,
        by.as_uuid(),
        due_at,
    )
    .execute(tx)
    .await
    .map_err(|error| match constraint(&error) {
        Some("privacy_requests_open") => Error::AlreadyExists {
            reason: "ALREADY_REQUESTED",
            message: "this was asked for and is not done yet".into(),
        },
        _ => error.into(),
    })?;
    Ok(())
}

pub(super) async fn find(tx: &mut PgConnection, id: PrivacyRequestId) -> Result<Option<Request>> {
    let row = sqlx::query_as!(
        Row,
        r#"select id as "id: PrivacyRequestId", kind as "kind: Kind", company_id as "company_id: CompanyId",
                  user_id as "user_id: UserId", state as "state: State", due_at, rows, objects, size_bytes, sha256, error,
                  expires_at, finished_at, created_at, attempt, part, archive
           from core.privacy_requests where id = $1"#,
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(Into::into))
}

/// A company's requests, newest first.
pub(super) async fn list_company(
    tx: &mut PgConnection,
    company: CompanyId,
    page: &Page<PrivacyRequestId>,
) -> Result<Vec<Request>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select id as "id: PrivacyRequestId", kind as "kind: Kind", company_id as "company_id: CompanyId",
                  user_id as "user_id: UserId", state as "state: State", due_at, rows, objects, size_bytes, sha256, error,
                  expires_at, finished_at, created_at, attempt, part, archive
           from core.privacy_requests
           where company_id = $1 and ($2::uuid is null or id < $2)
           order by id desc limit $3"#,
        company.as_uuid(),
        page.after.map(PrivacyRequestId::as_uuid),
        page.limit(),
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// The requests that a user has made, newest first.
pub(super) async fn list_own(
    tx: &mut PgConnection,
    user: UserId,
    page: &Page<PrivacyRequestId>,
) -> Result<Vec<Request>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select id as "id: PrivacyRequestId", kind as "kind: Kind", company_id as "company_id: CompanyId",
                  user_id as "user_id: UserId", state as "state: State", due_at, rows, objects, size_bytes, sha256, error,
                  expires_at, finished_at, created_at, attempt, part, archive
           from core.privacy_requests
           where requested_by = $1 and ($2::uuid is null or id < $2)
           order by id desc limit $3"#,
        user.as_uuid(),
        page.after.map(PrivacyRequestId::as_uuid),
        page.limit(),
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// Says whether it had not begun.
pub(super) async fn cancel(tx: &mut PgConnection, id: PrivacyRequestId) -> Result<bool> {
    let done = sqlx::query!(
        "update core.privacy_requests set state = 'cancelled' where id = $1 and state = 'waiting'",
        id.as_uuid(),
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Companies that have nobody but the caller to administer them, and are not to be erased.
pub(super) async fn administered_alone(tx: &mut PgConnection) -> Result<Vec<CompanyId>> {
    let alone = sqlx::query_scalar!(r#"select a as "company!: CompanyId" from core.caller_administers_alone() a"#);
    Ok(alone.fetch_all(tx).await?)
}

pub(super) async fn company_name(tx: &mut PgConnection, company: CompanyId) -> Result<Option<String>> {
    let name = sqlx::query_scalar!("select name from core.companies where id = $1", company.as_uuid());
    Ok(name.fetch_optional(tx).await?)
}

/// Requests whose time has come.
pub(super) async fn due(tx: &mut PgConnection) -> Result<Vec<PrivacyRequestId>> {
    let due = sqlx::query_scalar!(
        r#"select id as "id: PrivacyRequestId" from core.privacy_requests
           where state = 'waiting' and due_at <= now() order by due_at limit 20"#,
    );
    Ok(due.fetch_all(tx).await?)
}

/// Begins a request, if it still waits and nobody else is at it.
pub(super) async fn begin(tx: &mut PgConnection, id: PrivacyRequestId) -> Result<Option<Request>> {
    let row = sqlx::query_as!(
        Row,
        r#"update core.privacy_requests set state = 'execution', error = ''
           where id in (select id from core.privacy_requests
                        where id = $1 and state = 'waiting' and due_at <= now() for update skip locked)
           returning id as "id: PrivacyRequestId", kind as "kind: Kind", company_id as "company_id: CompanyId",
                  user_id as "user_id: UserId", state as "state: State", due_at, rows, objects, size_bytes, sha256, error,
                  expires_at, finished_at, created_at, attempt, part, archive"#,
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(Into::into))
}

/// Has a request that cannot begin wait for a minute. Why is for the log.
pub(super) async fn delay(tx: &mut PgConnection, id: PrivacyRequestId) -> Result<()> {
    sqlx::query!(
        "update core.privacy_requests set due_at = now() + interval '1 minute', error = 'INTERRUPTED: it is tried again'
         where id = $1 and state = 'waiting'",
        id.as_uuid(),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Takes a request that is in this state for some time; execution-service's too those in which it looks once more.
pub(super) async fn claim(tx: &mut PgConnection, state: State, lease: Duration) -> Result<Option<Request>> {
    let row = sqlx::query_as!(
        Row,
        r#"update core.privacy_requests set leased_until = now() + make_interval(secs => $2), attempt = attempt + 1
           where id in (select id from core.privacy_requests
                        where (state = $1 or $1 = 'execution' and sweep_at <= now())
                            and (leased_until is null or leased_until < now())
                        order by due_at limit 1 for update skip locked)
           returning id as "id: PrivacyRequestId", kind as "kind: Kind", company_id as "company_id: CompanyId",
                  user_id as "user_id: UserId", state as "state: State", due_at, rows, objects, size_bytes, sha256, error,
                  expires_at, finished_at, created_at, attempt, part, archive"#,
        state as State,
        lease.as_secs_f64(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(Into::into))
}

/// Lets an attempt go on; says false where it is not the newest any more.
pub(super) async fn renew(tx: &mut PgConnection, id: PrivacyRequestId, attempt: i32, lease: Duration) -> Result<bool> {
    let done = sqlx::query!(
        "update core.privacy_requests set leased_until = now() + make_interval(secs => $3)
         where id = $1 and attempt = $2 and (state in ('execution', 'core') or sweep_at is not null)",
        id.as_uuid(),
        attempt,
        lease.as_secs_f64(),
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Counts rows and objects that an attempt has done, and lets it go on, or the request go to the next state, if one is given. Says
/// false where it is not the newest attempt any more.
pub(super) async fn progress(
    tx: &mut PgConnection,
    id: PrivacyRequestId,
    attempt: i32,
    (rows, objects): (i64, i64),
    lease: Duration,
    next: Option<State>,
) -> Result<bool> {
    let done = sqlx::query!(
        "update core.privacy_requests
         set rows = rows + $3, objects = objects + $4, state = coalesce($6, state), error = '',
             leased_until = case when $6::text is null then now() + make_interval(secs => $5) end,
             finished_at = case when $6 = 'done' then now() end,
             sweep_at = case when $6 = 'done' and kind = 'erasure' and company_id is not null then now() + interval '15 minutes' end
         where id = $1 and attempt = $2 and state in ('execution', 'core')",
        id.as_uuid(),
        attempt,
        rows,
        objects,
        lease.as_secs_f64(),
        next as Option<State>,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Lets an attempt at what was left when a company was erased go on, or ends it.
pub(super) async fn swept(
    tx: &mut PgConnection,
    id: PrivacyRequestId,
    attempt: i32,
    lease: Duration,
    is_all: bool,
) -> Result<bool> {
    let done = sqlx::query!(
        "update core.privacy_requests
         set leased_until = case when not $4 then now() + make_interval(secs => $3) end,
             sweep_at = case when not $4 then sweep_at end
         where id = $1 and attempt = $2 and state = 'done' and sweep_at is not null",
        id.as_uuid(),
        attempt,
        lease.as_secs_f64(),
        is_all,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Notes what an attempt begins to write, and returns what one before it has begun and left; none where it is not the newest any
/// more.
pub(super) async fn note_writing(
    tx: &mut PgConnection,
    id: PrivacyRequestId,
    attempt: i32,
    key: &str,
    multipart: &str,
) -> Result<Option<(Option<String>, Option<String>)>> {
    let before = sqlx::query!(
        "with before as (select id, writing, multipart_id from core.privacy_requests where id = $1 and attempt = $2 for update)
         update core.privacy_requests r set writing = $3, multipart_id = $4 from before b where r.id = b.id
         returning b.writing, b.multipart_id",
        id.as_uuid(),
        attempt,
        key,
        multipart,
    )
    .fetch_optional(tx)
    .await?;
    Ok(before.map(|it| (it.writing, it.multipart_id)))
}

/// Keeps the part of the other service that an attempt has written.
pub(super) async fn keep_part(tx: &mut PgConnection, id: PrivacyRequestId, attempt: i32) -> Result<bool> {
    let done = sqlx::query!(
        "update core.privacy_requests set part = $2, writing = null, multipart_id = null
         where id = $1 and attempt = $2 and state = 'execution'",
        id.as_uuid(),
        attempt,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Keeps the archive that an attempt has written.
pub(super) async fn keep_archive(
    tx: &mut PgConnection,
    request: &Request,
    size_bytes: i64,
    sha256: &[u8],
    expires_at: OffsetDateTime,
) -> Result<bool> {
    let done = sqlx::query!(
        "update core.privacy_requests
         set archive = $2, size_bytes = $3, sha256 = $4, expires_at = $5, writing = null, multipart_id = null
         where id = $1 and attempt = $2 and state = 'core'",
        request.id.as_uuid(),
        request.attempt,
        size_bytes,
        sha256,
        expires_at,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn expired(tx: &mut PgConnection, at: OffsetDateTime, limit: i64) -> Result<Vec<PrivacyRequestId>> {
    let expired = sqlx::query_scalar!(
        r#"select id as "id: PrivacyRequestId" from core.privacy_requests
           where expires_at <= $1 and archive is not null order by expires_at limit $2"#,
        at,
        limit,
    );
    Ok(expired.fetch_all(tx).await?)
}

/// Says of exports that nothing of them is left to be read.
pub(super) async fn forget_archives(tx: &mut PgConnection, ids: &[PrivacyRequestId]) -> Result<()> {
    let ids: Vec<_> = ids.iter().map(|it| it.as_uuid()).collect();
    sqlx::query!(
        "update core.privacy_requests set archive = null where id = any ($1)",
        &ids
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Ends the exports of whom or what is erased, and says which of them may have something in the store.
pub(super) async fn end_exports(tx: &mut PgConnection, subject: Subject) -> Result<Vec<PrivacyRequestId>> {
    let (company, user) = ids(subject);
    sqlx::query!(
        "update core.privacy_requests set state = 'cancelled', attempt = attempt + 1
         where kind = 'export' and (company_id = $1 or user_id = $2) and state in ('waiting', 'execution', 'core')",
        company,
        user,
    )
    .execute(&mut *tx)
    .await?;
    let ended = sqlx::query_scalar!(
        r#"select id as "id: PrivacyRequestId" from core.privacy_requests
           where kind = 'export' and (company_id = $1 or user_id = $2) and (archive is not null or state = 'cancelled')"#,
        company,
        user,
    );
    Ok(ended.fetch_all(tx).await?)
}

/// Puts an erasure off that would leave a company without an admin.
pub(super) async fn hold_back(tx: &mut PgConnection, id: PrivacyRequestId) -> Result<()> {
    sqlx::query!(
        "update core.privacy_requests set state = 'waiting', due_at = now() + interval '1 hour',
             error = 'LAST_ADMIN: a company would be left without an admin; it is tried again every hour'
         where id = $1",
        id.as_uuid(),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Notes that a step was in vain; it is tried again when the lease has run out. Why is for the log.
pub(super) async fn put_off(tx: &mut PgConnection, request: &Request) -> Result<()> {
    sqlx::query!(
        "update core.privacy_requests set error = 'INTERRUPTED: it is tried again' where id = $1 and attempt = $2",
        request.id.as_uuid(),
        request.attempt,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Lets nobody work in a company any more that is to be erased.
pub(super) async fn close_company(tx: &mut PgConnection, company: CompanyId, at: OffsetDateTime) -> Result<()> {
    sqlx::query!("select core.suspend_company($1, $2)", company.as_uuid(), at)
        .fetch_one(&mut *tx)
        .await?;
    sqlx::query!(
        "select core.publish_unasked($1, 'company_deleted', '{}')",
        company.as_uuid()
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Lets a user in nowhere any more who is to be erased; says false while a company would be left without an admin.
pub(super) async fn close_account(tx: &mut PgConnection, user: UserId) -> Result<bool> {
    let closed = sqlx::query_scalar!(r#"select core.close_account($1) as "closed!""#, user.as_uuid());
    Ok(closed.fetch_one(tx).await?)
}

/// The companies that a user has a place in.
pub(super) async fn places(tx: &mut PgConnection, user: UserId) -> Result<Vec<CompanyId>> {
    let places = sqlx::query_scalar!(
        r#"select p as "company!: CompanyId" from core.places_of($1) p"#,
        user.as_uuid()
    );
    Ok(places.fetch_all(tx).await?)
}

/// Lets the transaction's statements take as long as all rows of a large company do.
pub(super) async fn allow_long(tx: &mut PgConnection) -> Result<()> {
    sqlx::query!("set local statement_timeout = '2h'").execute(tx).await?;
    Ok(())
}

/// Erases rows of a company's, at most so many of each table; nothing is left at 0.
pub(super) async fn erase_company(tx: &mut PgConnection, company: CompanyId, most: i32) -> Result<i64> {
    let erased = sqlx::query_scalar!(
        r#"select core.erase_company_rows($1, $2) as "erased!""#,
        company.as_uuid(),
        most,
    );
    Ok(erased.fetch_one(tx).await?)
}

/// Erases what is a user's alone, at most so many of each, and who he is; nothing is left at 0.
pub(super) async fn erase_user(tx: &mut PgConnection, user: UserId, most: i32) -> Result<i64> {
    let erased = sqlx::query_scalar!(
        r#"select core.erase_user_rows($1, $2) as "erased!""#,
        user.as_uuid(),
        most
    );
    Ok(erased.fetch_one(tx).await?)
}

/// A row as an archive has it.
pub(super) struct Exported {
    pub(super) kind: Option<String>,
    pub(super) data: Option<Value>,
}

/// Everything in this schema that is the subject's.
pub(super) fn exported(tx: &mut PgConnection, subject: Subject) -> BoxStream<'_, sqlx::Result<Exported>> {
    match subject {
        Subject::Company(company) => sqlx::query_as!(
            Exported,
            "select kind, data from core.export_company($1)",
            company.as_uuid()
        )
        .fetch(tx),
        Subject::User(user) => {
            sqlx::query_as!(Exported, "select kind, data from core.export_user($1)", user.as_uuid()).fetch(tx)
        }
    }
}

/// An object whose bytes an archive has.
pub(super) struct Content {
    pub(super) version: i32,
    pub(super) file: sqlx::types::Uuid,
    pub(super) name: String,
    pub(super) company: CompanyId,
    pub(super) sha256: Vec<u8>,
    pub(super) object: service_kit::ids::ObjectId,
    pub(super) size_bytes: i64,
}

/// The files whose bytes an archive has, after one of them: all of a company's, or those that only this user sees.
pub(super) async fn contents(
    tx: &mut PgConnection,
    subject: Subject,
    after: Option<(sqlx::types::Uuid, i32)>,
    limit: i64,
) -> Result<Vec<Content>> {
    let (company, user) = ids(subject);
    let contents = sqlx::query_as!(
        Content,
        r#"select v.number as version, v.file_id as file, f.name, v.company_id as "company: CompanyId", o.sha256,
               o.id as "object: service_kit::ids::ObjectId", o.size_bytes
           from core.file_versions v
               join core.files f on f.company_id = v.company_id and f.id = v.file_id
               join core.objects o on o.company_id = v.company_id and o.id = v.object_id
           where (v.company_id = $1
                   or f.uploaded_by = $2 and f.access_level = 'private' and f.company_id in (select p from core.places_of($2) p))
               and ($3::uuid is null or (v.file_id, v.number) > ($3, $4))
           order by v.file_id, v.number limit $5"#,
        company,
        user,
        after.map(|it| it.0),
        after.map(|it| it.1),
        limit,
    );
    Ok(contents.fetch_all(tx).await?)
}
