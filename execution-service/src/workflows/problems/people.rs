//! The rules of who decides and how.

use std::{collections::BTreeSet, time::Duration};

use service_kit::{error::Violations, ids::UserId};

use super::{Surroundings, fan::MAX_WAIT, llm::template};
use crate::engine::{
    check,
    definition::{Approval, Approvers, Policy, Stage},
};

/// The shortest time after which something happens by itself.
const MIN_AFTER: Duration = Duration::from_secs(1);
/// The most people who may have to decide, and the most who are named.
const MAX_PEOPLE: usize = 100;

/// Notes the problems of an approval stage.
pub(super) fn approval(
    found: &mut Violations,
    field: &str,
    around: &Surroundings<'_>,
    place: usize,
    stage: &Stage,
    approval: &Approval,
) {
    if approval.question.trim().is_empty() {
        found.add(format!("{field}.question"), "must not be empty");
    }
    let given = around.given(place);
    template(
        found,
        &format!("{field}.question"),
        around,
        place,
        stage,
        &given,
        &approval.question,
    );
    if approval.policy.may_edit {
        found.add(
            format!("{field}.policy.may_edit"),
            "there is no output that could be changed",
        );
    }
    policy(found, &format!("{field}.policy"), &approval.policy);
}

/// Notes the problems of a policy.
pub(super) fn policy(found: &mut Violations, field: &str, policy: &Policy) {
    people(found, &format!("{field}.approvers"), &policy.approvers);
    people(found, &format!("{field}.escalate_to"), &policy.escalate_to);
    if policy.needed() > MAX_PEOPLE {
        found.add(format!("{field}.required"), format!("must be at most {MAX_PEOPLE}"));
    } else if let Some(named) = most(policy)
        && policy.needed() > named
    {
        found.add(
            format!("{field}.required"),
            format!("{} must let it pass, but only {named} may decide", policy.needed()),
        );
    }
    for (name, after) in [
        ("expires_after", policy.expires_after),
        ("remind_after", policy.remind_after),
        ("escalate_after", policy.escalate_after),
    ] {
        let field = format!("{field}.{name}");
        if after.is_some_and(|it| it < MIN_AFTER || it > MAX_WAIT) {
            found.add(field, "must be 1 s to 366 days");
        } else if name != "expires_after"
            && let (Some(after), Some(end)) = (after, policy.expires_after)
            && after >= end
        {
            found.add(field, "must be less than expires_after");
        }
    }
    if policy.next_on_expiry.is_some() && policy.expires_after.is_none() {
        found.add(format!("{field}.next_on_expiry"), "never happens without expires_after");
    }
    if !policy.escalate_to.is_anyone() && policy.escalate_after.is_none() {
        found.add(format!("{field}.escalate_to"), "never happens without escalate_after");
    }
    if let Some(form) = &policy.form
        && let Err(error) = check::Schema::compile(form)
    {
        found.add(format!("{field}.form"), error);
    }
}

fn people(found: &mut Violations, field: &str, people: &Approvers) {
    if people.users.len() > MAX_PEOPLE {
        found.add(format!("{field}.user_ids"), format!("must be at most {MAX_PEOPLE}"));
    }
}

/// How many people may decide at most; none where that is not known, as with a role.
fn most(policy: &Policy) -> Option<usize> {
    let mut named: BTreeSet<UserId> = BTreeSet::new();
    let asked = [
        Some(&policy.approvers),
        policy.escalate_after.map(|_| &policy.escalate_to),
    ];
    for people in asked.into_iter().flatten() {
        if people.is_anyone() || people.role.is_some() {
            return None;
        }
        named.extend(people.users.iter().copied());
    }
    Some(named.len())
}
