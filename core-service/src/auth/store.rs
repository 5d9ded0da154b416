//! SQL of identities, sessions and refresh tokens. What is looked up before a user is known answers with his id alone.

use service_kit::{
    error::{Error, Result, constraint},
    ids::{SessionId, UserId},
};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{Device, Ended, Presented};
use crate::contact::Email;

pub(super) async fn find_user_by_email(tx: &mut PgConnection, email: &Email) -> Result<Option<UserId>> {
    let user = sqlx::query_scalar!(
        r#"select core.find_user_by_email($1) as "user: UserId""#,
        email.as_str()
    )
    .fetch_one(tx)
    .await?;
    Ok(user)
}

pub(super) async fn find_user_by_token(tx: &mut PgConnection, hash: [u8; 32]) -> Result<Option<UserId>> {
    let user = sqlx::query_scalar!(
        r#"select core.find_user_by_refresh_token($1) as "user: UserId""#,
        &hash[..]
    )
    .fetch_one(tx)
    .await?;
    Ok(user)
}

/// Adds a user's e-mail and password; refused where the e-mail has one already.
pub(super) async fn insert_identity(
    tx: &mut PgConnection,
    user: UserId,
    email: &Email,
    password_hash: &str,
) -> Result<()> {
    sqlx::query!(
        "insert into core.password_identities (user_id, email, password_hash) values ($1, $2, $3)",
        user.as_uuid(),
        email.as_str(),
        password_hash,
    )
    .execute(tx)
    .await
    .map_err(|error| match constraint(&error) {
        Some("password_identities_email_key") => Error::AlreadyExists {
            reason: "EMAIL_TAKEN",
            message: "the e-mail address is registered already".into(),
        },
        _ => error.into(),
    })?;
    Ok(())
}

/// What a user signs in with, as it is stored.
pub(super) struct Credential {
    pub(super) email: Email,
    pub(super) password_hash: String,
    pub(super) email_verified: bool,
    /// Whether a code is asked for besides.
    pub(super) second_factor: bool,
}

pub(super) async fn credential(tx: &mut PgConnection, user: UserId) -> Result<Option<Credential>> {
    let credential = sqlx::query_as!(
        Credential,
        r#"select p.email as "email: Email", p.password_hash, u.email_verified,
                  exists (select from core.totp_factors f where f.user_id = u.id and f.confirmed_at is not null)
                      as "second_factor!"
           from core.password_identities p join core.users u on u.id = p.user_id where p.user_id = $1"#,
        user.as_uuid()
    )
    .fetch_optional(tx)
    .await?;
    Ok(credential)
}

/// Sets another password. Says whether there was one.
pub(super) async fn set_password(tx: &mut PgConnection, user: UserId, hash: &str) -> Result<bool> {
    let done = sqlx::query!(
        "update core.password_identities set password_hash = $2 where user_id = $1",
        user.as_uuid(),
        hash,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn insert_session(
    tx: &mut PgConnection,
    session: &Presented,
    user: UserId,
    device: &Device,
) -> Result<()> {
    sqlx::query!(
        "insert into core.sessions (id, user_id, expires_at, second_factor, address, user_agent)
         values ($1, $2, $3, $4, $5, $6)",
        session.session.as_uuid(),
        user.as_uuid(),
        session.expires_at,
        session.second_factor,
        device.address.map(|it| it.to_string()),
        device.user_agent.as_deref(),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Notes when and where a session was used last.
pub(super) async fn session_used(
    tx: &mut PgConnection,
    id: SessionId,
    at: OffsetDateTime,
    device: &Device,
) -> Result<()> {
    sqlx::query!(
        "update core.sessions set last_used_at = $2, address = $3, user_agent = $4 where id = $1",
        id.as_uuid(),
        at,
        device.address.map(|it| it.to_string()),
        device.user_agent.as_deref(),
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn insert_token(
    tx: &mut PgConnection,
    hash: [u8; 32],
    session: SessionId,
    user: UserId,
) -> Result<()> {
    sqlx::query!(
        "insert into core.refresh_tokens (token_hash, session_id, user_id) values ($1, $2, $3)",
        &hash[..],
        session.as_uuid(),
        user.as_uuid(),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Reads a token with its session, and holds both until the end of the transaction: of two uses one is the first.
pub(super) async fn lock_token(tx: &mut PgConnection, hash: [u8; 32]) -> Result<Option<Presented>> {
    let presented = sqlx::query_as!(
        Presented,
        r#"select s.id as "session: SessionId", s.expires_at, s.ended_at, t.spent_at, s.second_factor
           from core.refresh_tokens t join core.sessions s on s.user_id = t.user_id and s.id = t.session_id
           where t.token_hash = $1
           for update"#,
        &hash[..],
    )
    .fetch_optional(tx)
    .await?;
    Ok(presented)
}

pub(super) async fn spend_token(tx: &mut PgConnection, hash: [u8; 32], at: OffsetDateTime) -> Result<()> {
    sqlx::query!(
        "update core.refresh_tokens set spent_at = $2 where token_hash = $1",
        &hash[..],
        at
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Ends a session that has not ended yet. Says whether it was so.
pub(super) async fn end_session(tx: &mut PgConnection, id: SessionId, at: OffsetDateTime, why: Ended) -> Result<bool> {
    let done = sqlx::query!(
        "update core.sessions set ended_at = $2, ended_reason = $3 where id = $1 and ended_at is null",
        id.as_uuid(),
        at,
        why as Ended,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Ends all sessions of a user but one, and answers which they were.
pub(super) async fn end_sessions(
    tx: &mut PgConnection,
    user: UserId,
    but: Option<SessionId>,
    at: OffsetDateTime,
    why: Ended,
) -> Result<Vec<SessionId>> {
    let ended = sqlx::query_scalar!(
        r#"update core.sessions set ended_at = $3, ended_reason = $4
           where user_id = $1 and ended_at is null and id is distinct from $2
           returning id as "id: SessionId""#,
        user.as_uuid(),
        but.map(SessionId::as_uuid),
        at,
        why as Ended,
    )
    .fetch_all(tx)
    .await?;
    Ok(ended)
}

/// Removes at most `limit` sessions that ran out before a moment, with their tokens; for the background work's role.
pub(super) async fn remove_expired(tx: &mut PgConnection, before: OffsetDateTime, limit: i64) -> Result<u64> {
    let done = sqlx::query!(
        "delete from core.sessions where id in (
             select id from core.sessions where expires_at < $1 limit $2)",
        before,
        limit,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}
