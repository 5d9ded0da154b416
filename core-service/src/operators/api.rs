//! The RPCs of `OperatorService`.

use std::sync::Arc;

use service_kit::{auth::Operator, db, error::Result, ids::CompanyId};
use studios_proto::core::{self as proto, operator_service_server::OperatorService};
use tonic::{Request, Response, Status};

use super::{Act, convert};
use crate::App;

/// Serves `OperatorService`.
#[derive(Clone)]
pub struct Operators {
    app: Arc<App>,
}

impl Operators {
    /// Serves it from `app`.
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }

    async fn act<T>(
        &self,
        request: &Request<T>,
        read: impl FnOnce(&T) -> Result<(CompanyId, Act)>,
    ) -> Result<Response<proto::Company>, Status> {
        let operator = Operator::of(request)?;
        let (id, act) = read(request.get_ref())?;
        let company = db::retry("operators.act", || super::act(&self.app, &operator, id, &act)).await?;
        Ok(Response::new(company.into()))
    }
}

#[tonic::async_trait]
impl OperatorService for Operators {
    async fn get_company_for_operator(
        &self,
        request: Request<proto::GetCompanyForOperatorRequest>,
    ) -> Result<Response<proto::Company>, Status> {
        self.act(&request, |it| Ok((convert::company(&it.company_id)?, Act::Look)))
            .await
    }

    async fn set_company_plan(
        &self,
        request: Request<proto::SetCompanyPlanRequest>,
    ) -> Result<Response<proto::Company>, Status> {
        self.act(&request, convert::set_plan).await
    }

    async fn set_subscription(
        &self,
        request: Request<proto::SetSubscriptionRequest>,
    ) -> Result<Response<proto::Company>, Status> {
        self.act(&request, convert::subscription).await
    }

    async fn suspend_company(
        &self,
        request: Request<proto::SuspendCompanyRequest>,
    ) -> Result<Response<proto::Company>, Status> {
        self.act(&request, convert::suspension).await
    }

    async fn resume_company(
        &self,
        request: Request<proto::ResumeCompanyRequest>,
    ) -> Result<Response<proto::Company>, Status> {
        self.act(&request, |it| Ok((convert::company(&it.company_id)?, Act::Resume)))
            .await
    }

    async fn update_plan(&self, request: Request<proto::UpdatePlanRequest>) -> Result<Response<proto::Plan>, Status> {
        let operator = Operator::of(&request)?;
        let plan = convert::plan(request.into_inner())?;
        db::retry("operators.update_plan", || {
            super::update_plan(&self.app, &operator, &plan)
        })
        .await?;
        Ok(Response::new(plan.into()))
    }

    async fn set_user_limits(
        &self,
        request: Request<proto::SetUserLimitsRequest>,
    ) -> Result<Response<proto::SetUserLimitsResponse>, Status> {
        let operator = Operator::of(&request)?;
        let (user, max_snapshots) = convert::user_limits(request.get_ref())?;
        db::retry("operators.set_user_limits", || {
            super::set_user_limits(&self.app, &operator, user, max_snapshots)
        })
        .await?;
        Ok(Response::new(proto::SetUserLimitsResponse { max_snapshots }))
    }
}
