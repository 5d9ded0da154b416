//! The tries of an execution's stages, from its journal. Prompts are not stored: they are rendered again.

use std::ops::Range;

use serde::Serialize;
use serde_json::{Map, Value};
use service_kit::{auth::Caller, db::TenantTx, error::Result, ids::ExecutionId, page::Page};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{enter, journal_store, not_found};
use crate::{
    App,
    engine::{
        definition::Definition,
        journal::{AttemptPayload, Decision, Entry, Payload, decision_on},
        replay::{self, ReplayError},
        request::Prompt,
    },
};

/// The most text of the attempts that are listed at once, in bytes, but for the last two.
const MAX_TEXT_BYTES: usize = 2 << 20;

/// Which attempts to list.
#[derive(Clone, Debug, Serialize)]
pub(super) struct AttemptFilter {
    /// The execution.
    pub execution: ExecutionId,
    /// Only of this stage.
    pub stage: Option<String>,
}

/// A recorded attempt with its prompt.
#[derive(Clone, Debug)]
pub(super) struct Recorded {
    pub seq: i64,
    pub attempt: AttemptPayload,
    /// Empty where none was sent, or where it cannot be rendered any more.
    pub prompt: Prompt,
    /// What a person decided, and when that was recorded, as far as it is told.
    pub decided: Option<(OffsetDateTime, Decision)>,
}

/// Lists an execution's attempts in the order they were recorded: as many as were asked for, or one more than their text
/// allows.
pub(super) async fn list(
    app: &App,
    caller: &Caller,
    filter: &AttemptFilter,
    page: &Page<i64>,
) -> Result<Vec<Recorded>> {
    let access = enter(app, caller, filter.execution).await?;
    let mut tx = TenantTx::begin(&app.pool, "executions.list_attempts", &access.claims).await?;
    let seqs = journal_store::attempt_seqs(&mut tx, filter, page).await?;
    let mut run = Run::open(&mut tx, filter.execution).await?;
    let mut later = Vec::new();
    if let Some(last) = seqs.last() {
        run.read_up_to(&mut tx, *last).await?;
        later = journal_store::decisions(&mut tx, filter.execution, *last).await?;
    }
    // Rendering takes time that no connection should wait for.
    drop(tx);
    let rendered = app.aside.run(move || run.recorded_at(&seqs, &later));
    Ok(rendered.await)
}

/// An execution's journal, as far as it was read, with what its prompts are rendered from.
pub(super) struct Run {
    execution: ExecutionId,
    definition: Option<Definition>,
    inputs: Map<String, Value>,
    journal: Vec<Entry>,
}

impl Run {
    /// Opens it, nothing of the journal read.
    pub(super) async fn open(tx: &mut PgConnection, execution: ExecutionId) -> Result<Self> {
        let pinned = journal_store::pinned(tx, execution)
            .await?
            .ok_or_else(|| not_found(execution))?;
        Ok(Self {
            execution,
            definition: pinned.definition,
            inputs: pinned.inputs,
            journal: Vec::new(),
        })
    }

    /// Reads what follows in the journal up to a place.
    pub(super) async fn read_up_to(&mut self, tx: &mut PgConnection, last: i64) -> Result<()> {
        let new = journal_store::entries(tx, self.execution, self.last_seq(), last).await?;
        self.journal.extend(new);
        Ok(())
    }

    /// The place of the last entry that was read; 0 before the first.
    pub(super) fn last_seq(&self) -> i64 {
        self.journal.last().map_or(0, |it| it.seq)
    }

    /// Whether nothing follows what was read.
    pub(super) fn has_ended(&self) -> bool {
        self.journal.last().is_some_and(|it| it.payload.is_terminal())
    }

    /// Lets go of the raw answers among these entries: nothing that comes later is rendered from them.
    pub(super) fn forget_answers(&mut self, entries: Range<usize>) {
        for entry in &mut self.journal[entries] {
            if let Payload::Attempt(attempt) = &mut entry.payload {
                attempt.raw_output = String::new();
            }
        }
    }

    /// What was read of the journal.
    pub(super) fn journal(&self) -> &[Entry] {
        &self.journal
    }

    /// The attempt at a place, if there is one, as it was recorded: nothing is told of what came after it.
    pub(super) fn recorded(&self, seq: i64) -> Option<Recorded> {
        let place = self.journal.binary_search_by_key(&seq, |it| it.seq).ok()?;
        let attempt = self.journal[place].payload.attempt()?.clone();
        Some(Recorded {
            seq,
            attempt,
            prompt: self.prompt(seq),
            decided: None,
        })
    }

    /// What a person decided of an attempt, in what was read or in these entries after it.
    fn decided(&self, recorded: &Recorded, later: &[Entry]) -> Option<(OffsetDateTime, Decision)> {
        if !recorded.attempt.is_open() {
            return None;
        }
        let of = recorded.attempt.of_try();
        let (entry, decision) = decision_on(&of, &self.journal).or_else(|| decision_on(&of, later))?;
        Some((entry.occurred_at, decision.clone()))
    }

    /// The attempts at these places with what was decided of them, but no more than one beyond what may be listed at once.
    fn recorded_at(&self, seqs: &[i64], later: &[Entry]) -> Vec<Recorded> {
        let mut bytes = 0;
        let mut all = Vec::new();
        for mut recorded in seqs.iter().filter_map(|seq| self.recorded(*seq)) {
            recorded.decided = self.decided(&recorded, later);
            let full = bytes > MAX_TEXT_BYTES;
            bytes += recorded.attempt.raw_output.len() + recorded.prompt.prompt.len();
            all.push(recorded);
            if full {
                break;
            }
        }
        all
    }

    fn prompt(&self, seq: i64) -> Prompt {
        let Some(definition) = &self.definition else {
            return Prompt::default();
        };
        replay::prompt(definition, &self.inputs, &self.journal, seq).unwrap_or_else(|error| {
            if error == ReplayError::Differs {
                tracing::error!(execution = %self.execution, seq, "a recorded prompt cannot be rendered again");
            }
            Prompt::default()
        })
    }
}

#[cfg(test)]
impl Run {
    /// A run of which this was read.
    pub(super) fn of_journal(journal: Vec<Entry>) -> Self {
        Self {
            execution: ExecutionId::generate(),
            definition: None,
            inputs: Map::new(),
            journal,
        }
    }
}
