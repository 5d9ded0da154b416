//! Notifications as the contract writes them.

use std::collections::BTreeSet;

use service_kit::{
    error::{Error, Result, Violations},
    ids::{ChannelId, CompanyId, UserId},
    outbound::Destination,
    update,
};
use studios_proto::core::{
    self as proto, NotificationAudience, NotificationChannelKind, NotificationDeliveryStatus, NotificationTopic,
};

use super::{Audience, Changes, Channel, Delivery, Kind, Notice, Settings, Status, Topic};
use crate::companies::memberships::Role;

/// The fields that an update may change.
const CHANGEABLE: &[&str] = &["name", "url", "audience", "topics", "enabled"];
const NAME: std::ops::RangeInclusive<usize> = 1..=100;
const URL: usize = 2000;
/// How many notices are taken at once.
const NOTICES: usize = 1000;

/// A new channel, as its company says it is.
pub(super) fn new(request: proto::CreateNotificationChannelRequest) -> Result<(CompanyId, Kind, Settings)> {
    let mut violations = Violations::new();
    let given = request.channel.unwrap_or_default();
    let company = violations.id("channel.company_id", &given.company_id);
    let kind = match NotificationChannelKind::try_from(given.kind) {
        Ok(NotificationChannelKind::Webhook) => Some(Kind::Webhook),
        Ok(NotificationChannelKind::Email) => Some(Kind::Email),
        Ok(NotificationChannelKind::Unspecified) | Err(_) => {
            violations.add("channel.kind", "must be a webhook or e-mail");
            None
        }
    };
    let mut paths: BTreeSet<&str> = CHANGEABLE.iter().copied().collect();
    if given.url.is_empty() {
        paths.remove("url");
    }
    let said = read(&mut violations, &given, &paths);
    match (kind, given.url.is_empty()) {
        (Some(Kind::Webhook), true) => violations.add("channel.url", "must be given for a webhook"),
        (Some(Kind::Email), false) => violations.add("channel.url", "is of webhooks alone"),
        _ => {}
    }
    violations.finish()?;
    let settings = Settings {
        name: said.name.expect("a missing one is a violation"),
        url: said.url.unwrap_or_default(),
        audience: said.audience.expect("it was read"),
        topics: said.topics.expect("it was read"),
        enabled: said.enabled.expect("it was read"),
    };
    let company = company.expect("a missing one is a violation");
    Ok((company, kind.expect("a missing one is a violation"), settings))
}

pub(super) fn changes(request: &proto::UpdateNotificationChannelRequest) -> Result<(ChannelId, String, Changes)> {
    let mut violations = Violations::new();
    let given = request.channel.clone().unwrap_or_default();
    let id = violations.id("channel.id", &given.id);
    let set = [
        ("name", !given.name.is_empty()),
        ("url", !given.url.is_empty()),
        ("audience", given.audience != 0),
        ("topics", !given.topics.is_empty()),
        ("enabled", given.enabled),
    ];
    let set: Vec<_> = set
        .into_iter()
        .filter_map(|(path, is_set)| is_set.then_some(path))
        .collect();
    let paths = violations.include(update::paths(request.update_mask.as_ref(), CHANGEABLE, &set))?;
    let changes = read(&mut violations, &given, &paths.unwrap_or_default());
    violations.finish()?;
    Ok((id.expect("a missing one is a violation"), given.etag, changes))
}

/// Refuses changes that do not go with the channel's kind.
pub(super) fn check(old: &Channel, changes: &Changes) -> Result<()> {
    if old.kind == Kind::Email && changes.url.is_some() {
        return Err(Error::invalid("channel.url", "is of webhooks alone"));
    }
    Ok(())
}

fn read(violations: &mut Violations, given: &proto::NotificationChannel, paths: &BTreeSet<&str>) -> Changes {
    let mut changes = Changes::default();
    if paths.contains("name") {
        changes.name = violations.text("channel.name", &given.name, NAME);
    }
    if paths.contains("url") {
        changes.url = url(violations, given.url.trim());
    }
    if paths.contains("audience") {
        changes.audience = match NotificationAudience::try_from(given.audience) {
            Ok(NotificationAudience::Unspecified | NotificationAudience::Admins) => Some(Audience::Admins),
            Ok(NotificationAudience::Concerned) => Some(Audience::Concerned),
            Err(_) => {
                violations.add("channel.audience", "is none");
                None
            }
        };
    }
    if paths.contains("topics") {
        changes.topics = Some(topics(violations, &given.topics));
    }
    if paths.contains("enabled") {
        changes.enabled = Some(given.enabled);
    }
    changes
}

