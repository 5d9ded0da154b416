//! Privacy: everything held about a user or a company as one archive, and the erasure of either from both services and the store.
//!
//! A request is a row that outlives what it erases. It waits for its time, an erasure's long enough to be taken back; then
//! execution-service, which asks for work, does its part, and then a worker here. Whoever takes a step has it while he says that he
//! is at it, and numbers what he writes; a step that was cut is done anew, or gone on with, by the next. Whoever is erased is let in
//! nowhere from the moment that it begins. What a company's rows are is asked of the database's catalogue, so that a table that is
//! added is neither forgotten in an archive nor left behind by an erasure.

use std::{str::FromStr, time::Duration};

use futures::StreamExt;
use service_kit::{
    audit::About,
    auth::Caller,
    db::{Claims, TenantTx, WorkerTx},
    error::{Error, Result},
    ids::{CompanyId, PrivacyRequestId, UserId},
    page::Page,
};
use time::OffsetDateTime;

use crate::{
    App,
    companies::{self, memberships},
    objects::Key,
};

pub mod api;
mod archive;
mod convert;
mod spool;
mod store;
mod work;
pub mod work_api;
mod worker;

pub use worker::Worker;

/// For how long an archive can be read.
const ARCHIVE: Duration = Duration::from_hours(7 * 24);

/// For how long a step is its taker's after each word of his; the other service says one every five seconds at the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease(Duration);

impl Lease {
    /// The time.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl Default for Lease {
    fn default() -> Self {
        Self(Duration::from_secs(30))
    }
}

/// The text is no number of seconds that a step may be somebody's.
#[derive(Debug, thiserror::Error)]
#[error("must be a number from 10 to 3600")]
pub struct NoLease;

impl FromStr for Lease {
    type Err = NoLease;

    fn from_str(text: &str) -> Result<Self, NoLease> {
        let seconds = text.parse().ok().filter(|it| (10..=3600).contains(it));
        seconds.map(|it| Self(Duration::from_secs(it))).ok_or(NoLease)
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Kind {
    /// An archive.
    Export,
    /// An erasure.
    Erasure,
}

/// How far a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum State {
    /// Not begun.
    Waiting,
    /// Under way in execution-service.
    Execution,
    /// Under way here.
    Core,
    /// Done.
    Done,
    /// Taken back.
    Cancelled,
}

/// Whom or what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A company.
    Company(CompanyId),
    /// A user.
    User(UserId),
}

/// Something asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its id.
    pub id: PrivacyRequestId,
    /// What is asked for.
    pub kind: Kind,
    /// Of whom.
    pub subject: Subject,
    /// How far it is.
    pub state: State,
    /// When it begins.
    pub due_at: OffsetDateTime,
    /// How many rows were taken up or erased.
    pub rows: i64,
    /// How many objects were.
    pub objects: i64,
    /// An archive's size.
    pub size_bytes: i64,
    /// Its SHA-256.
    pub sha256: Vec<u8>,
    /// What went wrong the last time.
    pub error: String,
    /// Until when an archive can be read.
    pub expires_at: Option<OffsetDateTime>,
    /// When it was done.
    pub finished_at: Option<OffsetDateTime>,
    /// When it was asked for.
    pub created_at: OffsetDateTime,
    /// How often it was taken; the number of whoever has it.
    attempt: i32,
    /// The attempt whose part of the other service is kept.
    part: Option<i32>,
    /// The attempt whose archive is kept.
    archive: Option<i32>,
}

/// An archive that can be read.
#[derive(Clone, Debug)]
pub(crate) struct Archive {
    pub(crate) request: PrivacyRequestId,
    pub(crate) key: Key,
    pub(crate) size_bytes: i64,
    pub(crate) sha256: Vec<u8>,
    pub(crate) made_at: OffsetDateTime,
}

/// Asks for the caller's own archive.
async fn export_user(app: &App, caller: &Caller) -> Result<Request> {
    let tx = TenantTx::begin(&app.pool, "privacy.export_user", &Claims::user(caller.user)).await?;
    ask(app, tx, caller, Kind::Export, Subject::User(caller.user)).await
}

/// Asks for a company's archive, for its admins.
async fn export_company(app: &App, caller: &Caller, company: CompanyId) -> Result<Request> {
    let mut tx = TenantTx::begin(&app.pool, "privacy.export_company", &Claims::user(caller.user)).await?;
    memberships::place(&mut tx, company).await?.require_admin()?;
    ask(app, tx, caller, Kind::Export, Subject::Company(company)).await
}

/// Has the caller erased, once the time to take it back is over.
async fn erase_user(app: &App, caller: &Caller, confirmed: UserId) -> Result<Request> {
    if confirmed != caller.user {
        return Err(Error::not_found("user", confirmed));
    }
    let mut tx = TenantTx::begin(&app.pool, "privacy.erase_user", &Claims::user(caller.user)).await?;
    let alone = store::administered_alone(&mut tx).await?;
    if !alone.is_empty() {
        return Err(Error::FailedPrecondition {
            reason: "LAST_ADMIN",
            message: format!(
                "these companies would be left without an admin, make somebody else one or have them erased first: {}",
                alone.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            ),
        });
    }
    ask(app, tx, caller, Kind::Erasure, Subject::User(caller.user)).await
}

/// Has a company erased, once the time to take it back is over; for its admins.
async fn erase_company(app: &App, caller: &Caller, company: CompanyId, confirmed: &str) -> Result<Request> {
    let mut tx = TenantTx::begin(&app.pool, "privacy.erase_company", &Claims::user(caller.user)).await?;
    memberships::place(&mut tx, company).await?.require_admin()?;
    let name = store::company_name(&mut tx, company)
        .await?
        .ok_or_else(|| companies::not_found(company))?;
    if name != confirmed.trim() {
        return Err(Error::invalid("confirm_name", "must be the company's name"));
    }
    ask(app, tx, caller, Kind::Erasure, Subject::Company(company)).await
}

