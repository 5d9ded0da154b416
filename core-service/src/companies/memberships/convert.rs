//! Memberships as the contract writes them.

use service_kit::{
    error::{Error, Result, Violations},
    update,
};
use studios_proto::core as proto;

use super::{Filter, Membership, Role, State};

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
        }
    }
}
