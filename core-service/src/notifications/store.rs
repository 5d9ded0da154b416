//! SQL of channels and of what is delivered on them, as their company's admins see it.

use serde_json::{Map, Value, json};
use service_kit::{
    error::{Error, Result, constraint},
    ids::{ChannelId, CompanyId, DeliveryId, NotificationId, UserId},
    page::Page,
};
use sqlx::{PgConnection, types::Json};
use time::OffsetDateTime;

use super::{Audience, Changes, Channel, Delivery, Kind, Secret, Settings, Status, Topic};

struct Row {
    id: ChannelId,
    company_id: CompanyId,
    name: String,
    kind: Kind,
    url: String,
    audience: Audience,
    topics: Vec<String>,
    enabled: bool,
    disabled_reason: String,
    failing_since: Option<OffsetDateTime>,
    secret_hint: String,
    revision: i64,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl From<Row> for Channel {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            company: row.company_id,
            kind: row.kind,
            settings: Settings {
                name: row.name,
                url: row.url,
                audience: row.audience,
                topics: row.topics.iter().map(|it| Topic::read(it)).collect(),
                enabled: row.enabled,
            },
            disabled_reason: row.disabled_reason,
            failing_since: row.failing_since,
            secret_hint: row.secret_hint,
            revision: row.revision,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

struct DeliveryRow {
    id: DeliveryId,
    channel: ChannelId,
    notification: NotificationId,
    topic: String,
    data: Json<Map<String, Value>>,
    status: Status,
    tries: i32,
    response_status: i32,
    error: String,
    took_ms: i32,
    run_at: OffsetDateTime,
    delivered_at: Option<OffsetDateTime>,
    created_at: OffsetDateTime,
}

impl From<DeliveryRow> for Delivery {
    fn from(row: DeliveryRow) -> Self {
        Self {
            id: row.id,
            channel: row.channel,
            notification: row.notification,
            topic: Topic::read(&row.topic),
            data: row.data.0,
            status: row.status,
            tries: row.tries,
            response_status: row.response_status,
            error: row.error,
            took_ms: row.took_ms,
            run_at: row.run_at,
            delivered_at: row.delivered_at,
            created_at: row.created_at,
        }
    }
}

fn texts<'a>(topics: impl IntoIterator<Item = &'a Topic>) -> Vec<String> {
    topics.into_iter().map(|it| it.as_str().to_owned()).collect()
}

pub(super) async fn insert(
    tx: &mut PgConnection,
    id: ChannelId,
    company: CompanyId,
    kind: Kind,
    new: &Settings,
    secret: Option<(&Secret, &[u8])>,
    by: UserId,
) -> Result<()> {
    sqlx::query!(
        "insert into core.notification_channels (id, company_id, name, kind, url, audience, topics, enabled, secret, secret_hint,
             created_by)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        id.as_uuid(),
        company.as_uuid(),
        new.name,
        kind as Kind,
        new.url,
        new.audience as Audience,
        &texts(&new.topics),
        new.enabled,
        secret.map(|(_, sealed)| sealed),
        secret.map_or_else(String::new, |(secret, _)| secret.hint()),
        by.as_uuid(),
    )
    .execute(tx)
    .await
    .map_err(taken)?;
    Ok(())
}

/// How many channels the company has, counted under a lock that holds until the commit.
pub(super) async fn count(tx: &mut PgConnection, company: CompanyId) -> Result<i64> {
    sqlx::query!(
        "select pg_advisory_xact_lock(hashtextextended('core.notification_channels ' || $1::uuid, 0))",
        company.as_uuid(),
    )
    .execute(&mut *tx)
    .await?;
    let count = sqlx::query_scalar!(
        r#"select count(*) as "count!" from core.notification_channels where company_id = $1"#,
        company.as_uuid(),
    )
    .fetch_one(tx)
    .await?;
    Ok(count)
}

pub(super) async fn find(tx: &mut PgConnection, id: ChannelId) -> Result<Option<Channel>> {
    let row = sqlx::query_as!(
        Row,
        r#"select id as "id: ChannelId", company_id as "company_id: CompanyId", name, kind as "kind: Kind", url,
                  audience as "audience: Audience", topics, enabled, disabled_reason, failing_since, secret_hint, revision,
                  created_at, updated_at
           from core.notification_channels where id = $1"#,
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(Into::into))
}

/// Reads a channel that nobody else changes until the commit.
pub(super) async fn lock(tx: &mut PgConnection, id: ChannelId) -> Result<Option<Channel>> {
    sqlx::query!(
        "select from core.notification_channels where id = $1 for update",
        id.as_uuid()
    )
    .fetch_optional(&mut *tx)
    .await?;
    find(tx, id).await
}

