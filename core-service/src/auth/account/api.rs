//! The RPCs of `AccountService`.

use std::sync::Arc;

use service_kit::{auth::Caller, db, error::Violations};
use studios_proto::core::{self as proto, account_service_server::AccountService};
use tonic::{Request, Response, Status};

use super::convert;
use crate::{App, auth::Device};

/// Serves `AccountService`.
#[derive(Clone)]
pub struct Account {
    app: Arc<App>,
}

impl Account {
    /// Serves it from `app`.
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl AccountService for Account {
    async fn send_verification(
        &self,
        request: Request<proto::SendVerificationRequest>,
    ) -> Result<Response<proto::SendVerificationResponse>, Status> {
        let (caller, device) = (Caller::of(&request)?, Device::of(&request));
        super::send_verification(&self.app, &caller, &device).await?;
        Ok(Response::new(proto::SendVerificationResponse {}))
    }

    async fn change_password(
        &self,
        request: Request<proto::ChangePasswordRequest>,
    ) -> Result<Response<proto::ChangePasswordResponse>, Status> {
        let (caller, device) = (Caller::of(&request)?, Device::of(&request));
        let (current, new) = convert::passwords(request.get_ref())?;
        let ended = super::change_password(&self.app, &caller, &current, &new, &device).await?;
        Ok(Response::new(proto::ChangePasswordResponse {
            ended_sessions: convert::number(ended),
        }))
    }

    async fn change_email(
        &self,
        request: Request<proto::ChangeEmailRequest>,
    ) -> Result<Response<proto::ChangeEmailResponse>, Status> {
        let (caller, device) = (Caller::of(&request)?, Device::of(&request));
        let (password, email) = convert::new_email(request.get_ref())?;
        super::change_email(&self.app, &caller, &password, &email, &device).await?;
        Ok(Response::new(proto::ChangeEmailResponse {}))
    }

    async fn list_sessions(
        &self,
        request: Request<proto::ListSessionsRequest>,
    ) -> Result<Response<proto::ListSessionsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let found = db::retry("account.list_sessions", || super::list_sessions(&self.app, &caller)).await?;
        let sessions = found.into_iter().map(|it| convert::session(it, &caller)).collect();
        Ok(Response::new(proto::ListSessionsResponse { sessions }))
    }

    async fn revoke_session(
        &self,
        request: Request<proto::RevokeSessionRequest>,
    ) -> Result<Response<proto::RevokeSessionResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        db::retry("account.revoke_session", || {
            super::revoke_session(&self.app, &caller, id)
        })
        .await?;
        Ok(Response::new(proto::RevokeSessionResponse {}))
    }

    async fn revoke_other_sessions(
        &self,
        request: Request<proto::RevokeOtherSessionsRequest>,
    ) -> Result<Response<proto::RevokeOtherSessionsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let ended = db::retry("account.revoke_others", || super::revoke_others(&self.app, &caller)).await?;
        Ok(Response::new(proto::RevokeOtherSessionsResponse {
            ended_sessions: convert::number(ended),
        }))
    }

    async fn enrol_totp(
        &self,
        request: Request<proto::EnrolTotpRequest>,
    ) -> Result<Response<proto::EnrolTotpResponse>, Status> {
        let (caller, device) = (Caller::of(&request)?, Device::of(&request));
        let password = convert::password(&request.get_ref().password)?;
        let enrolment = super::enrol_totp(&self.app, &caller, &password, &device).await?;
        Ok(Response::new(enrolment.into()))
    }

    async fn confirm_totp(
        &self,
        request: Request<proto::ConfirmTotpRequest>,
    ) -> Result<Response<proto::ConfirmTotpResponse>, Status> {
        let caller = Caller::of(&request)?;
        let code = convert::code(&request.get_ref().code)?;
        let recovery_codes = super::confirm_totp(&self.app, &caller, code).await?;
        Ok(Response::new(proto::ConfirmTotpResponse { recovery_codes }))
    }

    async fn disable_totp(
        &self,
        request: Request<proto::DisableTotpRequest>,
    ) -> Result<Response<proto::DisableTotpResponse>, Status> {
        let (caller, device) = (Caller::of(&request)?, Device::of(&request));
        let password = convert::password(&request.get_ref().password)?;
        let code = &request.get_ref().code;
        super::disable_totp(&self.app, &caller, &password, code, &device).await?;
        Ok(Response::new(proto::DisableTotpResponse {}))
    }
}
