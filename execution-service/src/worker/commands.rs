//! Commands: what others ask of a run that is held here. Whoever asks leaves a row; the holder turns it into an entry.
//!
//! They are taken in their order, each in the commit of what it leads to: what was taken and not committed is found again by the
//! next holder. A kind that this version does not know is skipped.
//!
//! The poll brings them; a hint makes the run read them itself.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use service_kit::{
    db,
    ids::{ExecutionId, UserId},
};
use sqlx::PgPool;
use tokio::{sync::watch, time::sleep};

use super::{held::Told, store};
use crate::{
    engine::{
        journal::{Cancelled, Decision, Delegated, Paused, Payload, Resumed, Ruling, Signal, StageTry},
        state::State,
    },
    providers::clean,
};

/// How long to wait before asking again a database that did not answer.
const PAUSE: Duration = Duration::from_millis(250);

/// What somebody asks of a run, as its row has it: a kind and a payload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "payload", rename_all = "snake_case")]
pub enum Wish {
    /// To stop.
    Cancel {
        /// Why; may be empty.
        #[serde(default)]
        reason: String,
    },
    /// To begin nothing new.
    Pause {
        /// Why; may be empty.
        #[serde(default)]
        reason: String,
    },
    /// To go on.
    Resume {},
    /// That what waits for people passes, or not.
    Decide {
        /// The attempt.
        #[serde(flatten)]
        of: StageTry,
        /// What is decided.
        decision: Ruling,
        /// Why; may be empty.
        notes: String,
        /// What is used in place of the output; of an effect whose outcome is unknown, what came of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<Value>,
        /// The form that was filled in.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        form: Option<Value>,
    },
    /// That somebody else decides in the place of who asks.
    Delegate {
        /// The attempt.
        #[serde(flatten)]
        of: StageTry,
        /// Who decides.
        to: UserId,
    },
    /// That a wait for this signal ends.
    Signal {
        /// Its name.
        name: String,
        /// What comes with it.
        #[serde(default)]
        payload: Value,
    },
    /// That it looks how a flow ended which it waits for.
    FlowEnded {
        /// The attempt.
        #[serde(flatten)]
        of: StageTry,
    },
    /// That it looks how an execution ended which it waits for.
    ChildEnded {
        /// The execution.
        execution: ExecutionId,
    },
}

impl Wish {
    /// Its kind and payload.
    pub fn row(&self) -> (&'static str, Value) {
        let kind = match self {
            Self::Cancel { .. } => "cancel",
            Self::Pause { .. } => "pause",
            Self::Resume {} => "resume",
            Self::Decide { .. } => "decide",
            Self::Delegate { .. } => "delegate",
            Self::Signal { .. } => "signal",
            Self::ChildEnded { .. } => "child_ended",
            Self::FlowEnded { .. } => "flow_ended",
        };
        let mut value = serde_json::to_value(self).expect("a wish has string keys");
        (kind, value["payload"].take())
    }

    /// Whether it means something to a run that stands so.
    pub(super) fn fits(&self, state: &State) -> bool {
        match self {
            Self::Cancel { .. } | Self::Signal { .. } | Self::ChildEnded { .. } | Self::FlowEnded { .. } => true,
            Self::Pause { .. } => !state.is_paused(),
            Self::Resume {} => state.is_paused(),
            Self::Decide { of, .. } | Self::Delegate { of, .. } => state.waiting().any(|it| it.of == *of),
        }
    }

    /// The entry that it becomes, if it becomes one by itself; `interrupted` is the stage that a cancel cuts.
    pub fn entry(self, by: UserId, interrupted: Option<String>) -> Option<Payload> {
        let text = |text: String| clean::storable(&text).0;
        Some(match self {
            Self::Cancel { reason } => Payload::Cancelled(Cancelled {
                by,
                reason: text(reason),
                interrupted,
            }),
            Self::Pause { reason } => Payload::Paused(Paused {
                by: Some(by),
                reason: text(reason),
            }),
            Self::Resume {} => Payload::Resumed(Resumed { by }),
            Self::Decide {
                of,
                decision,
                notes,
                output,
                form,
            } => Payload::Decision(Box::new(Decision {
                of,
                decision,
                by,
                notes: text(notes),
                output,
                form,
            })),
            Self::Delegate { of, to } => Payload::Delegated(Delegated { of, by, to }),
            Self::Signal { name, payload } => Payload::Signal(Box::new(Signal {
                name,
                payload,
                by: Some(by),
            })),
            Self::ChildEnded { .. } | Self::FlowEnded { .. } => return None,
        })
    }

