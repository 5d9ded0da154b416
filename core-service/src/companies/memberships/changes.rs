//! Changes of memberships: approving, refusing, another role, the end.
//!
//! Changes of one company's memberships wait for each other, so what they are judged by stays true: a company always has an
//! admin, and never more members than its plan allows. The other service learns of each from the outbox.

use service_kit::{
    audit::About,
    auth::Caller,
    db::{Claims, TenantTx},
    error::{Error, Result},
    ids::MembershipId,
    update,
};

use super::{Membership, Role, State, store};
use crate::{
    App,
    outbox::{self, Event},
};

/// What is asked of a membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Put it in force, with this role.
    Approve(Role),
    /// Refuse what was asked for.
    Reject,
    /// Give the member this role.
    SetRole(Role),
    /// End it.
    End,
}

/// A change of a membership.
#[derive(Clone, Debug)]
pub struct Change {
    /// Which.
    pub id: MembershipId,
    /// If not empty, what it must still have.
    pub etag: String,
    /// What is asked of it; nothing leaves it as it is.
    pub act: Option<Act>,
}

/// How many members a company has, and may have by its plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quota {
    pub used: i64,
    pub allowed: i32,
}

impl Quota {
    fn require_room(self) -> Result<()> {
        if self.used < self.allowed.into() {
            return Ok(());
        }
        Err(Error::ResourceExhausted {
            reason: "MEMBER_QUOTA_EXCEEDED",
            message: format!("the company's plan has room for {} members", self.allowed),
            retry_after: None,
        })
    }
}

impl Act {
    /// What a membership becomes by it.
    fn apply(self, (role, state): (Role, State)) -> Result<(Role, State)> {
        match (self, state) {
            (Self::Approve(role), State::Pending | State::Rejected | State::Inactive) => Ok((role, State::Approved)),
            (Self::Approve(_), State::Approved) => Err(wrong_state("the membership is approved already")),
            (Self::Reject, State::Pending) => Ok((role, State::Rejected)),
            (Self::Reject, _) => Err(wrong_state("only a membership that was asked for can be refused")),
            (Self::SetRole(role), State::Approved) => Ok((role, state)),
            (Self::End, State::Approved) => Ok((role, State::Inactive)),
            (Self::SetRole(_) | Self::End, _) => Err(wrong_state("the membership is not in force")),
        }
    }
}

/// Changes a membership: for the company's admins, and for everybody the end of his own.
pub async fn change(app: &App, caller: &Caller, change: &Change) -> Result<Membership> {
    let not_found = || Error::not_found("membership", change.id);
    let mut tx = TenantTx::begin(&app.pool, "memberships.change", &Claims::user(caller.user)).await?;
    let seen = store::find(&mut tx, change.id).await?.ok_or_else(not_found)?;
    let leaves = seen.user == caller.user && change.act == Some(Act::End);
    if !leaves {
        let place = store::place(&mut tx, seen.company).await?;
        // Who asked to join sees his own request, and is nobody there yet.
        place.ok_or_else(admin_required)?.require_admin()?;
    }
    let quota = store::hold(&mut tx, seen.company).await?;
    let membership = store::find(&mut tx, change.id).await?.ok_or_else(not_found)?;
    update::check_etag(&change.etag, membership.revision)?;
    let before = (membership.role, membership.state);
    let after = change.act.map_or(Ok(before), |act| act.apply(before))?;
    if after == before {
        return Ok(membership);
    }
    if after.1 == State::Approved && before.1 != State::Approved {
        quota.ok_or_else(admin_required)?.require_room()?;
    }
    let stays_admin = after == (Role::Admin, State::Approved);
    if before == (Role::Admin, State::Approved)
        && !stays_admin
        && !store::has_another_admin(&mut tx, &membership).await?
    {
        return Err(Error::FailedPrecondition {
            reason: "LAST_ADMIN",
            message: "a company keeps an admin: make somebody else one first".into(),
        });
    }
    store::set(&mut tx, change.id, after.0, after.1).await?;
    let changed = store::find(&mut tx, change.id).await?.ok_or_else(not_found)?;
    let (company, user) = (changed.company, changed.user);
    let about = About::company(company, "membership", changed.id).with("user_id", user.to_string());
    app.audit.record(&mut tx, about).await?;
    outbox::publish(&mut tx, &Event::MembershipChanged { company, user }).await?;
    tx.commit().await?;
    Ok(changed)
}

fn admin_required() -> Error {
    Error::PermissionDenied {
        reason: "ADMIN_REQUIRED",
        message: "an admin of the company may do this".into(),
    }
}

fn wrong_state(message: &str) -> Error {
    Error::FailedPrecondition {
        reason: "MEMBERSHIP_STATE",
        message: message.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 4] = [State::Pending, State::Approved, State::Rejected, State::Inactive];

    #[test]
    fn every_act_has_its_states() {
        use State::{Approved, Inactive, Pending, Rejected};
        let allowed = |act: Act| STATES.map(|state| act.apply((Role::Member, state)).ok());
        let (admin, member) = (Role::Admin, Role::Member);
        assert_eq!(STATES, [Pending, Approved, Rejected, Inactive]);
        assert_eq!(
            allowed(Act::Approve(admin)),
            [
                Some((admin, Approved)),
                None,
                Some((admin, Approved)),
                Some((admin, Approved))
            ]
        );
        assert_eq!(allowed(Act::Reject), [Some((member, Rejected)), None, None, None]);
        assert_eq!(
            allowed(Act::SetRole(admin)),
            [None, Some((admin, Approved)), None, None]
        );
        assert_eq!(allowed(Act::End), [None, Some((member, Inactive)), None, None]);
    }

    #[test]
    fn a_full_company_takes_nobody_in() {
        assert!(Quota { used: 2, allowed: 3 }.require_room().is_ok());
        let full = Quota { used: 3, allowed: 3 }.require_room();
        assert!(matches!(
            full,
            Err(Error::ResourceExhausted {
                reason: "MEMBER_QUOTA_EXCEEDED",
                ..
            })
        ));
    }
}
