//! The RPCs of `AccessService`, for the user that a service acts for.

use std::sync::Arc;

use service_kit::{auth::Caller, db, error::Violations};
use studios_proto::core::{self as proto, access_service_server::AccessService};
use tonic::{Request, Response, Status};

use crate::App;

/// Serves `AccessService`.
#[derive(Clone)]
pub struct AccessApi {
    app: Arc<App>,
}

impl AccessApi {
    /// Serves it from `app`.
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl AccessService for AccessApi {
    async fn check_studio(
        &self,
        request: Request<proto::CheckStudioRequest>,
    ) -> Result<Response<proto::AccessDecision>, Status> {
        let caller = Caller::of(&request)?;
        let studio = Violations::only_id("studio_id", &request.get_ref().studio_id)?;
        let decision = db::retry("access.check_studio", || {
            super::check_studio(&self.app, &caller, studio)
        })
        .await?;
        Ok(Response::new(decision.into()))
    }

    async fn check_company(
        &self,
        request: Request<proto::CheckCompanyRequest>,
    ) -> Result<Response<proto::AccessDecision>, Status> {
        let caller = Caller::of(&request)?;
        let company = Violations::only_id("company_id", &request.get_ref().company_id)?;
        let decision = db::retry("access.check_company", || {
            super::check_company(&self.app, &caller, company)
        })
        .await?;
        Ok(Response::new(decision.into()))
    }
}
