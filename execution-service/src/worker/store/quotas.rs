//! What companies have used of what their plans let them.

use std::collections::HashMap;

use service_kit::ids::CompanyId;
use sqlx::{PgConnection, Result};

use crate::{
    access::Allowance,
    worker::writer::{NewRun, Used},
};

/// What the companies of these starts have used, for those that were not let in.
pub(in crate::worker) async fn used(
    connection: &mut PgConnection,
    starts: &[(&NewRun, Allowance)],
) -> Result<HashMap<CompanyId, Used>> {
    let companies: Vec<_> = starts.iter().map(|(new, _)| new.company.as_uuid()).collect();
    let most: Vec<_> = starts
        .iter()
        .map(|(_, allowed)| allowed.concurrent_executions)
        .collect();
    let rows = sqlx::query!(
        r#"select i.company_id as "company!: CompanyId", coalesce(s.starts, 0) as "starts!",
               execution.at_work(i.company_id, i.most) as "at_work!"
           from unnest($1::uuid[], $2::bigint[]) as i (company_id, most)
               left join execution.start_counts s on s.company_id = i.company_id and s.month = execution.this_month()"#,
        &companies,
        &most,
    )
    .fetch_all(connection)
    .await?;
    let used = rows.into_iter().map(|row| {
        let (starts, at_work) = (row.starts, row.at_work);
        (row.company, Used { starts, at_work })
    });
    Ok(used.collect())
}

/// Counts what was taken outside of runs: tokens, and millionths of a US dollar. It has a part of its own, past those of the
/// instances' writers, so that no attempt's commit waits for it.
pub(crate) async fn spend(
    connection: &mut PgConnection,
    company: CompanyId,
    (tokens, cost_micros): (i64, i64),
) -> Result<()> {
    sqlx::query!(
        "insert into execution.spend as s (company_id, month, part, tokens, cost_micros)
         values ($1, execution.this_month(), 16, $2, $3)
         on conflict (company_id, month, part) do update
             set tokens = s.tokens + excluded.tokens, cost_micros = s.cost_micros + excluded.cost_micros",
        company.as_uuid(),
        tokens,
        cost_micros,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Tokens of this month and their cost in millionths of a US dollar, and how many there may be; none where the company has started
/// nothing in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::worker) struct Spent {
    pub tokens: i64,
    pub cost_micros: i64,
    pub tokens_per_month: i64,
    pub cost_micros_per_month: i64,
}

pub(in crate::worker) async fn spent(connection: &mut PgConnection, company: CompanyId) -> Result<Option<Spent>> {
    sqlx::query_as!(
        Spent,
        r#"select coalesce(s.tokens, 0) as "tokens!", coalesce(s.cost_micros, 0) as "cost_micros!",
               c.tokens_per_month, c.cost_micros_per_month
           from execution.start_counts c
               cross join lateral (
                   select sum(s.tokens)::bigint as tokens, sum(s.cost_micros)::bigint as cost_micros
                   from execution.spend s where s.company_id = c.company_id and s.month = c.month) s
           where c.company_id = $1 and c.month = execution.this_month()"#,
        company.as_uuid(),
    )
    .fetch_optional(connection)
    .await
}

/// Notes what a company's plan allows this month.
pub(in crate::worker) async fn note(
    connection: &mut PgConnection,
    company: CompanyId,
    limits: &Allowance,
) -> Result<()> {
    sqlx::query!(
        "insert into execution.start_counts as s (company_id, month, tokens_per_month, cost_micros_per_month)
         values ($1, execution.this_month(), $2, $3)
         on conflict (company_id, month) do update
             set tokens_per_month = excluded.tokens_per_month, cost_micros_per_month = excluded.cost_micros_per_month",
        company.as_uuid(),
        limits.tokens_per_month,
        limits.cost_micros_per_month,
    )
    .execute(connection)
    .await?;
    Ok(())
}
