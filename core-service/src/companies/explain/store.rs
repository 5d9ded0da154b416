//! SQL of what access follows from.

use service_kit::{
    error::Result,
    ids::{BranchId, CompanyId, UserId},
};
use sqlx::PgConnection;

use super::{Known, Place, Role, State, Thing};

/// Where the thing is and what it says of who may see it, if the caller sees it.
pub(super) async fn place(tx: &mut PgConnection, thing: Thing) -> Result<Option<Place>> {
    match thing {
        Thing::Studio(id) => {
            let row = sqlx::query!(
                r#"select company_id as "company: CompanyId", branch_id as "branch: BranchId", created_by as "made_by: UserId"
                   from core.studios where id = $1"#,
                id.as_uuid(),
            )
            .fetch_optional(tx)
            .await?;
            Ok(row.map(|row| Place {
                company: row.company,
                studio_branch: row.branch,
                is_private: false,
                is_for_all: false,
                made_by: row.made_by,
            }))
        }
        Thing::Document(id) => {
            let row = sqlx::query!(
                r#"select d.company_id as "company: CompanyId", s.branch_id as "branch?: BranchId",
                          d.created_by as "made_by: UserId", d.access_level
                   from core.documents d left join core.studios s on s.id = d.studio_id
                   where d.id = $1"#,
                id.as_uuid(),
            )
            .fetch_optional(tx)
            .await?;
            Ok(row.map(|row| Place {
                company: row.company,
                studio_branch: row.branch,
                is_private: row.access_level == "private",
                is_for_all: row.access_level == "company",
                made_by: row.made_by,
            }))
        }
    }
}

/// What the company knows of somebody.
pub(super) async fn known(tx: &mut PgConnection, company: CompanyId, who: UserId) -> Result<Known> {
    let membership = sqlx::query!(
        r#"select m.role as "role: Role", m.state as "state: State",
                  array(select b.branch_id from core.membership_branches b
                        where b.company_id = m.company_id and b.user_id = m.user_id
                        order by b.branch_id) as "branches!: Vec<BranchId>"
           from core.memberships m where m.company_id = $1 and m.user_id = $2"#,
        company.as_uuid(),
        who.as_uuid(),
    )
    .fetch_optional(&mut *tx)
    .await?;
    let key = sqlx::query!(
        "select revoked_at, expires_at from core.api_keys where company_id = $1 and id = $2",
        company.as_uuid(),
        who.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    let (state, role, branches) = match membership {
        Some(row) => (Some(row.state), Some(row.role), row.branches),
        None => (None, None, Vec::new()),
    };
    Ok(Known {
        state,
        role,
        branches,
        key: key.map(|row| (row.revoked_at, row.expires_at)),
    })
}

/// Whether the caller of the transaction sees the thing.
pub(super) async fn sees(tx: &mut PgConnection, thing: Thing) -> Result<bool> {
    let sees = match thing {
        Thing::Studio(id) => {
            sqlx::query_scalar!(
                r#"select exists (select from core.studios where id = $1) as "sees!""#,
                id.as_uuid()
            )
            .fetch_one(tx)
            .await?
        }
        Thing::Document(id) => {
            sqlx::query_scalar!(
                r#"select exists (select from core.documents where id = $1) as "sees!""#,
                id.as_uuid()
            )
            .fetch_one(tx)
            .await?
        }
    };
    Ok(sees)
}