fn url(violations: &mut Violations, text: &str) -> Option<String> {
    if text.chars().count() > URL {
        violations.add("channel.url", format!("must have at most {URL} characters"));
        return None;
    }
    match Destination::member(text) {
        Ok(_) => Some(text.to_owned()),
        Err(error) => {
            violations.add("channel.url", error.to_string());
            None
        }
    }
}

fn topics(violations: &mut Violations, given: &[i32]) -> BTreeSet<Topic> {
    let mut topics = BTreeSet::new();
    for (i, number) in given.iter().enumerate() {
        match topic(*number) {
            Some(Topic::Test) => violations.add(format!("channel.topics[{i}]"), "is sent when it is asked for"),
            Some(topic) => {
                topics.insert(topic);
            }
            None => violations.add(format!("channel.topics[{i}]"), "is no topic"),
        }
    }
    if given.is_empty() {
        violations.add("channel.topics", "must be one at least");
    }
    topics
}

fn topic(number: i32) -> Option<Topic> {
    match NotificationTopic::try_from(number).ok()? {
        NotificationTopic::Unspecified => None,
        NotificationTopic::ExecutionFailed => Some(Topic::ExecutionFailed),
        NotificationTopic::ApprovalWaiting => Some(Topic::ApprovalWaiting),
        NotificationTopic::ApprovalReminder => Some(Topic::ApprovalReminder),
        NotificationTopic::ApprovalEscalated => Some(Topic::ApprovalEscalated),
        NotificationTopic::QuotaWarning => Some(Topic::QuotaWarning),
        NotificationTopic::QuotaReached => Some(Topic::QuotaReached),
        NotificationTopic::SecurityEvent => Some(Topic::SecurityEvent),
        NotificationTopic::Test => Some(Topic::Test),
    }
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
            Topic::Test => Self::Test,
        }
    }
}

pub(super) fn filter(request: &proto::ListNotificationDeliveriesRequest) -> Result<(ChannelId, Option<Status>)> {
    let mut violations = Violations::new();
    let channel = violations.id("channel_id", &request.channel_id);
    let status = match NotificationDeliveryStatus::try_from(request.status) {
        Ok(NotificationDeliveryStatus::Unspecified) => None,
        Ok(NotificationDeliveryStatus::Waiting) => Some(Status::Waiting),
        Ok(NotificationDeliveryStatus::Delivered) => Some(Status::Delivered),
        Ok(NotificationDeliveryStatus::Failed) => Some(Status::Failed),
        Ok(NotificationDeliveryStatus::Dropped) => Some(Status::Dropped),
        Err(_) => {
            violations.add("status", "is none of a delivery");
            None
        }
    };
    violations.finish()?;
    Ok((channel.expect("a missing one is a violation"), status))
}

/// What another service has to tell.
pub(super) fn notices(request: proto::ReportNoticesRequest) -> Result<Vec<Notice>> {
    let mut violations = Violations::new();
    if request.notices.len() > NOTICES {
        return Err(Error::invalid("notices", format!("must be at most {NOTICES}")));
    }
    let given = request.notices.into_iter().enumerate();
    let notices: Vec<_> = given.filter_map(|(i, it)| notice(&mut violations, i, it)).collect();
    violations.finish()?;
    Ok(notices)
}

fn notice(violations: &mut Violations, i: usize, given: proto::Notice) -> Option<Notice> {
    let field = |name: &str| format!("notices[{i}].{name}");
    let id = violations.id(field("id"), &given.id);
    let company = violations.id(field("company_id"), &given.company_id);
    let users: Vec<Option<UserId>> = given
        .user_ids
        .iter()
        .map(|it| violations.id(field("user_ids"), it))
        .collect();
    let topic = topic(given.topic);
    if topic.is_none() {
        violations.add(field("topic"), "is no topic");
    }
    let at = given.occur_time.as_ref().and_then(update::moment);
    if at.is_none() {
        violations.add(field("occur_time"), "must be a time");
    }
    let rank = match proto::NoticeRank::try_from(given.rank) {
        Ok(proto::NoticeRank::Unspecified) => None,
        Ok(proto::NoticeRank::Admins) => Some(Role::Admin),
        Ok(proto::NoticeRank::Members) => Some(Role::Member),
        Err(_) => {
            violations.add(field("rank"), "is none");
            None
        }
    };
    let data = update::struct_to_json(&given.data.unwrap_or_default());
    Some(Notice {
        id: id?,
        company: company?,
        topic: topic?,
        data: data.as_object().cloned().unwrap_or_default(),
        users: users.into_iter().flatten().collect(),
        rank,
        at: at?,
    })
}

