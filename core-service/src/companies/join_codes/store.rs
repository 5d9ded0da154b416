//! SQL of join codes. Whoever asks to join is no member yet, so that look-up answers with the company's id alone.

use service_kit::{
    error::Result,
    ids::{CompanyId, MembershipId, UserId},
};
use sqlx::PgConnection;
use time::OffsetDateTime;

/// The sealed code and when it was made.
pub(super) async fn find(tx: &mut PgConnection, company: CompanyId) -> Result<Option<(Vec<u8>, OffsetDateTime)>> {
    let row = sqlx::query!(
        "select sealed, created_at from core.join_codes where company_id = $1",
        company.as_uuid()
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(|row| (row.sealed, row.created_at)))
}

pub(super) async fn insert(
    tx: &mut PgConnection,
    company: CompanyId,
    hash: [u8; 32],
    sealed: &[u8],
    maker: UserId,
) -> Result<OffsetDateTime> {
    let created_at = sqlx::query_scalar!(
        "insert into core.join_codes (company_id, code_hash, sealed, created_by) values ($1, $2, $3, $4)
         returning created_at",
        company.as_uuid(),
        &hash[..],
        sealed,
        maker.as_uuid(),
    )
    .fetch_one(tx)
    .await?;
    Ok(created_at)
}

pub(super) async fn delete(tx: &mut PgConnection, company: CompanyId) -> Result<()> {
    sqlx::query!("delete from core.join_codes where company_id = $1", company.as_uuid())
        .execute(tx)
        .await?;
    Ok(())
}

pub(super) async fn find_company(tx: &mut PgConnection, hash: [u8; 32]) -> Result<Option<CompanyId>> {
    let company = sqlx::query_scalar!(
        r#"select core.find_company_by_join_code($1) as "company: CompanyId""#,
        &hash[..]
    )
    .fetch_one(tx)
    .await?;
    Ok(company)
}

/// Makes the caller's pending membership in the company of a code, unless he has one there in whatever state.
pub(super) async fn ask(tx: &mut PgConnection, id: MembershipId, hash: [u8; 32]) -> Result<()> {
    sqlx::query!("select core.ask_to_join($1, $2)", id.as_uuid(), &hash[..])
        .execute(tx)
        .await?;
    Ok(())
}
