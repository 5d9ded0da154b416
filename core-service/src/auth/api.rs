//! The RPCs of `AuthService`. None of them has a caller.

use std::sync::Arc;

use service_kit::{db, error::Error, limits::ClientAddress, update};
use studios_proto::core::{self as proto, auth_service_server::AuthService};
use tonic::{Request, Response, Status};

use super::{JWKS_MAX_AGE, convert};
use crate::App;

/// Serves `AuthService`.
#[derive(Clone)]
pub struct Auth {
    app: Arc<App>,
}

impl Auth {
    /// Serves it from `app`.
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl AuthService for Auth {
    async fn register(&self, request: Request<proto::RegisterRequest>) -> Result<Response<proto::Session>, Status> {
        let from = ClientAddress::of(&request);
        let new = request.into_inner().try_into()?;
        let session = super::register(&self.app, &new, from).await?;
        Ok(Response::new(session.into()))
    }

    async fn sign_in(&self, request: Request<proto::SignInRequest>) -> Result<Response<proto::Session>, Status> {
        let (email, password) = convert::credentials(request.get_ref())?;
        let from = ClientAddress::of(&request);
        let session = super::sign_in(&self.app, &email, &password, from).await?;
        Ok(Response::new(session.into()))
    }

    async fn refresh(&self, request: Request<proto::RefreshRequest>) -> Result<Response<proto::Session>, Status> {
        let token = convert::refresh_token(&request.get_ref().refresh_token)?;
        let session = db::retry("auth.refresh", || super::refresh(&self.app, &token)).await?;
        Ok(Response::new(session.into()))
    }

    async fn sign_out(
        &self,
        request: Request<proto::SignOutRequest>,
    ) -> Result<Response<proto::SignOutResponse>, Status> {
        match convert::refresh_token(&request.get_ref().refresh_token) {
            Ok(token) => db::retry("auth.sign_out", || super::sign_out(&self.app, &token)).await?,
            // No session has such a token, so none is left open.
            Err(Error::Unauthenticated(_)) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Response::new(proto::SignOutResponse {}))
    }

    async fn get_jwks(
        &self,
        _request: Request<proto::GetJwksRequest>,
    ) -> Result<Response<proto::GetJwksResponse>, Status> {
        Ok(Response::new(proto::GetJwksResponse {
            jwks_json: self.app.issuer.keys.jwks(),
            max_age: Some(update::duration(JWKS_MAX_AGE)),
        }))
    }
}
