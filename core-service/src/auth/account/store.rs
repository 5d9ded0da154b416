//! SQL of what a user changes of his account, and of the tokens with which mails do.

use service_kit::{
    error::{Error, Result, constraint},
    ids::{SessionId, UserId},
};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::OpenSession;
use crate::{contact::Email, mails::Purpose};

/// How many sessions are listed at most.
const LISTED: i64 = 100;

pub(in crate::auth) async fn find_user_by_token(tx: &mut PgConnection, hash: [u8; 32]) -> Result<Option<UserId>> {
    let user = sqlx::query_scalar!(
        r#"select core.find_user_by_mail_token($1) as "user: UserId""#,
        &hash[..]
    )
    .fetch_one(tx)
    .await?;
    Ok(user)
}

/// Whether a token can be used to set a password.
pub(in crate::auth) async fn is_good(tx: &mut PgConnection, hash: [u8; 32], now: OffsetDateTime) -> Result<bool> {
    let is_good = sqlx::query_scalar!(
        r#"select exists (select from core.mail_tokens
               where token_hash = $1 and purpose = 'password_reset' and used_at is null and expires_at > $2) as "is_good!""#,
        &hash[..],
        now,
    );
    Ok(is_good.fetch_one(tx).await?)
}

/// Uses a token, which succeeds once, and answers what it is for.
pub(in crate::auth) async fn use_token(
    tx: &mut PgConnection,
    hash: [u8; 32],
    now: OffsetDateTime,
) -> Result<Option<(Purpose, Email)>> {
    let used = sqlx::query!(
        r#"update core.mail_tokens set used_at = $2
           where token_hash = $1 and used_at is null and expires_at > $2
           returning purpose as "purpose: Purpose", email as "email: Email""#,
        &hash[..],
        now,
    )
    .fetch_optional(tx)
    .await?;
    Ok(used.map(|it| (it.purpose, it.email)))
}

/// Makes all tokens of a user worthless.
pub(in crate::auth) async fn spend_tokens(tx: &mut PgConnection, user: UserId, now: OffsetDateTime) -> Result<()> {
    sqlx::query!(
        "update core.mail_tokens set used_at = $2 where user_id = $1 and used_at is null",
        user.as_uuid(),
        now,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// The user's address, if he has one that he has not proved.
pub(super) async fn unproved_email(tx: &mut PgConnection, user: UserId) -> Result<Option<Email>> {
    let email = sqlx::query_scalar!(
        r#"select email as "email!: Email" from core.users where id = $1 and email is not null and not email_verified"#,
        user.as_uuid()
    )
    .fetch_optional(tx)
    .await?;
    Ok(email)
}

/// Notes that the user has proved his address. Says whether it is still his.
pub(in crate::auth) async fn verify(tx: &mut PgConnection, user: UserId, email: &Email) -> Result<bool> {
    let done = sqlx::query!(
        "update core.users set email_verified = true where id = $1 and email = $2",
        user.as_uuid(),
        email.as_str(),
    )
    .execute(tx)
    .await
    .map_err(taken)?;
    Ok(done.rows_affected() == 1)
}

/// Makes a proved address the user's.
pub(in crate::auth) async fn set_email(tx: &mut PgConnection, user: UserId, email: &Email) -> Result<()> {
    sqlx::query!(
        "update core.password_identities set email = $2 where user_id = $1",
        user.as_uuid(),
        email.as_str(),
    )
    .execute(&mut *tx)
    .await
    .map_err(taken)?;
    sqlx::query!(
        "update core.users set email = $2, email_verified = true where id = $1",
        user.as_uuid(),
        email.as_str(),
    )
    .execute(tx)
    .await
    .map_err(taken)?;
    Ok(())
}

fn taken(error: sqlx::Error) -> Error {
    match constraint(&error) {
        Some("password_identities_email_key" | "users_verified_email") => Error::AlreadyExists {
            reason: "EMAIL_TAKEN",
            message: "another user has proved that the address is his".into(),
        },
        _ => error.into(),
    }
}

pub(super) async fn sessions(tx: &mut PgConnection, user: UserId, now: OffsetDateTime) -> Result<Vec<OpenSession>> {
    let sessions = sqlx::query_as!(
        OpenSession,
        r#"select id as "id: SessionId", address, user_agent, created_at, last_used_at, expires_at
           from core.sessions where user_id = $1 and ended_at is null and expires_at > $2
           order by last_used_at desc, id desc limit $3"#,
        user.as_uuid(),
        now,
        LISTED,
    )
    .fetch_all(tx)
    .await?;
    Ok(sessions)
}

pub(super) async fn has_session(tx: &mut PgConnection, user: UserId, id: SessionId) -> Result<bool> {
    let found = sqlx::query_scalar!(
        r#"select exists (select from core.sessions where user_id = $1 and id = $2) as "found!""#,
        user.as_uuid(),
        id.as_uuid(),
    );
    Ok(found.fetch_one(tx).await?)
}
