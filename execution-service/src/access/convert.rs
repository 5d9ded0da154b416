//! core-service's messages in this service's terms.

use service_kit::{
    db::Claims,
    error::{Error, Result},
    ids::{ChunkId, SessionId},
    update,
};
use studios_proto::core::{
    self as proto, AccessDecision, Chunk, FollowEventsResponse, SearchResult, follow_events_response as follow,
};

use super::{
    Access, Allowance, FileFacts, Found, Level, Readable, Role, Search, TextState, Unembedded, VersionFacts,
    answers::{Answer, News},
};
use crate::{
    engine::definition::RetrievalMode,
    notices::Notice,
    privacy::{Subject, Work},
};

pub(super) fn answer(decision: &AccessDecision) -> Result<Answer> {
    Ok(Answer {
        access: access(decision)?,
        position: decision.outbox_position,
    })
}

/// What a message of the stream says, and the position to go on after. What exactly changed in a company does not matter.
pub(super) fn news(message: &FollowEventsResponse) -> Result<(News, i64)> {
    let news = match &message.news {
        Some(follow::News::Event(event)) => News::Event(id(&event.company_id)?),
        Some(follow::News::Heartbeat(_)) => News::Heartbeat,
        Some(follow::News::Reset(_)) => News::Reset,
        None => return Err(Error::internal("core-service told something unknown")),
    };
    Ok((news, message.position))
}

/// The session that ended, if that is what a message tells.
pub(super) fn ended_session(message: &FollowEventsResponse) -> Result<Option<SessionId>> {
    match &message.news {
        Some(follow::News::Event(event)) if !event.session_id.is_empty() => id(&event.session_id).map(Some),
        _ => Ok(None),
    }
}

/// What a company is to be told, as core-service takes it.
pub(super) fn notice(notice: &Notice) -> Result<proto::Notice> {
    use proto::NotificationTopic as Topic;
    let topic = match notice.topic.as_str() {
        "execution.failed" => Topic::ExecutionFailed,
        "approval.waiting" => Topic::ApprovalWaiting,
        "approval.reminder" => Topic::ApprovalReminder,
        "approval.escalated" => Topic::ApprovalEscalated,
        "quota.warning" => Topic::QuotaWarning,
        "quota.reached" => Topic::QuotaReached,
        "security.event" => Topic::SecurityEvent,
        other => return Err(Error::internal(format!("a notice is of {other}"))),
    };
    let rank = match notice.rank.as_deref() {
        Some("admin") => proto::NoticeRank::Admins,
        Some(_) => proto::NoticeRank::Members,
        None => proto::NoticeRank::Unspecified,
    };
    Ok(proto::Notice {
        id: notice.id.to_string(),
        company_id: notice.company.to_string(),
        topic: topic.into(),
        data: Some(update::json_to_struct(&notice.data)),
        user_ids: notice.users.iter().map(ToString::to_string).collect(),
        rank: rank.into(),
        occur_time: Some(update::timestamp(notice.at)),
    })
}

/// A request as this service's work; none where there is none.
pub(super) fn work(claimed: &proto::ClaimPrivacyWorkResponse) -> Result<Option<Work>> {
    let Some(request) = &claimed.request else {
        return Ok(None);
    };
    let subject = match request.company_id.as_str() {
        "" => Subject::User(id(&request.user_id)?),
        company => Subject::Company(id(company)?),
    };
    let is_erasure = match request.kind() {
        proto::PrivacyKind::Erasure => true,
        proto::PrivacyKind::Export => false,
        proto::PrivacyKind::Unspecified => return Err(Error::internal("core-service asks for nothing")),
    };
    Ok(Some(Work {
        request: id(&request.id)?,
        attempt: claimed.attempt,
        is_erasure,
        subject,
        places: claimed.company_ids.iter().map(|it| id(it)).collect::<Result<_>>()?,
    }))
}

fn access(decision: &AccessDecision) -> Result<Access> {
    let role = match decision.role() {
        proto::Role::Admin => Role::Admin,
        proto::Role::Member => Role::Member,
        proto::Role::Unspecified => return Err(Error::internal("core-service named no role")),
    };
    let company = id(&decision.company_id)?;
    let studio = match decision.studio_id.as_str() {
        "" => None,
        text => Some(id(text)?),
    };
    Ok(Access {
        claims: Claims {
            sub: id(&decision.user_id)?,
            company_id: Some(company),
            studio_id: studio,
            role: Some(role.as_str()),
        },
        company,
        role,
        max_snapshots: decision.max_snapshots,
        allowance: allowance(decision)?,
    })
}

