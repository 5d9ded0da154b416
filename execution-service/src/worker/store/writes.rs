//! The writer's SQL: what makes starts and the runs' progress durable, the latter fenced by owner, epoch and place in the journal.
//!
//! A statement updates the hot rows first, of those runs alone that still belong to the writer and stand where it thinks;
//! entries are inserted from what the update returned. So a run that was taken over writes nothing, and an entry that was
//! written once is not written again; nor is a start. One statement for each content of a batch: what it has not, costs nothing.
//!
//! **Plans are made once and kept, perhaps while a table is empty.** Then looking at all its rows seems cheapest, for ever. So
//! rows are named by `key = any(array[..])`, which only a lookup of its index serves (no hash, no merge, no order), whole
//! tables are not read (`enable_seqscan` is off for the engine's role), and the owner is compared in a way that no index serves.

use std::collections::{HashMap, HashSet};

use service_kit::ids::ExecutionId;
use sqlx::{Connection, PgConnection, Result, types::Uuid};
use time::OffsetDateTime;

use super::{
    arrays::{Entries, Runs, Starts},
    asks, lone,
};
use crate::worker::writer::{Fence, NewRun, Record, Times};

/// What of a batch was done: runs that were started, with their times, and runs that were still the writer's.
pub(in crate::worker) type Done = HashMap<ExecutionId, Option<Times>>;

pub(super) struct DoneRow {
    pub(super) execution: ExecutionId,
    pub(super) created_at: Option<OffsetDateTime>,
    pub(super) started_at: Option<OffsetDateTime>,
    pub(super) remaining: Option<i64>,
}

impl From<DoneRow> for (ExecutionId, Option<Times>) {
    fn from(row: DoneRow) -> Self {
        let (started_at, remaining) = (row.started_at, row.remaining);
        let times = row.created_at.map(|created_at| Times {
            created_at,
            started_at,
            remaining,
        });
        (row.execution, times)
    }
}

/// Writes a batch in one statement, and what people are asked, where that changes, in the same transaction. No execution may be
/// in it twice, and no key.
pub(in crate::worker) async fn write(
    connection: &mut PgConnection,
    starts: &[&NewRun],
    records: &[&Record],
) -> Result<Done> {
    if records.iter().all(|record| record.asks.is_none()) {
        return write_rows(connection, starts, records).await;
    }
    let mut transaction = connection.begin().await?;
    let done = write_rows(&mut transaction, starts, records).await?;
    for record in records {
        if let Some(asks) = &record.asks
            && done.contains_key(&record.fence.execution)
        {
            asks::put(&mut transaction, record.fence.execution, asks).await?;
        }
    }
    transaction.commit().await?;
    Ok(done)
}

async fn write_rows(connection: &mut PgConnection, starts: &[&NewRun], records: &[&Record]) -> Result<Done> {
    if let ([], [record]) = (starts, records)
        && lone::is_plain(record)
    {
        return lone::progress(connection, record).await;
    }
    let rows = match (starts.is_empty(), records.is_empty()) {
        (true, _) => record(connection, records).await?,
        (false, true) => start(connection, starts).await?,
        (false, false) => both(connection, starts, records).await?,
    };
    Ok(rows.into_iter().map(DoneRow::into).collect())
}

