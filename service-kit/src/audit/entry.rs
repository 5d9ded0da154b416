//! An entry of the log, and the bytes that its hash is made of.
//!
//! The bytes are unambiguous whatever the fields hold: a name for the form, then each field's length and text, in a fixed order.
//! A form that was once written is never changed; another gets another name.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sqlx::types::Uuid;
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

use super::{About, chain::Hash, origin::Origin, subjects::DataKey};
use crate::{
    auth::{Caller, Operator},
    ids::{CompanyId, UserId},
    status, telemetry,
};

const FORM: &[u8] = b"studios.audit.entry.v1";

/// What kind of somebody acted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorKind {
    /// A person.
    User,
    /// A machine, by a company's API key.
    ApiKey,
    /// Who runs the installation.
    Operator,
    /// A service for itself.
    Service,
}

impl ActorKind {
    /// As the table has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::ApiKey => "api_key",
            Self::Operator => "operator",
            Self::Service => "service",
        }
    }

    /// The kind that the table has.
    pub fn read(text: &str) -> Option<Self> {
        [Self::User, Self::ApiKey, Self::Operator, Self::Service]
            .into_iter()
            .find(|it| it.as_str() == text)
    }
}

/// Who acted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// What he is.
    pub kind: ActorKind,
    /// His id.
    pub id: Uuid,
    /// The service that acted for him; may be empty.
    pub service: String,
}

impl Actor {
    /// A user by himself.
    pub fn user(user: UserId) -> Self {
        Self {
            kind: ActorKind::User,
            id: user.as_uuid(),
            service: String::new(),
        }
    }
}

impl From<&Operator> for Actor {
    fn from(operator: &Operator) -> Self {
        Self {
            kind: ActorKind::Operator,
            id: operator.id,
            service: String::new(),
        }
    }
}

impl From<&Caller> for Actor {
    fn from(caller: &Caller) -> Self {
        Self {
            kind: if caller.key.is_some() {
                ActorKind::ApiKey
            } else {
                ActorKind::User
            },
            id: caller.user.as_uuid(),
            service: caller.service.as_deref().unwrap_or_default().to_owned(),
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was refused.
    Refused,
}

impl Outcome {
    /// As the table has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
        }
    }

    /// The outcome that the table has.
    pub fn read(text: &str) -> Option<Self> {
        [Self::Done, Self::Refused].into_iter().find(|it| it.as_str() == text)
    }
}

/// An entry as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its id, which sorts by time.
    pub id: Uuid,
    /// The company that it concerns.
    pub company_id: Option<CompanyId>,
    /// When, to the microsecond.
    #[serde(rename = "created_at", with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// What kind of somebody acted.
    pub actor_kind: ActorKind,
    /// Who.
    pub actor_id: Uuid,
    /// The service that acted for him; may be empty.
    pub service: String,
    /// What was done, like `StudioService.CreateStudio`.
    pub action: String,
    /// To what kind of thing.
    pub thing_kind: String,
    /// To which.
    pub thing_id: Option<Uuid>,
    /// What came of it.
    pub outcome: Outcome,
    /// The trace; may be empty.
    pub trace_id: String,
    /// The request's correlation id; may be empty.
    pub correlation_id: String,
    /// What is encrypted, as PostgreSQL writes bytes: `\x` and hexadecimal digits.
    pub personal: Option<String>,
}

impl Entry {
    /// The hash of what it says.
    pub fn digest(&self) -> Hash {
        let company = self.company_id.map(|it| it.to_string());
        let thing = self.thing_id.map(|it| it.to_string());
        let at = (self.at.unix_timestamp_nanos() / 1000).to_string();
        let fields: [Option<&str>; 13] = [
            Some(&self.id.to_string()),
            company.as_deref(),
            Some(&at),
            Some(self.actor_kind.as_str()),
            Some(&self.actor_id.to_string()),
            Some(&self.service),
            Some(&self.action),
            Some(&self.thing_kind),
            thing.as_deref(),
            Some(self.outcome.as_str()),
            Some(&self.trace_id),
            Some(&self.correlation_id),
            self.personal.as_deref(),
        ];
        let mut digest = Sha256::new();
        digest.update(FORM);
        for field in fields {
            // No text is as long as this, so nothing and an empty text are apart.
            let length = field.map_or(u64::MAX, |it| it.len() as u64);
            digest.update(length.to_be_bytes());
            digest.update(field.unwrap_or_default());
        }
        digest.finalize().into()
    }

    /// When it was, as RFC 3339 writes it.
    pub fn at_text(&self) -> String {
        self.at.format(&Rfc3339).unwrap_or_default()
    }
}

/// An entry that is yet to be written.
pub(super) struct Sealed(Entry);

