//! SQL of studios.

use service_kit::{
    error::{Error, Result, constraint},
    ids::{BranchId, CompanyId, StudioId, UserId},
    page::Page,
};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{BusinessArea, Details, Filter, Quota, Studio};
use crate::companies::branches;

struct Row {
    id: StudioId,
    company: CompanyId,
    branch: Option<BranchId>,
    name: String,
    description: String,
    area: BusinessArea,
    created_by: UserId,
    deleted_at: Option<OffsetDateTime>,
    revision: i64,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl From<Row> for Studio {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            company: row.company,
            details: Details {
                branch: row.branch,
                name: row.name,
                description: row.description,
                area: row.area,
            },
            created_by: row.created_by,
            deleted_at: row.deleted_at,
            revision: row.revision,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// What a company uses and may use, true until the end of the transaction: whoever else asks waits for it.
pub(super) async fn quota(tx: &mut PgConnection, company: CompanyId) -> Result<Quota> {
    let quota = sqlx::query_as!(
        Quota,
        r#"select used as "used!", allowed as "allowed!" from core.studio_quota($1)"#,
        company.as_uuid(),
    )
    .fetch_one(tx)
    .await?;
    Ok(quota)
}

pub(super) async fn insert(
    tx: &mut PgConnection,
    id: StudioId,
    company: CompanyId,
    maker: UserId,
    details: &Details,
) -> Result<()> {
    sqlx::query!(
        "insert into core.studios (id, company_id, branch_id, name, description, business_area, created_by)
         values ($1, $2, $3, $4, $5, $6, $7)",
        id.as_uuid(),
        company.as_uuid(),
        details.branch.map(BranchId::as_uuid),
        details.name,
        details.description,
        details.area as BusinessArea,
        maker.as_uuid(),
    )
    .execute(tx)
    .await
    .map_err(|error| refused(error, details))?;
    Ok(())
}

/// Holds the row until the end of the transaction, so that what is read next stays true.
pub(super) async fn lock(tx: &mut PgConnection, id: StudioId) -> Result<()> {
    sqlx::query!("select from core.studios where id = $1 for update", id.as_uuid())
        .execute(tx)
        .await?;
    Ok(())
}

pub(super) async fn find(tx: &mut PgConnection, id: StudioId) -> Result<Option<Studio>> {
    let row = sqlx::query_as!(
        Row,
        r#"select id as "id: StudioId", company_id as "company: CompanyId", branch_id as "branch: BranchId", name,
                  description, business_area as "area: BusinessArea", created_by as "created_by: UserId", deleted_at,
                  revision, created_at, updated_at
           from core.studios where id = $1"#,
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(Studio::from))
}

pub(super) async fn list(tx: &mut PgConnection, filter: &Filter, page: &Page<StudioId>) -> Result<Vec<Studio>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select id as "id: StudioId", company_id as "company: CompanyId", branch_id as "branch: BranchId", name,
                  description, business_area as "area: BusinessArea", created_by as "created_by: UserId", deleted_at,
                  revision, created_at, updated_at
           from core.studios
           where ($1::uuid is null or company_id = $1)
             and ($2::uuid is null or branch_id = $2)
             and ($3::text is null or business_area = $3)
             and ($4 or deleted_at is null)
             and ($5::uuid is null or id < $5)
           order by id desc limit $6"#,
        filter.company.map(CompanyId::as_uuid),
        filter.branch.map(BranchId::as_uuid),
        filter.area as Option<BusinessArea>,
        filter.show_deleted,
        page.after.map(StudioId::as_uuid),
        page.limit(),
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(Studio::from).collect())
}

pub(super) async fn update(tx: &mut PgConnection, id: StudioId, details: &Details) -> Result<()> {
    sqlx::query!(
        "update core.studios set branch_id = $2, name = $3, description = $4, business_area = $5 where id = $1",
        id.as_uuid(),
        details.branch.map(BranchId::as_uuid),
        details.name,
        details.description,
        details.area as BusinessArea,
    )
    .execute(tx)
    .await
    .map_err(|error| refused(error, details))?;
    Ok(())
}

pub(super) async fn set_deleted(tx: &mut PgConnection, studio: &Studio, at: Option<OffsetDateTime>) -> Result<()> {
    sqlx::query!(
        "update core.studios set deleted_at = $2 where id = $1",
        studio.id.as_uuid(),
        at
    )
    .execute(tx)
    .await
    .map_err(|error| refused(error, &studio.details))?;
    Ok(())
}

fn refused(error: sqlx::Error, details: &Details) -> Error {
    match (constraint(&error), details.branch) {
        (Some("studios_name_per_company"), _) => Error::AlreadyExists {
            reason: "STUDIO_NAME_TAKEN",
            message: "the company has another studio of this name".into(),
        },
        (Some("studios_company_id_branch_id_fkey"), Some(branch)) => branches::not_found(branch),
        _ => error.into(),
    }
}
