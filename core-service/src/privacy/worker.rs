//! The worker: begins requests whose time has come, and does this service's part once the other one's is done.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use service_kit::{
    db::WorkerTx,
    error::{Error, Result},
    ids::CompanyId,
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{Dispatch, instrument::WithSubscriber};

use super::{ARCHIVE, Kind, Request, State, Subject, archive, store};
use crate::App;

const POLL: Duration = Duration::from_secs(2);
/// How long a step is its holder's; one that takes longer may be done twice, which changes nothing.
const LEASE: Duration = Duration::from_mins(10);
/// How many rows of a table one transaction erases.
const BATCH: i32 = 1000;

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
            if let Some(Err(error)) = soft.run_until_cancelled(self.attend(&request)).await {
                tracing::error!(error = %error, request = %request.id, "a privacy request is put off");
                if let Err(error) = self.put_off(&request, &error).await {
                    tracing::warn!(error = %error, "it cannot be said why");
                }
            }
        }
    }

    async fn look(&self) -> Result<Option<Request>> {
        let mut tx = WorkerTx::begin(&self.app.worker_pool, "privacy.begin").await?;
        for request in store::begin(&mut tx).await? {
            if request.kind == Kind::Erasure {
                match request.subject {
                    Subject::Company(company) => {
                        store::close_company(&mut tx, company, self.app.clock.now()).await?;
                    }
                    Subject::User(user) => store::close_account(&mut tx, user).await?,
                }
            }
        }
        let claimed = store::claim(&mut tx, State::Core, LEASE).await?;
        tx.commit().await?;
        Ok(claimed)
    }

    async fn attend(&self, request: &Request) -> Result<()> {
        match (request.kind, request.subject) {
            (Kind::Export, _) => self.export(request).await,
            (Kind::Erasure, Subject::Company(company)) => self.erase_company(request, company).await,
            (Kind::Erasure, Subject::User(user)) => {
                let mut tx = WorkerTx::begin(&self.app.worker_pool, "privacy.erase_user").await?;
                let rows = store::erase_user(&mut tx, user).await?;
                store::progress(&mut tx, request.id, State::Core, rows, 0, Some(State::Done)).await?;
                tx.commit().await?;
                tracing::info!(request = %request.id, rows, "user erased");
                Ok(())
            }
        }
    }

    async fn export(&self, request: &Request) -> Result<()> {
        let app = &self.app;
        let made = archive::make(app, request).await?;
        let mut tx = WorkerTx::begin(&app.worker_pool, "privacy.exported").await?;
        let size = i64::try_from(made.size_bytes).map_err(Error::internal)?;
        store::keep_archive(&mut tx, request.id, size, app.clock.now() + ARCHIVE).await?;
        store::progress(
            &mut tx,
            request.id,
            State::Core,
            made.rows,
            made.objects,
            Some(State::Done),
        )
        .await?;
        tx.commit().await?;
        tracing::info!(request = %request.id, rows = made.rows, objects = made.objects, size_bytes = size, "archive made");
        Ok(())
    }

    /// Objects first: their names are lost with the rows.
    async fn erase_company(&self, request: &Request, company: CompanyId) -> Result<()> {
        let app = &self.app;
        let mut removed = 0;
        let mut objects = app.objects.of(company);
        while let Some(found) = objects.next().await {
            app.objects.remove(&found?.0, None).await?;
            removed += 1;
        }
        let mut objects = removed;
        loop {
            let mut tx = WorkerTx::begin(&app.worker_pool, "privacy.erase_company").await?;
            let rows = store::erase_company(&mut tx, company, BATCH).await?;
            let next = (rows == 0).then_some(State::Done);
            store::progress(
                &mut tx,
                request.id,
                State::Core,
                rows,
                std::mem::take(&mut objects),
                next,
            )
            .await?;
            tx.commit().await?;
            if next.is_some() {
                tracing::info!(request = %request.id, objects = removed, "company erased");
                return Ok(());
            }
        }
    }

    async fn put_off(&self, request: &Request, error: &Error) -> Result<()> {
        let mut tx = WorkerTx::begin(&self.app.worker_pool, "privacy.put_off").await?;
        store::fail(&mut tx, request.id, &error.to_string()).await?;
        tx.commit().await
    }
}
