//! The RPCs of `AccessService`: for the user that a service acts for, and what a service follows for itself.

use std::sync::Arc;

use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use service_kit::{
    auth::Caller,
    db,
    error::{Error, Violations},
};
use studios_proto::core::{self as proto, access_service_server::AccessService};
use tonic::{Request, Response, Status};

use super::convert;
use crate::{App, api_keys, auth::identities, outbox::Follower};

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
    type FollowEventsStream = BoxStream<'static, Result<proto::FollowEventsResponse, Status>>;

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

    async fn check_api_key(
        &self,
        request: Request<proto::CheckApiKeyRequest>,
    ) -> Result<Response<proto::ApiKeyAccess>, Status> {
        // A key is looked up before there is a user.
        Caller::nobody(&request)?;
        let found = api_keys::find(&self.app.pool, &request.get_ref().hashes).await?;
        let key = found.ok_or_else(|| Error::not_found("api_key", "with this hash"))?;
        Ok(Response::new(api_keys::convert::access(&key)))
    }

    async fn resolve_identity(
        &self,
        request: Request<proto::ResolveIdentityRequest>,
    ) -> Result<Response<proto::ResolveIdentityResponse>, Status> {
        // Whoever could say who he is, would be anybody.
        Caller::nobody(&request)?;
        let identity = convert::identity(request.into_inner())?;
        let user = identities::resolve(&self.app, &identity).await?;
        Ok(Response::new(proto::ResolveIdentityResponse {
            user_id: user.to_string(),
        }))
    }

    async fn follow_events(
        &self,
        request: Request<proto::FollowEventsRequest>,
    ) -> Result<Response<Self::FollowEventsStream>, Status> {
        // The events of all companies are no user's to see.
        Caller::nobody(&request)?;
        let after = convert::after(request.get_ref())?;
        let follower = Follower::open(&self.app.outbox, after).await?;
        let news = stream::try_unfold(follower, async |mut follower: Follower| {
            let told = follower.next().await?;
            Ok::<_, Error>(Some((told.into(), follower)))
        });
        Ok(Response::new(news.map_err(Status::from).boxed()))
    }
}
