//! What the other service does of a request, and tells here.

use service_kit::{
    db::WorkerTx,
    error::{Error, Result},
    ids::{CompanyId, PrivacyRequestId},
};

use super::{Kind, Request, State, Subject, archive, lost, spool::Spool, store};
use crate::App;

/// A request that the other service has taken.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) request: Request,
    /// The companies that a user has a place in.
    pub(super) places: Vec<CompanyId>,
}

/// Takes a request that waits for the other service.
pub(super) async fn claim(app: &App) -> Result<Option<Work>> {
    let mut tx = WorkerTx::begin(&app.worker_pool, "privacy.claim").await?;
    let claimed = store::claim(&mut tx, State::Execution, app.privacy_lease).await?;
    let Some(request) = claimed else { return Ok(None) };
    let places = match (request.kind, request.subject) {
        (Kind::Export, Subject::User(user)) => store::places(&mut tx, user).await?,
        _ => Vec::new(),
    };
    tx.commit().await?;
    Ok(Some(Work { request, places }))
}

/// Begins to take the other service's part of an export.
pub(super) async fn receive(app: &App, id: PrivacyRequestId, attempt: i32) -> Result<Spool<'_>> {
    let mut tx = WorkerTx::begin(&app.worker_pool, "privacy.receive").await?;
    let request = store::find(&mut tx, id).await?;
    tx.commit().await?;
    let waits = |it: &Request| it.kind == Kind::Export && it.state == State::Execution;
    if !request.as_ref().is_some_and(waits) {
        return Err(Error::not_found("privacy_request", id));
    }
    Spool::begin(app, id, attempt, archive::part(id, attempt)).await
}

/// Lets whoever is at it go on.
pub(super) async fn renew(app: &App, id: PrivacyRequestId, attempt: i32) -> Result<()> {
    let mut tx = WorkerTx::begin(&app.worker_pool, "privacy.renew").await?;
    let is_his = store::renew(&mut tx, id, attempt, app.privacy_lease).await?;
    tx.commit().await?;
    if is_his { Ok(()) } else { Err(lost()) }
}

/// Keeps the other service's part of an export; this service goes on.
pub(super) async fn keep(app: &App, id: PrivacyRequestId, attempt: i32, rows: i64) -> Result<()> {
    let mut tx = WorkerTx::begin(&app.worker_pool, "privacy.keep").await?;
    let is_kept = store::keep_part(&mut tx, id, attempt).await?
        && store::progress(&mut tx, id, attempt, (rows, 0), app.privacy_lease, Some(State::Core)).await?;
    tx.commit().await?;
    if !is_kept {
        app.objects.remove(&archive::part(id, attempt), None).await?;
        return Err(lost());
    }
    Ok(())
}

/// Counts what the other service has erased; where that was all, this service goes on.
pub(super) async fn report(app: &App, id: PrivacyRequestId, attempt: i32, rows: i64, is_all: bool) -> Result<()> {
    let next = is_all.then_some(State::Core);
    let mut tx = WorkerTx::begin(&app.worker_pool, "privacy.report").await?;
    let is_his = store::progress(&mut tx, id, attempt, (rows, 0), app.privacy_lease, next).await?
        || store::swept(&mut tx, id, attempt, app.privacy_lease, is_all).await?;
    tx.commit().await?;
    if is_his { Ok(()) } else { Err(lost()) }
}
