//! The RPCs of `UserService`.

use std::sync::Arc;

use service_kit::{auth::Caller, db};
use studios_proto::core::{self as proto, user_service_server::UserService};
use tonic::{Request, Response, Status};

use super::convert;
use crate::App;

/// Serves `UserService`.
#[derive(Clone)]
pub struct Users {
    app: Arc<App>,
}

impl Users {
    /// Serves it from `app`.
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl UserService for Users {
    async fn get_profile(&self, request: Request<proto::GetProfileRequest>) -> Result<Response<proto::User>, Status> {
        let caller = Caller::of(&request)?;
        let user = db::retry("users.get", || super::get(&self.app, &caller)).await?;
        Ok(Response::new(user.into()))
    }

    async fn update_profile(
        &self,
        request: Request<proto::UpdateProfileRequest>,
    ) -> Result<Response<proto::User>, Status> {
        let caller = Caller::of(&request)?;
        let (etag, changes) = convert::changes(request.into_inner())?;
        let user = db::retry("users.update", || super::update(&self.app, &caller, &etag, &changes)).await?;
        Ok(Response::new(user.into()))
    }
}
