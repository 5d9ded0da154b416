//! SQL of claiming: how runs that nobody holds come to an instance.

use service_kit::ids::{CompanyId, ExecutionId};
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

/// What a claim brought.
#[derive(Debug)]
pub(in crate::worker) struct Claim {
    pub runs: Vec<Claimed>,
    /// The company whose turn was last, if others wait for theirs.
    pub after: Option<CompanyId>,
    /// Whether more is due than was looked at.
    pub more: bool,
}

/// Claims runs that are due, and runs whose owner's lease ran out. Runs with commands come first, and alone where
/// `commanded_only`; then those of the dead, which had begun; then the companies take turns, from the one `after`, so that the
/// burst of one does not hold up another. Rows that another claims are skipped.
///
/// A claim costs the same whatever the backlog. Where more is due than a look at the oldest shows, the companies are found by
/// going from one to the next in an index, some of them each time; what they leave room for is taken from the oldest.
/// Where most runs wait, the statistics say that nothing is ever due, and the index of times looks best for everything: where it
/// is not meant, a time is compared together with its company, or as an expression.
pub(in crate::worker) async fn claim(
    connection: &mut PgConnection,
    instance: i32,
    limit: i64,
    commanded_only: bool,
    after: Option<CompanyId>,
) -> Result<Claim> {
    /// The most runs of a kind that are looked at.
    const WINDOW: i64 = 1_000;
    /// The most companies that are gone to.
    const COMPANIES: i64 = 128;
    /// The most runs of each of them.
    const EACH: i64 = 16;
    let rows = sqlx::query!(
        r#"with recursive dead as materialized (
               select id as owner from execution.instances where lease_until <= now()
           ), oldest as materialized (
               select execution_id, company_id, priority, run_at from execution.runs
               where owner is null and run_at <= now() and commands_seq <= commands_done and not $3
               order by run_at limit $4
           ), seen as materialized (
               select count(*) >= $4 as more from oldest
           ), round as (
               select (select r.company_id from execution.runs r where r.owner is null and r.company_id > $5
                       order by r.company_id limit 1) as company_id, 1::bigint as place
               from seen where more
               union all
               select (select r.company_id from execution.runs r where r.owner is null and r.company_id > o.company_id
                       order by r.company_id limit 1), o.place + 1
               from round o where o.company_id is not null and o.place < $6
           ), due as materialized (
               select r.execution_id, r.company_id, r.priority, r.run_at, o.place
               from round o cross join lateral (
                   select * from execution.runs r
                   where (r.company_id, r.run_at) >= (o.company_id, '-infinity') and (r.company_id, r.run_at) <= (o.company_id, now())
                       and r.owner is null and r.commands_seq <= r.commands_done
                   order by r.company_id, r.run_at limit $7) r
               union all
               select o.*, dense_rank() over (order by o.company_id <= $5, o.company_id)
               from oldest o cross join seen where not more
           ), candidate as materialized (
               (select execution_id, company_id, 0 as kind, 1::bigint as turn, 0::bigint as place from execution.runs
                where owner is null and run_at + interval '0' <= now() and commands_seq > commands_done limit $4)
               union all
               select r.execution_id, r.company_id, 1, 1, 0
               from dead cross join lateral (
                   select * from execution.runs r where r.owner = dead.owner limit $4) r
               where r.commands_seq > r.commands_done or not $3
               union all
               select execution_id, company_id, 2,
                   row_number() over (partition by company_id order by priority desc, run_at, execution_id), place
               from due
               union all
               select execution_id, company_id, 3, row_number() over (order by run_at), 0
               from oldest cross join seen where more and execution_id not in (select execution_id from due)
           ), picked as materialized (
               select c.*, r.taken_over
               from (select * from candidate order by kind, turn, place) c
               cross join lateral (
                   select r.owner is not null as taken_over from execution.runs r
                   where r.execution_id = c.execution_id
                       and (r.owner is null and r.run_at <= now() or r.owner in (select owner from dead))
                   for update skip locked) r
               limit $2
           ), claimed as (
               update execution.runs r
               set owner = $1, epoch = r.epoch + 1, takeovers = least(r.takeovers + p.taken_over::int, 100), updated_at = now()
               from picked p where r.execution_id = any(array[p.execution_id])
               returning r.*
           ), turn as (
               select (select company_id from picked where kind = 2 and turn = 1 order by place desc limit 1) as served,
                      (select count(*) from picked where kind = 2 and turn = 1) < (select count(distinct company_id) from due)
                          as waits,
                      (select company_id from round order by place desc limit 1) as gone_to
           )
           select seen.more as "more!", case when waits then coalesce(served, gone_to) else gone_to end as "after?: CompanyId",
                  c.execution_id as "execution?: ExecutionId", c.epoch as "epoch?", c.takeovers as "takeovers?",
                  c.seq as "seq?", c.head as "head?", c.stage as "stage?", c.commands_seq as "commands_seq?",
                  c.commands_done as "commands_done?"
           from seen cross join turn left join claimed c on true"#,
        instance,
        limit,
        commanded_only,
        WINDOW,
        after.map_or(sqlx::types::Uuid::nil(), CompanyId::as_uuid),
        COMPANIES,
        EACH,
    )
    .fetch_all(connection)
    .await?;
    let claim = Claim {
        runs: Vec::new(),
        after: rows.first().and_then(|row| row.after),
        more: rows.first().is_some_and(|row| row.more),
    };
    let runs = rows.into_iter().filter_map(|row| {
        Some(Claimed {
            execution: row.execution?,
            epoch: row.epoch?,
            takeovers: row.takeovers?,
            seq: row.seq?,
            head: row.head?,
            stage: row.stage?,
            commands_seq: row.commands_seq?,
            commands_done: row.commands_done?,
        })
    });
    Ok(Claim {
        runs: runs.collect(),
        ..claim
    })
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
