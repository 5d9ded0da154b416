//! Privacy: this service's part of what core-service is asked to export or erase.
//!
//! It asks core-service for work, which leaves it to one replica while that says that it is at it; a part that is cut is done anew,
//! or gone on with, by whoever asks next. Runs of a company that is erased lose their rows, and with them whoever holds them; what
//! those have done meanwhile is looked for once more later.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use service_kit::{
    audit::{Opener, Schema},
    db::WorkerTx,
    error::{Error, Result},
    ids::{CompanyId, PrivacyRequestId, UserId},
    keys::KeyRing,
};
use sqlx::PgPool;
use tokio::{
    sync::mpsc::{self, Sender},
    time::{interval, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{Dispatch, instrument::WithSubscriber};

use crate::access::CoreClient;

mod store;

/// How often core-service is asked for work.
const POLL: Duration = Duration::from_secs(2);
/// How often an export says that it goes on.
const SIGN: Duration = Duration::from_secs(5);
/// How many rows of a table one transaction erases.
const BATCH: i32 = 1000;
/// How many bytes of an export go in one message.
const MESSAGE_BYTES: usize = 256 << 10;

/// Work for this service.
#[derive(Debug, Clone)]
pub struct Work {
    /// The request that it is of.
    pub request: PrivacyRequestId,
    /// Which taking of it this is.
    pub attempt: i32,
    /// Whether it is to be erased; to be exported otherwise.
    pub is_erasure: bool,
    /// What.
    pub subject: Subject,
    /// The companies that a user has a place in, whose export has what is his alone there.
    pub places: Vec<CompanyId>,
}

/// Whom or what work is about.
#[derive(Debug, Clone, Copy)]
pub enum Subject {
    /// A company.
    Company(CompanyId),
    /// A user.
    User(UserId),
}

/// Lines of an export, cut anywhere, and how many of them end here.
#[derive(Debug, Default)]
pub struct Lines {
    /// JSON, a row on each.
    pub text: Bytes,
    /// How many.
    pub rows: i64,
    /// Whether there are no more.
    pub are_last: bool,
}

/// Does this service's part.
pub struct Worker {
    pool: PgPool,
    core: Arc<CoreClient>,
    keys: KeyRing,
}

impl Worker {
    /// A worker with the engine's role, and the key ring that opens what the audit log says of somebody.
    pub fn new(pool: PgPool, core: Arc<CoreClient>, keys: KeyRing) -> Self {
        Self { pool, core, keys }
    }

    /// Works until the token fires.
    pub async fn run(self, stopping: CancellationToken) {
        while !stopping.is_cancelled() {
            // A question every few seconds would be a trace every few seconds.
            let asked = self.core.claim_privacy_work().with_subscriber(Dispatch::none());
            let asked = stopping.run_until_cancelled(asked).await.unwrap_or(Ok(None));
            let found = asked.unwrap_or_else(|error| {
                tracing::warn!(error = %error, "core-service cannot be asked for privacy requests");
                None
            });
            let Some(work) = found else {
                stopping.run_until_cancelled(sleep(POLL)).await;
                continue;
            };
            if let Some(Err(error)) = stopping.run_until_cancelled(self.attend(&work)).await {
                tracing::error!(error = %error, request = %work.request, "a privacy request is put off");
                stopping.run_until_cancelled(sleep(POLL)).await;
            }
        }
    }

    async fn attend(&self, work: &Work) -> Result<()> {
        if work.is_erasure {
            self.erase(work).await
        } else {
            self.export(work).await
        }
    }

    async fn erase(&self, work: &Work) -> Result<()> {
        loop {
            let mut tx = WorkerTx::begin(&self.pool, "privacy.erase").await?;
            let rows = match work.subject {
                Subject::Company(company) => store::erase_company(&mut tx, company, BATCH).await?,
                Subject::User(user) => store::erase_user(&mut tx, user, BATCH).await?,
            };
            tx.commit().await?;
            self.core.report_erasure(work, rows, rows == 0).await?;
            if rows == 0 {
                tracing::info!(request = %work.request, "erased");
                return Ok(());
            }
        }
    }

    /// Hands over the rows while they are read. Where that breaks, the last lines do not come.
    async fn export(&self, work: &Work) -> Result<()> {
        let (sender, lines) = mpsc::channel(2);
        let (read, handed) = tokio::join!(self.read(work, sender), self.core.submit_export(work, lines));
        read.and(handed)?;
        tracing::info!(request = %work.request, "exported");
        Ok(())
    }

    /// Reads until all is handed over or no more is taken, which is the other side's to tell.
    async fn read(&self, work: &Work, sender: Sender<Lines>) -> Result<()> {
        let mut tx = WorkerTx::begin(&self.pool, "privacy.export").await?;
        store::allow_long(&mut tx).await?;
        let opener = match work.subject {
            Subject::User(user) => Opener::of(&mut tx, Schema::Execution, &self.keys, user).await?,
            Subject::Company(_) => None,
        };
        let places: Vec<_> = work.places.iter().map(|it| it.as_uuid()).collect();
        let mut exported = store::exported(&mut tx, work.subject, &places);
        let mut signs = interval(SIGN);
        let (mut text, mut rows) = (BytesMut::new(), 0);
        loop {
            let row = tokio::select! {
                row = exported.next() => row,
                // The first row comes when the last one is found.
                _ = signs.tick() => {
                    if sender.send(Lines::default()).await.is_err() {
                        return Ok(());
                    }
                    continue;
                }
            };
            let Some(row) = row else { break };
            let mut row = row?;
            if let (Some(opener), Some(data)) = (&opener, &mut row.data) {
                opener.open(data);
            }
            let line = serde_json::to_vec(&row).map_err(Error::internal)?;
            text.extend_from_slice(&line);
            text.extend_from_slice(b"\n");
            rows += 1;
            while text.len() >= MESSAGE_BYTES {
                let text = text.split_to(MESSAGE_BYTES).freeze();
                let rows = std::mem::take(&mut rows);
                let lines = Lines {
                    text,
                    rows,
                    are_last: false,
                };
                if sender.send(lines).await.is_err() {
                    return Ok(());
                }
            }
        }
        let last = Lines {
            text: text.freeze(),
            rows,
            are_last: true,
        };
        // Whether it is taken, the answer says.
        let _ = sender.send(last).await;
        Ok(())
    }
}
