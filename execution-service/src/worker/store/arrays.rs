//! A batch as the writer's statements take it: an array for each column.

use service_kit::{audit::Prepared, ids::ExecutionId};
use sqlx::types::Uuid;
use time::OffsetDateTime;

use crate::{
    engine::journal::{AttemptPayload, Sealed},
    worker::writer::{End, NewRun, Record, Then},
};

/// After how long a run that was put aside is due, the first time.
const ASIDE_S: f64 = 60.0;

/// New runs.
#[derive(Default)]
pub(super) struct Starts<'a> {
    pub execution: Vec<Uuid>,
    pub company: Vec<Uuid>,
    pub studio: Vec<Uuid>,
    pub workflow: Vec<Uuid>,
    pub version: Vec<Uuid>,
    pub version_number: Vec<i32>,
    pub started_by: Vec<Uuid>,
    pub inputs: Vec<&'a str>,
    pub trace_context: Vec<&'a str>,
    pub stage: Vec<&'a str>,
    pub owner: Vec<Option<i32>>,
    pub method: Vec<Option<&'a str>>,
    pub key: Vec<Option<&'a str>>,
    pub body_hash: Vec<Option<&'a [u8]>>,
    pub parent: Vec<Option<Uuid>>,
    pub source: Vec<Option<Uuid>>,
    pub seq: Vec<i64>,
    pub head: Vec<&'a [u8]>,
    pub audit: Vec<Option<&'a str>>,
    pub executions_per_month: Vec<Option<i64>>,
    pub concurrent_executions: Vec<Option<i64>>,
    pub tokens_per_month: Vec<Option<i64>>,
    pub cost_micros_per_month: Vec<Option<i64>>,
}

impl<'a> Starts<'a> {
    /// In the order of their keys: two writers that have the same ones never wait for each other. The runs themselves are new.
    pub(super) fn of(starts: &[&'a NewRun]) -> Self {
        let mut starts = starts.to_vec();
        starts.sort_by_key(|new| {
            let key = new.key.as_ref();
            key.map(|it| (new.company, new.started_by, it.method.as_str(), it.key.as_str()))
        });
        let mut columns = Self::default();
        for new in starts {
            let key = new.key.as_ref();
            columns.execution.push(new.execution.as_uuid());
            columns.company.push(new.company.as_uuid());
            columns.studio.push(new.studio.as_uuid());
            columns.workflow.push(new.workflow.as_uuid());
            columns.version.push(new.version.as_uuid());
            columns.version_number.push(new.version_number);
            columns.started_by.push(new.started_by.as_uuid());
            columns.inputs.push(&new.inputs);
            columns.trace_context.push(&new.trace_context);
            columns.stage.push(&new.stage);
            columns.owner.push(new.owner);
            columns.method.push(key.map(|it| it.method.as_str()));
            columns.key.push(key.map(|it| it.key.as_str()));
            columns.body_hash.push(key.map(|it| it.body_hash.as_slice()));
            columns.parent.push(new.parent.map(ExecutionId::as_uuid));
            columns.source.push(new.source.map(ExecutionId::as_uuid));
            columns.seq.push(new.last().entry.seq);
            columns.head.push(&new.last().hash);
            columns.audit.push(new.audit.as_ref().map(Prepared::as_str));
            let allowed = new.allowance;
            columns
                .executions_per_month
                .push(allowed.map(|it| it.executions_per_month));
            columns
                .concurrent_executions
                .push(allowed.map(|it| it.concurrent_executions));
            columns.tokens_per_month.push(allowed.map(|it| it.tokens_per_month));
            columns
                .cost_micros_per_month
                .push(allowed.map(|it| it.cost_micros_per_month));
        }
        columns
    }
}

/// Runs and what happens to them.
#[derive(Default)]
pub(super) struct Runs<'a> {
    pub execution: Vec<Uuid>,
    pub me: Vec<i32>,
    pub epoch: Vec<i32>,
    pub seq_before: Vec<i64>,
    pub seq_after: Vec<i64>,
    pub head: Vec<&'a [u8]>,
    pub stage: Vec<&'a str>,
    pub commands_seen: Vec<i64>,
    pub commands_done: Vec<i64>,
    /// None where the run is kept or ends, infinity where it waits for ever.
    pub wait_s: Vec<Option<f64>>,
    pub aside: Vec<bool>,
    pub cut: Vec<bool>,
    pub status: Vec<Option<&'a str>>,
    pub outputs: Vec<Option<&'a str>>,
    pub failure_class: Vec<Option<&'a str>>,
    pub failure_message: Vec<Option<&'a str>>,
    pub ended_at: Vec<Option<OffsetDateTime>>,
    pub tokens: Vec<i64>,
    pub cost_micros: Vec<i64>,
}

