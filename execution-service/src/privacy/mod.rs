//! Privacy: this service's part of what core-service is asked to export or erase.
//!
//! It asks core-service for work, which leaves it to one replica for a while; a part that is cut is done anew, or gone on with, by
//! whoever asks next. Runs of a company that is erased lose their rows, and with them whoever holds them.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use service_kit::{
    db::WorkerTx,
    error::{Error, Result},
    ids::{CompanyId, PrivacyRequestId, UserId},
};
use sqlx::PgPool;
use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{Dispatch, instrument::WithSubscriber};

use crate::access::CoreClient;

mod store;

/// How often core-service is asked for work.
const POLL: Duration = Duration::from_secs(5);
/// How many rows of a table one transaction erases.
const BATCH: i32 = 1000;
/// How many bytes of an export go in one message.
const MESSAGE_BYTES: usize = 256 << 10;

/// Work for this service.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// The request that it is of.
    pub request: PrivacyRequestId,
    /// Whether it is to be erased; to be exported otherwise.
    pub is_erasure: bool,
    /// What.
    pub subject: Subject,
}

/// Whom or what work is about.
#[derive(Debug, Clone, Copy)]
pub enum Subject {
    /// A company.
    Company(CompanyId),
    /// A user.
    User(UserId),
}

/// Lines of an export, and how many they are.
#[derive(Debug, Default)]
pub struct Lines {
    /// JSON, a row on each.
    pub text: Vec<u8>,
    /// How many.
    pub rows: i64,
    /// Whether there are no more.
    pub are_last: bool,
}

/// Works until the token fires.
pub async fn work(pool: PgPool, core: Arc<CoreClient>, stopping: CancellationToken) {
    while !stopping.is_cancelled() {
        // A question every few seconds would be a trace every few seconds.
        let claimed = core.claim_privacy_work().with_subscriber(Dispatch::none()).await;
        let Ok(Some(work)) = claimed else {
            stopping.run_until_cancelled(sleep(POLL)).await;
            continue;
        };
        if let Some(Err(error)) = stopping.run_until_cancelled(attend(&pool, &core, work)).await {
            tracing::error!(error = %error, request = %work.request, "a privacy request is put off");
            stopping.run_until_cancelled(sleep(POLL)).await;
        }
    }
}

async fn attend(pool: &PgPool, core: &CoreClient, work: Work) -> Result<()> {
    if !work.is_erasure {
        return export(pool, core, work).await;
    }
    loop {
        let mut tx = WorkerTx::begin(pool, "privacy.erase").await?;
        let (rows, is_all) = match work.subject {
            Subject::Company(company) => {
                let rows = store::erase_company(&mut tx, company, BATCH).await?;
                (rows, rows == 0)
            }
            Subject::User(user) => (store::erase_user(&mut tx, user).await?, true),
        };
        tx.commit().await?;
        core.report_erasure(work.request, rows, is_all).await?;
        if is_all {
            tracing::info!(request = %work.request, "erased");
            return Ok(());
        }
    }
}

/// Hands over the rows while they are read. Where that breaks, the last lines do not come.
async fn export(pool: &PgPool, core: &CoreClient, work: Work) -> Result<()> {
    let (sender, lines) = mpsc::channel(2);
    let read = async move {
        let mut tx = WorkerTx::begin(pool, "privacy.export").await?;
        store::allow_long(&mut tx).await?;
        let mut rows = store::exported(&mut tx, work.subject);
        let mut batch = Lines::default();
        while let Some(row) = rows.next().await {
            serde_json::to_writer(&mut batch.text, &row?).map_err(Error::internal)?;
            batch.text.push(b'\n');
            batch.rows += 1;
            if batch.text.len() >= MESSAGE_BYTES {
                sender.send(std::mem::take(&mut batch)).await.map_err(Error::internal)?;
            }
        }
        batch.are_last = true;
        sender.send(batch).await.map_err(Error::internal)
    };
    let (read, handed): (Result<()>, _) = tokio::join!(read, core.submit_export(work.request, lines));
    read.and(handed)?;
    tracing::info!(request = %work.request, "exported");
    Ok(())
}
