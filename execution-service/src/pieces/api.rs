//! The RPCs of `FlowService`, and of `FlowCallbackService`, which the gateway calls.

use std::sync::Arc;

use service_kit::{
    auth::Caller,
    db,
    error::{Error, Violations},
};
use studios_proto::execution::{
    self as proto, flow_callback_service_server::FlowCallbackService, flow_service_server::FlowService,
};
use tonic::{Request, Response, Status};

use super::{callback, client::Flows, convert, importing, started};
use crate::App;

const IMPORT: &str = "/studios.execution.v1.FlowService/ImportFlow";

/// Serves `FlowService` and `FlowCallbackService`.
#[derive(Clone)]
pub struct Api {
    app: Arc<App>,
}

impl Api {
    /// Serves them from `app`.
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl FlowService for Api {
    async fn list_flows(
        &self,
        request: Request<proto::ListFlowsRequest>,
    ) -> Result<Response<proto::ListFlowsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let wanted = convert::wanted(&request.into_inner())?;
        let flows = Flows {
            name: &wanted.name,
            status: wanted.status,
            cursor: &wanted.cursor,
            limit: wanted.limit,
        };
        let page = importing::list(&self.app, &caller, wanted.connection, &flows).await?;
        Ok(Response::new(convert::listed(page, &wanted.cursor)))
    }

    async fn import_flow(
        &self,
        request: Request<proto::ImportFlowRequest>,
    ) -> Result<Response<proto::ImportFlowResponse>, Status> {
        let caller = Caller::of(&request)?;
        let (wish, key) = convert::wish(IMPORT, request.get_ref())?;
        let imported = importing::import(&self.app, &caller, &wish, key.as_ref()).await?;
        Ok(Response::new(imported.into()))
    }

    async fn list_flow_runs(
        &self,
        request: Request<proto::ListFlowRunsRequest>,
    ) -> Result<Response<proto::ListFlowRunsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("execution_id", &request.get_ref().execution_id)?;
        let runs = db::retry("pieces.list_runs", || started::list(&self.app, &caller, id)).await?;
        Ok(Response::new(proto::ListFlowRunsResponse {
            flow_runs: runs.into_iter().map(convert::run).collect(),
        }))
    }
}

#[tonic::async_trait]
impl FlowCallbackService for Api {
    async fn take_callback(
        &self,
        request: Request<proto::TakeCallbackRequest>,
    ) -> Result<Response<proto::TakeCallbackResponse>, Status> {
        let proto::TakeCallbackRequest { token, body } = request.into_inner();
        if body.len() > callback::MAX_BYTES {
            let message = format!("must have at most {} bytes", callback::MAX_BYTES);
            return Err(Error::invalid("body", message).into());
        }
        let result = self.app.engine.called_back(&token, &body).await?;
        Ok(Response::new(proto::TakeCallbackResponse {
            result: convert::called_back(result).into(),
        }))
    }
}
