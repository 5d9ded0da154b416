//! SQL of flows that stages started.

use serde_json::Value;
use service_kit::ids::{CompanyId, ConnectionId, ExecutionId, StudioId, UserId};
use sqlx::{PgConnection, Result, types::Json};
use time::OffsetDateTime;

use crate::{
    engine::{action::Call, journal::StageTry},
    worker::{Wish, flows::Outcome},
};

/// A start, by the try it is for and how often that was to be made once more.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::worker) struct FlowKey {
    pub execution: ExecutionId,
    pub of: StageTry,
    pub round: u32,
}

impl FlowKey {
    pub(in crate::worker) fn of(call: &Call) -> Self {
        Self {
            execution: call.key.execution,
            of: call.key.of_try(),
            round: call.round,
        }
    }

    /// Our correlation id: the execution and the attempt's key.
    pub(in crate::worker) fn tag(&self) -> String {
        match self.round {
            0 => format!("{}/{}", self.execution, self.of),
            round => format!("{}/{}/{round}", self.execution, self.of),
        }
    }

    fn place(&self) -> Place {
        let number = |it: u32| i32::try_from(it).unwrap_or(i32::MAX);
        Place {
            visit: number(self.of.visit),
            item: number(self.of.item),
            attempt: number(self.of.attempt),
            round: number(self.round),
        }
    }
}

struct Place {
    visit: i32,
    item: i32,
    attempt: i32,
    round: i32,
}

/// A start to be sent.
#[derive(Debug)]
pub(in crate::worker) struct NewFlow<'a> {
    pub key: &'a FlowKey,
    pub company: CompanyId,
    pub studio: StudioId,
    pub started_by: UserId,
    pub connection: ConnectionId,
    pub flow: &'a str,
    pub calls_back: bool,
    pub tags_run: bool,
    /// When it is looked at if nobody says what came of sending it.
    pub look_at: OffsetDateTime,
    pub until: OffsetDateTime,
    pub now: OffsetDateTime,
}

/// Makes the row of a start. False if there is one: somebody has sent it, or is about to.
pub(in crate::worker) async fn insert(connection: &mut PgConnection, new: &NewFlow<'_>) -> Result<bool> {
    let place = new.key.place();
    let made = sqlx::query!(
        "insert into execution.flow_runs (execution_id, stage, visit, item, attempt, round, company_id, studio_id, started_by,
             connection_id, flow_id, tag, calls_back, tags_run, look_at, until, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
         on conflict do nothing",
        new.key.execution.as_uuid(),
        new.key.of.stage,
        place.visit,
        place.item,
        place.attempt,
        place.round,
        new.company.as_uuid(),
        new.studio.as_uuid(),
        new.started_by.as_uuid(),
        new.connection.as_uuid(),
        new.flow,
        new.key.tag(),
        new.calls_back,
        new.tags_run,
        new.look_at,
        new.until,
        new.now,
    )
    .execute(connection)
    .await?;
    Ok(made.rows_affected() > 0)
}

