//! Plans as the contract writes them.

use studios_proto::core as proto;

use super::Plan;

impl From<Plan> for proto::Plan {
    fn from(plan: Plan) -> Self {
        Self {
            code: plan.code,
            display_name: plan.display_name,
            limits: Some(proto::PlanLimits {
                executions_per_month: plan.executions_per_month,
                concurrent_executions: plan.concurrent_executions,
                storage_bytes: plan.storage_bytes,
                tokens_per_month: plan.tokens_per_month,
                cost_micros_per_month: plan.cost_micros_per_month,
                members: plan.members,
                studios: plan.studios,
            }),
        }
    }
}
