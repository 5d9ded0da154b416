//! What most runs need most of the time, made durable by itself: a stage's entries, and that the run goes on.
//!
//! The statement for batches costs 70 µs more to begin (its lists, joins and what ends runs), which at rest is paid for every
//! stage. The fence is the same: nothing is inserted where the hot row is not the writer's, or stands elsewhere.

use service_kit::ids::ExecutionId;
use sqlx::{PgConnection, Result};

use super::{
    arrays::{Entries, spent},
    writes::{Done, DoneRow},
};
use crate::worker::writer::{Record, Then};

/// Whether all that a record changes of its run is how far it is.
pub(super) fn is_plain(record: &Record) -> bool {
    matches!(record.then, Then::Keep) && record.status.is_none() && !record.entries.is_empty()
}

/// Writes a plain record.
pub(super) async fn progress(connection: &mut PgConnection, record: &Record) -> Result<Done> {
    let entries = Entries::of(&[], &[record]);
    let (tokens, cost_micros) = spent(record);
    let written = sqlx::query_as!(
        DoneRow,
        r#"with kept as (
               update execution.runs r set
                   seq = $5, head = $6, stage = $7, commands_done = greatest(r.commands_done, $8), takeovers = 0, asides = 0,
                   updated_at = now()
               where r.execution_id = $1 and r.owner is not distinct from $2 and r.epoch = $3 and r.seq = $4
               returning r.execution_id, r.company_id, r.studio_id
           ), spent as (
               insert into execution.spend as s (company_id, month, part, tokens, cost_micros)
               select k.company_id, execution.this_month(), $2::int % 16, $19, $20 from kept k where $19::bigint > 0 or $20::bigint > 0
               on conflict (company_id, month, part) do update
                   set tokens = s.tokens + excluded.tokens, cost_micros = s.cost_micros + excluded.cost_micros
           )
           insert into execution.journal (execution_id, seq, company_id, studio_id, kind, stage, visit, item, attempt, outcome,
               payload, hash, occurred_at)
           select k.execution_id, n.seq, k.company_id, k.studio_id, n.kind, n.stage, n.visit, n.item, n.attempt, n.outcome,
               n.payload, n.hash, n.occurred_at
           from kept k cross join unnest($9::bigint[], $10::text[], $11::text[], $12::int[], $13::int[], $14::int[],
               $15::text[], $16::bytea[], $17::bytea[], $18::timestamptz[])
               as n (seq, kind, stage, visit, item, attempt, outcome, payload, hash, occurred_at)
           returning execution_id as "execution!: ExecutionId", null::timestamptz as "created_at",
               null::timestamptz as "started_at", null::bigint as "remaining""#,
        record.fence.execution.as_uuid(),
        record.fence.instance,
        record.fence.epoch,
        record.fence.seq,
        record.seq_after(),
        &record.head,
        &record.stage,
        record.commands_done,
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
        tokens,
        cost_micros,
    )
    .fetch_all(connection)
    .await?;
    Ok(written.into_iter().map(DoneRow::into).collect())
}
