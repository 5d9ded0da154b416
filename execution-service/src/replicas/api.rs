//! The RPC of `ReplicaService`.

use std::sync::Arc;

use futures::{StreamExt, stream::BoxStream};
use service_kit::auth::Caller;
use studios_proto::execution::{self as proto, replica_service_server::ReplicaService};
use tonic::{Request, Response, Status};

use super::convert;
use crate::App;

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
}
