//! Where a run stands, as those see it who ask something of it: its journal folded, and the commands that are on their way into it
//! counted as taken. So of several people who ask at the same time each is answered by what those before him asked.

use std::sync::Arc;

use serde_json::{Map, Value};
use service_kit::{
    error::{Error, Result},
    ids::{ExecutionId, UserId},
};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{
    control::has_ended,
    control_store::{self, Hot},
    journal_store, not_found, waiting,
};
use crate::{
    access::Access,
    engine::{
        definition::{Definition, Stage},
        journal::{Delegated, Entry, Payload, StageTry},
        state::{Given, State},
        waiting::{Person, Waiting},
    },
    worker::Wish,
};

/// What a run's standing follows from, as it was read.
pub(super) struct Read {
    hot: Hot,
    definition: Arc<Definition>,
    inputs: Map<String, Value>,
    started_by: UserId,
    journal: Vec<Entry>,
    asked: Vec<(UserId, Wish)>,
}

/// Where a run stands.
#[derive(Clone)]
pub(super) struct Standing {
    definition: Arc<Definition>,
    inputs: Arc<Map<String, Value>>,
    started_by: UserId,
    journal: Arc<[Entry]>,
    state: State,
    /// What it was read at.
    hot: Hot,
}

impl Read {
    /// Reads a run that has not ended.
    pub(super) async fn of(tx: &mut PgConnection, id: ExecutionId) -> Result<Self> {
        // Before the rest: what comes meanwhile shows in it later.
        let hot = control_store::hot(tx, id).await?;
        let pinned = journal_store::pinned(tx, id).await?.ok_or_else(|| not_found(id))?;
        let hot = hot.ok_or_else(has_ended)?;
        Ok(Self {
            hot,
            definition: pinned.definition.map(Arc::new).ok_or_else(gone)?,
            inputs: pinned.inputs,
            started_by: pinned.started_by,
            journal: journal_store::entries(tx, id, 0, i64::MAX).await?,
            asked: control_store::on_their_way(tx, id).await?,
        })
    }

    /// Folds it, which may take long.
    ///
    /// # Errors
    /// `FailedPrecondition` where it has ended, or is about to because somebody asked for it.
    pub(super) fn fold(self) -> Result<Standing> {
        let given = Given {
            definition: &self.definition,
            inputs: &self.inputs,
        };
        let mut state = State::after(given, &self.journal);
        let last_at = self
            .journal
            .last()
            .map_or(OffsetDateTime::UNIX_EPOCH, |it| it.occurred_at);
        let mut is_ending = self.journal.last().is_some_and(|it| it.payload.is_terminal());
        for (by, wish) in self.asked {
            let Some(payload) = wish.entry(by, None) else { continue };
            is_ending |= payload.is_terminal();
            let entry = Entry {
                seq: i64::MAX,
                occurred_at: last_at,
                payload,
            };
            state.apply(given, &entry);
        }
        if is_ending {
            return Err(has_ended());
        }
        Ok(Standing {
            definition: self.definition,
            inputs: Arc::new(self.inputs),
            started_by: self.started_by,
            journal: self.journal.into(),
            state,
            hot: self.hot,
        })
    }
}

impl Standing {
    /// Whether nothing was recorded or asked since, by the hot row as it is now.
    pub(super) fn is_of(&self, now: Hot) -> bool {
        self.hot == now
    }

    /// What waits for people at a try.
    ///
    /// # Errors
    /// `NotFound` where there is no such try, `FailedPrecondition` where it does not wait for people, or not any more.
    pub(super) fn waiting(&self, of: &StageTry) -> Result<&Waiting> {
        if let Some(waiting) = self.state.waiting().find(|it| it.of == *of) {
            return Ok(waiting);
        }
        if self.journal.iter().any(|it| it.payload.of_try().as_ref() == Some(of)) {
            return Err(Error::FailedPrecondition {
                reason: "ATTEMPT_DECIDED",
                message: "the attempt does not wait for a decision, or not any more".into(),
            });
        }
        Err(Error::not_found("attempt", of))
    }

    /// Whether somebody asked it to begin nothing new.
    pub(super) const fn is_paused(&self) -> bool {
        self.state.is_paused()
    }

    /// Whether a signal of this name would be lost.
    pub(super) fn loses(&self, signal: &str) -> bool {
        self.state.loses(signal)
    }

    /// Where it would stand after somebody left his decision to another.
    pub(super) fn after_delegation(&self, delegated: Delegated) -> Self {
        let mut then = self.clone();
        let given = Given {
            definition: &self.definition,
            inputs: &self.inputs,
        };
        let entry = Entry {
            seq: i64::MAX,
            occurred_at: OffsetDateTime::UNIX_EPOCH,
            payload: Payload::Delegated(delegated),
        };
        then.state.apply(given, &entry);
        then
    }

    /// Somebody as who decides.
    pub(super) fn person(&self, access: &Access) -> Person {
        Person {
            id: access.claims.sub,
            rank: waiting::rank(access.role),
            started_run: access.claims.sub == self.started_by,
        }
    }

    /// The stage of this name.
    pub(super) fn stage(&self, name: &str) -> Option<&Stage> {
        let place = self.definition.position(name)?;
        Some(&self.definition.stages[place])
    }
}

/// That nobody can say any more what a run does.
pub(super) fn gone() -> Error {
    Error::FailedPrecondition {
        reason: "VERSION_GONE",
        message: "the version that the execution runs is gone with its workflow".into(),
    }
}
