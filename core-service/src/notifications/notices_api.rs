//! The RPC of `NoticeService`, for other services.

use std::sync::Arc;

use service_kit::{auth::Caller, db};
use studios_proto::core::{self as proto, notice_service_server::NoticeService};
use tonic::{Request, Response, Status};

use super::convert;
use crate::App;

/// Serves `NoticeService`.
#[derive(Clone)]
pub struct Notices {
    app: Arc<App>,
}

impl Notices {
    /// Serves it from `app`.
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl NoticeService for Notices {
    async fn report_notices(
        &self,
        request: Request<proto::ReportNoticesRequest>,
    ) -> Result<Response<proto::ReportNoticesResponse>, Status> {
        // Nobody has anything to tell in a user's name.
        Caller::nobody(&request)?;
        let notices = convert::notices(request.into_inner())?;
        db::retry("notifications.take", || super::take(&self.app, &notices)).await?;
        Ok(Response::new(proto::ReportNoticesResponse {}))
    }
}
