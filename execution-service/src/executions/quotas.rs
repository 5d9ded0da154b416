//! What a company's plan lets it use, and what it has used: read as the writer counted it, in the commits of what used it.

use service_kit::{auth::Caller, db::TenantTx, error::Result, ids::CompanyId};
use time::{Date, Month, OffsetDateTime};

use super::quotas_store;
use crate::{App, access::Allowance};

/// What a company may use, and what it has used of that.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quotas {
    /// What it may.
    pub allowed: Allowance,
    /// What it has.
    pub used: Used,
    /// When the month is over.
    pub reset_at: OffsetDateTime,
}

/// What was used this month; of what is at work, what is now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Used {
    pub executions: i64,
    pub at_work: i64,
    pub tokens: i64,
    pub cost_micros: i64,
}

/// Tells a member about his company's quotas.
pub(super) async fn quotas(app: &App, caller: &Caller, company: CompanyId) -> Result<Quotas> {
    let access = app.core.check_company(caller.user, company).await?;
    let mut tx = TenantTx::begin(&app.pool, "executions.quotas", &access.claims).await?;
    let (used, month) = quotas_store::read(&mut tx, company).await?;
    Ok(Quotas {
        allowed: access.allowance,
        used,
        reset_at: next_month(month).midnight().assume_utc(),
    })
}

fn next_month(month: Date) -> Date {
    let year = month.year() + i32::from(month.month() == Month::December);
    Date::from_calendar_date(year, month.month().next(), 1).unwrap_or(Date::MAX)
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;

    #[test]
    fn a_month_is_over_where_the_next_begins() {
        assert_eq!(next_month(date!(2026 - 11 - 01)), date!(2026 - 12 - 01));
        assert_eq!(next_month(date!(2026 - 12 - 01)), date!(2027 - 01 - 01));
    }
}