async fn ask(app: &App, mut tx: TenantTx, caller: &Caller, kind: Kind, subject: Subject) -> Result<Request> {
    let id = PrivacyRequestId::generate();
    let due_at = match kind {
        Kind::Export => app.clock.now(),
        Kind::Erasure => app.clock.now() + app.erasure_grace,
    };
    store::insert(&mut tx, id, kind, subject, caller.user, due_at).await?;
    let request = found(&mut tx, id).await?;
    record(app, &mut tx, &request).await?;
    tx.commit().await?;
    Ok(request)
}

/// Reads a request of the caller's, or of a company that he administers.
async fn get(app: &App, caller: &Caller, id: PrivacyRequestId) -> Result<Request> {
    let mut tx = TenantTx::begin(&app.pool, "privacy.get", &Claims::user(caller.user)).await?;
    found(&mut tx, id).await
}

/// Lists a company's requests, or those that the caller has made, newest first.
async fn list(
    app: &App,
    caller: &Caller,
    company: Option<CompanyId>,
    page: &Page<PrivacyRequestId>,
) -> Result<Vec<Request>> {
    let mut tx = TenantTx::begin(&app.pool, "privacy.list", &Claims::user(caller.user)).await?;
    if let Some(company) = company {
        memberships::place(&mut tx, company).await?.require_admin()?;
        return store::list_company(&mut tx, company, page).await;
    }
    store::list_own(&mut tx, caller.user, page).await
}

/// Takes a request back that has not begun.
async fn cancel(app: &App, caller: &Caller, id: PrivacyRequestId) -> Result<Request> {
    let mut tx = TenantTx::begin(&app.pool, "privacy.cancel", &Claims::user(caller.user)).await?;
    let request = found(&mut tx, id).await?;
    if request.state == State::Cancelled {
        return Ok(request);
    }
    if !store::cancel(&mut tx, id).await? {
        return Err(Error::FailedPrecondition {
            reason: "PRIVACY_REQUEST_BEGUN",
            message: "it has begun and cannot be taken back".into(),
        });
    }
    let request = found(&mut tx, id).await?;
    record(app, &mut tx, &request).await?;
    tx.commit().await?;
    Ok(request)
}

/// Notes that the caller makes a URL at which the archive of an export can be read.
async fn share(app: &App, caller: &Caller, id: PrivacyRequestId) -> Result<()> {
    let mut tx = TenantTx::begin(&app.pool, "privacy.share", &Claims::user(caller.user)).await?;
    let request = found(&mut tx, id).await?;
    archive_of(app, &request)?;
    record(app, &mut tx, &request).await?;
    tx.commit().await
}

/// The archive of an export that a user may read.
pub(crate) async fn archive(app: &App, user: UserId, id: PrivacyRequestId) -> Result<Archive> {
    let mut tx = TenantTx::begin(&app.pool, "privacy.archive", &Claims::user(user)).await?;
    let request = found(&mut tx, id).await?;
    archive_of(app, &request)
}

fn archive_of(app: &App, request: &Request) -> Result<Archive> {
    let is_kept = request.expires_at.is_some_and(|it| it > app.clock.now());
    let attempt = request.archive.filter(|_| is_kept);
    let attempt = attempt.ok_or_else(|| Error::FailedPrecondition {
        reason: "NO_ARCHIVE",
        message: "there is no archive to read: it is not done, has expired, or was never to be one".into(),
    })?;
    Ok(Archive {
        request: request.id,
        key: archive::key(request.id, attempt),
        size_bytes: request.size_bytes,
        sha256: request.sha256.clone(),
        made_at: request.finished_at.unwrap_or(request.created_at),
    })
}

/// Removes archives whose time is over, and says how many they were.
pub async fn remove_expired(app: &App, limit: i64) -> Result<u64> {
    let mut tx = WorkerTx::begin(&app.worker_pool, "privacy.expired").await?;
    let expired = store::expired(&mut tx, app.clock.now(), limit).await?;
    tx.commit().await?;
    remove_archives(app, &expired).await?;
    u64::try_from(expired.len()).map_err(Error::internal)
}

/// Removes all that lies in the store of some exports.
async fn remove_archives(app: &App, exports: &[PrivacyRequestId]) -> Result<()> {
    for id in exports {
        let mut objects = app.objects.of_export(*id);
        while let Some(found) = objects.next().await {
            app.objects.remove(&found?, None).await?;
        }
    }
    let mut tx = WorkerTx::begin(&app.worker_pool, "privacy.forget_archives").await?;
    store::forget_archives(&mut tx, exports).await?;
    tx.commit().await
}

/// Somebody else has taken the request since.
fn lost() -> Error {
    Error::FailedPrecondition {
        reason: "PRIVACY_REQUEST_TAKEN",
        message: "the request was taken anew since".into(),
    }
}

async fn found(tx: &mut TenantTx, id: PrivacyRequestId) -> Result<Request> {
    store::find(tx, id)
        .await?
        .ok_or_else(|| Error::not_found("privacy_request", id))
}

async fn record(app: &App, tx: &mut TenantTx, request: &Request) -> Result<()> {
    let about = match request.subject {
        Subject::Company(company) => About::company(company, "privacy_request", request.id),
        Subject::User(_) => About::own("privacy_request", request.id),
    };
    app.audit.record(tx, about).await
}
