//! SQL of branches.

use service_kit::{
    error::{Error, Result, constraint},
    ids::{BranchId, CompanyId},
    page::Page,
};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{Branch, Cursor, Details};
use crate::contact::{Email, Phone};

struct Row {
    id: BranchId,
    company: CompanyId,
    name: String,
    address: String,
    contact_email: Option<Email>,
    contact_phone: Option<Phone>,
    revision: i64,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl From<Row> for Branch {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            company: row.company,
            details: Details {
                name: row.name,
                address: row.address,
                contact_email: row.contact_email,
                contact_phone: row.contact_phone,
            },
            revision: row.revision,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

pub(super) async fn insert(tx: &mut PgConnection, id: BranchId, company: CompanyId, details: &Details) -> Result<()> {
    sqlx::query!(
        "insert into core.branches (id, company_id, name, address, contact_email, contact_phone)
         values ($1, $2, $3, $4, $5, $6)",
        id.as_uuid(),
        company.as_uuid(),
        details.name,
        details.address,
        details.contact_email.as_ref().map(Email::as_str),
        details.contact_phone.as_ref().map(Phone::as_str),
    )
    .execute(tx)
    .await
    .map_err(refused)?;
    Ok(())
}

/// Holds the row until the end of the transaction, so that what is read next stays true; for admins.
pub(super) async fn lock(tx: &mut PgConnection, id: BranchId) -> Result<()> {
    sqlx::query!("select from core.branches where id = $1 for update", id.as_uuid())
        .execute(tx)
        .await?;
    Ok(())
}

pub(super) async fn find(tx: &mut PgConnection, id: BranchId) -> Result<Option<Branch>> {
    let row = sqlx::query_as!(
        Row,
        r#"select id as "id: BranchId", company_id as "company: CompanyId", name, address,
                  contact_email as "contact_email: Email", contact_phone as "contact_phone: Phone",
                  revision, created_at, updated_at
           from core.branches where id = $1"#,
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(Branch::from))
}

pub(super) async fn list(tx: &mut PgConnection, company: CompanyId, page: &Page<Cursor>) -> Result<Vec<Branch>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select id as "id: BranchId", company_id as "company: CompanyId", name, address,
                  contact_email as "contact_email: Email", contact_phone as "contact_phone: Phone",
                  revision, created_at, updated_at
           from core.branches
           where company_id = $1 and ($2::text is null or (name, id) > ($2, $3))
           order by name, id limit $4"#,
        company.as_uuid(),
        page.after.as_ref().map(|it| it.name.as_str()),
        page.after.as_ref().map(|it| it.id.as_uuid()),
        page.limit(),
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(Branch::from).collect())
}

pub(super) async fn update(tx: &mut PgConnection, id: BranchId, details: &Details) -> Result<()> {
    sqlx::query!(
        "update core.branches set name = $2, address = $3, contact_email = $4, contact_phone = $5 where id = $1",
        id.as_uuid(),
        details.name,
        details.address,
        details.contact_email.as_ref().map(Email::as_str),
        details.contact_phone.as_ref().map(Phone::as_str),
    )
    .execute(tx)
    .await
    .map_err(refused)?;
    Ok(())
}

pub(super) async fn delete(tx: &mut PgConnection, id: BranchId) -> Result<()> {
    sqlx::query!("delete from core.branches where id = $1", id.as_uuid())
        .execute(tx)
        .await
        .map_err(refused)?;
    Ok(())
}

fn refused(error: sqlx::Error) -> Error {
    match constraint(&error) {
        Some("branches_name_per_company") => Error::AlreadyExists {
            reason: "BRANCH_NAME_TAKEN",
            message: "the company has another branch of this name".into(),
        },
        Some("studios_company_id_branch_id_fkey" | "membership_branches_company_id_branch_id_fkey") => {
            Error::FailedPrecondition {
                reason: "BRANCH_IN_USE",
                message: "a studio (a softly deleted one too) or a narrowed membership names the branch".into(),
            }
        }
        _ => error.into(),
    }
}
