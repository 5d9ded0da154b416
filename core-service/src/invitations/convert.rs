//! Invitations as the contract writes them.

use service_kit::{
    error::{Error, Result, Violations},
    update,
};
use studios_proto::core as proto;

use super::{Invitation, NewInvitation, Token};
use crate::{
    companies::memberships::{self, Role},
    contact::Email,
};

const TOKEN: usize = 40;

impl TryFrom<proto::CreateInvitationRequest> for NewInvitation {
    type Error = Error;

    fn try_from(request: proto::CreateInvitationRequest) -> Result<Self> {
        let mut violations = Violations::new();
        let given = request.invitation.unwrap_or_default();
        let company = violations.id("invitation.company_id", &given.company_id);
        let email = Email::read(&mut violations, "invitation.email", &given.email);
        let role = match given.role {
            0 => Some(Role::Member),
            role => memberships::convert::role(&mut violations, "invitation.role", role),
        };
        violations.finish()?;
        Ok(Self {
            company: company.expect("a missing one is a violation"),
            email: email.expect("a missing one is a violation"),
            role: role.expect("a missing one is a violation"),
        })
    }
}

impl TryFrom<proto::AcceptInvitationRequest> for Token {
    type Error = Error;

    fn try_from(request: proto::AcceptInvitationRequest) -> Result<Self> {
        let token = request.token.trim().to_ascii_lowercase();
        if token.len() != TOKEN || !token.bytes().all(|it| it.is_ascii_hexdigit()) {
            return Err(Error::invalid("token", "must have 40 hexadecimal digits"));
        }
        Ok(Self(token))
    }
}

impl From<Invitation> for proto::Invitation {
    fn from(invitation: Invitation) -> Self {
        Self {
            id: invitation.id.to_string(),
            company_id: invitation.company.to_string(),
            email: invitation.email.into(),
            role: proto::Role::from(invitation.role).into(),
            expire_time: Some(update::timestamp(invitation.expires_at)),
            accept_time: invitation.accepted_at.map(update::timestamp),
            revoke_time: invitation.revoked_at.map(update::timestamp),
            invited_by: invitation.invited_by.map(|it| it.to_string()).unwrap_or_default(),
            create_time: Some(update::timestamp(invitation.created_at)),
        }
    }
}
