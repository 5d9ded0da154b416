//! Access: a user's place in a company or studio, for the other service, which derives its claims from it.
//!
//! An answer and the outbox position that it is true of are read in one statement, hence in one snapshot: an event with a
//! larger position may have changed it, one with a smaller or equal one has not. In a suspended company nobody has a place.

use service_kit::{
    auth::Caller,
    db::{Claims, TenantTx},
    error::{Error, Result},
    ids::{BranchId, CompanyId, StudioId, UserId},
};
use time::OffsetDateTime;

use crate::{
    App,
    companies::{Subscription, memberships::Role, plans::Plan},
};

pub mod api;
mod convert;
mod store;

/// What a user may do, as of one snapshot of the database.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The user.
    pub user: UserId,
    /// The company.
    pub company: CompanyId,
    /// The studio, where one was asked about.
    pub studio: Option<Studio>,
    /// The user's role in the company.
    pub role: Role,
    /// The branches the user is narrowed to; empty means all.
    pub branches: Vec<BranchId>,
    /// The company's plan.
    pub plan: Plan,
    /// How the company's subscription stands.
    pub subscription: Subscription,
    /// How many snapshots the user may have, in all his companies together.
    pub max_snapshots: i32,
    /// The newest event of the snapshot.
    pub outbox_position: i64,
    /// When it was read, by the database's clock; not after the snapshot was taken.
    pub read_at: OffsetDateTime,
}

/// A studio that is reached.
#[derive(Clone, Debug)]
pub struct Studio {
    /// Its id.
    pub id: StudioId,
    /// For people.
    pub name: String,
}

/// The caller's place in a studio that he reaches. A deleted studio is not found.
pub async fn check_studio(app: &App, caller: &Caller, id: StudioId) -> Result<Decision> {
    let mut tx = TenantTx::begin(&app.pool, "access.check_studio", &Claims::user(caller.user)).await?;
    store::studio(&mut tx, id)
        .await?
        .ok_or_else(|| Error::not_found("studio", id))
}

/// The caller's place in a company.
pub async fn check_company(app: &App, caller: &Caller, id: CompanyId) -> Result<Decision> {
    let mut tx = TenantTx::begin(&app.pool, "access.check_company", &Claims::user(caller.user)).await?;
    store::company(&mut tx, id)
        .await?
        .ok_or_else(|| Error::not_found("company", id))
}
