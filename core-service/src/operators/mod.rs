//! What operators set: a company's plan and subscription, whether it may be used, what plans allow, and what a user may have.
//!
//! An operator is no user: his token opens this service alone, at core-service's own port. He works across tenants, so with the
//! role of the background work, whose grants name the columns that he may set. Every call is recorded in its commit, reads too.

use service_kit::{
    audit::About,
    auth::Operator,
    db::WorkerTx,
    error::{Error, Result},
    ids::{CompanyId, UserId},
};

use crate::{
    App,
    companies::{self, Company, Subscription, plans::Plan},
};

pub mod api;
mod convert;
mod store;

/// What an operator does to a company.
#[derive(Clone, Debug)]
enum Act {
    Look,
    SetPlan(String),
    SetSubscription(Subscription),
    Suspend { reason: String },
    Resume,
}

/// Does something to a company, and answers what it is then.
async fn act(app: &App, operator: &Operator, id: CompanyId, act: &Act) -> Result<Company> {
    let mut tx = WorkerTx::begin(&app.worker_pool, "operators.act").await?;
    let mut about = About::company(id, "company", id).with("operator", &*operator.name);
    let is_there = match act {
        Act::Look => true,
        Act::SetPlan(plan) => {
            about = about.with("plan", plan.as_str());
            store::set_plan(&mut tx, id, plan).await?
        }
        Act::SetSubscription(subscription) => store::set_subscription(&mut tx, id, subscription).await?,
        Act::Suspend { reason } => {
            about = about.with("reason", reason.as_str());
            store::suspend(&mut tx, id, Some(app.clock.now())).await?
        }
        Act::Resume => store::suspend(&mut tx, id, None).await?,
    };
    let company = store::company(&mut tx, id).await?.filter(|_| is_there);
    let company = company.ok_or_else(|| companies::not_found(id))?;
    app.audit.record(&mut tx, about).await?;
    if !matches!(act, Act::Look) {
        // Last, for it holds up all others who publish until the commit.
        store::tell(&mut tx, id).await?;
    }
    tx.commit().await?;
    Ok(company)
}

/// Changes what a plan allows.
async fn update_plan(app: &App, operator: &Operator, plan: &Plan) -> Result<()> {
    let mut tx = WorkerTx::begin(&app.worker_pool, "operators.update_plan").await?;
    if !store::update_plan(&mut tx, plan).await? {
        return Err(Error::not_found("plan", &plan.code));
    }
    let about = About::platform("plan")
        .with("operator", &*operator.name)
        .with("plan", plan.code.as_str());
    app.audit.record(&mut tx, about).await?;
    store::tell_all(&mut tx, &plan.code).await?;
    tx.commit().await
}

/// Changes how many snapshots a user may have.
async fn set_user_limits(app: &App, operator: &Operator, user: UserId, max_snapshots: i32) -> Result<()> {
    let mut tx = WorkerTx::begin(&app.worker_pool, "operators.set_user_limits").await?;
    if !store::set_max_snapshots(&mut tx, user, max_snapshots).await? {
        return Err(Error::not_found("user", user));
    }
    let about = About::own("user", user)
        .with("operator", &*operator.name)
        .with("max_snapshots", max_snapshots);
    app.audit.record(&mut tx, about).await?;
    tx.commit().await
}
