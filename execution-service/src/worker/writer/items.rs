//! What the writer takes: new runs and the progress of those that run.

use std::time::Duration;

use service_kit::{
    audit::Prepared,
    ids::{CompanyId, ExecutionId, StudioId, UserId, VersionId, WorkflowId},
};
use time::OffsetDateTime;

use super::Ask;
use crate::{access::Allowance, engine::journal::Sealed};

/// A new run.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// Its id.
    pub execution: ExecutionId,
    /// The company it belongs to.
    pub company: CompanyId,
    /// The studio it belongs to.
    pub studio: StudioId,
    /// The workflow.
    pub workflow: WorkflowId,
    /// The version it is pinned to.
    pub version: VersionId,
    /// That version's number.
    pub version_number: i32,
    /// Who starts it.
    pub started_by: UserId,
    /// JSON text.
    pub inputs: String,
    /// The W3C traceparent of the request; may be empty.
    pub trace_context: String,
    /// Its first stage.
    pub stage: String,
    /// The instance it is born with; without one it is due at once.
    pub owner: Option<i32>,
    /// Its first entries, the started one before all.
    pub entries: Vec<Sealed>,
    /// Makes a repeated start name the first run.
    pub key: Option<NewKey>,
    /// The run that it is a stage of, without whose progress it is not made.
    pub parent: Option<ExecutionId>,
    /// The run whose outputs it begins with.
    pub source: Option<ExecutionId>,
    /// The entry of the audit log that is written with it.
    pub audit: Option<Prepared>,
    /// What its company's plan leaves room in, or it is not made; none where it is part of a run that was let in.
    pub allowance: Option<Allowance>,
}

impl NewRun {
    /// The last of its first entries.
    pub(in crate::worker) fn last(&self) -> &Sealed {
        self.entries.last().expect("a run begins with an entry")
    }
}

/// When an execution came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// When it was written.
    pub created_at: OffsetDateTime,
    /// When it began to run; none where it waits for an instance with room.
    pub started_at: Option<OffsetDateTime>,
    /// How many more its company may start this month; none where that was not asked.
    pub remaining: Option<i64>,
}

/// What a company has used of what its plan lets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// Runs started this month.
    pub starts: i64,
    /// Runs that are at work.
    pub at_work: i64,
}

impl Used {
    /// Whether a plan has no room for another start.
    pub(super) const fn leaves_none(self, allowed: Allowance) -> bool {
        self.starts >= allowed.executions_per_month || self.at_work >= allowed.concurrent_executions
    }
}

/// What makes a repeated start name the same run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    /// The method that was called.
    pub method: String,
    /// The caller's name for the request.
    pub key: String,
    /// The hash of the request.
    pub body_hash: Vec<u8>,
}

/// One run's progress.
#[derive(Debug, Clone)]
pub struct Record {
    /// What has to hold for it to be written.
    pub fence: Fence,
    /// What is added to the journal, in order.
    pub entries: Vec<Sealed>,
    /// The hash of the last entry, new or old.
    pub head: Vec<u8>,
    /// The stage it is at now.
    pub stage: String,
    /// The execution's status from now on, where it changes and the run does not end.
    pub status: Option<&'static str>,
    /// Commands up to here were seen: a later one makes a run that is given back due at once.
    pub commands_seen: i64,
    /// Commands up to here need not be seen again.
    pub commands_done: i64,
    /// Runs that are made with it, or not at all.
    pub children: Vec<NewRun>,
    /// What people are asked from now on, where that changes.
    pub asks: Option<Vec<Ask>>,
    /// What happens to the run beside.
    pub then: Then,
}

impl Record {
    /// Where the journal ends afterwards.
    pub(in crate::worker) fn seq_after(&self) -> i64 {
        self.entries.last().map_or(self.fence.seq, |last| last.entry.seq)
    }
}

/// What a write may touch: a run that belongs to the instance at this epoch and whose journal ends there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fence {
    /// The run.
    pub execution: ExecutionId,
    /// Whose it has to be.
    pub instance: i32,
    /// At which epoch.
    pub epoch: i32,
    /// The place of its last entry.
    pub seq: i64,
}

/// What happens to a run beside the entries it gets.
#[derive(Debug, Clone)]
pub enum Then {
    /// The instance keeps it.
    Keep,
    /// It is given back.
    GiveBack {
        /// It is due after this time, never without one; at once if there are commands that were not seen.
        wait: Option<Duration>,
        /// Whether a call in flight was cut: the next holder makes it again, and it may be billed twice.
        cut: bool,
    },
    /// It is given back because it cannot be continued: due after a minute, twice as late each time in a row, up to an hour; at
    /// once if there are commands that were not seen.
    PutAside {
        /// Whether a call in flight was cut.
        cut: bool,
    },
    /// It ends.
    End(End),
}

/// How a run ends.
#[derive(Debug, Clone)]
pub struct End {
    /// The execution's last status.
    pub status: &'static str,
    /// JSON text.
    pub outputs: Option<String>,
    /// Why it failed.
    pub failure_class: Option<&'static str>,
    /// For who reads it.
    pub failure_message: Option<String>,
    /// When.
    pub at: OffsetDateTime,
}
