//! The writer's SQL: what makes a run's progress durable, fenced by owner, epoch and place in the journal.
//!
//! A statement updates the hot rows first, of those runs alone that still belong to the writer and stand where it thinks;
//! entries are inserted from what the update returned. So a run that was taken over writes nothing, and an entry that was
//! written once is not written again. The constants come out of a materialized CTE as join clauses, and the owner is compared
//! in a way that no index serves: a plan that was made while the table was empty still looks rows up by their key.

use service_kit::ids::{CompanyId, ExecutionId, StudioId, UserId, VersionId, WorkflowId};
use sqlx::{PgConnection, Result};
use time::OffsetDateTime;

use crate::engine::journal::{Payload, Sealed};

/// What a write may touch: a run that belongs to the instance at this epoch and whose journal ends there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::worker) struct Fence {
    pub execution: ExecutionId,
    pub instance: i32,
    pub epoch: i32,
    pub seq: i64,
}

/// What happens to a run beside the entries it gets.
#[derive(Debug, Clone)]
pub(in crate::worker) enum Then {
    /// The instance keeps it.
    Keep,
    /// It is given back and due after so many seconds, or at once if there are commands that were not seen.
    GiveBack {
        wait_s: f64,
        /// Whether a call in flight was cut: the next holder makes it again, and it may be billed twice.
        cut: bool,
    },
    /// It ends.
    End(End),
}

/// How a run ends.
#[derive(Debug, Clone)]
pub(in crate::worker) struct End {
    pub status: &'static str,
    /// JSON text.
    pub outputs: Option<String>,
    pub failure_class: Option<&'static str>,
    pub failure_message: Option<String>,
    pub at: OffsetDateTime,
}

/// One run's progress.
#[derive(Debug, Clone)]
pub(in crate::worker) struct Record {
    pub fence: Fence,
    pub entries: Vec<Sealed>,
    /// The hash of the last entry, new or old.
    pub head: Vec<u8>,
    /// The stage it is at now.
    pub stage: String,
    /// Commands up to here were seen: a later one makes a run that is given back due at once.
    pub commands_seen: i64,
    /// Commands up to here need not be seen again.
    pub commands_done: i64,
    pub then: Then,
}

impl Record {
    /// Where the journal ends afterwards.
    pub(in crate::worker) fn seq_after(&self) -> i64 {
        self.entries.last().map_or(self.fence.seq, |last| last.entry.seq)
    }
}

