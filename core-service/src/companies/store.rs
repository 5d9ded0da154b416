//! SQL of companies.

use futures::future::BoxFuture;
use service_kit::{
    error::{Error, Result, constraint},
    gather::{Answer, Owner},
    ids::{CompanyId, UserId},
    page::Page,
};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{Company, Cursor, Details, Industry, Subscription, storage::Storage};
use crate::{
    contact::{Email, Phone},
    users::Subscription as SubscriptionStatus,
};

struct Row {
    id: CompanyId,
    name: String,
    industry: Industry,
    contact_email: Email,
    contact_phone: Option<Phone>,
    headquarters_address: String,
    plan: String,
    status: SubscriptionStatus,
    period_start: Option<OffsetDateTime>,
    period_end: Option<OffsetDateTime>,
    renews: bool,
    suspended_at: Option<OffsetDateTime>,
    created_by: UserId,
    revision: i64,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl From<Row> for Company {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            details: Details {
                name: row.name,
                industry: row.industry,
                contact_email: row.contact_email,
                contact_phone: row.contact_phone,
                headquarters_address: row.headquarters_address,
            },
            plan: row.plan,
            subscription: Subscription {
                status: row.status,
                period_start: row.period_start,
                period_end: row.period_end,
                renews: row.renews,
                suspended_at: row.suspended_at,
            },
            created_by: row.created_by,
            revision: row.revision,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// Adds a company. Its maker sees it only when he is a member of it too.
pub(super) async fn insert(tx: &mut PgConnection, id: CompanyId, maker: UserId, details: &Details) -> Result<()> {
    sqlx::query!(
        "insert into core.companies
             (id, name, industry_type, contact_email, contact_phone, headquarters_address, created_by)
         values ($1, $2, $3, $4, $5, $6, $7)",
        id.as_uuid(),
        details.name,
        details.industry as Industry,
        details.contact_email.as_str(),
        details.contact_phone.as_ref().map(Phone::as_str),
        details.headquarters_address,
        maker.as_uuid(),
    )
    .execute(tx)
    .await
    .map_err(refused)?;
    Ok(())
}

/// Holds the row until the end of the transaction, so that what is read next stays true; for admins.
pub(super) async fn lock(tx: &mut PgConnection, id: CompanyId) -> Result<()> {
    sqlx::query!("select from core.companies where id = $1 for update", id.as_uuid())
        .execute(tx)
        .await?;
    Ok(())
}

pub(crate) async fn find(tx: &mut PgConnection, id: CompanyId) -> Result<Option<Company>> {
    let row = sqlx::query_as!(
        Row,
        r#"select id as "id: CompanyId", name, industry_type as "industry: Industry",
                  contact_email as "contact_email: Email", contact_phone as "contact_phone: Phone",
                  headquarters_address, plan, subscription_status as "status: SubscriptionStatus", period_start, period_end,
                  renews, suspended_at, created_by as "created_by: UserId", revision, created_at, updated_at
           from core.companies where id = $1"#,
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(Company::from))
}

/// Reads companies for many callers; see [`gather_reads`](super::gather_reads).
pub(super) fn find_each<'c>(
    connection: &'c mut PgConnection,
    claims: &'c [String],
    ids: &'c [CompanyId],
) -> BoxFuture<'c, sqlx::Result<Vec<Answer<Company>>>> {
    Box::pin(async move {
        let ids: Vec<_> = ids.iter().map(|it| it.as_uuid()).collect();
        let rows = sqlx::query!(
            r#"select item as "item!", seen_claims as "seen_claims!", id as "id!: CompanyId", name as "name!",
                      industry_type as "industry!: Industry", contact_email as "contact_email!: Email",
                      contact_phone as "contact_phone: Phone", headquarters_address as "headquarters_address!",
                      plan as "plan!", subscription_status as "status!: SubscriptionStatus", period_start, period_end,
                      renews as "renews!", suspended_at, created_by as "created_by!: UserId", revision as "revision!",
                      created_at as "created_at!", updated_at as "updated_at!"
               from core.read_companies($1, $2)"#,
            claims,
            &ids,
        )
        .fetch_all(connection)
        .await?;
        let answers = rows.into_iter().map(|row| Answer {
            item: row.item,
            owner: Owner::Claims(row.seen_claims),
            row: Company {
                id: row.id,
                details: Details {
                    name: row.name,
                    industry: row.industry,
                    contact_email: row.contact_email,
                    contact_phone: row.contact_phone,
                    headquarters_address: row.headquarters_address,
                },
                plan: row.plan,
                subscription: Subscription {
                    status: row.status,
                    period_start: row.period_start,
                    period_end: row.period_end,
                    renews: row.renews,
                    suspended_at: row.suspended_at,
                },
                created_by: row.created_by,
                revision: row.revision,
                created_at: row.created_at,
                updated_at: row.updated_at,
            },
        });
        Ok(answers.collect())
    })
}

pub(super) async fn list(tx: &mut PgConnection, page: &Page<Cursor>) -> Result<Vec<Company>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select id as "id: CompanyId", name, industry_type as "industry: Industry",
                  contact_email as "contact_email: Email", contact_phone as "contact_phone: Phone",
                  headquarters_address, plan, subscription_status as "status: SubscriptionStatus", period_start, period_end,
                  renews, suspended_at, created_by as "created_by: UserId", revision, created_at, updated_at
           from core.companies
           where $1::text is null or (name, id) > ($1, $2)
           order by name, id limit $3"#,
        page.after.as_ref().map(|it| it.name.as_str()),
        page.after.as_ref().map(|it| it.id.as_uuid()),
        page.limit(),
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(Company::from).collect())
}

pub(super) async fn update(tx: &mut PgConnection, id: CompanyId, details: &Details) -> Result<()> {
    sqlx::query!(
        "update core.companies
         set name = $2, industry_type = $3, contact_email = $4, contact_phone = $5, headquarters_address = $6
         where id = $1",
        id.as_uuid(),
        details.name,
        details.industry as Industry,
        details.contact_email.as_str(),
        details.contact_phone.as_ref().map(Phone::as_str),
        details.headquarters_address,
    )
    .execute(tx)
    .await
    .map_err(refused)?;
    Ok(())
}

fn refused(error: sqlx::Error) -> Error {
    match constraint(&error) {
        Some("companies_name_per_creator") => Error::AlreadyExists {
            reason: "COMPANY_NAME_TAKEN",
            message: "its maker has another company of this name".into(),
        },
        _ => error.into(),
    }
}

/// Holds the company's storage as it is until the end of the transaction.
pub(super) async fn lock_storage(tx: &mut PgConnection, company: CompanyId) -> Result<Storage> {
    let storage = sqlx::query_as!(
        Storage,
        r#"select core.lock_storage(c.id) as "used_bytes!", p.storage_bytes as limit_bytes
           from core.companies c join core.plans p on p.code = c.plan
           where c.id = $1"#,
        company.as_uuid(),
    )
    .fetch_one(tx)
    .await?;
    Ok(storage)
}
