//! SQL of notices, for the engine's role.

use std::time::Duration;

use serde_json::{Map, Value};
use service_kit::{
    error::Result,
    ids::{CompanyId, NotificationId, UserId},
};
use sqlx::{PgConnection, types::Json};

use super::Notice;

/// Notices that this process holds.
pub(super) struct Leased {
    /// All of them.
    pub(super) ids: Vec<NotificationId>,
    /// Those that are still to be told.
    pub(super) notices: Vec<Notice>,
}

/// Notes which companies come near their limits.
pub(super) async fn look_at_quotas(tx: &mut PgConnection) -> Result<()> {
    sqlx::query!("select execution.notice_quotas()").execute(tx).await?;
    Ok(())
}

/// Leases at most so many notices, the oldest first. An approval that is decided is not told of any more.
pub(super) async fn lease(tx: &mut PgConnection, most: i64, lease: Duration) -> Result<Leased> {
    let rows = sqlx::query!(
        r#"with due as materialized (
               select id from execution.notices where leased_until is null or leased_until < now()
               order by created_at limit $1 for update skip locked
           ), leased as (
               update execution.notices n set leased_until = now() + make_interval(secs => $2)
               from due where n.id = due.id
               returning n.*
           )
           select l.id as "id!: NotificationId", l.company_id as "company!: CompanyId", l.topic as "topic!", l.data as "data!: Json<Map<String, Value>>",
               case when l.execution_id is null then l.users
                   else array(select unnest(w.users) except select unnest(w.not_users)) end as "users!: Vec<UserId>",
               case when l.execution_id is null then l.rank else w.rank end as rank, l.occurred_at as "occurred_at!",
               l.execution_id is null or w.execution_id is not null as "is_to_be_told!"
           from leased l left join execution.waiting w
               on w.execution_id = l.execution_id and w.stage = l.stage and w.visit = l.visit and w.item = l.item"#,
        most,
        lease.as_secs_f64(),
    )
    .fetch_all(tx)
    .await?;
    let ids = rows.iter().map(|row| row.id).collect();
    let still = rows.into_iter().filter(|row| row.is_to_be_told);
    let notices = still.map(|row| Notice {
        id: row.id,
        company: row.company,
        topic: row.topic,
        data: row.data.0,
        users: row.users,
        rank: row.rank,
        at: row.occurred_at,
    });
    Ok(Leased {
        ids,
        notices: notices.collect(),
    })
}

/// Removes what was told.
pub(super) async fn remove(tx: &mut PgConnection, ids: &[NotificationId]) -> Result<()> {
    let ids: Vec<_> = ids.iter().map(|it| it.as_uuid()).collect();
    sqlx::query!("delete from execution.notices where id = any($1)", &ids)
        .execute(tx)
        .await?;
    Ok(())
}
