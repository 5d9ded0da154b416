//! The RPCs of `ReplicaService`.

use std::sync::Arc;

use futures::{StreamExt, stream::BoxStream};
use service_kit::{auth::Caller, error::Violations};
use studios_proto::execution::{self as proto, replica_service_server::ReplicaService};
use tonic::{Request, Response, Status};

use super::convert;
use crate::{App, plans};

/// Serves `ReplicaService`.
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
impl ReplicaService for Api {
    type FollowPlanStream = BoxStream<'static, Result<proto::FollowPlanResponse, Status>>;
    type FollowRunStream = BoxStream<'static, Result<proto::FollowRunResponse, Status>>;

    async fn follow_run(
        &self,
        request: Request<proto::FollowRunRequest>,
    ) -> Result<Response<Self::FollowRunStream>, Status> {
        let caller = Caller::of(&request)?;
        let (id, after) = convert::request(request.get_ref())?;
        let told = super::follow(&self.app, &caller, id, after).await?;
        Ok(Response::new(told.map(move |it| Ok(convert::response(id, it))).boxed()))
    }

    async fn follow_plan(
        &self,
        request: Request<proto::FollowPlanRequest>,
    ) -> Result<Response<Self::FollowPlanStream>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("plan_id", &request.get_ref().plan_id)?;
        let told = plans::follow(&self.app, &caller, id).await?;
        Ok(Response::new(
            told.map(move |it| Ok(convert::plan_response(id, it))).boxed(),
        ))
    }
}
