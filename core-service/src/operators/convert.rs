//! What operators set as the contract writes it.

use std::ops::RangeInclusive;

use service_kit::{
    error::{Result, Violations},
    ids::{CompanyId, UserId},
    update,
};
use studios_proto::core as proto;

use super::Act;
use crate::{
    companies::{Subscription, plans::Plan},
    users::Subscription as SubscriptionStatus,
};

const REASON: RangeInclusive<usize> = 0..=500;
const NAME: RangeInclusive<usize> = 1..=100;

pub(super) fn company(text: &str) -> Result<CompanyId> {
    Violations::only_id("company_id", text)
}

pub(super) fn suspension(request: &proto::SuspendCompanyRequest) -> Result<(CompanyId, Act)> {
    let mut violations = Violations::new();
    let company = violations.id("company_id", &request.company_id);
    let reason = violations.text("reason", &request.reason, REASON);
    violations.finish()?;
    let act = Act::Suspend {
        reason: reason.expect("a missing one is a violation"),
    };
    Ok((company.expect("a missing one is a violation"), act))
}

pub(super) fn subscription(request: &proto::SetSubscriptionRequest) -> Result<(CompanyId, Act)> {
    let mut violations = Violations::new();
    let company = violations.id("company_id", &request.company_id);
    let given = request.subscription.unwrap_or_default();
    let status = match proto::SubscriptionStatus::try_from(given.status) {
        Ok(proto::SubscriptionStatus::Active) => Some(SubscriptionStatus::Active),
        Ok(proto::SubscriptionStatus::Cancelled) => Some(SubscriptionStatus::Cancelled),
        Ok(proto::SubscriptionStatus::Expired) => Some(SubscriptionStatus::Expired),
        Ok(proto::SubscriptionStatus::Unspecified) | Err(_) => None,
    };
    if status.is_none() {
        violations.add("subscription.status", "must be active, cancelled or expired");
    }
    let mut moment = |field: &str, at: Option<&prost_types::Timestamp>| {
        let read = at.map(update::moment);
        if read == Some(None) {
            violations.add(field, "must be a time");
        }
        read.flatten()
    };
    let period_start = moment("subscription.period_start_time", given.period_start_time.as_ref());
    let period_end = moment("subscription.period_end_time", given.period_end_time.as_ref());
    if period_start.zip(period_end).is_some_and(|(start, end)| start >= end) {
        violations.add("subscription.period_end_time", "must be after the period's start");
    }
    violations.finish()?;
    let act = Act::SetSubscription(Subscription {
        status: status.expect("a missing one is a violation"),
        period_start,
        period_end,
        renews: given.renews,
        suspended_at: None,
    });
    Ok((company.expect("a missing one is a violation"), act))
}

pub(super) fn plan(request: proto::UpdatePlanRequest) -> Result<Plan> {
    let mut violations = Violations::new();
    let given = request.plan.unwrap_or_default();
    let limits = given.limits.unwrap_or_default();
    let code = violations.text("plan.code", &given.code, NAME);
    let display_name = violations.text("plan.display_name", &given.display_name, NAME);
    let at_least = [
        ("plan.limits.executions_per_month", limits.executions_per_month, 0),
        (
            "plan.limits.concurrent_executions",
            limits.concurrent_executions.into(),
            0,
        ),
        ("plan.limits.storage_bytes", limits.storage_bytes, 0),
        ("plan.limits.tokens_per_month", limits.tokens_per_month, 0),
        ("plan.limits.cost_micros_per_month", limits.cost_micros_per_month, 0),
        ("plan.limits.members", limits.members.into(), 1),
        ("plan.limits.studios", limits.studios.into(), 1),
    ];
    for (field, value, least) in at_least {
        if value < least {
            violations.add(field, format!("must be at least {least}"));
        }
    }
    violations.finish()?;
    Ok(Plan {
        code: code.expect("a missing one is a violation"),
        display_name: display_name.expect("a missing one is a violation"),
        executions_per_month: limits.executions_per_month,
        concurrent_executions: limits.concurrent_executions,
        storage_bytes: limits.storage_bytes,
        tokens_per_month: limits.tokens_per_month,
        cost_micros_per_month: limits.cost_micros_per_month,
        members: limits.members,
        studios: limits.studios,
    })
}

pub(super) fn user_limits(request: &proto::SetUserLimitsRequest) -> Result<(UserId, i32)> {
    let mut violations = Violations::new();
    let user = violations.id("user_id", &request.user_id);
    if request.max_snapshots < 0 {
        violations.add("max_snapshots", "must not be negative");
    }
    violations.finish()?;
    Ok((user.expect("a missing one is a violation"), request.max_snapshots))
}

/// A plan's code as an operator gives it.
pub(super) fn set_plan(request: &proto::SetCompanyPlanRequest) -> Result<(CompanyId, Act)> {
    let mut violations = Violations::new();
    let company = violations.id("company_id", &request.company_id);
    let plan = violations.text("plan", &request.plan, NAME);
    violations.finish()?;
    let act = Act::SetPlan(plan.expect("a missing one is a violation"));
    Ok((company.expect("a missing one is a violation"), act))
}
