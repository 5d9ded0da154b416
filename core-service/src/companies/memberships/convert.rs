//! Memberships as the contract writes them.

use service_kit::{
    error::{Error, Result, Violations},
    update,
};
use studios_proto::core as proto;

use super::{Act, Change, Filter, Membership, Role, State};

const CHANGEABLE: &[&str] = &["role"];

impl TryFrom<&proto::ListMembershipsRequest> for Filter {
    type Error = Error;

    fn try_from(request: &proto::ListMembershipsRequest) -> Result<Self> {
        let mut violations = Violations::new();
        let company = violations.id("company_id", &request.company_id);
        let state = proto::MembershipState::try_from(request.state);
        if state.is_err() {
            violations.add("state", "must be one of the membership states");
        }
        violations.finish()?;
        Ok(Self {
            company: company.expect("a missing one is a violation"),
            state: state.ok().and_then(known),
        })
    }
}

impl TryFrom<proto::ApproveMembershipRequest> for Change {
    type Error = Error;

    fn try_from(request: proto::ApproveMembershipRequest) -> Result<Self> {
        let mut violations = Violations::new();
        let id = violations.id("id", &request.id);
        let role = match request.role {
            0 => Some(Role::Member),
            given => role(&mut violations, "role", given),
        };
        violations.finish()?;
        Ok(Self {
            id: id.expect("a missing one is a violation"),
            etag: request.etag,
            act: role.map(Act::Approve),
        })
    }
}

impl TryFrom<proto::RejectMembershipRequest> for Change {
    type Error = Error;

    fn try_from(request: proto::RejectMembershipRequest) -> Result<Self> {
        Ok(Self {
            id: Violations::only_id("id", &request.id)?,
            etag: request.etag,
            act: Some(Act::Reject),
        })
    }
}

impl TryFrom<proto::UpdateMembershipRequest> for Change {
    type Error = Error;

    fn try_from(request: proto::UpdateMembershipRequest) -> Result<Self> {
        let mut violations = Violations::new();
        let given = request.membership.unwrap_or_default();
        let id = violations.id("membership.id", &given.id);
        let set: &[&str] = if given.role == 0 { &[] } else { CHANGEABLE };
        let paths = violations.include(update::paths(request.update_mask.as_ref(), CHANGEABLE, set))?;
        let named = paths.is_some_and(|paths| !paths.is_empty());
        let role = named
            .then(|| role(&mut violations, "membership.role", given.role))
            .flatten();
        violations.finish()?;
        Ok(Self {
            id: id.expect("a missing one is a violation"),
            etag: given.etag,
            act: role.map(Act::SetRole),
        })
    }
}

impl TryFrom<proto::RemoveMembershipRequest> for Change {
    type Error = Error;

    fn try_from(request: proto::RemoveMembershipRequest) -> Result<Self> {
        Ok(Self {
            id: Violations::only_id("id", &request.id)?,
            etag: request.etag,
            act: Some(Act::End),
        })
    }
}

/// A role, which must be given.
pub(crate) fn role(violations: &mut Violations, field: &str, given: i32) -> Option<Role> {
    match proto::Role::try_from(given) {
        Ok(proto::Role::Admin) => Some(Role::Admin),
        Ok(proto::Role::Member) => Some(Role::Member),
        Ok(proto::Role::Unspecified) | Err(_) => {
            violations.add(field, "must be ROLE_ADMIN or ROLE_MEMBER");
            None
        }
    }
}

fn known(state: proto::MembershipState) -> Option<State> {
    Some(match state {
        proto::MembershipState::Unspecified => return None,
        proto::MembershipState::Pending => State::Pending,
        proto::MembershipState::Approved => State::Approved,
        proto::MembershipState::Rejected => State::Rejected,
        proto::MembershipState::Inactive => State::Inactive,
    })
}

impl From<State> for proto::MembershipState {
    fn from(state: State) -> Self {
        match state {
            State::Pending => Self::Pending,
            State::Approved => Self::Approved,
            State::Rejected => Self::Rejected,
            State::Inactive => Self::Inactive,
        }
    }
}

impl From<Role> for proto::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Admin => Self::Admin,
            Role::Member => Self::Member,
        }
    }
}

impl From<Membership> for proto::Membership {
    fn from(membership: Membership) -> Self {
        Self {
            id: membership.id.to_string(),
            company_id: membership.company.to_string(),
            user_id: membership.user.to_string(),
            full_name: membership.full_name,
            role: proto::Role::from(membership.role).into(),
            state: proto::MembershipState::from(membership.state).into(),
            create_time: Some(update::timestamp(membership.created_at)),
            update_time: Some(update::timestamp(membership.updated_at)),
            etag: update::etag(membership.revision),
            email: membership.email.unwrap_or_default(),
            company_name: membership.company_name,
        }
    }
}