async fn start(connection: &mut PgConnection, starts: &[&NewRun]) -> Result<Vec<DoneRow>> {
    let new = Starts::of(starts);
    let entries = Entries::of(starts, &[]);
    sqlx::query_as!(
        DoneRow,
        r#"with fresh as materialized (
               select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::int[], $7::uuid[],
                   $8::text[], $9::text[], $10::text[], $11::int[], $12::text[], $13::text[], $14::bytea[], $15::uuid[],
                   $16::uuid[], $17::bigint[], $18::bytea[], $25::text[], $26::bigint[], $27::bigint[], $28::bigint[], $29::bigint[])
               as f (id, company_id, studio_id, workflow_id, version_id, workflow_version, started_by, inputs, trace_context,
                   stage, owner, method, key, body_hash, parent_id, source_id, seq, head, audit, per_month, at_once, tokens, cost)
           ), asking as materialized (
               select f.id, f.company_id, f.per_month, f.at_once, f.tokens, f.cost,
                   row_number() over (partition by f.company_id order by f.id) as turn
               from fresh f
               where f.per_month is not null and (f.key is null or coalesce((
                   select k.created_at < now() - interval '24 hours' from execution.start_keys k
                   where k.company_id = f.company_id and k.caller_id = f.started_by and k.method = f.method and k.key = f.key
                   limit 1), true))
           ), admitted as materialized (
               select a.company_id, a.granted, a.remaining
               from (select array_agg(g.company_id) as company, array_agg(g.wanted) as wanted, array_agg(g.per_month) as per_month,
                       array_agg(g.at_once) as at_once, array_agg(g.tokens) as tokens, array_agg(g.cost) as cost
                   from (select q.company_id, count(*) as wanted, min(q.per_month) as per_month, min(q.at_once) as at_once,
                           min(q.tokens) as tokens, min(q.cost) as cost
                       from asking q group by q.company_id order by q.company_id) g) w
                   cross join lateral execution.admit(w.company, w.wanted, w.per_month, w.at_once, w.tokens, w.cost) a
           ), granted as materialized (
               select q.id, a.remaining from asking q join admitted a on a.company_id = q.company_id where q.turn <= a.granted
           ), keyed as (
               insert into execution.start_keys as k (company_id, caller_id, method, key, execution_id, body_hash)
               select company_id, started_by, method, key, id, body_hash from fresh
               where key is not null and (per_month is null or id in (select id from granted))
               on conflict (company_id, caller_id, method, key) do update
                   set execution_id = excluded.execution_id, body_hash = excluded.body_hash, created_at = now()
                   where k.created_at < now() - interval '24 hours'
               returning execution_id
           ), made as (
               insert into execution.executions (id, company_id, studio_id, workflow_id, version_id, workflow_version,
                   started_by, status, inputs, trace_context, started_at, parent_id, source_id)
               select id, company_id, studio_id, workflow_id, version_id, workflow_version, started_by,
                   case when owner is null then 'pending' else 'running' end, inputs::jsonb, trace_context,
                   case when owner is not null then now() end, parent_id, source_id
               from fresh
               where (per_month is null or id in (select id from granted)) and (key is null or id in (select execution_id from keyed))
               on conflict (id) do nothing
               returning id, created_at, started_at
           ), run as (
               insert into execution.runs (execution_id, company_id, studio_id, owner, seq, head, stage)
               select f.id, f.company_id, f.studio_id, f.owner, f.seq, f.head, f.stage
               from fresh f join made m on m.id = f.id
           ), audited as (
               insert into execution.audit_log
               select a.* from fresh f join made m on m.id = f.id
                   cross join lateral jsonb_populate_record(null::execution.audit_log, f.audit::jsonb) a
               where f.audit is not null
           ), entered as (
               insert into execution.journal (execution_id, seq, company_id, studio_id, kind, payload, hash, occurred_at)
               select f.id, n.seq, f.company_id, f.studio_id, n.kind, n.payload, n.hash, n.occurred_at
               from fresh f join made m on m.id = f.id
                   join unnest($19::uuid[], $20::bigint[], $21::text[], $22::bytea[], $23::bytea[], $24::timestamptz[])
                       as n (execution_id, seq, kind, payload, hash, occurred_at) on n.execution_id = f.id
           )
           select m.id as "execution!: ExecutionId", m.created_at as "created_at?", m.started_at as "started_at?",
               g.remaining as "remaining?"
           from made m left join granted g on g.id = m.id"#,
        &new.execution,
        &new.company,
        &new.studio,
        &new.workflow,
        &new.version,
        &new.version_number,
        &new.started_by,
        &new.inputs as &[&str],
        &new.trace_context as &[&str],
        &new.stage as &[&str],
        &new.owner as &[Option<i32>],
        &new.method as &[Option<&str>],
        &new.key as &[Option<&str>],
        &new.body_hash as &[Option<&[u8]>],
        &new.parent as &[Option<Uuid>],
        &new.source as &[Option<Uuid>],
        &new.seq,
        &new.head as &[&[u8]],
        &entries.execution,
        &entries.seq,
        &entries.kind as &[&str],
        &entries.payload as &[&[u8]],
        &entries.hash as &[&[u8]],
        &entries.occurred_at,
        &new.audit as &[Option<&str>],
        &new.executions_per_month as &[Option<i64>],
        &new.concurrent_executions as &[Option<i64>],
        &new.tokens_per_month as &[Option<i64>],
        &new.cost_micros_per_month as &[Option<i64>],
    )
    .fetch_all(connection)
    .await
}

