//! SQL of mails and of the tokens that they carry. All but writing a mail is for the worker's role.

use std::time::Duration;

use service_kit::{
    error::Result,
    ids::{MailId, UserId},
};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{Purpose, worker::Leased};
use crate::contact::Email;

pub(super) async fn insert(
    tx: &mut PgConnection,
    id: MailId,
    user: Option<UserId>,
    kind: &str,
    sealed: &[u8],
) -> Result<()> {
    sqlx::query!(
        "insert into core.mails (id, user_id, kind, sealed) values ($1, $2, $3, $4)",
        id.as_uuid(),
        user.map(UserId::as_uuid),
        kind,
        sealed,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Leases mails that are due.
pub(super) async fn claim(tx: &mut PgConnection, most: i64, lease: Duration) -> Result<Vec<Leased>> {
    let leased = sqlx::query_as!(
        Leased,
        r#"update core.mails set leased_until = now() + make_interval(secs => $2), tries = tries + 1
           where id in (
               select id from core.mails
               where status = 'waiting' and run_at <= now() and (leased_until is null or leased_until < now())
               order by run_at limit $1 for update skip locked)
           returning id as "id: MailId", user_id as "user: UserId", sealed, tries"#,
        most,
        lease.as_secs_f64(),
    )
    .fetch_all(tx)
    .await?;
    Ok(leased)
}

/// Who has registered with an address.
pub(super) async fn find_user(tx: &mut PgConnection, email: &Email) -> Result<Option<UserId>> {
    let user = sqlx::query_scalar!(
        r#"select core.find_user_by_email($1) as "user: UserId""#,
        email.as_str()
    )
    .fetch_one(tx)
    .await?;
    Ok(user)
}

/// Makes a token good, from now on. One that a try before made stays as it is.
pub(super) async fn insert_token(
    tx: &mut PgConnection,
    hash: [u8; 32],
    user: UserId,
    purpose: Purpose,
    email: &Email,
    expires_at: OffsetDateTime,
) -> Result<()> {
    sqlx::query!(
        "insert into core.mail_tokens (token_hash, user_id, purpose, email, expires_at) values ($1, $2, $3, $4, $5)
         on conflict do nothing",
        &hash[..],
        user.as_uuid(),
        purpose as Purpose,
        email.as_str(),
        expires_at,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Ends a mail, and forgets what it said.
pub(super) async fn end(tx: &mut PgConnection, mail: &Leased, status: &str, error: Option<&str>) -> Result<()> {
    sqlx::query!(
        "update core.mails
         set status = $3, last_error = $4, sealed = '', leased_until = null, sent_at = case when $3 = 'sent' then now() end
         where id = $1 and tries = $2 and status = 'waiting'",
        mail.id.as_uuid(),
        mail.tries,
        status,
        error,
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn postpone(tx: &mut PgConnection, mail: &Leased, by: Duration, error: &str) -> Result<()> {
    sqlx::query!(
        "update core.mails set run_at = now() + make_interval(secs => $3), last_error = $4, leased_until = null
         where id = $1 and tries = $2 and status = 'waiting'",
        mail.id.as_uuid(),
        mail.tries,
        by.as_secs_f64(),
        error,
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn remove_mails(tx: &mut PgConnection, age: Duration, limit: i64) -> Result<u64> {
    let done = sqlx::query!(
        "delete from core.mails where id in (
             select id from core.mails where created_at < now() - make_interval(secs => $1) limit $2)",
        age.as_secs_f64(),
        limit,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

pub(super) async fn remove_tokens(tx: &mut PgConnection, age: Duration, limit: i64) -> Result<u64> {
    let done = sqlx::query!(
        "delete from core.mail_tokens where token_hash in (
             select token_hash from core.mail_tokens where expires_at < now() - make_interval(secs => $1) limit $2)",
        age.as_secs_f64(),
        limit,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}
