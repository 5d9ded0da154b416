//! What people are asked while a run waits for them, as lists of what waits show it.

use std::collections::BTreeSet;

use serde_json::Value;
use service_kit::ids::UserId;
use time::OffsetDateTime;

use crate::engine::{
    definition::{Approvers, Rank},
    journal::StageTry,
    state::State,
    waiting::{About, Waiting},
};

/// Something that people decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    pub(in crate::worker) of: StageTry,
    pub(in crate::worker) about: &'static str,
    pub(in crate::worker) question: String,
    pub(in crate::worker) users: BTreeSet<UserId>,
    pub(in crate::worker) rank: Option<&'static str>,
    pub(in crate::worker) not_users: BTreeSet<UserId>,
    pub(in crate::worker) not_own_run: bool,
    pub(in crate::worker) required: i32,
    pub(in crate::worker) approved: i32,
    pub(in crate::worker) since: OffsetDateTime,
    pub(in crate::worker) expires_at: Option<OffsetDateTime>,
    pub(in crate::worker) escalated: bool,
}

impl Ask {
    /// All that people are asked of a run that stands so: nothing while it is paused.
    pub(in crate::worker) fn all(state: &State) -> Vec<Self> {
        let waiting = state.waiting_outputs().filter(|_| !state.is_paused());
        waiting.map(|(waiting, output)| Self::of(waiting, output)).collect()
    }

    /// As it stands now, of the output that waits.
    fn of(waiting: &Waiting, output: &Value) -> Self {
        let policy = &waiting.policy;
        let mut asked = vec![&policy.approvers];
        asked.extend(waiting.escalated.then_some(&policy.escalate_to));
        let mut users: BTreeSet<UserId> = asked.iter().flat_map(|it| it.users.iter().copied()).collect();
        let mut not_users: BTreeSet<UserId> = waiting.approvals.iter().map(|it| it.by).collect();
        for (by, to) in &waiting.delegations {
            not_users.insert(*by);
            not_users.remove(to);
            users.insert(*to);
        }
        let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        Self {
            of: waiting.of.clone(),
            about: match waiting.about {
                About::Output => "output",
                About::Question => "question",
                About::Outcome => "outcome",
            },
            question: match waiting.about {
                About::Question => output["question"].as_str().unwrap_or_default().to_owned(),
                About::Output | About::Outcome => String::new(),
            },
            users,
            rank: asked.iter().filter_map(|it| least_rank(it)).min().map(rank),
            not_users,
            not_own_run: policy.not_own_run && waiting.about != About::Outcome,
            required: number(policy.needed()),
            approved: number(waiting.approvals.len()),
            since: waiting.since,
            expires_at: policy.expires_after.map(|after| {
                waiting
                    .since
                    .saturating_add(after.try_into().unwrap_or(time::Duration::MAX))
            }),
            escalated: waiting.escalated,
        }
    }
}

/// The least rank that lets somebody decide who is not named.
fn least_rank(approvers: &Approvers) -> Option<Rank> {
    if approvers.is_anyone() {
        Some(Rank::Member)
    } else {
        approvers.role
    }
}

const fn rank(rank: Rank) -> &'static str {
    match rank {
        Rank::Member => "member",
        Rank::Admin => "admin",
    }
}