async fn record(connection: &mut PgConnection, records: &[&Record]) -> Result<Vec<DoneRow>> {
    let runs = Runs::of(records);
    let entries = Entries::of(&[], records);
    sqlx::query_as!(
        DoneRow,
        r#"with item as materialized (
               select * from unnest($1::uuid[], $2::int[], $3::int[], $4::bigint[], $5::bigint[], $6::bytea[], $7::text[],
                   $8::bigint[], $9::bigint[], $10::float8[], $11::bool[], $12::bool[], $13::text[], $14::text[],
                   $15::text[], $16::text[], $17::timestamptz[], $29::bigint[], $30::bigint[])
               as i (execution_id, me, epoch, seq_before, seq_after, head, stage, commands_seen, commands_done, wait_s, aside,
                   cut, status, outputs, failure_class, failure_message, ended_at, tokens, cost_micros)
           ), kept as (
               update execution.runs r set
                   seq = i.seq_after, head = i.head, stage = i.stage,
                   commands_done = greatest(r.commands_done, i.commands_done),
                   takeovers = case
                       when i.seq_after > i.seq_before then 0
                       when i.cut then greatest(r.takeovers, 1)
                       else r.takeovers end,
                   asides = case when i.seq_after > i.seq_before then 0 else r.asides + i.aside::int end,
                   owner = case when i.wait_s is null then r.owner end,
                   run_at = case
                       when i.wait_s is null then r.run_at
                       when r.commands_seq > i.commands_seen then now()
                       when i.wait_s = 'infinity' then 'infinity'
                       when i.aside then now() + make_interval(secs => least(i.wait_s * 2 ^ least(r.asides, 10), 3600))
                       else now() + make_interval(secs => i.wait_s) end,
                   updated_at = now()
               from item i
               where r.execution_id = any(array[i.execution_id]) and r.owner is not distinct from i.me and r.epoch = i.epoch
                   and r.seq = i.seq_before and i.ended_at is null
               returning i.execution_id, r.company_id, r.studio_id, i.status, i.outputs, i.failure_class, i.failure_message,
                   i.ended_at
           ), ended as (
               delete from execution.runs r using item i
               where r.execution_id = any(array[i.execution_id]) and r.owner is not distinct from i.me and r.epoch = i.epoch
                   and r.seq = i.seq_before and i.ended_at is not null
               returning i.execution_id, r.company_id, r.studio_id, i.status, i.outputs, i.failure_class, i.failure_message,
                   i.ended_at, r.commands_seq
           ), obeyed as (
               delete from execution.execution_commands c using ended d
               where c.execution_id = any(array[d.execution_id]) and d.commands_seq > 0
           ), written as (
               select * from kept
               union all
               select execution_id, company_id, studio_id, status, outputs, failure_class, failure_message, ended_at from ended
           ), changed as (
               update execution.executions e set
                   status = w.status, outputs = w.outputs::jsonb, failure_class = w.failure_class,
                   failure_message = w.failure_message, finished_at = w.ended_at,
                   started_at = case when w.status = 'running' then coalesce(e.started_at, now()) else e.started_at end,
                   updated_at = now()
               from written w
               where e.id = any(array[w.execution_id]) and w.status is not null
           ), spent as (
               insert into execution.spend as s (company_id, month, part, tokens, cost_micros)
               select w.company_id, execution.this_month(), i.me % 16, sum(i.tokens), sum(i.cost_micros)
               from written w join item i on i.execution_id = w.execution_id
               where i.tokens > 0 or i.cost_micros > 0
               group by w.company_id, i.me % 16
               order by w.company_id, i.me % 16
               on conflict (company_id, month, part) do update
                   set tokens = s.tokens + excluded.tokens, cost_micros = s.cost_micros + excluded.cost_micros
           ), entered as (
               insert into execution.journal (execution_id, seq, company_id, studio_id, kind, stage, visit, item, attempt,
                   outcome, payload, hash, occurred_at)
               select w.execution_id, n.seq, w.company_id, w.studio_id, n.kind, n.stage, n.visit, n.item, n.attempt,
                   n.outcome, n.payload, n.hash, n.occurred_at
               from written w join unnest($18::uuid[], $19::bigint[], $20::text[], $21::text[], $22::int[], $23::int[],
                   $24::int[], $25::text[], $26::bytea[], $27::bytea[], $28::timestamptz[])
               as n (execution_id, seq, kind, stage, visit, item, attempt, outcome, payload, hash, occurred_at)
               on n.execution_id = w.execution_id
           )
           select execution_id as "execution!: ExecutionId", null::timestamptz as "created_at", null::timestamptz as "started_at",
               null::bigint as "remaining"
           from written"#,
        &runs.execution,
        &runs.me,
        &runs.epoch,
        &runs.seq_before,
        &runs.seq_after,
        &runs.head as &[&[u8]],
        &runs.stage as &[&str],
        &runs.commands_seen,
        &runs.commands_done,
        &runs.wait_s as &[Option<f64>],
        &runs.aside,
        &runs.cut,
        &runs.status as &[Option<&str>],
        &runs.outputs as &[Option<&str>],
        &runs.failure_class as &[Option<&str>],
        &runs.failure_message as &[Option<&str>],
        &runs.ended_at as &[Option<OffsetDateTime>],
        &entries.execution,
        &entries.seq,
        &entries.kind as &[&str],
        &entries.stage as &[Option<&str>],
        &entries.visit as &[Option<i32>],
        &entries.item as &[Option<i32>],
        &entries.attempt as &[Option<i32>],
        &entries.outcome as &[Option<&str>],
        &entries.payload as &[&[u8]],
        &entries.hash as &[&[u8]],
        &entries.occurred_at,
        &runs.tokens,
        &runs.cost_micros,
    )
    .fetch_all(connection)
    .await
}

