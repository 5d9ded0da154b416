//! What waits for people: how far they are, who may decide, and what happens by itself meanwhile.
//!
//! What always holds: a person counts once; the first refusal decides; who left his decision to another has none; all times
//! count from the entry that the wait began with.

use std::sync::Arc;

use serde_json::{Value, json};
use service_kit::ids::UserId;
use time::OffsetDateTime;

use super::{
    action::Alarm,
    definition::{Policy, Rank},
    journal::{Decision, Of, Payload, Ruling, StageTry},
};

/// Something that people decide.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    /// The try that waits.
    pub of: StageTry,
    /// What is asked.
    pub about: About,
    /// How it is decided.
    pub policy: Arc<Policy>,
    /// Since when it waits.
    pub since: OffsetDateTime,
    /// Who has let it pass, in order.
    pub approvals: Vec<Approved>,
    /// Who left his decision to whom, in order.
    pub delegations: Vec<(UserId, UserId)>,
    /// Whether those who may decide were reminded.
    pub reminded: bool,
    /// Whether others may decide too by now.
    pub escalated: bool,
    /// What is used in place of the output, by the last decision that says so.
    pub edited: Option<Arc<Value>>,
}

/// What people are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// Whether an output may pass.
    Output,
    /// The question of an approval stage.
    Question,
    /// What came of something that must not be done twice: that it passed, with which output; that it failed; or to do it again.
    Outcome,
}

/// A person's word that it may pass.
#[derive(Debug, Clone, PartialEq)]
pub struct Approved {
    /// Who.
    pub by: UserId,
    /// In his words; may be empty.
    pub notes: String,
    /// The form he filled in.
    pub form: Option<Value>,
    /// When.
    pub at: OffsetDateTime,
}

/// Somebody who would decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Person {
    /// Who.
    pub id: UserId,
    /// What he is in the company.
    pub rank: Rank,
    /// Whether he started the run.
    pub started_run: bool,
}

/// Why somebody may not decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Others are asked.
    #[error("others are asked to decide this")]
    NotAsked,
    /// He started the run.
    #[error("who started the run may not decide this")]
    OwnRun,
    /// He has decided already.
    #[error("you have decided this already")]
    Decided,
    /// He left his decision to another.
    #[error("you left this decision to somebody else")]
    Delegated,
    /// Nobody may leave his decision to another.
    #[error("this decision cannot be left to somebody else")]
    NotDelegable,
}

/// What follows from a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decided {
    /// It waits on.
    Open,
    /// It passes.
    Passed,
    /// It does not pass.
    Refused,
    /// It is done again.
    Again,
}

impl Waiting {
    pub(super) const fn new(of: StageTry, about: About, policy: Arc<Policy>, since: OffsetDateTime) -> Self {
        Self {
            of,
            about,
            policy,
            since,
            approvals: Vec::new(),
            delegations: Vec::new(),
            reminded: false,
            escalated: false,
            edited: None,
        }
    }

    /// How many more must let it pass.
    pub fn missing(&self) -> usize {
        self.policy.needed().saturating_sub(self.approvals.len())
    }

    /// Whether somebody may decide it now, and why not.
    pub fn may_decide(&self, person: Person) -> Result<(), Denied> {
        if self.policy.not_own_run && person.started_run && self.about != About::Outcome {
            return Err(Denied::OwnRun);
        }
        if self.approvals.iter().any(|it| it.by == person.id) {
            return Err(Denied::Decided);
        }
        if self.has_delegated(person.id) {
            return Err(Denied::Delegated);
        }
        let is_asked = self.policy.approvers.include(person.id, person.rank)
            || self.delegations.iter().any(|(_, to)| *to == person.id)
            || (self.escalated && self.policy.escalate_to.include(person.id, person.rank));
        if is_asked { Ok(()) } else { Err(Denied::NotAsked) }
    }

    /// Whether somebody may leave his decision to another now, and why not.
    pub fn may_delegate(&self, person: Person) -> Result<(), Denied> {
        self.may_decide(person)?;
        if self.policy.may_delegate {
            Ok(())
        } else {
            Err(Denied::NotDelegable)
        }
    }

    /// Whether somebody's decision is another's now: what he did last about it counts.
    fn has_delegated(&self, user: UserId) -> bool {
        let last = self
            .delegations
            .iter()
            .rev()
            .find(|(by, to)| *by == user || *to == user);
        last.is_some_and(|(by, _)| *by == user)
    }

    /// What happens by itself next, if anything does.
    pub fn alarm(&self) -> Option<Alarm> {
        let policy = &*self.policy;
        let of = || Of { of: self.of.clone() };
        let events = [
            (
                policy.remind_after.filter(|_| !self.reminded),
                Payload::Reminded as fn(Of) -> Payload,
            ),
            (policy.escalate_after.filter(|_| !self.escalated), Payload::Escalated),
            (policy.expires_after, Payload::Expired),
        ];
        let next = events
            .into_iter()
            .filter_map(|(after, payload)| Some((after?, payload)));
        // Of those at the same time the first one is taken: `min_by_key` keeps it.
        next.min_by_key(|(after, _)| *after).map(|(after, payload)| Alarm {
            at: self
                .since
                .saturating_add(after.try_into().unwrap_or(time::Duration::MAX)),
            record: Box::new(payload(of())),
        })
    }

    pub(super) fn decide(&mut self, decision: &Decision, at: OffsetDateTime) -> Decided {
        let counts = !self.has_delegated(decision.by) && self.approvals.iter().all(|it| it.by != decision.by);
        match decision.decision {
            _ if !counts => Decided::Open,
            Ruling::Fail => Decided::Refused,
            Ruling::Again if self.about == About::Outcome => Decided::Again,
            Ruling::Again => Decided::Open,
            Ruling::Pass => {
                if let Some(output) = &decision.output
                    && (self.policy.may_edit || self.about == About::Outcome)
                {
                    self.edited = Some(Arc::new(output.clone()));
                }
                self.approvals.push(Approved {
                    by: decision.by,
                    notes: decision.notes.clone(),
                    form: decision.form.clone(),
                    at,
                });
                if self.missing() == 0 {
                    Decided::Passed
                } else {
                    Decided::Open
                }
            }
        }
    }

    pub(super) fn delegate(&mut self, by: UserId, to: UserId) {
        if self.policy.may_delegate && by != to {
            self.delegations.push((by, to));
        }
    }

    /// The output of an approval stage that passed.
    pub(super) fn approved(&self) -> Value {
        let decisions: Vec<Value> = self.approvals.iter().map(Approved::to_json).collect();
        json!({ "approved": true, "decisions": decisions })
    }
}

impl Approved {
    fn to_json(&self) -> Value {
        let at = self.at.format(&time::format_description::well_known::Rfc3339);
        json!({
            "by": self.by,
            "notes": self.notes,
            "form": self.form,
            "at": at.expect("a journal's times are of years that the format has"),
        })
    }
}

#[cfg(test)]
mod tests;
