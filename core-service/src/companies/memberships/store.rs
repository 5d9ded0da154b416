//! SQL of memberships.

use service_kit::{
    error::Result,
    ids::{BranchId, CompanyId, MembershipId, UserId},
    page::Page,
};
use sqlx::PgConnection;

use super::{Filter, Membership, Place, Role, State};

/// The caller's own place, if it is in force.
pub(super) async fn place(tx: &mut PgConnection, company: CompanyId) -> Result<Option<Place>> {
    let place = sqlx::query_as!(
        Place,
        r#"select role as "role: Role",
                  array(select b.branch_id from core.membership_branches b
                        where b.company_id = m.company_id and b.user_id = m.user_id
                        order by b.branch_id) as "branches!: Vec<BranchId>"
           from core.memberships m
           where company_id = $1 and user_id = (select core.caller_id()) and state = 'approved'"#,
        company.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(place)
}

pub(super) async fn insert(
    tx: &mut PgConnection,
    id: MembershipId,
    company: CompanyId,
    user: UserId,
    role: Role,
    state: State,
) -> Result<()> {
    sqlx::query!(
        "insert into core.memberships (id, company_id, user_id, role, state) values ($1, $2, $3, $4, $5)",
        id.as_uuid(),
        company.as_uuid(),
        user.as_uuid(),
        role as Role,
        state as State,
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn list(tx: &mut PgConnection, filter: &Filter, page: &Page<MembershipId>) -> Result<Vec<Membership>> {
    let memberships = sqlx::query_as!(
        Membership,
        r#"select m.id as "id: MembershipId", m.company_id as "company: CompanyId", m.user_id as "user: UserId",
                  n.full_name as "full_name!", m.role as "role: Role", m.state as "state: State",
                  m.created_at, m.updated_at
           from core.memberships m join core.member_names($1) n on n.user_id = m.user_id
           where m.company_id = $1 and ($2::text is null or m.state = $2) and ($3::uuid is null or m.id > $3)
           order by m.id limit $4"#,
        filter.company.as_uuid(),
        filter.state as Option<State>,
        page.after.map(MembershipId::as_uuid),
        page.limit(),
    )
    .fetch_all(tx)
    .await?;
    Ok(memberships)
}
