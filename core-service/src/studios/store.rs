//! SQL of studios.

use futures::future::BoxFuture;
use service_kit::{
    error::{Error, Result, constraint},
    gather::{Answer, Owner},
    ids::{BranchId, CompanyId, StudioId, UserId},
    page::Page,
    requests::First,
};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    BusinessArea, Details, Filter, Quota, Studio,
    api::CREATE_STUDIO,
    create::{Creation, Outcome},
};
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

/// Makes studios for many callers; see [`gather_creations`](super::create::gather_creations).
pub(super) fn create_each<'c>(
    connection: &'c mut PgConnection,
    claims: &'c [String],
    studios: &'c [Creation],
) -> BoxFuture<'c, sqlx::Result<Vec<Answer<Outcome>>>> {
    Box::pin(async move {
        let ids: Vec<_> = studios.iter().map(|it| it.id.as_uuid()).collect();
        let new = || studios.iter().map(|it| &it.new);
        let companies: Vec<_> = new().map(|it| it.company.as_uuid()).collect();
        let branches: Vec<_> = new().map(|it| it.details.branch.map(BranchId::as_uuid)).collect();
        let names: Vec<_> = new().map(|it| &*it.details.name).collect();
        let descriptions: Vec<_> = new().map(|it| &*it.details.description).collect();
        let areas: Vec<_> = new().map(|it| it.details.area).collect();
        let requests: Vec<_> = new().map(|it| it.key.as_ref().map(|key| key.id.as_uuid())).collect();
        let hashes: Vec<_> = new().map(|it| it.key.as_ref().map(|key| &key.body_hash[..])).collect();
        let audits: Vec<_> = studios.iter().map(|it| it.audit.as_str()).collect();
        let rows = sqlx::query_as!(
            CreationRow,
            r#"select item as "item!", seen_claims as "seen_claims!", outcome as "outcome!: OutcomeCode", revision,
                      created_at, updated_at, first_hash, first_id, used, allowed
               from core.create_studios($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"#,
            claims,
            &ids,
            &companies,
            &branches as &[Option<Uuid>],
            &names as &[&str],
            &descriptions as &[&str],
            &areas as &[BusinessArea],
            CREATE_STUDIO,
            &requests as &[Option<Uuid>],
            &hashes as &[Option<&[u8]>],
            &audits as &[&str],
        )
        .fetch_all(connection)
        .await?;
        Ok(rows.into_iter().filter_map(CreationRow::answer).collect())
    })
}

#[derive(Clone, Copy, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
enum OutcomeCode {
    Made,
    Repeated,
    NoCompany,
    OutOfReach,
    NoBranch,
    NoRoom,
    NameTaken,
}

struct CreationRow {
    item: i32,
    seen_claims: String,
    outcome: OutcomeCode,
    revision: Option<i64>,
    created_at: Option<OffsetDateTime>,
    updated_at: Option<OffsetDateTime>,
    first_hash: Option<Vec<u8>>,
    first_id: Option<Uuid>,
    used: Option<i64>,
    allowed: Option<i32>,
}

impl CreationRow {
    /// Nothing where what belongs to the outcome is missing.
    fn answer(self) -> Option<Answer<Outcome>> {
        let outcome = match self.outcome {
            OutcomeCode::Made => Outcome::Made {
                revision: self.revision?,
                created_at: self.created_at?,
                updated_at: self.updated_at?,
            },
            OutcomeCode::Repeated => {
                let first = self.first_hash.zip(self.first_id);
                Outcome::Repeated(first.map(|(body_hash, resource)| First { body_hash, resource }))
            }
            OutcomeCode::NoCompany => Outcome::NoCompany,
            OutcomeCode::OutOfReach => Outcome::OutOfReach,
            OutcomeCode::NoBranch => Outcome::NoBranch,
            OutcomeCode::NoRoom => Outcome::NoRoom(Quota {
                used: self.used?,
                allowed: self.allowed?,
            }),
            OutcomeCode::NameTaken => Outcome::NameTaken,
        };
        Some(Answer {
            item: self.item,
            owner: Owner::Claims(self.seen_claims),
            row: outcome,
        })
    }
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

/// Reads studios for many callers; see [`gather_reads`](super::gather_reads).
pub(super) fn find_each<'c>(
    connection: &'c mut PgConnection,
    claims: &'c [String],
    ids: &'c [StudioId],
) -> BoxFuture<'c, sqlx::Result<Vec<Answer<Studio>>>> {
    Box::pin(async move {
        let ids: Vec<_> = ids.iter().map(|it| it.as_uuid()).collect();
        let rows = sqlx::query!(
            r#"select item as "item!", seen_claims as "seen_claims!", id as "id!: StudioId",
                      company_id as "company!: CompanyId", branch_id as "branch: BranchId", name as "name!",
                      description as "description!", business_area as "area!: BusinessArea",
                      created_by as "created_by!: UserId", deleted_at, revision as "revision!",
                      created_at as "created_at!", updated_at as "updated_at!"
               from core.get_studios($1, $2)"#,
            claims,
            &ids,
        )
        .fetch_all(connection)
        .await?;
        let answers = rows.into_iter().map(|row| Answer {
            item: row.item,
            owner: Owner::Claims(row.seen_claims),
            row: Studio {
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
            },
        });
        Ok(answers.collect())
    })
}

pub(super) async fn list(tx: &mut PgConnection, filter: &Filter, page: &Page<StudioId>) -> Result<Vec<Studio>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select id as "id: StudioId", company_id as "company: CompanyId", branch_id as "branch: BranchId", name,
                  description, business_area as "area: BusinessArea", created_by as "created_by: UserId", deleted_at,
                  revision, created_at, updated_at
           from core.studios
           where company_id = any (array(select core.caller_companies())) and ($1::uuid is null or company_id = $1)
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

/// What a studio that failed by itself, its neighbours apart, was refused for.
pub(super) fn refused_alone(error: Error, details: &Details) -> Error {
    error.into_database().map_or_else(|it| it, |it| refused(it, details))
}

pub(super) fn name_taken() -> Error {
    Error::AlreadyExists {
        reason: "STUDIO_NAME_TAKEN",
        message: "the company has another studio of this name".into(),
    }
}

fn refused(error: sqlx::Error, details: &Details) -> Error {
    match (constraint(&error), details.branch) {
        (Some("studios_name_per_company"), _) => name_taken(),
        (Some("studios_company_id_branch_id_fkey"), Some(branch)) => branches::not_found(branch),
        _ => error.into(),
    }
}
