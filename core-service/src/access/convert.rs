//! Access decisions, and the events that change them, as the contract writes them.

use service_kit::{
    auth::Identity,
    error::{Error, Result},
    update,
};
use studios_proto::core::{self as proto, AccessEventKind as Kind, follow_events_response::News};

use super::Decision;
use crate::outbox::{Event, Published, Told};

/// Where a follower goes on.
pub(super) fn after(request: &proto::FollowEventsRequest) -> Result<Option<i64>> {
    if request.after.is_some_and(i64::is_negative) {
        return Err(Error::invalid("after", "must not be negative"));
    }
    Ok(request.after)
}

/// An identity that a service has verified.
pub(super) fn identity(request: proto::ResolveIdentityRequest) -> Result<Identity> {
    if request.issuer.is_empty() || request.subject.is_empty() {
        return Err(Error::invalid("subject", "an identity has an issuer and a subject"));
    }
    Ok(Identity {
        issuer: request.issuer,
        subject: request.subject,
        email: Some(request.email).filter(|it| !it.is_empty()),
        email_verified: request.email_verified,
        full_name: Some(request.full_name).filter(|it| !it.is_empty()),
    })
}

impl From<Decision> for proto::AccessDecision {
    fn from(decision: Decision) -> Self {
        let (studio_id, studio_name) = decision
            .studio
            .map(|studio| (studio.id.to_string(), studio.name))
            .unwrap_or_default();
        Self {
            user_id: decision.user.to_string(),
            company_id: decision.company.to_string(),
            studio_id,
            role: proto::Role::from(decision.role).into(),
            branch_ids: decision.branches.iter().map(ToString::to_string).collect(),
            plan: Some(decision.plan.into()),
            outbox_position: decision.outbox_position,
            read_time: Some(update::timestamp(decision.read_at)),
            studio_name,
            max_snapshots: decision.max_snapshots,
            subscription: Some(decision.subscription.into()),
        }
    }
}

impl From<Told> for proto::FollowEventsResponse {
    fn from(told: Told) -> Self {
        let (position, news) = match told {
            Told::Event(published) => (published.position, News::Event(published.into())),
            Told::Heartbeat(position) => (position, News::Heartbeat(proto::Heartbeat {})),
            Told::Reset(position) => (position, News::Reset(proto::Reset {})),
        };
        Self {
            position,
            news: Some(news),
        }
    }
}

impl From<Published> for proto::AccessEvent {
    fn from(published: Published) -> Self {
        let session = match published.event {
            Some(Event::SessionEnded { session }) => session.to_string(),
            _ => String::new(),
        };
        let (kind, user, studio) = match published.event {
            Some(Event::MembershipChanged { user, .. }) => (Kind::MembershipChanged, Some(user), None),
            Some(Event::PlanChanged { .. }) => (Kind::PlanChanged, None, None),
            Some(Event::StudioChanged { studio, .. }) => (Kind::StudioChanged, None, Some(studio)),
            Some(Event::StudioDeleted { studio, .. }) => (Kind::StudioDeleted, None, Some(studio)),
            Some(Event::StudioUndeleted { studio, .. }) => (Kind::StudioUndeleted, None, Some(studio)),
            Some(Event::CompanyDeleted { .. }) => (Kind::CompanyDeleted, None, None),
            Some(Event::SessionEnded { .. }) => (Kind::SessionEnded, None, None),
            None => (Kind::Unspecified, None, None),
        };
        Self {
            company_id: published.company.to_string(),
            kind: kind.into(),
            user_id: user.map(|it| it.to_string()).unwrap_or_default(),
            studio_id: studio.map(|it| it.to_string()).unwrap_or_default(),
            session_id: session,
        }
    }
}
