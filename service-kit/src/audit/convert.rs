//! The log as the contracts write it; both services' are the same.

use studios_proto::core as proto;

use super::{
    entry::{ActorKind, Outcome},
    lines::Format,
    reading::{Filter, Report, Shown, Wanted},
};
use crate::{
    error::{Error, Result, Violations},
    ids::AnyId,
    update,
};

/// How many problems an answer tells of.
pub const MOST_PROBLEMS: usize = 100;

const ACTION: std::ops::RangeInclusive<usize> = 0..=200;

impl TryFrom<&proto::ListAuditEntriesRequest> for Filter {
    type Error = Error;

    fn try_from(request: &proto::ListAuditEntriesRequest) -> Result<Self> {
        let mut violations = Violations::new();
        let company = violations.id("company_id", &request.company_id);
        let actor: Option<AnyId> = violations.optional_id("actor_id", &request.actor_id);
        let thing: Option<AnyId> = violations.optional_id("thing_id", &request.thing_id);
        let action = violations.text("action", &request.action, ACTION);
        let mut moment = |field: &str, at: &Option<prost_types::Timestamp>| {
            let moment = at.as_ref().map(update::moment);
            if moment == Some(None) {
                violations.add(field, "must be a time");
            }
            moment.flatten()
        };
        let from = moment("start_time", &request.start_time);
        let until = moment("end_time", &request.end_time);
        violations.finish()?;
        Ok(Self {
            company: company.expect("a missing one is a violation"),
            actor: actor.map(AnyId::as_uuid),
            action: action.filter(|it| !it.is_empty()),
            thing: thing.map(AnyId::as_uuid),
            from,
            until,
        })
    }
}

impl TryFrom<&proto::ExportAuditLogRequest> for Wanted {
    type Error = Error;

    fn try_from(request: &proto::ExportAuditLogRequest) -> Result<Self> {
        let mut violations = Violations::new();
        let company = violations.id("company_id", &request.company_id);
        if request.after < 0 {
            violations.add("after", "must not be negative");
        }
        let format = match proto::AuditFormat::try_from(request.format) {
            Ok(proto::AuditFormat::Unspecified | proto::AuditFormat::JsonLines) => Format::JsonLines,
            Ok(proto::AuditFormat::Csv) => Format::Csv,
            Err(_) => {
                violations.add("format", "must be one of the formats");
                Format::JsonLines
            }
        };
        violations.finish()?;
        Ok(Self {
            company: company.expect("a missing one is a violation"),
            after: request.after,
            format,
        })
    }
}

impl From<Shown> for proto::AuditEntry {
    fn from(shown: Shown) -> Self {
        let Shown { entry, personal } = shown;
        let erased = personal.is_none();
        let personal = personal.unwrap_or_default();
        let actor_kind = match entry.actor_kind {
            ActorKind::User => proto::AuditActorKind::User,
            ActorKind::ApiKey => proto::AuditActorKind::ApiKey,
            ActorKind::Operator => proto::AuditActorKind::Operator,
            ActorKind::Service => proto::AuditActorKind::Service,
        };
        let outcome = match entry.outcome {
            Outcome::Done => proto::AuditOutcome::Done,
            Outcome::Refused => proto::AuditOutcome::Refused,
        };
        Self {
            id: entry.id.to_string(),
            company_id: entry.company_id.map(|it| it.to_string()).unwrap_or_default(),
            time: Some(update::timestamp(entry.at)),
            actor_kind: actor_kind.into(),
            actor_id: entry.actor_id.to_string(),
            service: entry.service,
            action: entry.action,
            thing_kind: entry.thing_kind,
            thing_id: entry.thing_id.map(|it| it.to_string()).unwrap_or_default(),
            outcome: outcome.into(),
            trace_id: entry.trace_id,
            correlation_id: entry.correlation_id,
            address: personal.address,
            user_agent: personal.user_agent,
            details: (!personal.details.is_empty()).then(|| update::json_to_struct(&personal.details)),
            erased,
        }
    }
}

impl Report {
    /// The answer to a check, with the public keys that the head may be signed by.
    pub fn into_answer(self, keys: &[Vec<u8>]) -> proto::VerifyAuditLogResponse {
        proto::VerifyAuditLogResponse {
            entries: i64::try_from(self.entries).unwrap_or(i64::MAX),
            head: self.head.map(|it| proto::AuditHead {
                seq: it.seq,
                hash: hex::encode(it.hash),
                signed_time: Some(update::timestamp(it.signed_at)),
                key: hex::encode(it.key),
                signature: hex::encode(it.signature),
            }),
            problems: self
                .problems
                .iter()
                .take(MOST_PROBLEMS)
                .map(ToString::to_string)
                .collect(),
            keys: keys.iter().map(hex::encode).collect(),
        }
    }
}
