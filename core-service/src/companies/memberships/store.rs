//! SQL of memberships. Names and addresses come from a definer function, which knows who may see them.

use service_kit::{
    error::Result,
    ids::{BranchId, CompanyId, MembershipId, UserId},
    page::Page,
};
use sqlx::PgConnection;

use super::{Filter, Membership, Place, Role, State, changes::Quota};

/// The caller's own place, if it is in force and the company not suspended.
pub(super) async fn place(tx: &mut PgConnection, company: CompanyId) -> Result<Option<Place>> {
    let place = sqlx::query_as!(
        Place,
        r#"select role as "role: Role",
                  array(select b.branch_id from core.membership_branches b
                        where b.company_id = m.company_id and b.user_id = m.user_id
                        order by b.branch_id) as "branches!: Vec<BranchId>"
           from core.memberships m
           where company_id = $1 and user_id = (select core.caller_id()) and state = 'approved'
               and not core.company_is_suspended(company_id)"#,
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

/// Makes other changes of a company's memberships wait until the end of the transaction; none where the caller has no place.
pub(super) async fn hold(tx: &mut PgConnection, company: CompanyId) -> Result<Option<Quota>> {
    let quota = sqlx::query_as!(
        Quota,
        r#"select used as "used!", allowed as "allowed!" from core.member_quota($1)"#,
        company.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(quota)
}

pub(super) async fn has_another_admin(tx: &mut PgConnection, than: &Membership) -> Result<bool> {
    let has = sqlx::query_scalar!(
        r#"select exists (select from core.memberships
               where company_id = $1 and id <> $2 and role = 'admin' and state = 'approved') as "has!""#,
        than.company.as_uuid(),
        than.id.as_uuid(),
    )
    .fetch_one(tx)
    .await?;
    Ok(has)
}

pub(super) async fn set(tx: &mut PgConnection, id: MembershipId, role: Role, state: State) -> Result<()> {
    sqlx::query!(
        "update core.memberships set role = $2, state = $3 where id = $1",
        id.as_uuid(),
        role as Role,
        state as State,
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn find(tx: &mut PgConnection, id: MembershipId) -> Result<Option<Membership>> {
    let membership = sqlx::query_as!(
        Membership,
        r#"select m.id as "id: MembershipId", m.company_id as "company: CompanyId",
                  core.company_name(m.company_id) as "company_name!", m.user_id as "user: UserId",
                  p.full_name as "full_name!", p.email, m.role as "role: Role", m.state as "state: State",
                  m.revision, m.created_at, m.updated_at
           from core.memberships m cross join lateral core.member_profiles(m.company_id, array[m.user_id]) p
           where m.id = $1 and not m.machine"#,
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(membership)
}

pub(super) async fn of_user(tx: &mut PgConnection, company: CompanyId, user: UserId) -> Result<Option<Membership>> {
    let id = sqlx::query_scalar!(
        r#"select id as "id: MembershipId" from core.memberships where company_id = $1 and user_id = $2"#,
        company.as_uuid(),
        user.as_uuid(),
    )
    .fetch_optional(&mut *tx)
    .await?;
    match id {
        Some(id) => find(tx, id).await,
        None => Ok(None),
    }
}

pub(super) async fn list(tx: &mut PgConnection, filter: &Filter, page: &Page<MembershipId>) -> Result<Vec<Membership>> {
    let memberships = sqlx::query_as!(
        Membership,
        r#"with page as (
               select * from core.memberships m
               where m.company_id = $1 and not m.machine and ($2::text is null or m.state = $2) and ($3::uuid is null or m.id > $3)
               order by m.id limit $4
           )
           select m.id as "id!: MembershipId", m.company_id as "company!: CompanyId",
                  (select core.company_name($1)) as "company_name!", m.user_id as "user!: UserId",
                  p.full_name as "full_name!", p.email, m.role as "role!: Role", m.state as "state!: State",
                  m.revision as "revision!", m.created_at as "created_at!", m.updated_at as "updated_at!"
           from page m join core.member_profiles($1, array(select user_id from page)) p on p.user_id = m.user_id
           order by m.id"#,
        filter.company.as_uuid(),
        filter.state as Option<State>,
        page.after.map(MembershipId::as_uuid),
        page.limit(),
    )
    .fetch_all(tx)
    .await?;
    Ok(memberships)
}

pub(super) async fn list_own(
    tx: &mut PgConnection,
    caller: UserId,
    page: &Page<MembershipId>,
) -> Result<Vec<Membership>> {
    let memberships = sqlx::query_as!(
        Membership,
        r#"select m.id as "id: MembershipId", m.company_id as "company: CompanyId",
                  core.company_name(m.company_id) as "company_name!", m.user_id as "user: UserId",
                  p.full_name as "full_name!", p.email, m.role as "role: Role", m.state as "state: State",
                  m.revision, m.created_at, m.updated_at
           from core.memberships m cross join lateral core.member_profiles(m.company_id, array[m.user_id]) p
           where m.user_id = $1 and ($2::uuid is null or m.id > $2)
           order by m.id limit $3"#,
        caller.as_uuid(),
        page.after.map(MembershipId::as_uuid),
        page.limit(),
    )
    .fetch_all(tx)
    .await?;
    Ok(memberships)
}
