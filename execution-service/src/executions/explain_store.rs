//! SQL of why an execution is where it is.

use service_kit::{error::Result, ids::ExecutionId};
use sqlx::PgConnection;
use time::OffsetDateTime;

/// A run's hot row, and what there is to run it.
pub(super) struct Hot {
    /// The instance that it belongs to.
    pub owner: Option<i32>,
    /// Whether that one's lease holds.
    pub owner_lives: Option<bool>,
    /// When it is due; it is not by itself where there is no such time.
    pub run_at: Option<OffsetDateTime>,
    /// By the database's clock.
    pub now: OffsetDateTime,
    pub commands: i64,
    pub takeovers: i16,
    pub asides: i16,
    /// How many instances live.
    pub instances: i64,
    /// How many more runs they take.
    pub room: i64,
}

/// How a run is held; none where it has ended.
pub(super) async fn hot(tx: &mut PgConnection, id: ExecutionId) -> Result<Option<Hot>> {
    let hot = sqlx::query_as!(
        Hot,
        r#"select r.owner, o.lease_until > now() as "owner_lives?",
               case when r.run_at < 'infinity' then r.run_at end as run_at, now() as "now!",
               r.commands_seq - r.commands_done as "commands!", r.takeovers, r.asides, i.instances as "instances!",
               i.room as "room!"
           from execution.runs r
               left join execution.instances o on o.id = r.owner
               cross join (
                   select count(*) as instances, coalesce(sum(room), 0)::bigint as room
                   from execution.instances where lease_until > now()) i
           where r.execution_id = $1"#,
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(hot)
}

/// How many runs of its studio are due and nobody's that were so before it; at most so many are counted.
pub(super) async fn ahead(tx: &mut PgConnection, id: ExecutionId, at_most: i64) -> Result<i64> {
    let ahead = sqlx::query_scalar!(
        r#"select count(*) as "ahead!"
           from (
               select from execution.runs o
               where o.company_id = (select execution.caller_company()) and o.owner is null
                   and o.run_at < (select r.run_at from execution.runs r where r.execution_id = $1)
               limit $2) due"#,
        id.as_uuid(),
        at_most,
    )
    .fetch_one(tx)
    .await?;
    Ok(ahead)
}
