//! Notifications from a terminal: a company's channels, and what was delivered on them.

use anyhow::Result;
use clap::{Subcommand, ValueEnum};
use serde_json::json;
use studios_proto::core::{
    CreateNotificationChannelRequest, DeleteNotificationChannelRequest, ListNotificationChannelsRequest,
    ListNotificationDeliveriesRequest, NotificationAudience, NotificationChannel, NotificationChannelKind,
    NotificationDelivery, NotificationDeliveryStatus, NotificationTopic, RedeliverNotificationRequest,
    TestNotificationChannelRequest,
};

use crate::{
    output::{Output, message_json},
    runs::Access,
};

/// What can be done with notifications.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a channel: a webhook with --url, mails without. A webhook's secret is printed, this once.
    Add {
        /// The company's id.
        company: String,
        /// For people.
        name: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// Where a webhook's requests go.
        #[arg(long)]
        url: Option<String>,
        /// What is told. May be repeated.
        #[arg(long = "topic", required = true)]
        topics: Vec<Topic>,
        /// Mail those whom it concerns, and not the admins.
        #[arg(long, conflicts_with = "url")]
        concerned: bool,
    },
    /// List a company's channels, newest first.
    List {
        /// The company's id.
        company: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
    },
    /// Delete a channel with its log.
    Remove {
        /// The channel's id.
        channel: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
    },
    /// Send a test on a channel.
    Test {
        /// The channel's id.
        channel: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
    },
    /// Show what was delivered on a channel, or was not, newest first.
    Log {
        /// The channel's id.
        channel: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// At most so many.
        #[arg(long, default_value_t = 50)]
        limit: i32,
    },
    /// Deliver something once more.
    Redeliver {
        /// The delivery's id.
        delivery: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
    },
}

/// What is told.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Topic {
    /// A run has failed.
    ExecutionFailed,
    /// A run waits for people.
    ApprovalWaiting,
    /// They are reminded.
    ApprovalReminder,
    /// Others may decide too.
    ApprovalEscalated,
    /// Four fifths of something that the plan has are used.
    QuotaWarning,
    /// All of it is.
    QuotaReached,
    /// Who gets in was changed.
    SecurityEvent,
}

impl From<Topic> for NotificationTopic {
    fn from(topic: Topic) -> Self {
        match topic {
            Topic::ExecutionFailed => Self::ExecutionFailed,
            Topic::ApprovalWaiting => Self::ApprovalWaiting,
            Topic::ApprovalReminder => Self::ApprovalReminder,
            Topic::ApprovalEscalated => Self::ApprovalEscalated,
            Topic::QuotaWarning => Self::QuotaWarning,
            Topic::QuotaReached => Self::QuotaReached,
            Topic::SecurityEvent => Self::SecurityEvent,
        }
    }
}

/// Does what was asked for.
pub async fn run(command: &Command, output: Output) -> Result<()> {
    match command {
        Command::Add {
            company,
            name,
            access,
            url,
            topics,
            concerned,
        } => {
            let (kind, audience) = match (url, concerned) {
                (Some(_), _) => (NotificationChannelKind::Webhook, NotificationAudience::Admins),
                (None, false) => (NotificationChannelKind::Email, NotificationAudience::Admins),
                (None, true) => (NotificationChannelKind::Email, NotificationAudience::Concerned),
            };
            let remote = access.remote()?;
            let request = remote.request(CreateNotificationChannelRequest {
                channel: Some(NotificationChannel {
                    company_id: company.clone(),
                    name: name.clone(),
                    kind: kind.into(),
                    url: url.clone().unwrap_or_default(),
                    audience: audience.into(),
                    topics: topics.iter().map(|it| NotificationTopic::from(*it).into()).collect(),
                    enabled: true,
                    ..NotificationChannel::default()
                }),
            });
            let made = remote
                .notifications()
                .create_notification_channel(request)
                .await?
                .into_inner();
            let id = made.channel.as_ref().map(|it| it.id.clone()).unwrap_or_default();
            let secret = match made.secret.as_str() {
                "" => String::new(),
                secret => format!("\n  it signs with {secret}: keep it, it is not shown again"),
            };
            output.result(
                format_args!("{id}{secret}"),
                || json!({ "id": id, "secret": made.secret }),
            );
        }
        Command::List { company, access } => {
            let remote = access.remote()?;
            let request = remote.request(ListNotificationChannelsRequest {
                company_id: company.clone(),
                page_size: 1000,
                page_token: String::new(),
            });
            let listed = remote
                .notifications()
                .list_notification_channels(request)
                .await?
                .into_inner();
            for channel in listed.channels {
                output.result(line(&channel), || message_json(&channel));
            }
        }
        Command::Remove { channel, access } => {
            let remote = access.remote()?;
            let request = remote.request(DeleteNotificationChannelRequest { id: channel.clone() });
            remote.notifications().delete_notification_channel(request).await?;
            output.result(format_args!("{channel} is deleted"), || json!({ "id": channel }));
        }
        Command::Test { channel, access } => {
            let remote = access.remote()?;
            let request = remote.request(TestNotificationChannelRequest { id: channel.clone() });
            let delivery = remote
                .notifications()
                .test_notification_channel(request)
                .await?
                .into_inner();
            output.result(told(&delivery), || message_json(&delivery));
        }
        Command::Log { channel, access, limit } => {
            let remote = access.remote()?;
            let request = remote.request(ListNotificationDeliveriesRequest {
                channel_id: channel.clone(),
                page_size: *limit,
                ..ListNotificationDeliveriesRequest::default()
            });
            let listed = remote
                .notifications()
                .list_notification_deliveries(request)
                .await?
                .into_inner();
            for delivery in listed.deliveries {
                output.result(told(&delivery), || message_json(&delivery));
            }
        }
        Command::Redeliver { delivery, access } => {
            let remote = access.remote()?;
            let request = remote.request(RedeliverNotificationRequest { id: delivery.clone() });
            let delivery = remote
                .notifications()
                .redeliver_notification(request)
                .await?
                .into_inner();
            output.result(told(&delivery), || message_json(&delivery));
        }
    }
    Ok(())
}

fn line(channel: &NotificationChannel) -> String {
    let to = match channel.kind() {
        NotificationChannelKind::Email if channel.audience() == NotificationAudience::Concerned => {
            "mail to those concerned"
        }
        NotificationChannelKind::Email => "mail to admins",
        NotificationChannelKind::Webhook | NotificationChannelKind::Unspecified => channel.url.as_str(),
    };
    let state = match (channel.enabled, channel.disabled_reason.as_str()) {
        (true, _) if channel.failing_since_time.is_some() => "  failing".to_owned(),
        (true, _) => String::new(),
        (false, "") => "  off".to_owned(),
        (false, reason) => format!("  off: {reason}"),
    };
    format!("{}  {}  {to}{state}", channel.id, channel.name)
}

fn told(delivery: &NotificationDelivery) -> String {
    let status = match delivery.status() {
        NotificationDeliveryStatus::Waiting => "waiting",
        NotificationDeliveryStatus::Delivered => "delivered",
        NotificationDeliveryStatus::Failed => "failed",
        NotificationDeliveryStatus::Dropped => "dropped",
        NotificationDeliveryStatus::Unspecified => "?",
    };
    let topic = delivery.topic().as_str_name().trim_start_matches("NOTIFICATION_TOPIC_");
    let topic = topic.to_lowercase().replace('_', " ");
    let error = if delivery.error.is_empty() { "" } else { "  " };
    format!(
        "{}  {topic}  {status} after {} tries{error}{}",
        delivery.id, delivery.tries, delivery.error
    )
}
