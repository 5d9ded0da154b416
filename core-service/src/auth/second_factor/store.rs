//! SQL of second factors and their recovery codes.

use service_kit::{error::Result, ids::UserId};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::Factor;

/// Reads a factor and holds it until the end of the transaction: of two uses of a code one is the first.
pub(super) async fn lock(tx: &mut PgConnection, user: UserId) -> Result<Option<Factor>> {
    let factor = sqlx::query_as!(
        Factor,
        r#"select sealed_secret, confirmed_at is not null as "is_confirmed!", last_step
           from core.totp_factors where user_id = $1 for update"#,
        user.as_uuid()
    )
    .fetch_optional(tx)
    .await?;
    Ok(factor)
}

pub(super) async fn insert(tx: &mut PgConnection, user: UserId, sealed: &[u8]) -> Result<()> {
    sqlx::query!(
        "insert into core.totp_factors (user_id, sealed_secret) values ($1, $2)",
        user.as_uuid(),
        sealed,
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn confirm(tx: &mut PgConnection, user: UserId, at: OffsetDateTime, step: i64) -> Result<()> {
    sqlx::query!(
        "update core.totp_factors set confirmed_at = $2, last_step = $3 where user_id = $1",
        user.as_uuid(),
        at,
        step,
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn use_step(tx: &mut PgConnection, user: UserId, step: i64) -> Result<()> {
    sqlx::query!(
        "update core.totp_factors set last_step = $2 where user_id = $1",
        user.as_uuid(),
        step,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Removes a factor; its recovery codes go with it.
pub(super) async fn remove(tx: &mut PgConnection, user: UserId) -> Result<()> {
    sqlx::query!("delete from core.totp_factors where user_id = $1", user.as_uuid())
        .execute(tx)
        .await?;
    Ok(())
}

pub(super) async fn insert_recovery(tx: &mut PgConnection, user: UserId, hash: &[u8]) -> Result<()> {
    sqlx::query!(
        "insert into core.recovery_codes (user_id, code_hash) values ($1, $2)",
        user.as_uuid(),
        hash,
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn recovery_codes(tx: &mut PgConnection, user: UserId) -> Result<Vec<Vec<u8>>> {
    let codes = sqlx::query_scalar!(
        "select code_hash from core.recovery_codes where user_id = $1",
        user.as_uuid()
    );
    Ok(codes.fetch_all(tx).await?)
}

pub(super) async fn remove_recovery(tx: &mut PgConnection, user: UserId, hash: &[u8]) -> Result<()> {
    sqlx::query!(
        "delete from core.recovery_codes where user_id = $1 and code_hash = $2",
        user.as_uuid(),
        hash,
    )
    .execute(tx)
    .await?;
    Ok(())
}