/// Both of the above.
async fn both(connection: &mut PgConnection, starts: &[&NewRun], records: &[&Record]) -> Result<Vec<DoneRow>> {
    let runs = Runs::of(records);
    let entries = Entries::of(starts, records);
    let new = Starts::of(starts);
    sqlx::query_as!(
        DoneRow,
        r#"with item as materialized (
               select * from unnest($1::uuid[], $2::int[], $3::int[], $4::bigint[], $5::bigint[], $6::bytea[], $7::text[],
                   $8::bigint[], $9::bigint[], $10::float8[], $11::bool[], $12::bool[], $13::text[], $14::text[],
                   $15::text[], $16::text[], $17::timestamptz[], $48::bigint[], $49::bigint[])
               as i (execution_id, me, epoch, seq_before, seq_after, head, stage, commands_seen, commands_done, wait_s, aside,
                   cut, status, outputs, failure_class, failure_message, ended_at, tokens, cost_micros)
           ), kept as (
               update execution.runs r set
                   seq = i.seq_after, head = i.head, stage = i.stage,
                   commands_done = greatest(r.commands_done, i.commands_done),
                   takeovers = case
                       when i.seq_after > i.seq_before then 0
                       when i.cut then greatest(r.takeovers, 1)
                       else r.takeovers end,
                   asides = case when i.seq_after > i.seq_before then 0 else r.asides + i.aside::int end,
                   owner = case when i.wait_s is null then r.owner end,
                   run_at = case
                       when i.wait_s is null then r.run_at
                       when r.commands_seq > i.commands_seen then now()
                       when i.wait_s = 'infinity' then 'infinity'
                       when i.aside then now() + make_interval(secs => least(i.wait_s * 2 ^ least(r.asides, 10), 3600))
                       else now() + make_interval(secs => i.wait_s) end,
                   updated_at = now()
               from item i
               where r.execution_id = any(array[i.execution_id]) and r.owner is not distinct from i.me and r.epoch = i.epoch
                   and r.seq = i.seq_before and i.ended_at is null
               returning i.execution_id, r.company_id, r.studio_id, i.status, i.outputs, i.failure_class, i.failure_message,
                   i.ended_at
           ), ended as (
               delete from execution.runs r using item i
               where r.execution_id = any(array[i.execution_id]) and r.owner is not distinct from i.me and r.epoch = i.epoch
                   and r.seq = i.seq_before and i.ended_at is not null
               returning i.execution_id, r.company_id, r.studio_id, i.status, i.outputs, i.failure_class, i.failure_message,
                   i.ended_at, r.commands_seq
           ), obeyed as (
               delete from execution.execution_commands c using ended d
               where c.execution_id = any(array[d.execution_id]) and d.commands_seq > 0
           ), written as (
               select * from kept
               union all
               select execution_id, company_id, studio_id, status, outputs, failure_class, failure_message, ended_at from ended
           ), changed as (
               update execution.executions e set
                   status = w.status, outputs = w.outputs::jsonb, failure_class = w.failure_class,
                   failure_message = w.failure_message, finished_at = w.ended_at,
                   started_at = case when w.status = 'running' then coalesce(e.started_at, now()) else e.started_at end,
                   updated_at = now()
               from written w
               where e.id = any(array[w.execution_id]) and w.status is not null
           ), fresh as materialized (
               select * from unnest($29::uuid[], $30::uuid[], $31::uuid[], $32::uuid[], $33::uuid[], $34::int[], $35::uuid[],
                   $36::text[], $37::text[], $38::text[], $39::int[], $40::text[], $41::text[], $42::bytea[], $43::uuid[],
                   $44::uuid[], $45::bigint[], $46::bytea[], $47::text[], $50::bigint[], $51::bigint[], $52::bigint[], $53::bigint[])
               as f (id, company_id, studio_id, workflow_id, version_id, workflow_version, started_by, inputs, trace_context,
                   stage, owner, method, key, body_hash, parent_id, source_id, seq, head, audit, per_month, at_once, tokens, cost)
           ), asking as materialized (
               select f.id, f.company_id, f.per_month, f.at_once, f.tokens, f.cost,
                   row_number() over (partition by f.company_id order by f.id) as turn
               from fresh f
               where f.per_month is not null and (f.key is null or coalesce((
                   select k.created_at < now() - interval '24 hours' from execution.start_keys k
                   where k.company_id = f.company_id and k.caller_id = f.started_by and k.method = f.method and k.key = f.key
                   limit 1), true))
           ), admitted as materialized (
               select a.company_id, a.granted, a.remaining
               from (select array_agg(g.company_id) as company, array_agg(g.wanted) as wanted, array_agg(g.per_month) as per_month,
                       array_agg(g.at_once) as at_once, array_agg(g.tokens) as tokens, array_agg(g.cost) as cost
                   from (select q.company_id, count(*) as wanted, min(q.per_month) as per_month, min(q.at_once) as at_once,
                           min(q.tokens) as tokens, min(q.cost) as cost
                       from asking q group by q.company_id order by q.company_id) g) w
                   cross join lateral execution.admit(w.company, w.wanted, w.per_month, w.at_once, w.tokens, w.cost) a
           ), granted as materialized (
               select q.id, a.remaining from asking q join admitted a on a.company_id = q.company_id where q.turn <= a.granted
           ), keyed as (
               insert into execution.start_keys as k (company_id, caller_id, method, key, execution_id, body_hash)
               select company_id, started_by, method, key, id, body_hash from fresh
               where key is not null and (per_month is null or id in (select id from granted))
               on conflict (company_id, caller_id, method, key) do update
                   set execution_id = excluded.execution_id, body_hash = excluded.body_hash, created_at = now()
                   where k.created_at < now() - interval '24 hours'
               returning execution_id
           ), made as (
               insert into execution.executions (id, company_id, studio_id, workflow_id, version_id, workflow_version,
                   started_by, status, inputs, trace_context, started_at, parent_id, source_id)
               select id, company_id, studio_id, workflow_id, version_id, workflow_version, started_by,
                   case when owner is null then 'pending' else 'running' end, inputs::jsonb, trace_context,
                   case when owner is not null then now() end, parent_id, source_id
               from fresh
               where (per_month is null or id in (select id from granted)) and (key is null or id in (select execution_id from keyed))
                   and (parent_id is null or parent_id in (select execution_id from written))
               on conflict (id) do nothing
               returning id, created_at, started_at
           ), run as (
               insert into execution.runs (execution_id, company_id, studio_id, owner, seq, head, stage)
               select f.id, f.company_id, f.studio_id, f.owner, f.seq, f.head, f.stage
               from fresh f join made m on m.id = f.id
           ), audited as (
               insert into execution.audit_log
               select a.* from fresh f join made m on m.id = f.id
                   cross join lateral jsonb_populate_record(null::execution.audit_log, f.audit::jsonb) a
               where f.audit is not null
           ), spent as (
               insert into execution.spend as s (company_id, month, part, tokens, cost_micros)
               select w.company_id, execution.this_month(), i.me % 16, sum(i.tokens), sum(i.cost_micros)
               from written w join item i on i.execution_id = w.execution_id
               where i.tokens > 0 or i.cost_micros > 0
               group by w.company_id, i.me % 16
               order by w.company_id, i.me % 16
               on conflict (company_id, month, part) do update
                   set tokens = s.tokens + excluded.tokens, cost_micros = s.cost_micros + excluded.cost_micros
           ), entered as (
               insert into execution.journal (execution_id, seq, company_id, studio_id, kind, stage, visit, item, attempt,
                   outcome, payload, hash, occurred_at)
               select w.execution_id, n.seq, w.company_id, w.studio_id, n.kind, n.stage, n.visit, n.item, n.attempt,
                   n.outcome, n.payload, n.hash, n.occurred_at
               from (select execution_id, company_id, studio_id from written
                     union all
                     select f.id, f.company_id, f.studio_id from fresh f join made m on m.id = f.id) w
               join unnest($18::uuid[], $19::bigint[], $20::text[], $21::text[], $22::int[], $23::int[],
                   $24::int[], $25::text[], $26::bytea[], $27::bytea[], $28::timestamptz[])
               as n (execution_id, seq, kind, stage, visit, item, attempt, outcome, payload, hash, occurred_at)
               on n.execution_id = w.execution_id
           )
           select execution_id as "execution!: ExecutionId", null::timestamptz as "created_at", null::timestamptz as "started_at",
               null::bigint as "remaining"
           from written
           union all
           select m.id, m.created_at, m.started_at, g.remaining from made m left join granted g on g.id = m.id"#,
        &runs.execution,
        &runs.me,
        &runs.epoch,
        &runs.seq_before,
        &runs.seq_after,
        &runs.head as &[&[u8]],
        &runs.stage as &[&str],
        &runs.commands_seen,
        &runs.commands_done,
        &runs.wait_s as &[Option<f64>],
        &runs.aside,
        &runs.cut,
        &runs.status as &[Option<&str>],
        &runs.outputs as &[Option<&str>],
        &runs.failure_class as &[Option<&str>],
        &runs.failure_message as &[Option<&str>],
        &runs.ended_at as &[Option<OffsetDateTime>],
        &entries.execution,
        &entries.seq,
        &entries.kind as &[&str],
        &entries.stage as &[Option<&str>],
        &entries.visit as &[Option<i32>],
        &entries.item as &[Option<i32>],
        &entries.attempt as &[Option<i32>],
        &entries.outcome as &[Option<&str>],
        &entries.payload as &[&[u8]],
        &entries.hash as &[&[u8]],
        &entries.occurred_at,
        &new.execution,
        &new.company,
        &new.studio,
        &new.workflow,
        &new.version,
        &new.version_number,
        &new.started_by,
        &new.inputs as &[&str],
        &new.trace_context as &[&str],
        &new.stage as &[&str],
        &new.owner as &[Option<i32>],
        &new.method as &[Option<&str>],
        &new.key as &[Option<&str>],
        &new.body_hash as &[Option<&[u8]>],
        &new.parent as &[Option<Uuid>],
        &new.source as &[Option<Uuid>],
        &new.seq,
        &new.head as &[&[u8]],
        &new.audit as &[Option<&str>],
        &runs.tokens,
        &runs.cost_micros,
        &new.executions_per_month as &[Option<i64>],
        &new.concurrent_executions as &[Option<i64>],
        &new.tokens_per_month as &[Option<i64>],
        &new.cost_micros_per_month as &[Option<i64>],
    )
    .fetch_all(connection)
    .await
}