impl Sealed {
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(&self.0).expect("an entry is plain data")
    }
}

/// Makes an entry of what is done now.
pub(super) fn seal(actor: &Actor, origin: Option<&Origin>, about: About, key: &DataKey, now: OffsetDateTime) -> Sealed {
    let id = id_at(now);
    let mut personal = serde_json::Map::new();
    if let Some(address) = origin.and_then(|it| it.address) {
        personal.insert("address".into(), Value::from(address.to_string()));
    }
    if let Some(agent) = origin.map(|it| &it.user_agent).filter(|it| !it.is_empty()) {
        personal.insert("user_agent".into(), json!(agent));
    }
    if !about.details.is_empty() {
        personal.insert("details".into(), Value::Object(about.details));
    }
    let sealed = (!personal.is_empty()).then(|| key.seal(id, &Value::Object(personal)));
    let (thing_kind, thing_id) = about.thing;
    Sealed(Entry {
        id,
        company_id: about.company,
        at: to_the_microsecond(now),
        actor_kind: actor.kind,
        actor_id: actor.id,
        service: actor.service.clone(),
        action: origin.map_or_else(|| "unknown".to_owned(), |it| it.action.clone()),
        thing_kind: thing_kind.to_owned(),
        thing_id,
        outcome: about.outcome,
        trace_id: telemetry::current_trace_id(),
        correlation_id: status::current_request_id().as_deref().unwrap_or_default().to_owned(),
        personal: sealed.map(|it| format!("\\x{}", hex::encode(it))),
    })
}

/// As exact as the database keeps it.
fn to_the_microsecond(at: OffsetDateTime) -> OffsetDateTime {
    let at = at.to_offset(UtcOffset::UTC);
    at.replace_nanosecond(at.microsecond() * 1000).unwrap_or(at)
}

/// An id that sorts with its time, which is the clock's.
fn id_at(now: OffsetDateTime) -> Uuid {
    let millis = u64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &rand::random()).into_uuid()
}

/// The smallest id of a time.
pub(super) fn first_id_at(at: OffsetDateTime) -> Uuid {
    let millis = u64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
    Uuid::from_u128(u128::from(millis) << 80)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::audit) fn entry() -> Entry {
        Entry {
            id: Uuid::from_u128(1),
            company_id: None,
            at: OffsetDateTime::UNIX_EPOCH,
            actor_kind: ActorKind::User,
            actor_id: Uuid::from_u128(2),
            service: String::new(),
            action: "StudioService.CreateStudio".into(),
            thing_kind: "studio".into(),
            thing_id: Some(Uuid::from_u128(3)),
            outcome: Outcome::Done,
            trace_id: "t".into(),
            correlation_id: "c".into(),
            personal: None,
        }
    }

    #[test]
    fn every_field_is_in_the_digest() {
        let original = entry();
        let changes: [fn(&mut Entry); 13] = [
            |it| it.id = Uuid::nil(),
            |it| it.company_id = Some(CompanyId::generate()),
            |it| it.at += std::time::Duration::from_micros(1),
            |it| it.actor_kind = ActorKind::ApiKey,
            |it| it.actor_id = Uuid::nil(),
            |it| it.service = "execution-service".into(),
            |it| it.action.push('s'),
            |it| it.thing_kind.push('s'),
            |it| it.thing_id = None,
            |it| it.outcome = Outcome::Refused,
            |it| it.trace_id = "tc".into(),
            |it| it.correlation_id.clear(),
            |it| it.personal = Some(String::new()),
        ];
        for (i, change) in changes.into_iter().enumerate() {
            let mut changed = original.clone();
            change(&mut changed);
            assert_ne!(changed.digest(), original.digest(), "field {i}");
        }
        let (mut left, mut right) = (entry(), entry());
        (left.trace_id, left.correlation_id) = ("ab".into(), "c".into());
        (right.trace_id, right.correlation_id) = ("a".into(), "bc".into());
        assert_ne!(left.digest(), right.digest(), "a field ends where it ends");
    }

    #[test]
    fn an_entry_reads_back_what_it_writes() {
        let mut entry = entry();
        entry.at += std::time::Duration::from_micros(1_234_567);
        let json = serde_json::to_string(&entry).unwrap();
        assert_eq!(serde_json::from_str::<Entry>(&json).unwrap(), entry);
    }

    #[test]
    fn ids_sort_by_their_time() {
        let now = OffsetDateTime::UNIX_EPOCH + std::time::Duration::from_secs(5);
        let later = now + std::time::Duration::from_millis(1);
        assert!(first_id_at(now) < id_at(now) && id_at(now) < first_id_at(later));
    }
}
