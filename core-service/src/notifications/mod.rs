//! Notifications: what a company has chosen to be told, by webhook or by mail, and the log of telling it.
//!
//! What there is to tell is written in the commit that causes it, with one delivery for each channel that has its topic; a worker
//! delivers, at least once, under the notification's id. A webhook's secret is shown when it is made, lies sealed, and signs as
//! Standard Webhooks says. A receiver that does not answer is left alone for longer and longer, and its channel is switched off
//! after days in vain, of which the admins get a mail.

use std::{collections::BTreeSet, time::Duration};

use service_kit::{
    audit::About,
    auth::Caller,
    db::{Claims, TenantTx, WorkerTx},
    error::{Error, Result},
    ids::{ChannelId, CompanyId, DeliveryId, NotificationId, UserId},
    page::Page,
    update,
};
use sqlx::PgPool;
use time::OffsetDateTime;

use crate::{App, companies::memberships};

pub mod api;
mod convert;
pub mod notices_api;
mod secret;
mod store;
mod webhook;
mod worker;
mod worker_store;

use secret::Secret;
pub(crate) use store::notify_storage;
pub use worker::Worker;

/// How long it is kept what became of a notification.
const RETENTION: Duration = Duration::from_hours(30 * 24);

/// How long a secret that was replaced signs too.
const OLD_SECRET: Duration = Duration::from_hours(24);

/// How many channels a company may have.
const CHANNELS: i64 = 50;

/// What a notification is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// A run has failed.
    ExecutionFailed,
    /// A run waits for people.
    ApprovalWaiting,
    /// They are reminded of it.
    ApprovalReminder,
    /// Others may decide too.
    ApprovalEscalated,
    /// Four fifths of what the plan has of something are used.
    QuotaWarning,
    /// Nothing of it is left.
    QuotaReached,
    /// Who gets in was changed.
    SecurityEvent,
    /// Somebody has asked for a test.
    Test,
}

impl Topic {
    const ALL: [Self; 8] = [
        Self::ExecutionFailed,
        Self::ApprovalWaiting,
        Self::ApprovalReminder,
        Self::ApprovalEscalated,
        Self::QuotaWarning,
        Self::QuotaReached,
        Self::SecurityEvent,
        Self::Test,
    ];

    /// As the tables and webhooks name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ExecutionFailed => "execution.failed",
            Self::ApprovalWaiting => "approval.waiting",
            Self::ApprovalReminder => "approval.reminder",
            Self::ApprovalEscalated => "approval.escalated",
            Self::QuotaWarning => "quota.warning",
            Self::QuotaReached => "quota.reached",
            Self::SecurityEvent => "security.event",
            Self::Test => "test",
        }
    }

    fn read(text: &str) -> Self {
        let found = Self::ALL.into_iter().find(|it| it.as_str() == text);
        found.expect("the tables hold these alone")
    }
}

/// How a notification goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Kind {
    /// As a signed POST.
    Webhook,
    /// As a mail.
    Email,
}

/// Whom mails go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Audience {
    /// The company's admins.
    Admins,
    /// Those whom it concerns.
    Concerned,
}

/// How a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Status {
    /// To be tried.
    Waiting,
    /// Taken.
    Delivered,
    /// Tried for the last time.
    Failed,
    /// Not tried.
    Dropped,
}

/// A way by which a company is told.
#[derive(Clone, Debug)]
pub struct Channel {
    /// Its id.
    pub id: ChannelId,
    /// Whose it is.
    pub company: CompanyId,
    /// How it goes.
    pub kind: Kind,
    /// What can be changed.
    pub settings: Settings,
    /// Why it was switched off by itself; empty where it was not.
    pub disabled_reason: String,
    /// Since when nothing came through.
    pub failing_since: Option<OffsetDateTime>,
    /// The end of its secret.
    pub secret_hint: String,
    /// Grows with every update.
    pub revision: i64,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it was changed last.
    pub updated_at: OffsetDateTime,
}

/// What can be changed of a channel.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For people.
    pub name: String,
    /// Where a webhook's requests go; empty for mails.
    pub url: String,
    /// Whom mails go to.
    pub audience: Audience,
    /// What is told.
    pub topics: BTreeSet<Topic>,
    /// Whether anything is.
    pub enabled: bool,
}

