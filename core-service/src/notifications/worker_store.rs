//! SQL of delivering notifications, for the worker's role.

use std::time::Duration;

use serde_json::{Map, Value};
use service_kit::{
    error::Result,
    ids::{ChannelId, CompanyId, DeliveryId, NotificationId, UserId},
};
use sqlx::{PgConnection, types::Json};
use time::OffsetDateTime;

use super::{Audience, Kind, Notice};
use crate::{companies::memberships::Role, contact::Email};

/// A delivery that this process holds, with all that it takes. Which try it is, is the fence.
pub(super) struct Leased {
    pub(super) id: DeliveryId,
    pub(super) company: CompanyId,
    pub(super) company_name: String,
    pub(super) channel: ChannelId,
    pub(super) channel_name: String,
    pub(super) kind: Kind,
    pub(super) url: String,
    pub(super) audience: Audience,
    pub(super) enabled: bool,
    pub(super) secret: Option<Vec<u8>>,
    pub(super) old_secret: Option<Vec<u8>>,
    pub(super) failing_since: Option<OffsetDateTime>,
    pub(super) notification: NotificationId,
    pub(super) topic: String,
    pub(super) data: Json<Map<String, Value>>,
    pub(super) users: Vec<UserId>,
    pub(super) rank: Option<Role>,
    pub(super) occurred_at: OffsetDateTime,
    pub(super) tries: i32,
}

/// Somebody who gets a mail.
pub(super) struct Recipient {
    pub(super) user: UserId,
    pub(super) email: Email,
}

pub(super) async fn take(tx: &mut PgConnection, notices: &[Notice]) -> Result<()> {
    for notice in notices {
        let users: Vec<_> = notice.users.iter().map(|it| it.as_uuid()).collect();
        sqlx::query!(
            "select core.notify($1, $2, $3, $4, $5, $6, $7)",
            notice.id.as_uuid(),
            notice.company.as_uuid(),
            notice.topic.as_str(),
            Json(&notice.data) as _,
            &users,
            notice.rank as Option<Role>,
            notice.at,
        )
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

/// Leases at most `most` deliveries that are due, at most `each` of a channel, none of a channel that rests or is named.
pub(super) async fn claim(
    tx: &mut PgConnection,
    most: i64,
    each: i64,
    busy: &[ChannelId],
    lease: Duration,
) -> Result<Vec<Leased>> {
    let busy: Vec<_> = busy.iter().map(|it| it.as_uuid()).collect();
    let leased = sqlx::query_as!(
        Leased,
        r#"update core.notification_deliveries d
           set leased_until = now() + make_interval(secs => $4), tries = d.tries + 1
           from core.notification_channels c, core.notifications n, core.companies o
           where d.id in (
                   select l.id from core.notification_deliveries l
                   where l.id in (
                       select w.id from (
                           select due.id, due.run_at, row_number() over (partition by due.channel_id order by due.run_at) as nth
                           from (select d.id, d.channel_id, d.run_at
                                 from core.notification_deliveries d
                                     join core.notification_channels c on c.company_id = d.company_id and c.id = d.channel_id
                                 where d.status = 'waiting' and d.run_at <= now()
                                     and (d.leased_until is null or d.leased_until < now())
                                     and (c.rests_until is null or c.rests_until <= now()) and d.channel_id <> all ($3)
                                 order by d.run_at limit 1000) due) w
                       where w.nth <= $2 order by w.run_at limit $1)
                   for update skip locked)
               and d.status = 'waiting' and (d.leased_until is null or d.leased_until < now())
               and c.company_id = d.company_id and c.id = d.channel_id
               and n.company_id = d.company_id and n.id = d.notification_id and o.id = d.company_id
           returning d.id as "id: DeliveryId", d.company_id as "company: CompanyId", o.name as company_name,
               d.channel_id as "channel: ChannelId", c.name as channel_name, c.kind as "kind: Kind", c.url,
               c.audience as "audience: Audience", c.enabled, c.secret,
               case when c.old_secret_until > now() then c.old_secret end as old_secret, c.failing_since,
               n.id as "notification: NotificationId", n.topic, n.data as "data: Json<Map<String, Value>>",
               n.users as "users: Vec<UserId>", n.rank as "rank: Role", n.occurred_at, d.tries"#,
        most,
        each,
        &busy,
        lease.as_secs_f64(),
    )
    .fetch_all(tx)
    .await?;
    Ok(leased)
}

/// Whom a company's notification goes to by mail.
pub(super) async fn recipients(
    tx: &mut PgConnection,
    company: CompanyId,
    users: &[UserId],
    rank: Option<Role>,
) -> Result<Vec<Recipient>> {
    let users: Vec<_> = users.iter().map(|it| it.as_uuid()).collect();
    let recipients = sqlx::query_as!(
        Recipient,
        r#"select user_id as "user!: UserId", email as "email!: Email" from core.notified($1, $2, $3)"#,
        company.as_uuid(),
        &users,
        rank as Option<Role>,
    )
    .fetch_all(tx)
    .await?;
    Ok(recipients)
}

/// How a try went.
pub(super) struct Tried<'a> {
    pub(super) status: super::Status,
    pub(super) response_status: i32,
    pub(super) error: &'a str,
    pub(super) took: Duration,
    /// After how long the next one is made, where there is one.
    pub(super) again_after: Option<Duration>,
}

/// Writes down how a try went; says false where the lease was lost.
pub(super) async fn settle(tx: &mut PgConnection, leased: &Leased, tried: &Tried<'_>) -> Result<bool> {
    let done = sqlx::query!(
        "update core.notification_deliveries
         set status = $3, response_status = $4, error = $5, took_ms = $6, leased_until = null,
             run_at = case when $7::float8 is null then run_at else now() + make_interval(secs => $7) end,
             delivered_at = case when $3 = 'delivered' then now() end
         where id = $1 and tries = $2 and status = 'waiting'",
        leased.id.as_uuid(),
        leased.tries,
        tried.status as super::Status,
        tried.response_status,
        tried.error,
        i32::try_from(tried.took.as_millis()).unwrap_or(i32::MAX),
        tried.again_after.map(|it| it.as_secs_f64()),
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Notes that a channel is well, or since when it is not and until when it is left alone.
pub(super) async fn note_health(tx: &mut PgConnection, channel: ChannelId, rests: Option<Duration>) -> Result<()> {
    sqlx::query!(
        "update core.notification_channels
         set failing_since = case when $2::float8 is null then null else coalesce(failing_since, now()) end,
             rests_until = now() + make_interval(secs => $2)
         where id = $1 and ($2::float8 is not null or failing_since is not null)",
        channel.as_uuid(),
        rests.map(|it| it.as_secs_f64()),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Switches a channel off; says false where it was off.
pub(super) async fn disable(tx: &mut PgConnection, channel: ChannelId, reason: &str) -> Result<bool> {
    let done = sqlx::query!(
        "update core.notification_channels set enabled = false, disabled_reason = $2 where id = $1 and enabled",
        channel.as_uuid(),
        reason,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn remove_expired(tx: &mut PgConnection, age: Duration, limit: i64) -> Result<u64> {
    let done = sqlx::query!(
        "delete from core.notifications where id in (
             select id from core.notifications where created_at < now() - make_interval(secs => $1) limit $2)",
        age.as_secs_f64(),
        limit,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}
