//! The audit log of the `core` schema, for the admins of a company; what writes it is service-kit's.

use service_kit::{
    audit::{Cursor, Filter, Report, Shown, Wanted},
    auth::Caller,
    db::{Claims, TenantTx},
    error::Result,
    ids::CompanyId,
    page::Page,
};

use crate::{App, companies::memberships};

pub mod api;

/// Lists a company's entries, newest first.
async fn list(app: &App, caller: &Caller, filter: &Filter, page: &Page<Cursor>) -> Result<Vec<Shown>> {
    let mut tx = enter(app, caller, filter.company, "audit.list").await?;
    app.audit.list(&mut tx, filter, page).await
}

/// Checks a company's chain.
async fn verify(app: &App, caller: &Caller, company: CompanyId) -> Result<Report> {
    let mut tx = enter(app, caller, company, "audit.verify").await?;
    app.audit.verify(&mut tx, company).await
}

/// The claims that a company's log is exported with, if the caller may.
async fn enter_export(app: &App, caller: &Caller, wanted: &Wanted) -> Result<Claims> {
    enter(app, caller, wanted.company, "audit.export").await?;
    Ok(Claims::user(caller.user))
}

async fn enter(app: &App, caller: &Caller, company: CompanyId, name: &'static str) -> Result<TenantTx> {
    let mut tx = TenantTx::begin(&app.pool, name, &Claims::user(caller.user)).await?;
    memberships::place(&mut tx, company).await?.require_admin()?;
    Ok(tx)
}
