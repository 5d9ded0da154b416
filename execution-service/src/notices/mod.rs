//! Notices: what companies are to be told, handed to core-service, which knows who wants to hear it and how.
//!
//! They are written by the database in the commit that causes them. One is leased, told and removed; a lost answer, or a process that
//! dies between, has it told again under the same id, by which core-service knows it.

use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value};
use service_kit::{
    db::WorkerTx,
    error::{Error, Result},
    ids::{CompanyId, NotificationId, UserId},
};
use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{Dispatch, instrument::WithSubscriber};

use crate::access::CoreClient;

mod store;

/// How often it is looked whether there is something to tell.
const POLL: Duration = Duration::from_secs(1);
/// How often it is looked how much is left of what plans allow.
const QUOTAS: Duration = Duration::from_secs(10);
/// How much longer it rests where there are so many companies that looking takes time, in times of that.
const REST: u32 = 50;
/// How many are told at once.
const BATCH: i64 = 200;
/// How long those that are being told are left to who tells them.
const LEASE: Duration = Duration::from_secs(30);

/// What a company is to be told.
#[derive(Debug, Clone)]
pub struct Notice {
    /// Its id, the same for the same thing.
    pub id: NotificationId,
    /// The company.
    pub company: CompanyId,
    /// What it is of, such as `execution.failed`.
    pub topic: String,
    /// Ids, names and numbers.
    pub data: Map<String, Value>,
    /// Whom it concerns.
    pub users: Vec<UserId>,
    /// The least rank of those whom it concerns besides, as the claims name it.
    pub rank: Option<String>,
    /// When it happened.
    pub at: OffsetDateTime,
}

/// Tells until the token fires.
pub async fn tell(pool: PgPool, core: Arc<CoreClient>, stopping: CancellationToken) {
    let mut quotas_due = Instant::now();
    let mut is_troubled = false;
    while !stopping.is_cancelled() {
        // A look every second would be a trace every second.
        let told = round(&pool, &core, &mut quotas_due)
            .with_subscriber(Dispatch::none())
            .await;
        let is_more_left = told.as_ref().is_ok_and(|told| *told == BATCH);
        match told {
            Ok(_) => is_troubled = false,
            Err(error) if !is_troubled => {
                is_troubled = true;
                tracing::warn!(error = %error, "companies cannot be told");
            }
            Err(_) => {}
        }
        if !is_more_left {
            stopping.run_until_cancelled(sleep(POLL)).await;
        }
    }
}

/// Tells what is due, and says how many that were.
async fn round(pool: &PgPool, core: &CoreClient, quotas_due: &mut Instant) -> Result<i64> {
    if Instant::now() >= *quotas_due {
        let began = Instant::now();
        *quotas_due = began + QUOTAS;
        let mut tx = WorkerTx::begin(pool, "notices.quotas").await?;
        store::look_at_quotas(&mut tx).await?;
        tx.commit().await?;
        *quotas_due += REST * began.elapsed();
    }
    let mut tx = WorkerTx::begin(pool, "notices.claim").await?;
    let leased = store::lease(&mut tx, BATCH, LEASE).await?;
    tx.commit().await?;
    if leased.ids.is_empty() {
        return Ok(0);
    }
    if !leased.notices.is_empty() {
        core.report_notices(&leased.notices).await?;
    }
    let mut tx = WorkerTx::begin(pool, "notices.remove").await?;
    store::remove(&mut tx, &leased.ids).await?;
    tx.commit().await?;
    i64::try_from(leased.ids.len()).map_err(Error::internal)
}