    /// The wish of this kind and payload, if it is one that this version knows.
    pub(super) fn read(kind: &str, payload: &Value) -> Option<Self> {
        serde_json::from_value(json!({ "kind": kind, "payload": payload })).ok()
    }
}

/// What is asked of a run, and by whom.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub by: UserId,
    pub wish: Wish,
}

/// A held run's commands, in order.
#[derive(Debug)]
pub(super) struct Commands {
    pool: PgPool,
    execution: ExecutionId,
    announced: watch::Receiver<Told>,
    /// How many hints were followed.
    hints: u64,
    /// Those that were read and not taken yet.
    queue: VecDeque<store::Command>,
    /// Those up to here were read.
    read: i64,
    /// Those up to here were taken.
    pub taken: i64,
}

impl Commands {
    pub(super) fn new(pool: PgPool, execution: ExecutionId, announced: watch::Receiver<Told>, done: i64) -> Self {
        Self {
            pool,
            execution,
            announced,
            hints: 0,
            queue: VecDeque::new(),
            read: done,
            taken: done,
        }
    }

    /// Takes the next command that means something to a run that stands so, if one has been announced.
    pub(super) async fn announced(&mut self, state: &State) -> Option<Asked> {
        if let Some(asked) = self.take(state) {
            return Some(asked);
        }
        if !self.announced.has_changed().unwrap_or(false) {
            return None;
        }
        self.read().await;
        self.take(state)
    }

    /// Waits for the next command that means something to a run that stands so, and takes it. Can be given up and waited for
    /// again.
    pub(super) async fn next(&mut self, state: &State) -> Asked {
        loop {
            if let Some(asked) = self.take(state) {
                return asked;
            }
            if self.announced.changed().await.is_err() {
                // The run's place is gone, and with it the run.
                std::future::pending::<()>().await;
            }
            self.read().await;
        }
    }

    fn take(&mut self, state: &State) -> Option<Asked> {
        while let Some(command) = self.queue.pop_front() {
            self.taken = command.seq;
            let Some(wish) = Wish::read(&command.kind, &command.payload) else {
                tracing::warn!(
                    execution = %self.execution, seq = command.seq, kind = command.kind, "a command is not understood"
                );
                continue;
            };
            if wish.fits(state) {
                let by = command.issued_by;
                return Some(Asked { by, wish });
            }
            tracing::warn!(
                execution = %self.execution, seq = command.seq, kind = command.kind, "a command found nothing that waits for it"
            );
        }
        None
    }

    async fn read(&mut self) {
        // Announced anew if reading is given up half-way.
        self.announced.mark_changed();
        loop {
            match self.unread().await {
                Ok(commands) => {
                    self.read = commands.last().map_or(self.read, |last| last.seq);
                    self.queue.extend(commands);
                    self.announced.mark_unchanged();
                    return;
                }
                Err(error) => {
                    tracing::warn!(execution = %self.execution, error = %error, "commands could not be read");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    async fn unread(&mut self) -> sqlx::Result<Vec<store::Command>> {
        let told = self.announced.borrow().clone();
        if told.hints == self.hints {
            return Ok(told.after(self.read));
        }
        let (execution, read) = (self.execution, self.read);
        let commands = db::with(&self.pool, async |it| store::commands(it, execution, read).await).await?;
        self.hints = told.hints;
        Ok(commands)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_reads_back_as_its_row_has_it_and_a_strange_row_is_none() {
        let decide = Wish::Decide {
            of: StageTry {
                stage: "a".into(),
                visit: 1,
                item: 0,
                attempt: 2,
            },
            decision: Ruling::Fail,
            notes: "warmer".into(),
            output: None,
            form: None,
        };
        let (kind, payload) = decide.row();
        assert_eq!(
            (kind, &payload),
            (
                "decide",
                &json!({"stage": "a", "visit": 1, "item": 0, "attempt": 2, "decision": "fail", "notes": "warmer"})
            )
        );
        assert_eq!(Wish::read(kind, &payload), Some(decide));
        let cancel = Wish::Cancel {
            reason: "enough".into(),
        };
        assert_eq!(cancel.row(), ("cancel", json!({"reason": "enough"})));
        assert_eq!(Wish::read("cancel", &json!({"reason": "enough"})), Some(cancel));
        assert!(
            Wish::read("cancel", &json!({})).is_some(),
            "rows of before have no more"
        );
        assert_eq!(Wish::read("resume", &json!({})), Some(Wish::Resume {}));
        for (kind, payload) in [
            ("decide", json!({})),
            ("decide", json!(1)),
            ("signal", json!({})),
            ("unheard of", json!({})),
        ] {
            assert_eq!(Wish::read(kind, &payload), None);
        }
    }
}