impl<'a> Runs<'a> {
    pub(super) fn of(records: &[&'a Record]) -> Self {
        let mut columns = Self::default();
        for record in records {
            let (wait_s, aside, cut, end) = match &record.then {
                Then::Keep => (None, false, false, None),
                Then::GiveBack { wait, cut } => {
                    let wait_s = wait.map_or(f64::INFINITY, |wait| wait.as_secs_f64());
                    (Some(wait_s), false, *cut, None)
                }
                Then::PutAside { cut } => (Some(ASIDE_S), true, *cut, None),
                Then::End(end) => (None, false, false, Some(end)),
            };
            columns.execution.push(record.fence.execution.as_uuid());
            columns.me.push(record.fence.instance);
            columns.epoch.push(record.fence.epoch);
            columns.seq_before.push(record.fence.seq);
            columns.seq_after.push(record.seq_after());
            columns.head.push(&record.head);
            columns.stage.push(&record.stage);
            columns.commands_seen.push(record.commands_seen);
            columns.commands_done.push(record.commands_done);
            columns.wait_s.push(wait_s);
            columns.aside.push(aside);
            columns.cut.push(cut);
            columns.end(record.status, end);
            let (tokens, cost_micros) = spent(record);
            columns.tokens.push(tokens);
            columns.cost_micros.push(cost_micros);
        }
        columns
    }

    fn end(&mut self, status: Option<&'a str>, end: Option<&'a End>) {
        self.status.push(end.map(|end| end.status).or(status));
        self.outputs.push(end.and_then(|end| end.outputs.as_deref()));
        self.failure_class.push(end.and_then(|end| end.failure_class));
        self.failure_message
            .push(end.and_then(|end| end.failure_message.as_deref()));
        self.ended_at.push(end.map(|end| end.at));
    }
}

/// Tokens of models and what they cost, of the attempts of a record.
pub(super) fn spent(record: &Record) -> (i64, i64) {
    let entries = record.entries.iter();
    spent_by(entries.filter_map(|sealed| sealed.entry.payload.attempt()))
}

/// What attempts took: tokens, and millionths of a US dollar.
pub(in crate::worker) fn spent_by<'a>(attempts: impl Iterator<Item = &'a AttemptPayload>) -> (i64, i64) {
    let uses = attempts.flat_map(|it| it.usage.iter().chain(&it.judge));
    let (mut tokens, mut cost_micros) = (0_u64, 0_u64);
    for it in uses {
        tokens = tokens.saturating_add(it.input_tokens).saturating_add(it.output_tokens);
        cost_micros = cost_micros.saturating_add(it.cost_micros);
    }
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    (number(tokens), number(cost_micros))
}

/// Entries.
#[derive(Default)]
pub(super) struct Entries<'a> {
    pub execution: Vec<Uuid>,
    pub seq: Vec<i64>,
    pub kind: Vec<&'a str>,
    pub stage: Vec<Option<&'a str>>,
    pub visit: Vec<Option<i32>>,
    pub item: Vec<Option<i32>>,
    pub attempt: Vec<Option<i32>>,
    pub outcome: Vec<Option<&'a str>>,
    pub payload: Vec<&'a [u8]>,
    pub hash: Vec<&'a [u8]>,
    pub occurred_at: Vec<OffsetDateTime>,
}

impl<'a> Entries<'a> {
    pub(super) fn of(starts: &[&'a NewRun], records: &[&'a Record]) -> Self {
        let first = starts.iter().map(|new| (new.execution, &new.entries));
        let further = records.iter().map(|record| (record.fence.execution, &record.entries));
        let mut columns = Self::default();
        for (execution, entries) in first.chain(further) {
            for sealed in entries {
                columns.execution.push(execution.as_uuid());
                columns.push(sealed);
            }
        }
        columns
    }

    fn push(&mut self, sealed: &'a Sealed) {
        let payload = &sealed.entry.payload;
        let attempt = payload.attempt();
        let of = attempt
            .map(|it| (it.stage.as_str(), it.visit, it.item, it.attempt))
            .or_else(|| {
                payload
                    .about()
                    .map(|of| (of.stage.as_str(), of.visit, of.item, of.attempt))
            });
        let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        self.seq.push(sealed.entry.seq);
        self.kind.push(payload.kind());
        self.stage.push(of.map(|of| of.0));
        self.visit.push(of.map(|of| number(of.1)));
        self.item.push(of.map(|of| number(of.2)));
        self.attempt.push(of.map(|of| number(of.3)));
        self.outcome.push(attempt.map(AttemptPayload::outcome));
        self.payload.push(&sealed.bytes);
        self.hash.push(&sealed.hash);
        self.occurred_at.push(sealed.entry.occurred_at);
    }
}
