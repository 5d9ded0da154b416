//! The RPCs of `PrivacyWorkService`, for other services.

use std::{sync::Arc, time::Duration};

use service_kit::{
    auth::Caller,
    error::{Error, Violations},
};
use studios_proto::core::{self as proto, privacy_work_service_server::PrivacyWorkService};
use tokio::time::{Instant, timeout};
use tonic::{Request, Response, Status, Streaming};

use super::work;
use crate::App;

/// How long an export's stream may be silent: who is at it says so more often.
const SILENCE: Duration = Duration::from_mins(1);

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

async fn next(
    messages: &mut Streaming<proto::SubmitExportRequest>,
) -> Result<Option<proto::SubmitExportRequest>, Status> {
    timeout(SILENCE, messages.message())
        .await
        .map_err(|_| Status::from(Error::DeadlineExceeded))?
}

#[tonic::async_trait]
impl PrivacyWorkService for PrivacyWork {
    async fn claim_privacy_work(
        &self,
        request: Request<proto::ClaimPrivacyWorkRequest>,
    ) -> Result<Response<proto::ClaimPrivacyWorkResponse>, Status> {
        Caller::nobody(&request)?;
        let claimed = work::claim(&self.app).await?;
        Ok(Response::new(claimed.map(Into::into).unwrap_or_default()))
    }

    async fn submit_export(
        &self,
        request: Request<Streaming<proto::SubmitExportRequest>>,
    ) -> Result<Response<proto::SubmitExportResponse>, Status> {
        Caller::nobody(&request)?;
        let mut messages = request.into_inner();
        let Some(first) = next(&mut messages).await? else {
            return Err(Error::invalid("id", "must be a UUID").into());
        };
        let id = Violations::only_id("id", &first.id)?;
        let attempt = first.attempt;
        let mut spool = work::receive(&self.app, id, attempt).await?;
        let (mut rows, mut is_whole) = (first.rows, first.last);
        let mut renewed = Instant::now();
        spool.write(&first.lines).await?;
        while !is_whole && let Some(message) = next(&mut messages).await? {
            (rows, is_whole) = (rows + message.rows, message.last);
            spool.write(&message.lines).await?;
            if renewed.elapsed() > self.app.privacy_lease / 3 {
                work::renew(&self.app, id, attempt).await?;
                renewed = Instant::now();
            }
        }
        if !is_whole {
            return Err(Error::invalid("last", "must be said of the last message").into());
        }
        spool.finish().await?;
        work::keep(&self.app, id, attempt, rows).await?;
        Ok(Response::new(proto::SubmitExportResponse {}))
    }

    async fn report_erasure(
        &self,
        request: Request<proto::ReportErasureRequest>,
    ) -> Result<Response<proto::ReportErasureResponse>, Status> {
        Caller::nobody(&request)?;
        let report = request.get_ref();
        let id = Violations::only_id("id", &report.id)?;
        work::report(&self.app, id, report.attempt, report.rows, report.done).await?;
        Ok(Response::new(proto::ReportErasureResponse {}))
    }
}
