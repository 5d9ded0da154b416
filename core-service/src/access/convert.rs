//! Access decisions as the contract writes them.

use service_kit::update;
use studios_proto::core as proto;

use super::Decision;

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
        }
    }
}
