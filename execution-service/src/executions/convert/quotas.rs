//! Quotas as the contract writes them.

use service_kit::update;
use studios_proto::execution::{self as proto, QuotaKind};

use crate::executions::quotas::Quotas;

impl From<Quotas> for proto::Quotas {
    fn from(it: Quotas) -> Self {
        let Quotas {
            allowed,
            used,
            reset_at,
        } = it;
        let all = [
            (
                QuotaKind::ExecutionsPerMonth,
                allowed.executions_per_month,
                used.executions,
            ),
            (
                QuotaKind::ConcurrentExecutions,
                allowed.concurrent_executions,
                used.at_work,
            ),
            (QuotaKind::TokensPerMonth, allowed.tokens_per_month, used.tokens),
            (
                QuotaKind::CostMicrosPerMonth,
                allowed.cost_micros_per_month,
                used.cost_micros,
            ),
        ];
        let quota = |(kind, limit, used): (QuotaKind, i64, i64)| proto::Quota {
            kind: kind.into(),
            limit,
            used,
            remaining: limit.saturating_sub(used).max(0),
        };
        Self {
            quotas: all.into_iter().map(quota).collect(),
            reset_time: Some(update::timestamp(reset_at)),
        }
    }
}