/// Writes the progress of several runs, in one statement; answers which of them were still the writer's.
pub(in crate::worker) async fn record(connection: &mut PgConnection, records: &[&Record]) -> Result<Vec<ExecutionId>> {
    let runs = Runs::of(records);
    let entries = Entries::of(records);
    let written = sqlx::query_scalar!(
        r#"with item as materialized (
               select * from unnest($1::uuid[], $2::int[], $3::int[], $4::bigint[], $5::bigint[], $6::bytea[], $7::text[],
                   $8::bigint[], $9::bigint[], $10::float8[], $11::text[], $12::text[], $13::text[], $14::text[],
                   $15::timestamptz[], $27::bool[])
               as i (execution_id, me, epoch, seq_before, seq_after, head, stage,
                   commands_seen, commands_done, wait_s, status, outputs, failure_class, failure_message, ended_at, cut)
           ), kept as (
               update execution.runs r set
                   seq = i.seq_after, head = i.head, stage = i.stage,
                   commands_done = greatest(r.commands_done, i.commands_done),
                   takeovers = case
                       when i.seq_after > i.seq_before then 0
                       when i.cut then greatest(r.takeovers, 1)
                       else r.takeovers end,
                   owner = case when i.wait_s is null then r.owner end,
                   run_at = case
                       when i.wait_s is null then r.run_at
                       when r.commands_seq > i.commands_seen then now()
                       else now() + make_interval(secs => i.wait_s) end
               from item i
               where r.execution_id = i.execution_id and r.owner is not distinct from i.me and r.epoch = i.epoch and r.seq = i.seq_before
                   and i.status is null
               returning i.execution_id, r.company_id, r.studio_id
           ), ended as (
               delete from execution.runs r using item i
               where r.execution_id = i.execution_id and r.owner is not distinct from i.me and r.epoch = i.epoch and r.seq = i.seq_before
                   and i.status is not null
               returning i.execution_id, r.company_id, r.studio_id
           ), closed as (
               update execution.executions e set
                   status = i.status, outputs = i.outputs::jsonb, failure_class = i.failure_class,
                   failure_message = i.failure_message, finished_at = i.ended_at
               from ended d join item i on i.execution_id = d.execution_id
               where e.id = i.execution_id
           ), written as (
               select * from kept union all select * from ended
           ), entered as (
               insert into execution.journal (execution_id, seq, company_id, studio_id, kind, stage, visit, item, attempt,
                   outcome, payload, hash, occurred_at)
               select w.execution_id, n.seq, w.company_id, w.studio_id, n.kind, n.stage, n.visit, n.item, n.attempt,
                   n.outcome, n.payload, n.hash, n.occurred_at
               from written w join unnest($16::uuid[], $17::bigint[], $18::text[], $19::text[], $20::int[], $21::int[],
                   $22::int[], $23::text[], $24::bytea[], $25::bytea[], $26::timestamptz[])
               as n (execution_id, seq, kind, stage, visit, item, attempt, outcome, payload, hash, occurred_at)
               on n.execution_id = w.execution_id
           )
           select execution_id as "execution!: ExecutionId" from written"#,
        &runs.execution,
        &runs.me,
        &runs.epoch,
        &runs.seq_before,
        &runs.seq_after,
        &runs.head,
        &runs.stage,
        &runs.commands_seen,
        &runs.commands_done,
        &runs.wait_s as &[Option<f64>],
        &runs.status as &[Option<String>],
        &runs.outputs as &[Option<String>],
        &runs.failure_class as &[Option<String>],
        &runs.failure_message as &[Option<String>],
        &runs.ended_at as &[Option<OffsetDateTime>],
        &entries.execution,
        &entries.seq,
        &entries.kind,
        &entries.stage as &[Option<String>],
        &entries.visit as &[Option<i32>],
        &entries.item as &[Option<i32>],
        &entries.attempt as &[Option<i32>],
        &entries.outcome as &[Option<String>],
        &entries.payload,
        &entries.hash,
        &entries.occurred_at,
        &runs.cut,
    )
    .fetch_all(connection)
    .await?;
    Ok(written)
}

/// What became of a write whose commit is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::worker) enum Fate {
    /// It was done.
    Done,
    /// It was not done and can be done now.
    Open,
    /// It was not done, and the run is not the writer's any more.
    Fenced,
}

/// Looks, under the hot row's lock, whether a write was done. The lock waits for a write that is still under way.
pub(in crate::worker) async fn fate(transaction: &mut PgConnection, record: &Record) -> Result<Fate> {
    let fence = record.fence;
    let row = sqlx::query!(
        "select owner, epoch, seq from execution.runs where execution_id = $1 for update",
        fence.execution.as_uuid(),
    )
    .fetch_optional(&mut *transaction)
    .await?;
    if let Some(last) = record.entries.last() {
        let hash = sqlx::query_scalar!(
            "select hash from execution.journal where execution_id = $1 and seq = $2",
            fence.execution.as_uuid(),
            last.entry.seq,
        )
        .fetch_optional(transaction)
        .await?;
        if hash.as_deref() == Some(last.hash.as_slice()) {
            return Ok(Fate::Done);
        }
    }
    let ours =
        row.is_some_and(|row| row.owner == Some(fence.instance) && row.epoch == fence.epoch && row.seq == fence.seq);
    Ok(if ours { Fate::Open } else { Fate::Fenced })
}