fn allowance(decision: &AccessDecision) -> Result<Allowance> {
    let limits = decision.plan.as_ref().and_then(|plan| plan.limits.as_ref());
    let limits = limits.ok_or_else(|| Error::internal("core-service named no plan"))?;
    Ok(Allowance {
        executions_per_month: limits.executions_per_month,
        concurrent_executions: limits.concurrent_executions.into(),
        tokens_per_month: limits.tokens_per_month,
        cost_micros_per_month: limits.cost_micros_per_month,
    })
}

pub(super) fn found(result: SearchResult) -> Result<Found> {
    let piece = result
        .chunk
        .ok_or_else(|| Error::internal("core-service found a chunk without text"))?;
    chunk(piece, &result.document_title)
}

pub(super) fn chunk(chunk: Chunk, document_title: &str) -> Result<Found> {
    Ok(Found {
        document_id: id(&chunk.document_id)?,
        chunk_id: id(&chunk.id)?,
        document_title: document_title.to_owned(),
        section: chunk.section,
        page: u32::try_from(chunk.page).ok().filter(|it| *it > 0),
        overlap: chunk.overlap,
        content: chunk.content,
    })
}

/// A search, of its query as much as core-service takes.
pub(super) fn search(search: Search<'_>, query_chars: usize) -> proto::SearchChunksRequest {
    proto::SearchChunksRequest {
        studio_id: search.studio.to_string(),
        query: search.query.chars().take(query_chars).collect(),
        limit: i32::try_from(search.limit).unwrap_or(i32::MAX),
        document_ids: search.documents.iter().map(ToString::to_string).collect(),
        match_mode: proto::MatchMode::Any.into(),
        mode: match search.mode {
            RetrievalMode::Automatic => proto::SearchMode::Automatic,
            RetrievalMode::Text => proto::SearchMode::Text,
            RetrievalMode::Vector => proto::SearchMode::Vector,
            RetrievalMode::Fused => proto::SearchMode::Fused,
        }
        .into(),
        vector: search
            .vector
            .map(|(model, numbers)| proto::QueryVector { model, numbers }),
        filter: Some(proto::DocumentFilter {
            mime_types: search.mime_types.to_vec(),
            tags: search.tags.to_vec(),
            created_from: search.created_from.map(update::timestamp),
            ..Default::default()
        }),
    }
}

pub(super) fn file(file: proto::File) -> Result<FileFacts> {
    Ok(FileFacts {
        company: id(&file.company_id)?,
        studio: id(&file.studio_id)?,
        level: level_of(file.access_level),
        is_deleted: file.delete_time.is_some(),
        current: VersionFacts {
            number: file.version,
            readable: readable(file.state()),
            mime_type: file.mime_type,
            size_bytes: file.size_bytes,
            sha256: file.sha256,
        },
        name: file.name,
    })
}

pub(super) fn version(version: proto::FileVersion) -> VersionFacts {
    VersionFacts {
        number: version.number,
        readable: readable(version.state()),
        mime_type: version.mime_type,
        size_bytes: version.size_bytes,
        sha256: version.sha256,
    }
}

fn readable(state: proto::FileState) -> Readable {
    match state {
        proto::FileState::Ready => Readable::Yes,
        proto::FileState::Scanning => Readable::NotYet,
        proto::FileState::Quarantined => Readable::Quarantined,
        proto::FileState::Lost | proto::FileState::Unspecified => Readable::Lost,
    }
}

/// How far a document is. What has chunks serves, whatever is done with it meanwhile.
pub(super) fn text_state(document: &proto::Document) -> TextState {
    use proto::ProcessingStatus as Status;
    match document.status() {
        _ if document.chunk_count > 0 => TextState::Ready,
        Status::Pending | Status::Processing => TextState::Coming,
        Status::Failed => TextState::Failed {
            title: document.title.clone(),
            reason: document.failure_reason.clone(),
        },
        Status::Completed | Status::Unspecified => TextState::Ready,
    }
}

