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
    error: String,
    expires_at: Option<OffsetDateTime>,
    finished_at: Option<OffsetDateTime>,
    created_at: OffsetDateTime,
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
            error: row.error,
            expires_at: row.expires_at,
            finished_at: row.finished_at,
            created_at: row.created_at,
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
                  user_id as "user_id: UserId", state as "state: State", due_at, rows, objects, size_bytes, error, expires_at,
                  finished_at, created_at
           from core.privacy_requests where id = $1"#,
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(Into::into))
}

pub(super) async fn list(
    tx: &mut PgConnection,
    subject: Subject,
    page: &Page<PrivacyRequestId>,
) -> Result<Vec<Request>> {
    let (company, user) = ids(subject);
    let rows = sqlx::query_as!(
        Row,
        r#"select id as "id: PrivacyRequestId", kind as "kind: Kind", company_id as "company_id: CompanyId",
                  user_id as "user_id: UserId", state as "state: State", due_at, rows, objects, size_bytes, error, expires_at,
                  finished_at, created_at
           from core.privacy_requests
           where (company_id = $1 or user_id = $2) and ($3::uuid is null or id < $3)
           order by id desc limit $4"#,
        company,
        user,
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

/// How many companies have nobody but the caller to administer them.
pub(super) async fn sole_admin_of(tx: &mut PgConnection) -> Result<i64> {
    let count = sqlx::query_scalar!(r#"select core.caller_sole_admin_of() as "count!""#);
    Ok(count.fetch_one(tx).await?)
}

pub(super) async fn company_name(tx: &mut PgConnection, company: CompanyId) -> Result<Option<String>> {
    let name = sqlx::query_scalar!("select name from core.companies where id = $1", company.as_uuid());
    Ok(name.fetch_optional(tx).await?)
}

/// Requests whose time has come, which begin with this.
pub(super) async fn begin(tx: &mut PgConnection) -> Result<Vec<Request>> {
    let rows = sqlx::query_as!(
        Row,
        r#"update core.privacy_requests set state = 'execution'
           where id in (select id from core.privacy_requests where state = 'waiting' and due_at <= now()
                        order by due_at limit 20 for update skip locked)
           returning id as "id: PrivacyRequestId", kind as "kind: Kind", company_id as "company_id: CompanyId",
                  user_id as "user_id: UserId", state as "state: State", due_at, rows, objects, size_bytes, error, expires_at,
                  finished_at, created_at"#,
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// Takes a request that is in this state for some time.
pub(super) async fn claim(tx: &mut PgConnection, state: State, lease: Duration) -> Result<Option<Request>> {
    let row = sqlx::query_as!(
        Row,
        r#"update core.privacy_requests set leased_until = now() + make_interval(secs => $2)
           where id in (select id from core.privacy_requests
                        where state = $1 and (leased_until is null or leased_until < now())
                        order by due_at limit 1 for update skip locked)
           returning id as "id: PrivacyRequestId", kind as "kind: Kind", company_id as "company_id: CompanyId",
                  user_id as "user_id: UserId", state as "state: State", due_at, rows, objects, size_bytes, error, expires_at,
                  finished_at, created_at"#,
        state as State,
        lease.as_secs_f64(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(Into::into))
}

/// Counts what was done in a state; goes on to the next one, if there is one.
pub(super) async fn progress(
    tx: &mut PgConnection,
    id: PrivacyRequestId,
    state: State,
    rows: i64,
    objects: i64,
    next: Option<State>,
) -> Result<()> {
    sqlx::query!(
        "update core.privacy_requests
         set rows = rows + $3, objects = objects + $4, state = coalesce($5, state), error = '',
             leased_until = case when $5::text is null then leased_until end,
             finished_at = case when $5 = 'done' then now() end
         where id = $1 and state = $2",
        id.as_uuid(),
        state as State,
        rows,
        objects,
        next as Option<State>,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Says where an archive is: it has this size and expires.
pub(super) async fn keep_archive(
    tx: &mut PgConnection,
    id: PrivacyRequestId,
    size_bytes: i64,
    expires_at: OffsetDateTime,
) -> Result<()> {
    sqlx::query!(
        "update core.privacy_requests set size_bytes = $2, expires_at = $3 where id = $1",
        id.as_uuid(),
        size_bytes,
        expires_at,
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn expired(tx: &mut PgConnection, limit: i64) -> Result<Vec<PrivacyRequestId>> {
    let expired = sqlx::query_scalar!(
        r#"select id as "id: PrivacyRequestId" from core.privacy_requests
           where expires_at <= now() and size_bytes > 0 limit $1 for update skip locked"#,
        limit,
    );
    Ok(expired.fetch_all(tx).await?)
}

pub(super) async fn forget_archive(tx: &mut PgConnection, id: PrivacyRequestId) -> Result<()> {
    sqlx::query!(
        "update core.privacy_requests set size_bytes = 0 where id = $1",
        id.as_uuid()
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Notes why a step was in vain; it is tried again when the lease has run out.
pub(super) async fn fail(tx: &mut PgConnection, id: PrivacyRequestId, error: &str) -> Result<()> {
    sqlx::query!(
        "update core.privacy_requests set error = $2 where id = $1",
        id.as_uuid(),
        error
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

/// Lets a user in nowhere any more who is to be erased.
pub(super) async fn close_account(tx: &mut PgConnection, user: UserId) -> Result<()> {
    sqlx::query!("select core.close_account($1)", user.as_uuid())
        .execute(tx)
        .await?;
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

pub(super) async fn erase_user(tx: &mut PgConnection, user: UserId) -> Result<i64> {
    let erased = sqlx::query_scalar!(r#"select core.erase_user_rows($1) as "erased!""#, user.as_uuid());
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

/// The files whose bytes an archive has: all of a company's, or a user's private ones.
pub(super) async fn contents(tx: &mut PgConnection, subject: Subject) -> Result<Vec<Content>> {
    let (company, user) = ids(subject);
    let contents = sqlx::query_as!(
        Content,
        r#"select v.number as version, v.file_id as file, f.name, v.company_id as "company: CompanyId", o.sha256,
               o.id as "object: service_kit::ids::ObjectId", o.size_bytes
           from core.file_versions v
               join core.files f on f.company_id = v.company_id and f.id = v.file_id
               join core.objects o on o.company_id = v.company_id and o.id = v.object_id
           where v.company_id = $1 or f.uploaded_by = $2 and f.access_level = 'private'
           order by v.file_id, v.number"#,
        company,
        user,
    );
    Ok(contents.fetch_all(tx).await?)
}
