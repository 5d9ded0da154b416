//! SQL of API keys.

use service_kit::{
    auth::api_keys::ApiKey,
    error::{Error, Result, constraint},
    ids::{BranchId, CompanyId, MembershipId, UserId},
    page::Page,
};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{Key, NewKey};

/// Adds a key with its user and his place. Says false where the company has all that it may have.
pub(super) async fn insert(
    tx: &mut PgConnection,
    id: UserId,
    membership: MembershipId,
    new: &NewKey,
    hash: &[u8],
    shown: &str,
) -> Result<bool> {
    let scopes: Vec<_> = new.scopes.iter().map(ToString::to_string).collect();
    let branches: Vec<_> = new.branches.iter().map(|it| it.as_uuid()).collect();
    let made = sqlx::query_scalar!(
        r#"select core.create_api_key($1, $2, $3, $4, $5, $6, $7, $8, $9) as "made!""#,
        id.as_uuid(),
        membership.as_uuid(),
        new.company.as_uuid(),
        new.name,
        hash,
        shown,
        &scopes,
        &branches,
        new.expires_at,
    )
    .fetch_one(tx)
    .await
    .map_err(refused)?;
    Ok(made)
}

pub(super) async fn find(tx: &mut PgConnection, id: UserId) -> Result<Option<Key>> {
    let key = sqlx::query_as!(
        Key,
        r#"select k.id as "id: UserId", k.company_id as "company: CompanyId", k.name, k.prefix, k.scopes,
                  array(select b.branch_id from core.membership_branches b
                        where b.company_id = k.company_id and b.user_id = k.id
                        order by b.branch_id) as "branches!: Vec<BranchId>",
                  k.expires_at, k.last_used_at, k.revoked_at, k.created_by as "created_by: UserId", k.created_at
           from core.api_keys k where k.id = $1"#,
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(key)
}

pub(super) async fn list(tx: &mut PgConnection, company: CompanyId, page: &Page<UserId>) -> Result<Vec<Key>> {
    let keys = sqlx::query_as!(
        Key,
        r#"select k.id as "id: UserId", k.company_id as "company: CompanyId", k.name, k.prefix, k.scopes,
                  array(select b.branch_id from core.membership_branches b
                        where b.company_id = k.company_id and b.user_id = k.id
                        order by b.branch_id) as "branches!: Vec<BranchId>",
                  k.expires_at, k.last_used_at, k.revoked_at, k.created_by as "created_by: UserId", k.created_at
           from core.api_keys k
           where k.company_id = $1 and ($2::uuid is null or k.id < $2)
           order by k.id desc limit $3"#,
        company.as_uuid(),
        page.after.map(UserId::as_uuid),
        page.limit(),
    )
    .fetch_all(tx)
    .await?;
    Ok(keys)
}

/// Ends a key and its place. Says false where it had ended before.
pub(super) async fn revoke(tx: &mut PgConnection, key: &Key, at: OffsetDateTime) -> Result<bool> {
    let done = sqlx::query!(
        "update core.api_keys set revoked_at = $2 where id = $1 and revoked_at is null",
        key.id.as_uuid(),
        at,
    )
    .execute(&mut *tx)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query!(
        "update core.memberships set state = 'inactive' where company_id = $1 and user_id = $2",
        key.company.as_uuid(),
        key.id.as_uuid(),
    )
    .execute(tx)
    .await?;
    Ok(true)
}

/// What the key with one of these hashes may do, and that it was used.
pub(super) async fn use_key(tx: &mut PgConnection, hashes: &[Vec<u8>]) -> Result<Option<ApiKey>> {
    let row = sqlx::query!(
        r#"select id as "id!: UserId", company_id as "company!: CompanyId", scopes as "scopes!", expires_at
           from core.use_api_key($1)"#,
        hashes,
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(|row| ApiKey {
        id: row.id,
        company: row.company,
        // A scope that this release does not know holds nothing.
        scopes: row.scopes.iter().filter_map(|it| it.parse().ok()).collect(),
        expires_at: row.expires_at.map(OffsetDateTime::unix_timestamp),
    }))
}

fn refused(error: sqlx::Error) -> Error {
    match constraint(&error) {
        Some("api_keys_name") => Error::AlreadyExists {
            reason: "API_KEY_NAME_TAKEN",
            message: "the company uses another API key of this name".into(),
        },
        _ => error.into(),
    }
}
