//! The RPCs of `InvitationService`.

use std::sync::Arc;

use service_kit::{auth::Caller, db, error::Violations, page::Page};
use studios_proto::core::{self as proto, invitation_service_server::InvitationService};
use tonic::{Request, Response, Status};

use super::{NewInvitation, Token};
use crate::{App, auth::limits};

const LIST_INVITATIONS: &str = "/studios.core.v1.InvitationService/ListInvitations";

/// Serves `InvitationService`.
#[derive(Clone)]
pub struct Invitations {
    app: Arc<App>,
}

impl Invitations {
    /// Serves it from `app`.
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl InvitationService for Invitations {
    async fn create_invitation(
        &self,
        request: Request<proto::CreateInvitationRequest>,
    ) -> Result<Response<proto::CreateInvitationResponse>, Status> {
        let caller = Caller::of(&request)?;
        let new: NewInvitation = request.into_inner().try_into()?;
        limits::invitation(&self.app, &new.email).await?;
        let made = db::retry("invitations.create", || super::create(&self.app, &caller, &new)).await?;
        Ok(Response::new(proto::CreateInvitationResponse {
            invitation: Some(made.0.into()),
            token: made.1.0,
        }))
    }

    async fn list_invitations(
        &self,
        request: Request<proto::ListInvitationsRequest>,
    ) -> Result<Response<proto::ListInvitationsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let (request, keys) = (request.get_ref(), &self.app.keys);
        let company = Violations::only_id("company_id", &request.company_id)?;
        let page = Page::parse(keys, LIST_INVITATIONS, &company, request.page_size, &request.page_token)?;
        let rows = db::retry("invitations.list", || super::list(&self.app, &caller, company, &page)).await?;
        let (found, next_page_token) = page.finish(keys, LIST_INVITATIONS, &company, rows, |it| it.id);
        Ok(Response::new(proto::ListInvitationsResponse {
            invitations: found.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }

    async fn revoke_invitation(
        &self,
        request: Request<proto::RevokeInvitationRequest>,
    ) -> Result<Response<proto::Invitation>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        let invitation = db::retry("invitations.revoke", || super::revoke(&self.app, &caller, id)).await?;
        Ok(Response::new(invitation.into()))
    }

    async fn accept_invitation(
        &self,
        request: Request<proto::AcceptInvitationRequest>,
    ) -> Result<Response<proto::Membership>, Status> {
        let caller = Caller::of(&request)?;
        let token = Token::try_from(request.into_inner())?;
        let membership = db::retry("invitations.accept", || super::accept(&self.app, &caller, &token)).await?;
        Ok(Response::new(membership.into()))
    }
}
