//! What others than runs ask of the engine: its lease, models within what the company's plan allows, and the studio's documents.

use service_kit::{
    error::Result,
    ids::{CompanyId, StudioId, UserId},
};
use sqlx::PgPool;

use super::{Engine, Lease, Ready, retrieval};
use crate::{
    access::{Allowance, Search},
    engine::{
        definition::RetrievalMode,
        journal::{AttemptFailure, Source},
    },
};

impl Engine {
    /// The instance as others know it; none while it is not known to be trusted.
    pub(crate) fn lease(&self) -> Option<Lease> {
        let lease = self.shared.lease.borrow().clone();
        lease.filter(|it| !it.lost.is_cancelled())
    }

    /// Connections as the engine's role.
    pub(crate) fn pool(&self) -> &PgPool {
        &self.shared.pool
    }

    /// Refuses what would call models where the company's plan leaves no token, and holds the calls to the plan as it is now.
    ///
    /// # Errors
    /// `ResourceExhausted` where nothing is left.
    pub(crate) async fn admit(&self, company: CompanyId, allowed: &Allowance) -> Result<()> {
        self.shared.spending.admit(company, allowed).await
    }

    /// The model that a company calls so. Waits for a database that is away.
    pub(crate) async fn model(&self, company: CompanyId, name: &str) -> Result<Ready, AttemptFailure> {
        self.shared.model(company, name).await
    }

    /// Whether a user reaches a studio.
    ///
    /// # Errors
    /// `NotFound` where he does not; `Unavailable` where nobody says.
    pub(crate) async fn reach(&self, user: UserId, studio: StudioId) -> Result<()> {
        self.shared.core.check_studio(user, studio).await.map(drop)
    }

    /// The chunks of a studio's documents that fit a question best, as this user reads them. Waits for core-service.
    pub(crate) async fn passages(
        &self,
        user: UserId,
        studio: StudioId,
        query: &str,
        limit: u32,
    ) -> Result<Vec<Source>, AttemptFailure> {
        let search = Search {
            studio,
            query,
            mode: RetrievalMode::Automatic,
            vector: None,
            limit,
            documents: &[],
            mime_types: &[],
            tags: &[],
            created_from: None,
        };
        let core = &self.shared.core;
        let found = retrieval::patiently(|| core.search_chunks(user, search.clone())).await?;
        Ok(found.into_iter().map(retrieval::source).collect())
    }
}