/// A new run.
#[derive(Debug, Clone)]
pub(in crate::worker) struct NewRun {
    pub execution: ExecutionId,
    pub company: CompanyId,
    pub studio: StudioId,
    pub workflow: WorkflowId,
    pub version: VersionId,
    pub version_number: i32,
    pub started_by: UserId,
    /// JSON text.
    pub inputs: String,
    pub trace_context: String,
    /// Its first stage.
    pub stage: String,
    /// The instance it is born with; without one it is due at once.
    pub owner: Option<i32>,
    /// Its started entry.
    pub entry: Sealed,
    pub key: Option<NewKey>,
}

/// What makes a repeated start name the same run.
#[derive(Debug, Clone)]
pub(in crate::worker) struct NewKey {
    pub method: String,
    pub key: String,
    pub body_hash: Vec<u8>,
}

/// Starts a run, all of it in one statement, unless its key is taken. True if it was started.
pub(in crate::worker) async fn start(connection: &mut PgConnection, new: &NewRun) -> Result<bool> {
    let key = new.key.as_ref();
    let started = sqlx::query_scalar!(
        r#"with key as (
               insert into execution.start_keys (company_id, caller_id, method, key, execution_id, body_hash)
               select $2, $7, $11, $12, $1, $13 where $12::text is not null
               on conflict do nothing
               returning execution_id
           ), made as (
               insert into execution.executions (id, company_id, studio_id, workflow_id, version_id, workflow_version,
                   started_by, status, inputs, trace_context, started_at)
               select $1, $2, $3, $4, $5, $6, $7, case when $10::int is null then 'pending' else 'running' end, $8::text::jsonb,
                   $9, case when $10::int is not null then now() end
               where $12::text is null or exists (select from key)
               returning id
           ), run as (
               insert into execution.runs (execution_id, company_id, studio_id, owner, seq, head, stage)
               select id, $2, $3, $10, 1, $15, $17 from made
               returning execution_id
           )
           insert into execution.journal (execution_id, seq, company_id, studio_id, kind, payload, hash, occurred_at)
           select execution_id, 1, $2, $3, 'started', $14, $15, $16 from run
           returning execution_id"#,
        new.execution.as_uuid(),
        new.company.as_uuid(),
        new.studio.as_uuid(),
        new.workflow.as_uuid(),
        new.version.as_uuid(),
        new.version_number,
        new.started_by.as_uuid(),
        new.inputs,
        new.trace_context,
        new.owner,
        key.map(|key| key.method.as_str()),
        key.map(|key| key.key.as_str()),
        key.map(|key| key.body_hash.as_slice()),
        new.entry.bytes.as_slice(),
        new.entry.hash.as_slice(),
        new.entry.entry.occurred_at,
        new.stage,
    )
    .fetch_optional(connection)
    .await?;
    Ok(started.is_some())
}

/// Forgets a start key that is older than a day, and so names nothing any more. True if there was one.
pub(in crate::worker) async fn forget_expired(
    connection: &mut PgConnection,
    company: CompanyId,
    caller: UserId,
    key: &NewKey,
) -> Result<bool> {
    let forgotten = sqlx::query!(
        "delete from execution.start_keys
         where company_id = $1 and caller_id = $2 and method = $3 and key = $4
             and created_at < now() - interval '24 hours'",
        company.as_uuid(),
        caller.as_uuid(),
        key.method,
        key.key,
    )
    .execute(connection)
    .await?;
    Ok(forgotten.rows_affected() > 0)
}

/// The run that a key names, and the hash of the request it was made by.
pub(in crate::worker) async fn keyed(
    connection: &mut PgConnection,
    company: CompanyId,
    caller: UserId,
    key: &NewKey,
) -> Result<Option<(ExecutionId, Vec<u8>)>> {
    let row = sqlx::query!(
        r#"select execution_id as "execution: ExecutionId", body_hash from execution.start_keys
           where company_id = $1 and caller_id = $2 and method = $3 and key = $4"#,
        company.as_uuid(),
        caller.as_uuid(),
        key.method,
        key.key,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| (row.execution, row.body_hash)))
}

