//! The RPCs of `EmbeddingService`: for a service itself, because they show the texts of all companies.

use std::sync::Arc;

use service_kit::{auth::Caller, db};
use studios_proto::core::{self as proto, embedding_service_server::EmbeddingService};
use tonic::{Request, Response, Status};

use super::{Made, convert};
use crate::App;

/// Serves `EmbeddingService`.
#[derive(Clone)]
pub struct Embeddings {
    app: Arc<App>,
}

impl Embeddings {
    /// Serves it from `app`.
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl EmbeddingService for Embeddings {
    async fn claim_chunks(
        &self,
        request: Request<proto::ClaimChunksRequest>,
    ) -> Result<Response<proto::ClaimChunksResponse>, Status> {
        Caller::nobody(&request)?;
        let (wanted, limit) = convert::wanted(request.get_ref())?;
        let batch = db::retry("embeddings.claim", || super::claim(&self.app, &wanted, limit)).await?;
        Ok(Response::new(batch.map(Into::into).unwrap_or_default()))
    }

    async fn store_vectors(
        &self,
        request: Request<proto::StoreVectorsRequest>,
    ) -> Result<Response<proto::StoreVectorsResponse>, Status> {
        Caller::nobody(&request)?;
        let made = Made::try_from(request.into_inner())?;
        db::retry("embeddings.store", || super::store(&self.app, &made)).await?;
        Ok(Response::new(proto::StoreVectorsResponse {}))
    }
}