/// Locks the hot rows of these runs, and gives what of them could be written now: the fences that hold. The locks wait for a
/// write that is still under way.
pub(in crate::worker) async fn standing(transaction: &mut PgConnection, records: &[&Record]) -> Result<HashSet<Fence>> {
    let executions: Vec<_> = records.iter().map(|record| record.fence.execution.as_uuid()).collect();
    let rows = sqlx::query!(
        r#"select execution_id as "execution: ExecutionId", owner, epoch, seq from execution.runs
           where execution_id = any($1) order by execution_id for update"#,
        &executions,
    )
    .fetch_all(transaction)
    .await?;
    let fences = rows.into_iter().filter_map(|row| {
        Some(Fence {
            execution: row.execution,
            instance: row.owner?,
            epoch: row.epoch,
            seq: row.seq,
        })
    });
    Ok(fences.collect())
}

/// What of a batch is done, as its last entries say. A start that is still under way is not seen; its next try waits for it.
pub(in crate::worker) async fn done(
    connection: &mut PgConnection,
    starts: &[&NewRun],
    records: &[&Record],
) -> Result<Done> {
    let last = records
        .iter()
        .filter_map(|record| record.entries.last().map(|last| (record.fence.execution, last)));
    let first = starts.iter().map(|new| (new.execution, new.last()));
    let entries: Vec<_> = last.chain(first).collect();
    let executions: Vec<_> = entries.iter().map(|(execution, _)| execution.as_uuid()).collect();
    let seqs: Vec<_> = entries.iter().map(|(_, sealed)| sealed.entry.seq).collect();
    let hashes: Vec<_> = entries.iter().map(|(_, sealed)| sealed.hash.as_slice()).collect();
    let rows = sqlx::query_as!(
        DoneRow,
        r#"select i.execution_id as "execution!: ExecutionId", e.created_at as "created_at?", e.started_at as "started_at?",
               null::bigint as "remaining"
           from unnest($1::uuid[], $2::bigint[], $3::bytea[]) as i (execution_id, seq, hash)
           cross join lateral (
               select hash from execution.journal j where j.execution_id = i.execution_id and j.seq = i.seq limit 1) j
           cross join lateral (
               select created_at, started_at from execution.executions e where e.id = i.execution_id limit 1) e
           where j.hash = i.hash"#,
        &executions,
        &seqs,
        &hashes as &[&[u8]],
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(DoneRow::into).collect())
}

