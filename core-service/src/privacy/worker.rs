//! The worker: begins requests whose time has come, and does this service's part once the other one's is done.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use service_kit::{
    db::WorkerTx,
    error::{Error, Result},
    ids::{CompanyId, PrivacyRequestId, UserId},
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{Dispatch, instrument::WithSubscriber};

use super::{ARCHIVE, Kind, Request, State, Subject, archive, lost, remove_archives, store, work};
use crate::{App, objects::Key};

const POLL: Duration = Duration::from_secs(2);
/// How many rows of a table one transaction erases.
const BATCH: i32 = 1000;
/// How many objects are removed between two words of it.
const OBJECTS: i64 = 1000;

/// Does requests.
pub struct Worker {
    app: Arc<App>,
}

impl Worker {
    /// A worker of this service.
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }

    /// Works until the token fires; what is under way then is gone on with by another.
    pub async fn run(self, soft: CancellationToken) {
        while !soft.is_cancelled() {
            // A look every other second would be a trace every other second.
            let found = self.look().with_subscriber(Dispatch::none()).await;
            let found = found.unwrap_or_else(|error| {
                tracing::warn!(error = %error, "cannot look for privacy requests");
                None
            });
            let Some(request) = found else {
                soft.run_until_cancelled(sleep(POLL)).await;
                continue;
            };
            let attended = async {
                tokio::select! {
                    done = self.attend(&request) => done,
                    lost = self.hold(&request) => lost,
                }
            };
            if let Some(Err(error)) = soft.run_until_cancelled(attended).await {
                tracing::error!(error = %error, request = %request.id, "a privacy request is put off");
                if let Err(error) = self.put_off(&request).await {
                    tracing::warn!(error = %error, "it cannot be said that it is");
                }
            }
        }
    }

    /// Begins what is due, each by itself, and takes a request to go on with.
    async fn look(&self) -> Result<Option<Request>> {
        let pool = &self.app.worker_pool;
        let mut tx = WorkerTx::begin(pool, "privacy.due").await?;
        let due = store::due(&mut tx).await?;
        tx.commit().await?;
        for id in due {
            if let Err(error) = self.begin(id).await {
                tracing::error!(error = %error, request = %id, "a privacy request cannot begin");
                let mut tx = WorkerTx::begin(pool, "privacy.delay").await?;
                store::delay(&mut tx, id).await?;
                tx.commit().await?;
            }
        }
        let mut tx = WorkerTx::begin(pool, "privacy.claim").await?;
        let claimed = store::claim(&mut tx, State::Core, self.app.privacy_lease).await?;
        tx.commit().await?;
        Ok(claimed)
    }

    /// Begins a request that still waits: whoever is to be erased is let in nowhere from then on.
    async fn begin(&self, id: PrivacyRequestId) -> Result<()> {
        let mut tx = WorkerTx::begin(&self.app.worker_pool, "privacy.begin").await?;
        let Some(request) = store::begin(&mut tx, id).await? else {
            return Ok(());
        };
        match (request.kind, request.subject) {
            (Kind::Export, _) => {}
            (Kind::Erasure, Subject::Company(company)) => {
                store::close_company(&mut tx, company, self.app.clock.now()).await?;
            }
            (Kind::Erasure, Subject::User(user)) => {
                if !store::close_account(&mut tx, user).await? {
                    store::hold_back(&mut tx, id).await?;
                }
            }
        }
        tx.commit().await
    }

    /// Says now and then that the request is attended to, and ends when it is another's.
    async fn hold(&self, request: &Request) -> Result<()> {
        loop {
            sleep(self.app.privacy_lease / 3).await;
            work::renew(&self.app, request.id, request.attempt).await?;
        }
    }

    async fn attend(&self, request: &Request) -> Result<()> {
        match (request.kind, request.subject) {
            (Kind::Export, _) => self.export(request).await,
            (Kind::Erasure, Subject::Company(company)) => self.erase_company(request, company).await,
            (Kind::Erasure, Subject::User(user)) => self.erase_user(request, user).await,
        }
    }

    async fn export(&self, request: &Request) -> Result<()> {
        let app = &self.app;
        let made = archive::make(app, request).await?;
        let size = i64::try_from(made.written.size_bytes).map_err(Error::internal)?;
        let mut tx = WorkerTx::begin(&app.worker_pool, "privacy.exported").await?;
        let expires_at = app.clock.now() + ARCHIVE;
        let is_kept = store::keep_archive(&mut tx, request, size, &made.written.sha256, expires_at).await?
            && self.tell(&mut tx, request, made.rows, made.objects, true).await?;
        tx.commit().await?;
        if !is_kept {
            app.objects
                .remove(&archive::key(request.id, request.attempt), None)
                .await?;
            return Err(lost());
        }
        if let Some(attempt) = request.part {
            app.objects.remove(&archive::part(request.id, attempt), None).await?;
        }
        tracing::info!(request = %request.id, rows = made.rows, objects = made.objects, size_bytes = size, "archive made");
        Ok(())
    }

    /// Objects first: their names are lost with the rows.
    async fn erase_company(&self, request: &Request, company: CompanyId) -> Result<()> {
        let app = &self.app;
        self.remove_exports(request).await?;
        let (mut objects, mut untold) = (app.objects.of(company), 0);
        while let Some(found) = objects.next().await {
            let key: Key = found?.0;
            app.objects.remove(&key, None).await?;
            untold += 1;
            if untold == OBJECTS {
                self.report(request, 0, std::mem::take(&mut untold), false).await?;
            }
        }
        loop {
            let mut tx = WorkerTx::begin(&app.worker_pool, "privacy.erase_company").await?;
            let rows = store::erase_company(&mut tx, company, BATCH).await?;
            let is_his = self
                .tell(&mut tx, request, rows, std::mem::take(&mut untold), rows == 0)
                .await?;
            if !is_his {
                return Err(lost());
            }
            tx.commit().await?;
            if rows == 0 {
                tracing::info!(request = %request.id, "company erased");
                return Ok(());
            }
        }
    }

    async fn erase_user(&self, request: &Request, user: UserId) -> Result<()> {
        self.remove_exports(request).await?;
        loop {
            let mut tx = WorkerTx::begin(&self.app.worker_pool, "privacy.erase_user").await?;
            let rows = store::erase_user(&mut tx, user, BATCH).await?;
            if !self.tell(&mut tx, request, rows, 0, rows == 0).await? {
                return Err(lost());
            }
            tx.commit().await?;
            if rows == 0 {
                tracing::info!(request = %request.id, "user erased");
                return Ok(());
            }
        }
    }

    /// What was exported of somebody or something is erased with it; what is under way comes to nothing.
    async fn remove_exports(&self, request: &Request) -> Result<()> {
        let mut tx = WorkerTx::begin(&self.app.worker_pool, "privacy.end_exports").await?;
        let exports = store::end_exports(&mut tx, request.subject).await?;
        tx.commit().await?;
        remove_archives(&self.app, &exports).await
    }

    async fn report(&self, request: &Request, rows: i64, objects: i64, is_all: bool) -> Result<()> {
        let mut tx = WorkerTx::begin(&self.app.worker_pool, "privacy.progress").await?;
        let is_his = self.tell(&mut tx, request, rows, objects, is_all).await?;
        tx.commit().await?;
        if is_his { Ok(()) } else { Err(lost()) }
    }

    /// Counts what was done, in the transaction that did it; says false where the request is another's by now.
    async fn tell(&self, tx: &mut WorkerTx, request: &Request, rows: i64, objects: i64, is_all: bool) -> Result<bool> {
        let next = is_all.then_some(State::Done);
        store::progress(
            tx,
            request.id,
            request.attempt,
            (rows, objects),
            self.app.privacy_lease,
            next,
        )
        .await
    }

    async fn put_off(&self, request: &Request) -> Result<()> {
        let mut tx = WorkerTx::begin(&self.app.worker_pool, "privacy.put_off").await?;
        store::put_off(&mut tx, request).await?;
        tx.commit().await
    }
}
