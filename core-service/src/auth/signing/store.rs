//! SQL of the signing keys.

use serde_json::Value;
use service_kit::error::Result;
use sqlx::PgConnection;
use time::OffsetDateTime;

/// A key as it is stored.
pub(super) struct Stored {
    pub(super) kid: String,
    pub(super) public_jwk: Value,
    pub(super) sealed: Vec<u8>,
    pub(super) from: OffsetDateTime,
    pub(super) until: OffsetDateTime,
}

/// Lets one replica at a time make a key.
pub(super) async fn lock(tx: &mut PgConnection) -> Result<()> {
    sqlx::query!("select pg_advisory_xact_lock(hashtext('core.signing_keys'))")
        .execute(tx)
        .await?;
    Ok(())
}

pub(super) async fn list(tx: &mut PgConnection) -> Result<Vec<Stored>> {
    let keys = sqlx::query_as!(
        Stored,
        r#"select kid, public_jwk, sealed_private_key as sealed, signs_from as "from", signs_until as until
           from core.signing_keys order by signs_from"#,
    )
    .fetch_all(tx)
    .await?;
    Ok(keys)
}

pub(super) async fn insert(tx: &mut PgConnection, key: &Stored) -> Result<()> {
    sqlx::query!(
        "insert into core.signing_keys (kid, public_jwk, sealed_private_key, signs_from, signs_until)
         values ($1, $2, $3, $4, $5)",
        key.kid,
        key.public_jwk,
        key.sealed,
        key.from,
        key.until,
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn remove_ended_before(tx: &mut PgConnection, moment: OffsetDateTime) -> Result<()> {
    sqlx::query!("delete from core.signing_keys where signs_until < $1", moment)
        .execute(tx)
        .await?;
    Ok(())
}
