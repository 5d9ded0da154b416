//! Plans: what a company may have and use. Data, so that a limit changes without a release.

use service_kit::{
    auth::Caller,
    db::{Claims, TenantTx},
    error::Result,
};

use crate::App;

mod convert;
mod store;

/// A plan with its limits.
#[derive(Clone, Debug)]
pub struct Plan {
    /// free, pro or enterprise.
    pub code: String,
    /// Its name for people.
    pub display_name: String,
    /// Executions started in a calendar month (UTC).
    pub executions_per_month: i64,
    /// Executions with a call in flight at the same time.
    pub concurrent_executions: i32,
    /// Bytes of files and documents.
    pub storage_bytes: i64,
    /// Model tokens in a calendar month (UTC).
    pub tokens_per_month: i64,
    /// Cost of model calls in a calendar month (UTC), in millionths of a US dollar.
    pub cost_micros_per_month: i64,
    /// Approved members.
    pub members: i32,
    /// Studios in use.
    pub studios: i32,
}

/// Lists all plans, smallest first.
pub async fn list(app: &App, caller: &Caller) -> Result<Vec<Plan>> {
    let mut tx = TenantTx::begin(&app.pool, "plans.list", &Claims::user(caller.user)).await?;
    store::list(&mut tx).await
}