/// What changes of a channel.
#[derive(Clone, Debug, Default)]
struct Changes {
    name: Option<String>,
    url: Option<String>,
    audience: Option<Audience>,
    topics: Option<BTreeSet<Topic>>,
    enabled: Option<bool>,
}

/// A notification on its way.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// By which channel.
    pub channel: ChannelId,
    /// What is told.
    pub notification: NotificationId,
    /// What that is of.
    pub topic: Topic,
    /// What a webhook gets of it.
    pub data: serde_json::Map<String, serde_json::Value>,
    /// How it stands.
    pub status: Status,
    /// How often it was tried.
    pub tries: i32,
    /// The last answer's status; 0 where there was none.
    pub response_status: i32,
    /// What went wrong the last time.
    pub error: String,
    /// How long the last try took.
    pub took_ms: i32,
    /// When it is tried next, while it waits.
    pub run_at: OffsetDateTime,
    /// When it was taken.
    pub delivered_at: Option<OffsetDateTime>,
    /// When it was made.
    pub created_at: OffsetDateTime,
}

/// What another service has to tell a company.
#[derive(Clone, Debug)]
struct Notice {
    id: NotificationId,
    company: CompanyId,
    topic: Topic,
    data: serde_json::Map<String, serde_json::Value>,
    users: Vec<UserId>,
    rank: Option<memberships::Role>,
    at: OffsetDateTime,
}

/// Makes a channel, for the company's admins. A webhook's secret is nowhere in the clear but in the answer.
async fn create(
    app: &App,
    caller: &Caller,
    company: CompanyId,
    kind: Kind,
    new: &Settings,
) -> Result<(Channel, Option<Secret>)> {
    let mut tx = TenantTx::begin(&app.pool, "notifications.create", &Claims::user(caller.user)).await?;
    memberships::place(&mut tx, company).await?.require_admin()?;
    let id = ChannelId::generate();
    let secret = (kind == Kind::Webhook).then(Secret::generate);
    let sealed = secret.as_ref().map(|it| it.seal(&app.keys, id));
    store::insert(
        &mut tx,
        id,
        company,
        kind,
        new,
        secret.as_ref().zip(sealed.as_deref()),
        caller.user,
    )
    .await?;
    if store::count(&mut tx, company).await? > CHANNELS {
        return Err(Error::ResourceExhausted {
            reason: "CHANNEL_QUOTA_EXCEEDED",
            message: format!("a company has at most {CHANNELS} channels"),
            retry_after: None,
        });
    }
    let channel = found(&mut tx, id).await?;
    record(app, &mut tx, &channel).await?;
    tx.commit().await?;
    Ok((channel, secret))
}

/// Reads a channel, for its company's admins.
async fn get(app: &App, caller: &Caller, id: ChannelId) -> Result<Channel> {
    let mut tx = TenantTx::begin(&app.pool, "notifications.get", &Claims::user(caller.user)).await?;
    found(&mut tx, id).await
}

/// Lists a company's channels, newest first, for its admins.
async fn list(app: &App, caller: &Caller, company: CompanyId, page: &Page<ChannelId>) -> Result<Vec<Channel>> {
    let mut tx = TenantTx::begin(&app.pool, "notifications.list", &Claims::user(caller.user)).await?;
    memberships::place(&mut tx, company).await?.require_admin()?;
    store::list(&mut tx, company, page).await
}

/// Changes a channel, for its company's admins.
async fn change(app: &App, caller: &Caller, id: ChannelId, etag: &str, changes: &Changes) -> Result<Channel> {
    let mut tx = TenantTx::begin(&app.pool, "notifications.change", &Claims::user(caller.user)).await?;
    let old = store::lock(&mut tx, id).await?.ok_or_else(|| not_found(id))?;
    update::check_etag(etag, old.revision)?;
    convert::check(&old, changes)?;
    store::update(&mut tx, id, changes).await?;
    let channel = found(&mut tx, id).await?;
    record(app, &mut tx, &channel).await?;
    tx.commit().await?;
    Ok(channel)
}

/// Deletes a channel and its log, for its company's admins.
async fn delete(app: &App, caller: &Caller, id: ChannelId) -> Result<()> {
    let mut tx = TenantTx::begin(&app.pool, "notifications.delete", &Claims::user(caller.user)).await?;
    let channel = found(&mut tx, id).await?;
    store::delete(&mut tx, id).await?;
    record(app, &mut tx, &channel).await?;
    tx.commit().await
}