/// Notes what came of sending a start: whether it was taken, and when it is looked at.
pub(in crate::worker) async fn sent(
    connection: &mut PgConnection,
    key: &FlowKey,
    taken: bool,
    look_at: OffsetDateTime,
) -> Result<()> {
    let place = key.place();
    sqlx::query!(
        "update execution.flow_runs set taken = taken or $7, look_at = $8
         where execution_id = $1 and stage = $2 and visit = $3 and item = $4 and attempt = $5 and round = $6 and ended_at is null",
        key.execution.as_uuid(),
        key.of.stage,
        place.visit,
        place.item,
        place.attempt,
        place.round,
        taken,
        look_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes out a start that was certainly not begun.
pub(in crate::worker) async fn delete(connection: &mut PgConnection, key: &FlowKey) -> Result<()> {
    let place = key.place();
    sqlx::query!(
        "delete from execution.flow_runs
         where execution_id = $1 and stage = $2 and visit = $3 and item = $4 and attempt = $5 and round = $6 and ended_at is null",
        key.execution.as_uuid(),
        key.of.stage,
        place.visit,
        place.item,
        place.attempt,
        place.round,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// What is known of a start.
#[derive(Debug)]
pub(in crate::worker) struct Standing {
    pub taken: bool,
    pub outcome: Option<Outcome>,
}

/// What is known of a start; none where there is no such.
pub(in crate::worker) async fn standing(connection: &mut PgConnection, key: &FlowKey) -> Result<Option<Standing>> {
    let place = key.place();
    let row = sqlx::query!(
        r#"select taken, outcome as "outcome: Json<Outcome>" from execution.flow_runs
           where execution_id = $1 and stage = $2 and visit = $3 and item = $4 and attempt = $5 and round = $6"#,
        key.execution.as_uuid(),
        key.of.stage,
        place.visit,
        place.item,
        place.attempt,
        place.round,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| Standing {
        taken: row.taken,
        outcome: row.outcome.map(|it| it.0),
    }))
}

/// A start that is to be looked at.
#[derive(Debug, Clone)]
pub(in crate::worker) struct Due {
    pub key: FlowKey,
    pub company: CompanyId,
    pub started_by: UserId,
    pub connection: ConnectionId,
    pub flow: String,
    pub tag: String,
    pub calls_back: bool,
    pub tags_run: bool,
    pub taken: bool,
    pub run: Option<String>,
    pub state: Option<String>,
    pub state_since: Option<OffsetDateTime>,
    pub looks: i32,
    pub until: OffsetDateTime,
    pub created_at: OffsetDateTime,
    pub cancel: Option<String>,
    /// Whether its end is known, and its steps alone are looked for.
    pub has_ended: bool,
    /// Whether its execution has not ended.
    pub is_wanted: bool,
}

/// Takes the starts that are due, for a minute: whoever takes them and dies leaves them to others.
pub(in crate::worker) async fn due(connection: &mut PgConnection, limit: i64) -> Result<Vec<Due>> {
    let rows = sqlx::query!(
        r#"with due as materialized (
               select execution_id, stage, visit, item, attempt, round from execution.flow_runs
               where look_at <= now() order by look_at limit $1 for update skip locked
           )
           update execution.flow_runs f set look_at = now() + interval '1 minute'
           from due d
           where f.execution_id = d.execution_id and f.stage = d.stage and f.visit = d.visit and f.item = d.item
               and f.attempt = d.attempt and f.round = d.round
           returning f.execution_id as "execution: ExecutionId", f.stage, f.visit, f.item, f.attempt, f.round,
               f.company_id as "company: CompanyId", f.started_by as "started_by: UserId",
               f.connection_id as "connection: ConnectionId", f.flow_id, f.tag, f.calls_back, f.tags_run, f.taken, f.run_id,
               f.state, f.state_since, f.looks, f.until, f.created_at, f.cancel, f.ended_at is not null as "has_ended!",
               exists (select from execution.runs r where r.execution_id = f.execution_id) as "is_wanted!""#,
        limit,
    )
    .fetch_all(connection)
    .await?;
    let number = |it: i32| u32::try_from(it).unwrap_or(0);
    let due = rows.into_iter().map(|row| Due {
        key: FlowKey {
            execution: row.execution,
            of: StageTry {
                stage: row.stage,
                visit: number(row.visit),
                item: number(row.item),
                attempt: number(row.attempt),
            },
            round: number(row.round),
        },
        company: row.company,
        started_by: row.started_by,
        connection: row.connection,
        flow: row.flow_id,
        tag: row.tag,
        calls_back: row.calls_back,
        tags_run: row.tags_run,
        taken: row.taken,
        run: row.run_id,
        state: row.state,
        state_since: row.state_since,
        looks: row.looks,
        until: row.until,
        created_at: row.created_at,
        cancel: row.cancel,
        has_ended: row.has_ended,
        is_wanted: row.is_wanted,
    });
    Ok(due.collect())
}

/// How long until the next start is due; none where none is looked at.
pub(in crate::worker) async fn next_due(connection: &mut PgConnection) -> Result<Option<f64>> {
    let seconds = sqlx::query_scalar!(
        r#"select extract(epoch from min(look_at) - now())::float8 as "seconds" from execution.flow_runs where look_at is not null"#
    )
    .fetch_one(connection)
    .await?;
    Ok(seconds)
}

/// What a look brought.
#[derive(Debug, Clone)]
pub(in crate::worker) struct Looked {
    pub key: FlowKey,
    pub run: Option<String>,
    pub state: Option<String>,
    pub cancel: Option<String>,
    /// When it is looked at next; none where there is nothing more to find out.
    pub look_at: Option<OffsetDateTime>,
}

/// Notes what looks brought that found no end. A call-back that came meanwhile keeps its own time.
pub(in crate::worker) async fn looked(connection: &mut PgConnection, looked: &[Looked], had_ended: bool) -> Result<()> {
    let executions: Vec<_> = looked.iter().map(|it| it.key.execution.as_uuid()).collect();
    let stages: Vec<_> = looked.iter().map(|it| it.key.of.stage.clone()).collect();
    let places: Vec<_> = looked.iter().map(|it| it.key.place()).collect();
    let column = |of: fn(&Place) -> i32| places.iter().map(of).collect::<Vec<_>>();
    let runs: Vec<_> = looked.iter().map(|it| it.run.clone()).collect();
    let states: Vec<_> = looked.iter().map(|it| it.state.clone()).collect();
    let cancels: Vec<_> = looked.iter().map(|it| it.cancel.clone()).collect();
    let look_ats: Vec<_> = looked.iter().map(|it| it.look_at).collect();
    sqlx::query!(
        "update execution.flow_runs f
         set run_id = coalesce(l.run_id, f.run_id), state = coalesce(l.state, f.state), cancel = coalesce(l.cancel, f.cancel),
             state_since = case when l.state is distinct from f.state and l.state is not null then now() else f.state_since end,
             look_at = l.look_at, looks = f.looks + 1
         from unnest($1::uuid[], $2::text[], $3::int[], $4::int[], $5::int[], $6::int[], $7::text[], $8::text[], $9::text[],
             $10::timestamptz[]) as l (execution_id, stage, visit, item, attempt, round, run_id, state, cancel, look_at)
         where f.execution_id = l.execution_id and f.stage = l.stage and f.visit = l.visit and f.item = l.item
             and f.attempt = l.attempt and f.round = l.round and (f.ended_at is not null) = $11",
        &executions,
        &stages,
        &column(|it| it.visit),
        &column(|it| it.item),
        &column(|it| it.attempt),
        &column(|it| it.round),
        &runs as &[Option<String>],
        &states as &[Option<String>],
        &cancels as &[Option<String>],
        &look_ats as &[Option<OffsetDateTime>],
        had_ended,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// How a start ended.
#[derive(Debug)]
pub(in crate::worker) struct Found<'a> {
    pub key: &'a FlowKey,
    pub started_by: UserId,
    pub run: Option<&'a str>,
    pub state: &'a str,
    pub cancel: Option<&'a str>,
    pub outcome: &'a Outcome,
    pub steps: Option<&'a [Value]>,
    /// When its steps are looked for; none where they are not.
    pub look_at: Option<OffsetDateTime>,
}

/// Notes how a start ended, and tells its run. False if that was known already: then nothing changes.
pub(in crate::worker) async fn ended(tx: &mut PgConnection, found: &Found<'_>) -> Result<bool> {
    let place = found.key.place();
    let noted = sqlx::query!(
        "update execution.flow_runs
         set outcome = $7, ended_at = now(), state = $8, state_since = now(), run_id = coalesce($9, run_id), steps = $10,
             cancel = coalesce($11, cancel), look_at = $12, looks = 0
         where execution_id = $1 and stage = $2 and visit = $3 and item = $4 and attempt = $5 and round = $6 and ended_at is null",
        found.key.execution.as_uuid(),
        found.key.of.stage,
        place.visit,
        place.item,
        place.attempt,
        place.round,
        Json(found.outcome) as _,
        found.state,
        found.run,
        found.steps.map(Json) as _,
        found.cancel,
        found.look_at,
    )
    .execute(&mut *tx)
    .await?;
    if noted.rows_affected() == 0 {
        return Ok(false);
    }
    let wish = Wish::FlowEnded {
        of: found.key.of.clone(),
    };
    super::children::command(tx, &[found.key.execution], found.started_by, &wish).await?;
    Ok(true)
}

/// Notes the steps of a run whose end was known before.
pub(in crate::worker) async fn stepped(
    connection: &mut PgConnection,
    key: &FlowKey,
    run: &str,
    state: &str,
    steps: &[Value],
) -> Result<()> {
    let place = key.place();
    sqlx::query!(
        "update execution.flow_runs set run_id = $7, state = $8, steps = $9, look_at = null
         where execution_id = $1 and stage = $2 and visit = $3 and item = $4 and attempt = $5 and round = $6",
        key.execution.as_uuid(),
        key.of.stage,
        place.visit,
        place.item,
        place.attempt,
        place.round,
        run,
        state,
        Json(steps) as _,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A start whose end is not known.
#[derive(Debug)]
pub(in crate::worker) struct Open {
    pub key: FlowKey,
    pub tag: String,
    pub started_by: UserId,
}

/// The starts of an execution whose ends are not known.
pub(in crate::worker) async fn open(connection: &mut PgConnection, execution: ExecutionId) -> Result<Vec<Open>> {
    let rows = sqlx::query!(
        r#"select stage, visit, item, attempt, round, tag, started_by as "started_by: UserId" from execution.flow_runs
           where execution_id = $1 and ended_at is null"#,
        execution.as_uuid(),
    )
    .fetch_all(connection)
    .await?;
    let number = |it: i32| u32::try_from(it).unwrap_or(0);
    let open = rows.into_iter().map(|row| Open {
        key: FlowKey {
            execution,
            of: StageTry {
                stage: row.stage,
                visit: number(row.visit),
                item: number(row.item),
                attempt: number(row.attempt),
            },
            round: number(row.round),
        },
        tag: row.tag,
        started_by: row.started_by,
    });
    Ok(open.collect())
}

/// Has the starts of an execution that has ended looked at now, to be stopped. True if there are some.
pub(in crate::worker) async fn stop(connection: &mut PgConnection, execution: ExecutionId) -> Result<bool> {
    let stopped = sqlx::query!(
        "update execution.flow_runs set look_at = now() where execution_id = $1 and ended_at is null and look_at is not null",
        execution.as_uuid(),
    )
    .execute(connection)
    .await?;
    Ok(stopped.rows_affected() > 0)
}

/// Forgets what came of starts whose executions have ended: their journals have it. At most so many at once; true if there may be
/// more.
pub(in crate::worker) async fn forget_outcomes(connection: &mut PgConnection) -> Result<bool> {
    const BATCH: i64 = 1_000;
    let forgotten = sqlx::query!(
        "update execution.flow_runs set outcome = null where ctid = any(array(
             select f.ctid from execution.flow_runs f
             where f.outcome is not null and f.ended_at < now() - interval '10 minutes'
                 and not exists (select from execution.runs r where r.execution_id = f.execution_id)
             limit $1))",
        BATCH,
    )
    .execute(connection)
    .await?;
    Ok(forgotten.rows_affected() >= BATCH.unsigned_abs())
}
