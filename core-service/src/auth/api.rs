//! The RPCs of `AuthService`. None of them has a caller.

use std::sync::Arc;

use service_kit::{db, error::Error, update};
use studios_proto::core::{self as proto, auth_service_server::AuthService};
use tonic::{Request, Response, Status};

use super::{Device, JWKS_MAX_AGE, convert};
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
        let device = Device::of(&request);
        let new = request.into_inner().try_into()?;
        let registered = super::register(&self.app, &new, &device).await?;
        Ok(Response::new(registered.into()))
    }

    async fn sign_in(&self, request: Request<proto::SignInRequest>) -> Result<Response<proto::Session>, Status> {
        let credentials = convert::credentials(request.get_ref())?;
        let device = Device::of(&request);
        let session = super::sign_in(&self.app, &credentials, &device).await?;
        Ok(Response::new(session.into()))
    }

    async fn refresh(&self, request: Request<proto::RefreshRequest>) -> Result<Response<proto::Session>, Status> {
        let token = convert::refresh_token(&request.get_ref().refresh_token)?;
        let device = Device::of(&request);
        let session = db::retry("auth.refresh", || super::refresh(&self.app, &token, &device)).await?;
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

    async fn confirm_email(
        &self,
        request: Request<proto::ConfirmEmailRequest>,
    ) -> Result<Response<proto::ConfirmEmailResponse>, Status> {
        let token = convert::mail_token(&request.get_ref().token)?;
        let email = super::confirm_email(&self.app, &token).await?;
        Ok(Response::new(proto::ConfirmEmailResponse { email: email.into() }))
    }

    async fn request_password_reset(
        &self,
        request: Request<proto::RequestPasswordResetRequest>,
    ) -> Result<Response<proto::RequestPasswordResetResponse>, Status> {
        let email = convert::email(&request.get_ref().email)?;
        super::request_reset(&self.app, &email, &Device::of(&request)).await?;
        Ok(Response::new(proto::RequestPasswordResetResponse {}))
    }

    async fn reset_password(
        &self,
        request: Request<proto::ResetPasswordRequest>,
    ) -> Result<Response<proto::ResetPasswordResponse>, Status> {
        let (token, password) = convert::reset(request.get_ref())?;
        super::reset_password(&self.app, &token, &password).await?;
        Ok(Response::new(proto::ResetPasswordResponse {}))
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
