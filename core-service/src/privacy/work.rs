//! What the other service does of a request, and tells here.

use std::time::Duration;

use service_kit::{
    db::WorkerTx,
    error::{Error, Result},
    ids::PrivacyRequestId,
};

use super::{Kind, Request, State, archive, spool::Spool, store};
use crate::{App, objects::Key};

/// How long work is its taker's.
pub(super) const LEASE: Duration = Duration::from_mins(1);

/// Takes a request that waits for the other service.
pub(super) async fn claim(app: &App) -> Result<Option<Request>> {
    let mut tx = WorkerTx::begin(&app.worker_pool, "privacy.claim").await?;
    let claimed = store::claim(&mut tx, State::Execution, LEASE).await?;
    tx.commit().await?;
    Ok(claimed)
}

/// Begins to take the other service's part of an export.
pub(super) async fn receive(app: &App, id: PrivacyRequestId) -> Result<Spool<'_>> {
    let mut tx = WorkerTx::begin(&app.worker_pool, "privacy.receive").await?;
    let request = store::find(&mut tx, id).await?;
    let waits = |it: &Request| it.kind == Kind::Export && it.state == State::Execution;
    if !request.as_ref().is_some_and(waits) {
        return Err(Error::not_found("privacy_request", id));
    }
    Spool::begin(&app.objects, Key::export(id, archive::EXECUTION)).await
}

/// Counts what the other service has done; where that was all, this service goes on.
pub(super) async fn report(app: &App, id: PrivacyRequestId, rows: i64, is_all: bool) -> Result<()> {
    let next = is_all.then_some(State::Core);
    let mut tx = WorkerTx::begin(&app.worker_pool, "privacy.report").await?;
    store::progress(&mut tx, id, State::Execution, rows, 0, next).await?;
    tx.commit().await
}
