//! The audit log of the `execution` schema, for the admins of a company; what writes it is service-kit's.

use service_kit::{
    audit::{Cursor, Filter, Report, Shown, Wanted},
    auth::Caller,
    db::{Claims, TenantTx},
    error::Result,
    ids::CompanyId,
    page::Page,
};

use crate::App;

mod api;

pub use api::Api;

/// Lists a company's entries, newest first.
async fn list(app: &App, caller: &Caller, filter: &Filter, page: &Page<Cursor>) -> Result<Vec<Shown>> {
    let claims = enter(app, caller, filter.company).await?;
    let mut tx = TenantTx::begin(&app.pool, "audit.list", &claims).await?;
    app.audit.list(&mut tx, filter, page).await
}

/// Checks a company's chain.
async fn verify(app: &App, caller: &Caller, company: CompanyId) -> Result<Report> {
    let claims = enter(app, caller, company).await?;
    let mut tx = TenantTx::begin(&app.pool, "audit.verify", &claims).await?;
    app.audit.verify(&mut tx, company).await
}

/// The claims that a company's log is exported with, if the caller may.
async fn enter_export(app: &App, caller: &Caller, wanted: &Wanted) -> Result<Claims> {
    enter(app, caller, wanted.company).await
}

async fn enter(app: &App, caller: &Caller, company: CompanyId) -> Result<Claims> {
    let access = app.core.check_company(caller.user, company).await?;
    access.require_admin()?;
    Ok(access.claims)
}
