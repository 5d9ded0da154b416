//! Memberships: a user's place in a company, from which row level security derives everything he reaches.
//!
//! Only approved memberships count. A member who has been narrowed to branches reaches the studios of these alone. A user has
//! at most one membership in a company: asked for, decided by an admin, ended, and perhaps approved again.

use serde::Serialize;
use service_kit::{
    auth::Caller,
    db::{Claims, TenantTx},
    error::{Error, Result},
    ids::{BranchId, CompanyId, MembershipId, UserId},
    page::Page,
};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::not_found;
use crate::App;

mod changes;
pub(crate) mod convert;
mod store;

pub use changes::{Act, Change, change};

/// A user's place in a company, as its members see it.
#[derive(Clone, Debug)]
pub struct Membership {
    /// Its id.
    pub id: MembershipId,
    /// The company.
    pub company: CompanyId,
    /// The company's name.
    pub company_name: String,
    /// The member.
    pub user: UserId,
    /// The member's name.
    pub full_name: String,
    /// The member's e-mail address, where the caller is an admin of the company or the member.
    pub email: Option<String>,
    /// What the member may do.
    pub role: Role,
    /// Whether it is in force.
    pub state: State,
    /// Grows with every update.
    pub revision: i64,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it last changed.
    pub updated_at: OffsetDateTime,
}

/// What a member may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Role {
    /// Changes the company, its branches and its members.
    Admin,
    /// Works in the company's studios.
    Member,
}

/// Whether a membership is in force.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum State {
    /// Asked for, not decided.
    Pending,
    /// In force.
    Approved,
    /// Refused by an admin.
    Rejected,
    /// Was approved, is no longer.
    Inactive,
}

/// The caller's own approved place in a company.
#[derive(Clone, Debug)]
pub struct Place {
    /// What he may do.
    pub role: Role,
    /// The branches he is narrowed to; empty means all.
    pub branches: Vec<BranchId>,
}

impl Place {
    /// Refuses everybody but admins.
    pub fn require_admin(&self) -> Result<()> {
        self.require_admin_unless(false)
    }

    /// Refuses everybody but admins and whom `excepted` names, such as a thing's maker.
    pub fn require_admin_unless(&self, excepted: bool) -> Result<()> {
        if excepted || self.role == Role::Admin {
            return Ok(());
        }
        Err(Error::PermissionDenied {
            reason: "ADMIN_REQUIRED",
            message: "an admin of the company may do this".into(),
        })
    }

    /// Refuses what is outside the branches that the caller is narrowed to.
    pub fn require_reach(&self, branch: Option<BranchId>) -> Result<()> {
        if self.branches.is_empty() || branch.is_some_and(|it| self.branches.contains(&it)) {
            return Ok(());
        }
        Err(out_of_reach())
    }
}

/// The caller is narrowed to other branches.
pub(crate) fn out_of_reach() -> Error {
    Error::PermissionDenied {
        reason: "BRANCH_OUT_OF_REACH",
        message: "the membership is narrowed to other branches".into(),
    }
}

/// Which memberships to list.
#[derive(Clone, Debug, Serialize)]
pub struct Filter {
    /// Of this company.
    pub company: CompanyId,
    /// Only in this state.
    pub state: Option<State>,
}

/// Lists a company's memberships, oldest first.
pub async fn list(app: &App, caller: &Caller, filter: &Filter, page: &Page<MembershipId>) -> Result<Vec<Membership>> {
    let mut tx = TenantTx::begin(&app.pool, "memberships.list", &Claims::user(caller.user)).await?;
    place(&mut tx, filter.company).await?;
    store::list(&mut tx, filter, page).await
}

/// Lists the caller's own memberships, oldest first.
pub async fn list_own(app: &App, caller: &Caller, page: &Page<MembershipId>) -> Result<Vec<Membership>> {
    let mut tx = TenantTx::begin(&app.pool, "memberships.list_own", &Claims::user(caller.user)).await?;
    store::list_own(&mut tx, caller.user, page).await
}

/// The caller's membership in a company, in whatever state.
pub(crate) async fn own(tx: &mut PgConnection, company: CompanyId, caller: UserId) -> Result<Option<Membership>> {
    store::of_user(tx, company, caller).await
}

/// The caller's place in a company; `NotFound` of the company where he has none.
pub async fn place(tx: &mut PgConnection, company: CompanyId) -> Result<Place> {
    store::place(tx, company).await?.ok_or_else(|| not_found(company))
}

/// Makes the caller the first admin of the company he has just made.
pub(super) async fn found(tx: &mut PgConnection, company: CompanyId, user: UserId) -> Result<()> {
    let id = MembershipId::generate();
    store::insert(tx, id, company, user, Role::Admin, State::Approved).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(role: Role, branches: &[BranchId]) -> Place {
        Place {
            role,
            branches: branches.to_vec(),
        }
    }

    #[test]
    fn admins_and_whoever_is_excepted_may() {
        assert!(place(Role::Admin, &[]).require_admin().is_ok());
        assert!(place(Role::Member, &[]).require_admin_unless(true).is_ok());
        let refused = place(Role::Member, &[]).require_admin();
        assert!(matches!(
            refused,
            Err(Error::PermissionDenied {
                reason: "ADMIN_REQUIRED",
                ..
            })
        ));
    }

    #[test]
    fn a_narrowed_member_reaches_his_branches_and_nothing_outside_of_branches() {
        let (his, other) = (BranchId::generate(), BranchId::generate());
        assert!(place(Role::Member, &[]).require_reach(None).is_ok());
        assert!(place(Role::Member, &[]).require_reach(Some(other)).is_ok());
        assert!(place(Role::Member, &[his]).require_reach(Some(his)).is_ok());
        for branch in [None, Some(other)] {
            let refused = place(Role::Member, &[his]).require_reach(branch);
            assert!(matches!(
                refused,
                Err(Error::PermissionDenied {
                    reason: "BRANCH_OUT_OF_REACH",
                    ..
                })
            ));
        }
    }
}