/// A level that this release does not know is taken for a studio's.
pub(super) fn level_of(given: i32) -> Level {
    match proto::AccessLevel::try_from(given) {
        Ok(proto::AccessLevel::Private) => Level::Private,
        Ok(proto::AccessLevel::Company) => Level::Company,
        Ok(proto::AccessLevel::Studio | proto::AccessLevel::Unspecified) | Err(_) => Level::Studio,
    }
}

pub(super) fn level(level: Level) -> proto::AccessLevel {
    match level {
        Level::Private => proto::AccessLevel::Private,
        Level::Studio => proto::AccessLevel::Studio,
        Level::Company => proto::AccessLevel::Company,
    }
}

pub(super) fn unembedded(answer: proto::ClaimChunksResponse) -> Result<Option<Unembedded>> {
    if answer.chunks.is_empty() {
        return Ok(None);
    }
    let chunks = answer.chunks.into_iter().map(|it| Ok((id(&it.chunk_id)?, it.text)));
    Ok(Some(Unembedded {
        company: id(&answer.company_id)?,
        document: id(&answer.document_id)?,
        chunks: chunks.collect::<Result<_>>()?,
    }))
}

pub(super) fn vector((chunk, numbers): (ChunkId, Vec<f32>)) -> proto::ChunkVector {
    proto::ChunkVector {
        chunk_id: chunk.to_string(),
        numbers,
    }
}

pub(super) fn id<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse()
        .map_err(|_| Error::internal("core-service answered with a malformed id"))
}

#[cfg(test)]
mod tests {
    use service_kit::ids::{CompanyId, StudioId, UserId};

    use super::*;

    fn decision() -> AccessDecision {
        AccessDecision {
            user_id: UserId::generate().to_string(),
            company_id: CompanyId::generate().to_string(),
            studio_id: StudioId::generate().to_string(),
            role: proto::Role::Member.into(),
            max_snapshots: 50,
            plan: Some(proto::Plan {
                limits: Some(proto::PlanLimits::default()),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    #[test]
    fn claims_are_what_core_service_answered() {
        let given = decision();
        let access = access(&given).unwrap();
        let claims = serde_json::to_value(&access.claims).unwrap();
        assert_eq!(claims["sub"], given.user_id);
        assert_eq!(claims["company_id"], given.company_id);
        assert_eq!(claims["studio_id"], given.studio_id);
        assert_eq!(claims["role"], "member");
        assert_eq!(access.max_snapshots, 50);
        assert!(access.require_admin().is_err());
        assert!(access.require_admin_unless(true).is_ok());
    }

    #[test]
    fn an_answer_about_a_company_has_no_studio() {
        let given = AccessDecision {
            studio_id: String::new(),
            role: proto::Role::Admin.into(),
            ..decision()
        };
        let access = access(&given).unwrap();
        assert_eq!(access.claims.studio_id, None);
        assert!(access.require_admin().is_ok());
    }

    #[test]
    fn an_answer_that_makes_no_sense_gives_no_access() {
        let nobody = AccessDecision {
            role: proto::Role::Unspecified.into(),
            ..decision()
        };
        let nowhere = AccessDecision {
            company_id: String::new(),
            ..decision()
        };
        for given in [nobody, nowhere] {
            assert!(matches!(access(&given), Err(Error::Internal(_))));
        }
    }

    #[test]
    fn what_is_heard_of_the_outbox_is_an_event_a_heartbeat_or_a_reset() {
        let company = CompanyId::generate();
        let event = proto::AccessEvent {
            company_id: company.to_string(),
            ..Default::default()
        };
        let heard = |news| {
            let message = FollowEventsResponse { position: 7, news };
            super::news(&message)
        };
        let told = [
            (follow::News::Event(event), News::Event(company)),
            (follow::News::Heartbeat(proto::Heartbeat {}), News::Heartbeat),
            (follow::News::Reset(proto::Reset {}), News::Reset),
        ];
        for (given, expected) in told {
            assert_eq!(heard(Some(given)).unwrap(), (expected, 7));
        }
        assert!(heard(None).is_err());
        assert!(heard(Some(follow::News::Event(proto::AccessEvent::default()))).is_err());
    }
}
