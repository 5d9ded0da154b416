//! Why somebody may or may not see a row: his token, membership, role and branches, what the row says, and the policy.
//!
//! The steps are told from what lies in the tables; the last one is no telling but the policy itself, asked under his claims. It
//! decides, and a step that says otherwise is a defect of the telling. For admins, about what they see themselves.

use service_kit::{
    auth::Caller,
    db::{Claims, TenantTx},
    error::{Error, Result},
    ids::{BranchId, CompanyId, DocumentId, StudioId, UserId},
};
use time::OffsetDateTime;

use super::memberships::{self, Role, State};
use crate::App;

pub(super) mod convert;
mod store;

/// What it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thing {
    /// A studio.
    Studio(StudioId),
    /// A document.
    Document(DocumentId),
}

/// Who, and what.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// The company.
    pub company: CompanyId,
    /// The user or API key.
    pub who: UserId,
    /// The thing.
    pub thing: Thing,
}

/// What access follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Whether he can have a token that is taken.
    Token,
    /// The membership.
    Membership,
    /// The role.
    Role,
    /// The branches that he is narrowed to.
    Branch,
    /// What the thing says.
    Thing,
    /// The policy.
    Policy,
}

/// One of the things that access follows from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which.
    pub check: Check,
    /// Whether it lets him through.
    pub passed: bool,
    /// Why.
    pub text: String,
}

/// What is known of who is asked about.
#[derive(Clone, Debug)]
struct Known {
    state: Option<State>,
    role: Option<Role>,
    branches: Vec<BranchId>,
    /// Of an API key: when it was revoked and when it ends.
    key: Option<(Option<OffsetDateTime>, Option<OffsetDateTime>)>,
}

/// What is known of the thing.
#[derive(Clone, Debug)]
struct Place {
    company: CompanyId,
    studio_branch: Option<BranchId>,
    is_private: bool,
    is_for_all: bool,
    made_by: UserId,
}

/// Explains, for the company's admins.
pub async fn explain(app: &App, caller: &Caller, question: &Question) -> Result<Vec<Step>> {
    let mut tx = TenantTx::begin(&app.pool, "companies.explain", &Claims::user(caller.user)).await?;
    memberships::place(&mut tx, question.company).await?.require_admin()?;
    let place = store::place(&mut tx, question.thing).await?;
    let place = place
        .filter(|it| it.company == question.company)
        .ok_or_else(|| match question.thing {
            Thing::Studio(id) => Error::not_found("studio", id),
            Thing::Document(id) => Error::not_found("document", id),
        })?;
    let known = store::known(&mut tx, question.company, question.who).await?;
    drop(tx);
    let mut steps = told(&known, &place, question.who, app.clock.now());
    let mut tx = TenantTx::begin(&app.pool, "companies.explain_as", &Claims::user(question.who)).await?;
    let sees = store::sees(&mut tx, question.thing).await?;
    drop(tx);
    steps.push(Step {
        check: Check::Policy,
        passed: sees,
        text: if sees {
            "the policy shows the row under these claims".into()
        } else {
            "the policy hides the row under these claims".into()
        },
    });
    Ok(steps)
}

/// The steps before the policy.
fn told(known: &Known, place: &Place, who: UserId, now: OffsetDateTime) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut step = |check, passed, text: String| steps.push(Step { check, passed, text });
    match known.key {
        None => step(
            Check::Token,
            true,
            "a user's own token, or a service that acts for him".into(),
        ),
        Some((Some(at), _)) => step(Check::Token, false, format!("the API key was revoked at {at}")),
        Some((None, Some(at))) if at <= now => step(Check::Token, false, format!("the API key ended at {at}")),
        Some((None, _)) => step(Check::Token, true, "an API key in use, within its scopes".into()),
    }
    match known.state {
        Some(State::Approved) => step(Check::Membership, true, "an approved membership".into()),
        Some(State::Pending) => step(
            Check::Membership,
            false,
            "the membership was asked for and not approved yet".into(),
        ),
        Some(State::Rejected) => step(Check::Membership, false, "the membership was refused".into()),
        Some(State::Inactive) => step(Check::Membership, false, "the membership has ended".into()),
        None => step(Check::Membership, false, "no membership in the company".into()),
    }
    match known.role {
        Some(Role::Admin) => step(Check::Role, true, "an admin; what he sees is what members see".into()),
        Some(Role::Member) => step(Check::Role, true, "a member".into()),
        None => step(Check::Role, false, "no role without a membership".into()),
    }
    let is_within = known.branches.is_empty() || place.studio_branch.is_some_and(|it| known.branches.contains(&it));
    let branch = if known.branches.is_empty() {
        "narrowed to no branches".into()
    } else if is_within {
        "narrowed to branches, the studio's among them".into()
    } else if place.studio_branch.is_none() {
        "narrowed to branches, and the studio belongs to none".into()
    } else {
        "narrowed to other branches than the studio's".into()
    };
    step(Check::Branch, is_within || place.is_for_all || place.is_private, branch);
    let thing = match (place.is_private, place.made_by == who, place.is_for_all) {
        (true, true, _) => (true, "private, and his own"),
        (true, false, _) => (false, "private, and somebody else's"),
        (false, _, true) => (true, "for all of the company, whatever the branch"),
        (false, _, false) => (true, "for whoever reaches the studio"),
    };
    step(Check::Thing, thing.0, thing.1.into());
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(branch: Option<BranchId>) -> Place {
        Place {
            company: CompanyId::generate(),
            studio_branch: branch,
            is_private: false,
            is_for_all: false,
            made_by: UserId::generate(),
        }
    }

    fn failed(known: &Known, place: &Place) -> Vec<Check> {
        let steps = told(known, place, UserId::generate(), OffsetDateTime::UNIX_EPOCH);
        steps.into_iter().filter(|it| !it.passed).map(|it| it.check).collect()
    }

    #[test]
    fn each_step_names_what_keeps_somebody_out() {
        let (his, other) = (BranchId::generate(), BranchId::generate());
        let member = Known {
            state: Some(State::Approved),
            role: Some(Role::Member),
            branches: Vec::new(),
            key: None,
        };
        assert_eq!(failed(&member, &place(None)), []);
        let nobody = Known {
            state: None,
            role: None,
            ..member.clone()
        };
        assert_eq!(failed(&nobody, &place(None)), [Check::Membership, Check::Role]);
        let narrowed = Known {
            branches: vec![his],
            ..member.clone()
        };
        assert_eq!(failed(&narrowed, &place(Some(his))), []);
        assert_eq!(failed(&narrowed, &place(Some(other))), [Check::Branch]);
        assert_eq!(failed(&narrowed, &place(None)), [Check::Branch]);
        let revoked = Known {
            key: Some((Some(OffsetDateTime::UNIX_EPOCH), None)),
            ..member.clone()
        };
        assert_eq!(failed(&revoked, &place(None)), [Check::Token]);
        let mut private = place(None);
        private.is_private = true;
        assert_eq!(failed(&member, &private), [Check::Thing]);
    }
}
