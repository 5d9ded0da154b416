//! Background work: enqueued in the commit that causes it, done by a worker that leases it.
//!
//! A job is done at least once: its holder deletes it in the commit that stores its result, and a holder that crashes
//! loses it when the lease runs out. The number of a try is its fence: what an earlier holder still writes, ends nothing.
//! A failed try is made again later, up to the job's limit; then the job stays as failed, for the operators to see.

use serde_json::{Value, json};
use service_kit::{
    error::Result,
    ids::{CompanyId, DocumentId, FileId, JobId},
    telemetry,
};
use sqlx::PgConnection;
use tokio::sync::Notify;

mod expiry;
mod store;
mod worker;

pub use worker::Worker;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Cut this document's text into chunks.
    ProcessDocument {
        /// The document.
        document: DocumentId,
    },
    /// Have this version of a file scanned.
    ScanFile {
        /// The file.
        file: FileId,
        /// The version's number.
        version: i32,
    },
    /// Hold the company's objects against its rows.
    SweepObjects,
}

impl Task {
    /// The kinds that can be done here. Another one was enqueued by a newer release, and is left to that.
    const KINDS: [&str; 3] = ["process_document", "scan_file", "sweep_objects"];

    fn kind(self) -> &'static str {
        match self {
            Self::ProcessDocument { .. } => "process_document",
            Self::ScanFile { .. } => "scan_file",
            Self::SweepObjects => "sweep_objects",
        }
    }

    fn payload(self) -> Value {
        match self {
            Self::ProcessDocument { document } => json!({ "document_id": document }),
            Self::ScanFile { file, version } => json!({ "file_id": file, "version": version }),
            Self::SweepObjects => json!({}),
        }
    }

    fn read(kind: &str, payload: &Value) -> Option<Self> {
        match kind {
            "process_document" => {
                let document = payload.get("document_id")?.as_str()?.parse().ok()?;
                Some(Self::ProcessDocument { document })
            }
            "scan_file" => {
                let file = payload.get("file_id")?.as_str()?.parse().ok()?;
                let version = payload.get("version")?.as_i64()?.try_into().ok()?;
                Some(Self::ScanFile { file, version })
            }
            "sweep_objects" => Some(Self::SweepObjects),
            _ => None,
        }
    }
}

/// The right to do a job, as long as no later try of it begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    job: JobId,
    /// Which try this is, from 1.
    number: i32,
}

impl Lease {
    pub(crate) fn job(self) -> JobId {
        self.job
    }
}

/// Enqueues a task with the current trace, which doing it joins. After the commit, [`Signal::wake`] speeds it up.
pub(crate) async fn enqueue(tx: &mut PgConnection, company: CompanyId, task: Task) -> Result<()> {
    let traceparent = telemetry::current_traceparent();
    store::insert(tx, JobId::generate(), company, task, &traceparent).await
}

/// Ends a job as done. Says whether the lease still held; if not, nothing that was done under it may be stored.
pub(crate) async fn finish(tx: &mut PgConnection, lease: Lease) -> Result<bool> {
    store::delete(tx, lease).await
}

/// Tells this process's worker that there is work, so that it does not wait for its next look.
#[derive(Debug, Default)]
pub struct Signal(Notify);

impl Signal {
    /// There is work.
    pub fn wake(&self) {
        self.0.notify_one();
    }

    pub(crate) async fn woken(&self) {
        self.0.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_reads_back_what_it_writes() {
        let task = Task::ProcessDocument {
            document: DocumentId::generate(),
        };
        let scan = Task::ScanFile {
            file: FileId::generate(),
            version: 2,
        };
        for task in [task, scan, Task::SweepObjects] {
            assert_eq!(Task::read(task.kind(), &task.payload()), Some(task));
            assert!(Task::KINDS.contains(&task.kind()));
        }
        assert_eq!(Task::read(task.kind(), &json!({})), None);
        assert_eq!(Task::read(scan.kind(), &json!({})), None);
        assert_eq!(Task::read("other", &task.payload()), None);
    }
}
