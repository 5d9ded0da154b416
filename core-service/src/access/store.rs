//! SQL of access decisions.

use service_kit::{
    error::Result,
    ids::{BranchId, CompanyId, StudioId, UserId},
};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{Decision, Plan, Role, Studio, Subscription};
use crate::users::Subscription as SubscriptionStatus;

struct Row {
    user: UserId,
    company: CompanyId,
    studio: Option<StudioId>,
    studio_name: Option<String>,
    role: Role,
    branches: Vec<BranchId>,
    plan: String,
    plan_name: String,
    executions_per_month: i64,
    concurrent_executions: i32,
    storage_bytes: i64,
    tokens_per_month: i64,
    cost_micros_per_month: i64,
    members: i32,
    studios: i32,
    max_snapshots: i32,
    status: SubscriptionStatus,
    period_start: Option<OffsetDateTime>,
    period_end: Option<OffsetDateTime>,
    renews: bool,
    outbox_position: i64,
    read_at: OffsetDateTime,
}

impl From<Row> for Decision {
    fn from(row: Row) -> Self {
        Self {
            user: row.user,
            company: row.company,
            studio: row.studio.zip(row.studio_name).map(|(id, name)| Studio { id, name }),
            role: row.role,
            branches: row.branches,
            plan: Plan {
                code: row.plan,
                display_name: row.plan_name,
                executions_per_month: row.executions_per_month,
                concurrent_executions: row.concurrent_executions,
                storage_bytes: row.storage_bytes,
                tokens_per_month: row.tokens_per_month,
                cost_micros_per_month: row.cost_micros_per_month,
                members: row.members,
                studios: row.studios,
            },
            max_snapshots: row.max_snapshots,
            subscription: Subscription {
                status: row.status,
                period_start: row.period_start,
                period_end: row.period_end,
                renews: row.renews,
                suspended_at: None,
            },
            outbox_position: row.outbox_position,
            read_at: row.read_at,
        }
    }
}

pub(super) async fn studio(tx: &mut PgConnection, id: StudioId) -> Result<Option<Decision>> {
    let row = sqlx::query_as!(
        Row,
        r#"select m.user_id as "user: UserId", m.company_id as "company: CompanyId", s.id as "studio?: StudioId",
                  s.name as "studio_name?", m.role as "role: Role",
                  array(select b.branch_id from core.membership_branches b
                        where b.company_id = m.company_id and b.user_id = m.user_id
                        order by b.branch_id) as "branches!: Vec<BranchId>",
                  p.code as plan, p.display_name as plan_name, p.executions_per_month, p.concurrent_executions,
                  p.storage_bytes, p.tokens_per_month, p.cost_micros_per_month, p.members, p.studios, u.max_snapshots,
                  c.subscription_status as "status: SubscriptionStatus", c.period_start, c.period_end, c.renews,
                  core.current_outbox_position() as "outbox_position!", statement_timestamp() as "read_at!"
           from core.studios s
               join core.companies c on c.id = s.company_id
               join core.plans p on p.code = c.plan
               join core.memberships m on m.company_id = s.company_id
               join core.users u on u.id = m.user_id
           where s.id = $1 and s.deleted_at is null and c.suspended_at is null
               and m.user_id = (select core.caller_id()) and m.state = 'approved'"#,
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(Decision::from))
}

pub(super) async fn company(tx: &mut PgConnection, id: CompanyId) -> Result<Option<Decision>> {
    let row = sqlx::query_as!(
        Row,
        r#"select m.user_id as "user: UserId", m.company_id as "company: CompanyId", null::uuid as "studio?: StudioId",
                  null::text as "studio_name?", m.role as "role: Role",
                  array(select b.branch_id from core.membership_branches b
                        where b.company_id = m.company_id and b.user_id = m.user_id
                        order by b.branch_id) as "branches!: Vec<BranchId>",
                  p.code as plan, p.display_name as plan_name, p.executions_per_month, p.concurrent_executions,
                  p.storage_bytes, p.tokens_per_month, p.cost_micros_per_month, p.members, p.studios, u.max_snapshots,
                  c.subscription_status as "status: SubscriptionStatus", c.period_start, c.period_end, c.renews,
                  core.current_outbox_position() as "outbox_position!", statement_timestamp() as "read_at!"
           from core.companies c
               join core.plans p on p.code = c.plan
               join core.memberships m on m.company_id = c.id
               join core.users u on u.id = m.user_id
           where c.id = $1 and c.suspended_at is null and m.user_id = (select core.caller_id()) and m.state = 'approved'"#,
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(Decision::from))
}
