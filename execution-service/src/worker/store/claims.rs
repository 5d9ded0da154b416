//! SQL of claiming: how runs that nobody holds come to an instance.

use service_kit::ids::ExecutionId;
use sqlx::{PgConnection, Result};

/// A run that now belongs to the instance.
#[derive(Debug)]
pub(in crate::worker) struct Claimed {
    pub execution: ExecutionId,
    pub epoch: i32,
    /// How often the run was taken over from an instance that died, since its last entry; at least 1 if a call of it was cut.
    pub takeovers: i16,
    pub seq: i64,
    pub head: Vec<u8>,
    pub stage: String,
    pub commands_seq: i64,
    pub commands_done: i64,
}

/// Claims runs that are due, and runs whose owner's lease ran out. Companies take turns, so that the burst of one does not
/// hold up another; runs with commands come first, and alone where `commanded_only`. Rows that another claims are skipped.
///
/// Turns are taken among those that are due longest, so that a claim costs the same whatever the backlog; runs with commands
/// and runs of the dead are found by ways of their own and do not wait for the backlog. `limit 1` keeps the planner from looking
/// commands up by run, and runs by when they are due.
pub(in crate::worker) async fn claim(
    connection: &mut PgConnection,
    instance: i32,
    limit: i64,
    commanded_only: bool,
) -> Result<Vec<Claimed>> {
    /// The most runs that take turns, and the most with commands.
    const WINDOW: i64 = 5_000;
    sqlx::query_as!(
        Claimed,
        r#"with dead as materialized (
               select id as owner from execution.instances where lease_until <= now()
           ), free as materialized (
               (select execution_id, company_id, priority, run_at, false as commanded
                from execution.runs
                where owner is null and run_at <= now() and commands_seq <= commands_done and not $3
                order by run_at limit $4)
               union all
               (select r.execution_id, r.company_id, r.priority, r.run_at, true
                from (select distinct execution_id from execution.execution_commands) c
                cross join lateral (select * from execution.runs r where r.execution_id = c.execution_id limit 1) r
                where r.owner is null and r.run_at <= now() and r.commands_seq > r.commands_done
                limit $4)
               union all
               select r.execution_id, r.company_id, r.priority, r.run_at, r.commands_seq > r.commands_done
               from dead join execution.runs r on r.owner = dead.owner
           ), turns as materialized (
               select execution_id, commanded,
                      row_number() over (partition by company_id order by priority desc, run_at, execution_id) as turn
               from free where commanded or not $3
           ), picked as materialized (
               select r.execution_id, r.taken_over
               from (select execution_id from turns order by commanded desc, turn, execution_id) t
               cross join lateral (
                   select r.execution_id, r.owner is not null as taken_over from execution.runs r
                   where r.execution_id = t.execution_id
                       and (r.owner is null and r.run_at <= now() or r.owner in (select owner from dead))
                   for update skip locked) r
               limit $2
           ), claimed as (
               update execution.runs r
               set owner = $1, epoch = r.epoch + 1, takeovers = least(r.takeovers + p.taken_over::int, 100)
               from picked p where r.execution_id = p.execution_id
               returning r.*
           )
           select execution_id as "execution: ExecutionId", epoch, takeovers, seq, head,
                  stage, commands_seq, commands_done
           from claimed"#,
        instance,
        limit,
        commanded_only,
        WINDOW,
    )
    .fetch_all(connection)
    .await
}

/// The runs that belong to the instance, with their epochs.
pub(in crate::worker) async fn owned(connection: &mut PgConnection, instance: i32) -> Result<Vec<(ExecutionId, i32)>> {
    let rows = sqlx::query!(
        r#"select execution_id as "execution: ExecutionId", epoch from execution.runs where owner = $1"#,
        instance,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.execution, row.epoch)).collect())
}

/// Claims runs anew that belong to the instance already but that it has lost sight of.
pub(in crate::worker) async fn reclaim(
    connection: &mut PgConnection,
    instance: i32,
    executions: &[ExecutionId],
) -> Result<Vec<Claimed>> {
    let executions: Vec<_> = executions.iter().map(|execution| execution.as_uuid()).collect();
    sqlx::query_as!(
        Claimed,
        r#"update execution.runs set epoch = epoch + 1, takeovers = least(takeovers + 1, 100)
           where owner = $1 and execution_id = any($2)
           returning execution_id as "execution: ExecutionId", epoch, takeovers, seq,
                  head, stage, commands_seq, commands_done"#,
        instance,
        &executions,
    )
    .fetch_all(connection)
    .await
}

/// Notes that a run has begun which was born without an owner, if it is still the instance's.
pub(in crate::worker) async fn begin(connection: &mut PgConnection, instance: i32, claimed: &Claimed) -> Result<()> {
    sqlx::query!(
        "update execution.executions e set status = 'running', started_at = now()
         from execution.runs r
         where e.id = $1 and e.started_at is null and e.finished_at is null
             and r.execution_id = $1 and r.owner is not distinct from $2 and r.epoch = $3",
        claimed.execution.as_uuid(),
        instance,
        claimed.epoch,
    )
    .execute(connection)
    .await?;
    Ok(())
}
