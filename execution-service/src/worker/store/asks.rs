//! SQL of what people are asked: the rows that lists of what waits are read from. The journal is the truth; a run's rows are
//! written anew in the transaction of every entry that changes them.

use service_kit::ids::ExecutionId;
use sqlx::{PgConnection, Result};

use crate::worker::writer::Ask;

/// Makes these all that a run waits for.
pub(in crate::worker) async fn put(connection: &mut PgConnection, execution: ExecutionId, asks: &[Ask]) -> Result<()> {
    sqlx::query!(
        "delete from execution.waiting where execution_id = $1",
        execution.as_uuid()
    )
    .execute(&mut *connection)
    .await?;
    for ask in asks {
        let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        let users: Vec<_> = ask.users.iter().map(|it| it.as_uuid()).collect();
        let not_users: Vec<_> = ask.not_users.iter().map(|it| it.as_uuid()).collect();
        sqlx::query!(
            "insert into execution.waiting (execution_id, stage, visit, item, attempt, company_id, studio_id, about, question,
                 users, rank, not_users, required, approved, since, expires_at, escalated)
             select $1, $2, $3, $4, $5, e.company_id, e.studio_id, $6, $7, $8, $9,
                 case when $10 then array_append($11::uuid[], e.started_by) else $11 end, $12, $13, $14, $15, $16
             from execution.executions e where e.id = $1",
            execution.as_uuid(),
            ask.of.stage,
            number(ask.of.visit),
            number(ask.of.item),
            number(ask.of.attempt),
            ask.about,
            ask.question,
            &users,
            ask.rank,
            ask.not_own_run,
            &not_users,
            ask.required,
            ask.approved,
            ask.since,
            ask.expires_at,
            ask.escalated,
        )
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}