/// Whether a run was started.
pub(in crate::worker) async fn exists(connection: &mut PgConnection, execution: ExecutionId) -> Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from execution.executions where id = $1) as "exists!""#,
        execution.as_uuid(),
    )
    .fetch_one(connection)
    .await
}

/// Records as the statement takes them: an array for each column.
#[derive(Default)]
struct Runs {
    execution: Vec<uuid::Uuid>,
    me: Vec<i32>,
    epoch: Vec<i32>,
    seq_before: Vec<i64>,
    seq_after: Vec<i64>,
    head: Vec<Vec<u8>>,
    stage: Vec<String>,
    commands_seen: Vec<i64>,
    commands_done: Vec<i64>,
    wait_s: Vec<Option<f64>>,
    status: Vec<Option<String>>,
    outputs: Vec<Option<String>>,
    failure_class: Vec<Option<String>>,
    failure_message: Vec<Option<String>>,
    ended_at: Vec<Option<OffsetDateTime>>,
    cut: Vec<bool>,
}

impl Runs {
    fn of(records: &[&Record]) -> Self {
        let mut runs = Self::default();
        for record in records {
            let (wait_s, end) = match &record.then {
                Then::Keep => (None, None),
                Then::GiveBack { wait_s, .. } => (Some(*wait_s), None),
                Then::End(end) => (None, Some(end)),
            };
            runs.execution.push(record.fence.execution.as_uuid());
            runs.me.push(record.fence.instance);
            runs.epoch.push(record.fence.epoch);
            runs.seq_before.push(record.fence.seq);
            runs.seq_after.push(record.seq_after());
            runs.head.push(record.head.clone());
            runs.stage.push(record.stage.clone());
            runs.commands_seen.push(record.commands_seen);
            runs.commands_done.push(record.commands_done);
            runs.wait_s.push(wait_s);
            runs.status.push(end.map(|end| end.status.to_owned()));
            runs.outputs.push(end.and_then(|end| end.outputs.clone()));
            runs.failure_class
                .push(end.and_then(|end| end.failure_class.map(str::to_owned)));
            runs.failure_message
                .push(end.and_then(|end| end.failure_message.clone()));
            runs.ended_at.push(end.map(|end| end.at));
            runs.cut.push(matches!(record.then, Then::GiveBack { cut: true, .. }));
        }
        runs
    }
}

/// Entries as the statement takes them.
#[derive(Default)]
struct Entries {
    execution: Vec<uuid::Uuid>,
    seq: Vec<i64>,
    kind: Vec<String>,
    stage: Vec<Option<String>>,
    visit: Vec<Option<i32>>,
    item: Vec<Option<i32>>,
    attempt: Vec<Option<i32>>,
    outcome: Vec<Option<String>>,
    payload: Vec<Vec<u8>>,
    hash: Vec<Vec<u8>>,
    occurred_at: Vec<OffsetDateTime>,
}

impl Entries {
    fn of(records: &[&Record]) -> Self {
        let mut entries = Self::default();
        for record in records {
            for sealed in &record.entries {
                entries.execution.push(record.fence.execution.as_uuid());
                entries.push(sealed);
            }
        }
        entries
    }

    fn push(&mut self, sealed: &Sealed) {
        let payload: &Payload = &sealed.entry.payload;
        let attempt = payload.attempt();
        let number = |of: fn(&crate::engine::journal::AttemptPayload) -> u32| {
            attempt.map(|attempt| i32::try_from(of(attempt)).unwrap_or(i32::MAX))
        };
        self.seq.push(sealed.entry.seq);
        self.kind.push(payload.kind().to_owned());
        self.stage.push(attempt.map(|attempt| attempt.stage.clone()));
        self.visit.push(number(|attempt| attempt.visit));
        self.item.push(number(|attempt| attempt.item));
        self.attempt.push(number(|attempt| attempt.attempt));
        self.outcome.push(attempt.map(|attempt| attempt.outcome().to_owned()));
        self.payload.push(sealed.bytes.clone());
        self.hash.push(sealed.hash.to_vec());
        self.occurred_at.push(sealed.entry.occurred_at);
    }
}
