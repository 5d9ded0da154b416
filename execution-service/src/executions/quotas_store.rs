//! SQL of the quotas.

use service_kit::{error::Result, ids::CompanyId};
use sqlx::PgConnection;
use time::Date;

use super::quotas::Used;

/// What a company has used, and of which month.
pub(super) async fn read(tx: &mut PgConnection, company: CompanyId) -> Result<(Used, Date)> {
    let row = sqlx::query!(
        r#"select coalesce((select c.starts from execution.start_counts c where c.company_id = $1 and c.month = m.month), 0)
                   as "executions!",
               execution.caller_at_work(1000000) as "at_work!",
               coalesce((select sum(s.tokens)::bigint from execution.spend s where s.company_id = $1 and s.month = m.month), 0)
                   as "tokens!",
               coalesce((select sum(s.cost_micros)::bigint from execution.spend s
                   where s.company_id = $1 and s.month = m.month), 0) as "cost_micros!",
               m.month as "month!"
           from (select execution.this_month() as month) m"#,
        company.as_uuid(),
    )
    .fetch_one(tx)
    .await?;
    let used = Used {
        executions: row.executions,
        at_work: row.at_work,
        tokens: row.tokens,
        cost_micros: row.cost_micros,
    };
    Ok((used, row.month))
}