/// Gives a webhook another secret, for its company's admins.
async fn rotate(app: &App, caller: &Caller, id: ChannelId) -> Result<Secret> {
    let mut tx = TenantTx::begin(&app.pool, "notifications.rotate", &Claims::user(caller.user)).await?;
    let channel = store::lock(&mut tx, id).await?.ok_or_else(|| not_found(id))?;
    if channel.kind != Kind::Webhook {
        return Err(Error::FailedPrecondition {
            reason: "CHANNEL_HAS_NO_SECRET",
            message: "mails are not signed".into(),
        });
    }
    let secret = Secret::generate();
    let until = app.clock.now() + OLD_SECRET;
    store::replace_secret(&mut tx, id, &secret.seal(&app.keys, id), &secret.hint(), until).await?;
    record(app, &mut tx, &channel).await?;
    tx.commit().await?;
    Ok(secret)
}

/// Tells a channel that this is a test, for its company's admins.
async fn test(app: &App, caller: &Caller, id: ChannelId) -> Result<Delivery> {
    let mut tx = TenantTx::begin(&app.pool, "notifications.test", &Claims::user(caller.user)).await?;
    let channel = found(&mut tx, id).await?;
    if !channel.settings.enabled {
        return Err(Error::FailedPrecondition {
            reason: "CHANNEL_DISABLED",
            message: "the channel is switched off".into(),
        });
    }
    let delivery = DeliveryId::generate();
    store::insert_test(&mut tx, &channel, delivery, caller.user, app.clock.now()).await?;
    let made = store::find_delivery(&mut tx, delivery).await?;
    tx.commit().await?;
    app.notification_signal.wake();
    made.ok_or_else(|| Error::internal("a delivery is not there after its insert"))
}

/// Lists a channel's deliveries, newest first, for its company's admins.
async fn deliveries(
    app: &App,
    caller: &Caller,
    channel: ChannelId,
    status: Option<Status>,
    page: &Page<DeliveryId>,
) -> Result<Vec<Delivery>> {
    let mut tx = TenantTx::begin(&app.pool, "notifications.deliveries", &Claims::user(caller.user)).await?;
    let channel = found(&mut tx, channel).await?;
    store::list_deliveries(&mut tx, &channel, status, page).await
}

/// Delivers once more, for the company's admins.
async fn redeliver(app: &App, caller: &Caller, id: DeliveryId) -> Result<Delivery> {
    let mut tx = TenantTx::begin(&app.pool, "notifications.redeliver", &Claims::user(caller.user)).await?;
    let unknown = || Error::not_found("delivery", id);
    let delivery = store::find_delivery(&mut tx, id).await?.ok_or_else(unknown)?;
    let channel = found(&mut tx, delivery.channel).await?;
    store::redeliver(&mut tx, id).await?;
    let delivery = store::find_delivery(&mut tx, id).await?.ok_or_else(unknown)?;
    record(app, &mut tx, &channel).await?;
    tx.commit().await?;
    app.notification_signal.wake();
    Ok(delivery)
}

/// Takes what another service has to tell companies.
async fn take(app: &App, notices: &[Notice]) -> Result<()> {
    let mut tx = WorkerTx::begin(&app.worker_pool, "notifications.take").await?;
    worker_store::take(&mut tx, notices).await?;
    tx.commit().await?;
    app.notification_signal.wake();
    Ok(())
}

/// Removes at most `limit` notifications whose time is over, with their deliveries, and says how many they were.
pub async fn remove_expired(worker_pool: &PgPool, limit: i64) -> Result<u64> {
    let mut tx = WorkerTx::begin(worker_pool, "notifications.remove_expired").await?;
    let removed = worker_store::remove_expired(&mut tx, RETENTION, limit).await?;
    tx.commit().await?;
    Ok(removed)
}

async fn found(tx: &mut TenantTx, id: ChannelId) -> Result<Channel> {
    store::find(tx, id).await?.ok_or_else(|| not_found(id))
}

async fn record(app: &App, tx: &mut TenantTx, channel: &Channel) -> Result<()> {
    let about = About::company(channel.company, "notification_channel", channel.id);
    app.audit.record(tx, about).await
}

fn not_found(id: ChannelId) -> Error {
    Error::not_found("channel", id)
}
