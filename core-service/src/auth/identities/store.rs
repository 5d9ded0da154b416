//! SQL of the identities of other issuers.

use service_kit::{
    error::{Result, constraint},
    ids::UserId,
};
use sqlx::PgConnection;

use crate::contact::Email;

/// What became of a new user.
pub(super) enum Inserted {
    /// He is there.
    User,
    /// Somebody has the id.
    Nothing,
    /// Somebody has proved the address; the transaction is over.
    EmailTaken,
}

pub(super) async fn find(tx: &mut PgConnection, issuer: &str, subject: &str) -> Result<Option<UserId>> {
    let user = sqlx::query_scalar!(
        r#"select core.find_user_by_identity($1, $2) as "user: UserId""#,
        issuer,
        subject
    )
    .fetch_one(tx)
    .await?;
    Ok(user)
}

pub(super) async fn insert_user(
    tx: &mut PgConnection,
    id: UserId,
    email: Option<&Email>,
    email_verified: bool,
    full_name: &str,
) -> Result<Inserted> {
    let done = sqlx::query!(
        "insert into core.users (id, email, email_verified, full_name) values ($1, $2, $3, $4) on conflict (id) do nothing",
        id.as_uuid(),
        email.map(Email::as_str),
        email_verified,
        full_name,
    )
    .execute(tx)
    .await;
    match done {
        Ok(done) if done.rows_affected() == 1 => Ok(Inserted::User),
        Ok(_) => Ok(Inserted::Nothing),
        Err(error) if constraint(&error) == Some("users_verified_email") => Ok(Inserted::EmailTaken),
        Err(error) => Err(error.into()),
    }
}

/// Binds an identity to a user. Says whether it was nobody's.
pub(super) async fn insert(tx: &mut PgConnection, issuer: &str, subject: &str, user: UserId) -> Result<bool> {
    let done = sqlx::query!(
        "insert into core.external_identities (issuer, subject, user_id) values ($1, $2, $3) on conflict do nothing",
        issuer,
        subject,
        user.as_uuid(),
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}