/// The run that a start's key names.
#[derive(Debug, Clone)]
pub(in crate::worker) struct Named {
    pub execution: ExecutionId,
    /// The hash of the request it was made by.
    pub body_hash: Vec<u8>,
}

struct NamedRow {
    asked: ExecutionId,
    execution: ExecutionId,
    body_hash: Vec<u8>,
}

/// Which runs the keys of these starts name, by the execution that each start was to make.
pub(in crate::worker) async fn named(
    connection: &mut PgConnection,
    starts: &[&NewRun],
) -> Result<HashMap<ExecutionId, Named>> {
    let new = Starts::of(starts);
    let rows = sqlx::query_as!(
        NamedRow,
        r#"select i.asked as "asked!: ExecutionId", k.execution_id as "execution!: ExecutionId", k.body_hash as "body_hash!"
           from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[]) as i (asked, company_id, caller_id, method, key)
           cross join lateral (
               select execution_id, body_hash from execution.start_keys k
               where k.company_id = i.company_id and k.caller_id = i.caller_id and k.method = i.method and k.key = i.key
               limit 1) k"#,
        &new.execution,
        &new.company,
        &new.started_by,
        &new.method as &[Option<&str>],
        &new.key as &[Option<&str>],
    )
    .fetch_all(connection)
    .await?;
    let named = rows.into_iter().map(|row| {
        let (execution, body_hash) = (row.execution, row.body_hash);
        (row.asked, Named { execution, body_hash })
    });
    Ok(named.collect())
}
