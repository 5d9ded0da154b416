//! Privacy requests as the contract writes them.

use service_kit::update;
use studios_proto::core as proto;

use super::{Kind, Request, State, Subject, work::Work};

impl From<Request> for proto::PrivacyRequest {
    fn from(request: Request) -> Self {
        let kind = match request.kind {
            Kind::Export => proto::PrivacyKind::Export,
            Kind::Erasure => proto::PrivacyKind::Erasure,
        };
        let state = match request.state {
            State::Waiting => proto::PrivacyState::Waiting,
            State::Execution => proto::PrivacyState::Execution,
            State::Core => proto::PrivacyState::Core,
            State::Done => proto::PrivacyState::Done,
            State::Cancelled => proto::PrivacyState::Cancelled,
        };
        let (company_id, user_id) = match request.subject {
            Subject::Company(company) => (company.to_string(), String::new()),
            Subject::User(user) => (String::new(), user.to_string()),
        };
        Self {
            id: request.id.to_string(),
            kind: kind.into(),
            company_id,
            user_id,
            state: state.into(),
            due_time: Some(update::timestamp(request.due_at)),
            rows: request.rows,
            objects: request.objects,
            size_bytes: request.size_bytes,
            expire_time: request.expires_at.map(update::timestamp),
            error: request.error,
            finish_time: request.finished_at.map(update::timestamp),
            create_time: Some(update::timestamp(request.created_at)),
            sha256: hex::encode(request.sha256),
        }
    }
}

impl From<Work> for proto::ClaimPrivacyWorkResponse {
    fn from(work: Work) -> Self {
        Self {
            attempt: work.request.attempt,
            request: Some(work.request.into()),
            company_ids: work.places.iter().map(ToString::to_string).collect(),
        }
    }
}