impl From<Channel> for proto::NotificationChannel {
    fn from(channel: Channel) -> Self {
        let settings = channel.settings;
        let kind = match channel.kind {
            Kind::Webhook => NotificationChannelKind::Webhook,
            Kind::Email => NotificationChannelKind::Email,
        };
        let audience = match settings.audience {
            Audience::Admins => NotificationAudience::Admins,
            Audience::Concerned => NotificationAudience::Concerned,
        };
        Self {
            id: channel.id.to_string(),
            company_id: channel.company.to_string(),
            name: settings.name,
            kind: kind.into(),
            url: settings.url,
            audience: audience.into(),
            topics: settings
                .topics
                .into_iter()
                .map(|it| NotificationTopic::from(it).into())
                .collect(),
            enabled: settings.enabled,
            disabled_reason: channel.disabled_reason,
            failing_since_time: channel.failing_since.map(update::timestamp),
            secret_hint: channel.secret_hint,
            create_time: Some(update::timestamp(channel.created_at)),
            update_time: Some(update::timestamp(channel.updated_at)),
            etag: update::etag(channel.revision),
        }
    }
}

impl From<Delivery> for proto::NotificationDelivery {
    fn from(delivery: Delivery) -> Self {
        let status = match delivery.status {
            Status::Waiting => NotificationDeliveryStatus::Waiting,
            Status::Delivered => NotificationDeliveryStatus::Delivered,
            Status::Failed => NotificationDeliveryStatus::Failed,
            Status::Dropped => NotificationDeliveryStatus::Dropped,
        };
        let is_waiting = delivery.status == Status::Waiting;
        Self {
            id: delivery.id.to_string(),
            channel_id: delivery.channel.to_string(),
            notification_id: delivery.notification.to_string(),
            topic: NotificationTopic::from(delivery.topic).into(),
            data: Some(update::json_to_struct(&delivery.data)),
            status: status.into(),
            tries: delivery.tries,
            response_status: delivery.response_status,
            error: delivery.error,
            took_ms: delivery.took_ms,
            next_try_time: is_waiting.then(|| update::timestamp(delivery.run_at)),
            deliver_time: delivery.delivered_at.map(update::timestamp),
            create_time: Some(update::timestamp(delivery.created_at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields<T>(result: Result<T>) -> Vec<String> {
        match result {
            Err(Error::Invalid(violations)) => violations.into_iter().map(|it| it.field).collect(),
            _ => panic!("not refused for its input"),
        }
    }

    fn made(channel: proto::NotificationChannel) -> Result<(CompanyId, Kind, Settings)> {
        new(proto::CreateNotificationChannelRequest { channel: Some(channel) })
    }

    fn given(kind: NotificationChannelKind, url: &str) -> proto::NotificationChannel {
        proto::NotificationChannel {
            company_id: CompanyId::generate().to_string(),
            name: "On call".into(),
            kind: kind.into(),
            url: url.into(),
            topics: vec![NotificationTopic::ExecutionFailed.into()],
            ..Default::default()
        }
    }

    #[test]
    fn every_wrong_field_of_a_channel_is_named() {
        let all = ["channel.company_id", "channel.kind", "channel.name", "channel.topics"];
        assert_eq!(fields(made(proto::NotificationChannel::default())), all);
        let wrong = proto::NotificationChannel {
            audience: 9,
            topics: vec![1, 0, 8, 99],
            ..given(NotificationChannelKind::Webhook, "ftp://example.com")
        };
        let named = [
            "channel.url",
            "channel.audience",
            "channel.topics[1]",
            "channel.topics[2]",
            "channel.topics[3]",
        ];
        assert_eq!(fields(made(wrong)), named);
    }

    #[test]
    fn a_webhook_has_an_address_and_mails_have_none() {
        let url = "https://hooks.example.com/studios?x=1";
        assert!(made(given(NotificationChannelKind::Webhook, url)).is_ok());
        assert!(made(given(NotificationChannelKind::Email, "")).is_ok());
        for (kind, url) in [
            (NotificationChannelKind::Webhook, ""),
            (NotificationChannelKind::Email, url),
            (
                NotificationChannelKind::Webhook,
                "https://user:secret@hooks.example.com/",
            ),
        ] {
            assert_eq!(fields(made(given(kind, url))), ["channel.url"], "{url}");
        }
    }

    #[test]
    fn every_topic_is_the_contracts() {
        for topic_ in Topic::ALL {
            assert_eq!(topic(NotificationTopic::from(topic_).into()), Some(topic_));
            assert_eq!(Topic::read(topic_.as_str()), topic_);
        }
    }
}
