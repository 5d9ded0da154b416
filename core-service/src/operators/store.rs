//! SQL of what operators set; for the background work's role.

use service_kit::{
    error::{Error, Result, constraint},
    ids::{CompanyId, UserId},
};
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::{
    companies::{self, Company, Subscription, plans::Plan},
    users::Subscription as SubscriptionStatus,
};

pub(super) async fn company(tx: &mut PgConnection, id: CompanyId) -> Result<Option<Company>> {
    companies::store::find(tx, id).await
}

pub(super) async fn set_plan(tx: &mut PgConnection, id: CompanyId, plan: &str) -> Result<bool> {
    let done = sqlx::query!("update core.companies set plan = $2 where id = $1", id.as_uuid(), plan)
        .execute(tx)
        .await
        .map_err(|error| match constraint(&error) {
            Some("companies_plan_fkey") => Error::invalid("plan", "must be the code of a plan"),
            _ => error.into(),
        })?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn set_subscription(tx: &mut PgConnection, id: CompanyId, to: &Subscription) -> Result<bool> {
    let done = sqlx::query!(
        "update core.companies set subscription_status = $2, period_start = $3, period_end = $4, renews = $5 where id = $1",
        id.as_uuid(),
        to.status as SubscriptionStatus,
        to.period_start,
        to.period_end,
        to.renews,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn suspend(tx: &mut PgConnection, id: CompanyId, at: Option<OffsetDateTime>) -> Result<bool> {
    let is_there = sqlx::query_scalar!(
        r#"select core.suspend_company($1, $2) as "is_there!""#,
        id.as_uuid(),
        at
    )
    .fetch_one(tx)
    .await?;
    Ok(is_there)
}

/// Has the other service ask anew about a company.
pub(super) async fn tell(tx: &mut PgConnection, id: CompanyId) -> Result<()> {
    sqlx::query!("select core.publish_plan_changed($1)", id.as_uuid())
        .execute(tx)
        .await?;
    Ok(())
}

/// The same for all companies that have a plan.
pub(super) async fn tell_all(tx: &mut PgConnection, plan: &str) -> Result<()> {
    sqlx::query!(
        "select core.publish_plan_changed(id) from core.companies where plan = $1",
        plan
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn update_plan(tx: &mut PgConnection, plan: &Plan) -> Result<bool> {
    let done = sqlx::query!(
        "update core.plans set display_name = $2, executions_per_month = $3, concurrent_executions = $4, storage_bytes = $5,
             tokens_per_month = $6, cost_micros_per_month = $7, members = $8, studios = $9
         where code = $1",
        plan.code,
        plan.display_name,
        plan.executions_per_month,
        plan.concurrent_executions,
        plan.storage_bytes,
        plan.tokens_per_month,
        plan.cost_micros_per_month,
        plan.members,
        plan.studios,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn set_max_snapshots(tx: &mut PgConnection, user: UserId, most: i32) -> Result<bool> {
    let done = sqlx::query!(
        "update core.users set max_snapshots = $2 where id = $1",
        user.as_uuid(),
        most
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}
