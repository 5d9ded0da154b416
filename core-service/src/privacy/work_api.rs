//! The RPCs of `PrivacyWorkService`, for other services.

use std::sync::Arc;

use service_kit::{
    auth::Caller,
    error::{Error, Violations},
};
use studios_proto::core::{self as proto, privacy_work_service_server::PrivacyWorkService};
use tonic::{Request, Response, Status, Streaming};

use super::work;
use crate::App;

/// Serves `PrivacyWorkService`.
#[derive(Clone)]
pub struct PrivacyWork {
    app: Arc<App>,
}

impl PrivacyWork {
    /// Serves it from `app`.
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

/// Nobody does this in a user's name.
fn alone<T>(request: &Request<T>) -> Result<(), Status> {
    match Caller::of(request) {
        Ok(_) => Err(Error::Unauthenticated("SERVICE_ALONE_REQUIRED").into()),
        Err(_) => Ok(()),
    }
}

#[tonic::async_trait]
impl PrivacyWorkService for PrivacyWork {
    async fn claim_privacy_work(
        &self,
        request: Request<proto::ClaimPrivacyWorkRequest>,
    ) -> Result<Response<proto::ClaimPrivacyWorkResponse>, Status> {
        alone(&request)?;
        let claimed = work::claim(&self.app).await?;
        Ok(Response::new(proto::ClaimPrivacyWorkResponse {
            request: claimed.map(Into::into),
        }))
    }

    async fn submit_export(
        &self,
        request: Request<Streaming<proto::SubmitExportRequest>>,
    ) -> Result<Response<proto::SubmitExportResponse>, Status> {
        alone(&request)?;
        let mut messages = request.into_inner();
        let Some(first) = messages.message().await? else {
            return Err(Error::invalid("id", "must be a UUID").into());
        };
        let id = Violations::only_id("id", &first.id)?;
        let mut spool = work::receive(&self.app, id).await?;
        let (mut rows, mut is_whole) = (first.rows, first.last);
        spool.write(&first.lines).await?;
        while let Some(message) = messages.message().await? {
            (rows, is_whole) = (rows + message.rows, message.last);
            spool.write(&message.lines).await?;
        }
        if !is_whole {
            return Err(Error::invalid("last", "must be said of the last message").into());
        }
        spool.finish().await?;
        work::report(&self.app, id, rows, true).await?;
        Ok(Response::new(proto::SubmitExportResponse {}))
    }

    async fn report_erasure(
        &self,
        request: Request<proto::ReportErasureRequest>,
    ) -> Result<Response<proto::ReportErasureResponse>, Status> {
        alone(&request)?;
        let report = request.get_ref();
        let id = Violations::only_id("id", &report.id)?;
        work::report(&self.app, id, report.rows, report.done).await?;
        Ok(Response::new(proto::ReportErasureResponse {}))
    }
}