pub(super) async fn list(tx: &mut PgConnection, company: CompanyId, page: &Page<ChannelId>) -> Result<Vec<Channel>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select id as "id: ChannelId", company_id as "company_id: CompanyId", name, kind as "kind: Kind", url,
                  audience as "audience: Audience", topics, enabled, disabled_reason, failing_since, secret_hint, revision,
                  created_at, updated_at
           from core.notification_channels
           where company_id = $1 and ($2::uuid is null or id < $2)
           order by id desc limit $3"#,
        company.as_uuid(),
        page.after.map(ChannelId::as_uuid),
        page.limit(),
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// Changes a channel; what is switched on is well again.
pub(super) async fn update(tx: &mut PgConnection, id: ChannelId, changes: &Changes) -> Result<()> {
    let topics = changes.topics.as_ref().map(texts);
    sqlx::query!(
        "update core.notification_channels set
             name = coalesce($2, name), url = coalesce($3, url), audience = coalesce($4, audience),
             topics = coalesce($5, topics), enabled = coalesce($6, enabled),
             disabled_reason = case when $6 then '' else disabled_reason end,
             failing_since = case when $6 then null else failing_since end,
             rests_until = case when $6 or $3 is not null then null else rests_until end
         where id = $1",
        id.as_uuid(),
        changes.name,
        changes.url,
        changes.audience as Option<Audience>,
        topics.as_deref(),
        changes.enabled,
    )
    .execute(tx)
    .await
    .map_err(taken)?;
    Ok(())
}

pub(super) async fn delete(tx: &mut PgConnection, id: ChannelId) -> Result<()> {
    sqlx::query!("delete from core.notification_channels where id = $1", id.as_uuid())
        .execute(tx)
        .await?;
    Ok(())
}

pub(super) async fn replace_secret(
    tx: &mut PgConnection,
    id: ChannelId,
    sealed: &[u8],
    hint: &str,
    old_until: OffsetDateTime,
) -> Result<()> {
    sqlx::query!(
        "update core.notification_channels
         set old_secret = secret, old_secret_until = $4, secret = $2, secret_hint = $3 where id = $1",
        id.as_uuid(),
        sealed,
        hint,
        old_until,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Puts a test on a channel.
pub(super) async fn insert_test(
    tx: &mut PgConnection,
    channel: &Channel,
    delivery: DeliveryId,
    by: UserId,
    now: OffsetDateTime,
) -> Result<()> {
    let notification = NotificationId::generate();
    let data = json!({ "channel_id": channel.id, "message": "This is a test." });
    sqlx::query!(
        "insert into core.notifications (id, company_id, topic, data, users, occurred_at) values ($1, $2, $3, $4, $5, $6)",
        notification.as_uuid(),
        channel.company.as_uuid(),
        Topic::Test.as_str(),
        data,
        &[by.as_uuid()],
        now,
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "insert into core.notification_deliveries (id, company_id, channel_id, notification_id) values ($1, $2, $3, $4)",
        delivery.as_uuid(),
        channel.company.as_uuid(),
        channel.id.as_uuid(),
        notification.as_uuid(),
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn find_delivery(tx: &mut PgConnection, id: DeliveryId) -> Result<Option<Delivery>> {
    let row = sqlx::query_as!(
        DeliveryRow,
        r#"select d.id as "id: DeliveryId", d.channel_id as "channel: ChannelId",
                  d.notification_id as "notification: NotificationId", n.topic, n.data as "data: Json<Map<String, Value>>",
                  d.status as "status: Status", d.tries, d.response_status, d.error, d.took_ms, d.run_at, d.delivered_at,
                  d.created_at
           from core.notification_deliveries d
               join core.notifications n on n.company_id = d.company_id and n.id = d.notification_id
           where d.id = $1"#,
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(Into::into))
}

pub(super) async fn list_deliveries(
    tx: &mut PgConnection,
    channel: &Channel,
    status: Option<Status>,
    page: &Page<DeliveryId>,
) -> Result<Vec<Delivery>> {
    let rows = sqlx::query_as!(
        DeliveryRow,
        r#"select d.id as "id: DeliveryId", d.channel_id as "channel: ChannelId",
                  d.notification_id as "notification: NotificationId", n.topic, n.data as "data: Json<Map<String, Value>>",
                  d.status as "status: Status", d.tries, d.response_status, d.error, d.took_ms, d.run_at, d.delivered_at,
                  d.created_at
           from core.notification_deliveries d
               join core.notifications n on n.company_id = d.company_id and n.id = d.notification_id
           where d.company_id = $1 and d.channel_id = $2 and ($3::text is null or d.status = $3)
               and ($4::uuid is null or d.id < $4)
           order by d.id desc limit $5"#,
        channel.company.as_uuid(),
        channel.id.as_uuid(),
        status as Option<Status>,
        page.after.map(DeliveryId::as_uuid),
        page.limit(),
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// Has something tried at once, as if for the first time.
pub(super) async fn redeliver(tx: &mut PgConnection, id: DeliveryId) -> Result<()> {
    sqlx::query!(
        "update core.notification_deliveries set status = 'waiting', tries = 0, run_at = now(), leased_until = null where id = $1",
        id.as_uuid(),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Tells the caller's company of its storage.
pub(crate) async fn notify_storage(
    tx: &mut PgConnection,
    company: CompanyId,
    is_reached: bool,
    used_bytes: i64,
    limit_bytes: i64,
) -> Result<()> {
    sqlx::query!(
        "select core.notify_storage($1, $2, $3, $4)",
        company.as_uuid(),
        is_reached,
        used_bytes,
        limit_bytes,
    )
    .execute(tx)
    .await?;
    Ok(())
}

fn taken(error: sqlx::Error) -> Error {
    match constraint(&error) {
        Some("notification_channels_name") => Error::AlreadyExists {
            reason: "CHANNEL_NAME_TAKEN",
            message: "the company uses another channel of this name".into(),
        },
        _ => error.into(),
    }
}
