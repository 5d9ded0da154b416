//! The RPCs of `PlanService`.

use std::sync::Arc;

use futures::{StreamExt, stream::BoxStream};
use service_kit::{auth::Caller, db, error::Violations, page::Page};
use studios_proto::execution::{self as proto, plan_service_server::PlanService};
use tonic::{Request, Response, Status};

use super::{beginning, convert, watch};
use crate::App;

const CREATE: &str = "/studios.execution.v1.PlanService/CreatePlan";
const REGENERATE: &str = "/studios.execution.v1.PlanService/RegeneratePlan";
const LIST: &str = "/studios.execution.v1.PlanService/ListPlans";
const LIST_ATTEMPTS: &str = "/studios.execution.v1.PlanService/ListPlanAttempts";

/// Serves `PlanService`.
#[derive(Clone)]
pub struct Api {
    app: Arc<App>,
}

impl Api {
    /// Serves it from `app`.
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl PlanService for Api {
    type WatchPlanStream = BoxStream<'static, Result<proto::PlanEvent, Status>>;

    async fn create_plan(&self, request: Request<proto::CreatePlanRequest>) -> Result<Response<proto::Plan>, Status> {
        let caller = Caller::of(&request)?;
        let (new, key) = convert::new(CREATE, request.get_ref())?;
        let plan = db::retry("plans.create", || {
            beginning::create(&self.app, &caller, &new, key.as_ref())
        });
        Ok(Response::new(plan.await?.into()))
    }

    async fn get_plan(&self, request: Request<proto::GetPlanRequest>) -> Result<Response<proto::Plan>, Status> {
        let caller = Caller::of(&request)?;
        let (id, version) = convert::version(request.get_ref())?;
        let plan = db::retry("plans.get", || super::get(&self.app, &caller, id, version));
        Ok(Response::new(plan.await?.into()))
    }

    async fn list_plans(
        &self,
        request: Request<proto::ListPlansRequest>,
    ) -> Result<Response<proto::ListPlansResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let filter = convert::filter(&request)?;
        let page = Page::parse(&self.app.keys, LIST, &filter, request.page_size, &request.page_token)?;
        let plans = db::retry("plans.list", || super::list(&self.app, &caller, &filter, &page)).await?;
        let (plans, next_page_token) = page.finish(&self.app.keys, LIST, &filter, plans, |it| it.id);
        Ok(Response::new(proto::ListPlansResponse {
            plans: plans.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }

    async fn update_plan(&self, request: Request<proto::UpdatePlanRequest>) -> Result<Response<proto::Plan>, Status> {
        let caller = Caller::of(&request)?;
        let (id, etag, visibility) = convert::changes(request.get_ref())?;
        let plan = db::retry("plans.change", || {
            super::change(&self.app, &caller, id, &etag, visibility)
        });
        Ok(Response::new(plan.await?.into()))
    }

    async fn delete_plan(
        &self,
        request: Request<proto::DeletePlanRequest>,
    ) -> Result<Response<proto::DeletePlanResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let id = Violations::only_id("id", &request.id)?;
        db::retry("plans.delete", || super::delete(&self.app, &caller, id, &request.etag)).await?;
        Ok(Response::new(proto::DeletePlanResponse {}))
    }

    async fn retry_plan(&self, request: Request<proto::RetryPlanRequest>) -> Result<Response<proto::Plan>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        let plan = db::retry("plans.retry", || beginning::retry(&self.app, &caller, id));
        Ok(Response::new(plan.await?.into()))
    }

    async fn regenerate_plan(
        &self,
        request: Request<proto::RegeneratePlanRequest>,
    ) -> Result<Response<proto::Plan>, Status> {
        let caller = Caller::of(&request)?;
        let (again, key) = convert::again(REGENERATE, request.get_ref())?;
        let plan = db::retry("plans.regenerate", || {
            beginning::regenerate(&self.app, &caller, &again, key.as_ref())
        });
        Ok(Response::new(plan.await?.into()))
    }

    async fn list_plan_attempts(
        &self,
        request: Request<proto::ListPlanAttemptsRequest>,
    ) -> Result<Response<proto::ListPlanAttemptsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let id = Violations::only_id("plan_id", &request.plan_id)?;
        let page = Page::parse(
            &self.app.keys,
            LIST_ATTEMPTS,
            &id,
            request.page_size,
            &request.page_token,
        )?;
        let attempts = db::retry("plans.attempts", || super::attempts(&self.app, &caller, id, &page)).await?;
        let place = |it: &super::Attempt| (it.version, it.number);
        let (attempts, next_page_token) = page.finish(&self.app.keys, LIST_ATTEMPTS, &id, attempts, place);
        Ok(Response::new(proto::ListPlanAttemptsResponse {
            attempts: attempts.into_iter().map(|it| convert::attempt(id, it)).collect(),
            next_page_token,
        }))
    }

    async fn watch_plan(
        &self,
        request: Request<proto::WatchPlanRequest>,
    ) -> Result<Response<Self::WatchPlanStream>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        let events = watch::watch(Arc::clone(&self.app), caller, id).await?;
        let events = events.map(|it| it.map(Into::into).map_err(Status::from));
        Ok(Response::new(events.boxed()))
    }

    async fn mark_plan_task(
        &self,
        request: Request<proto::MarkPlanTaskRequest>,
    ) -> Result<Response<proto::PlanProgress>, Status> {
        let caller = Caller::of(&request)?;
        let (id, place, done) = convert::mark(request.get_ref())?;
        let progress = db::retry("plans.mark", || super::mark(&self.app, &caller, id, place, done));
        Ok(Response::new(progress.await?.into()))
    }
}
