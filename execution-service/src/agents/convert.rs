//! Sessions and requests as the contract writes them.

use serde_json::{Map, Value};
use service_kit::{
    error::{Error, Result, Violations},
    ids::{AgentRequestId, AgentSessionId, DocumentId},
    update,
};
use studios_proto::execution as proto;

use super::{Citation, Decision, Kind, New, Proposal, Rating, Request, Session, Status, asking, watch::Event};
use crate::requests;

/// The model of sessions that name none.
const DEFAULT_MODEL: &str = "offline";
/// The fields that an update may change.
const CHANGEABLE: &[&str] = &["title"];
const TITLE_CHARS: usize = 200;
const CONTENT_CHARS: usize = 32_000;
const NOTE_CHARS: usize = 2_000;
/// The most documents that a request names.
const DOCUMENTS: usize = 50;
/// The longest title of a document, in characters.
const DOCUMENT_TITLE_CHARS: usize = 255;
const MISSING: &str = "a missing one is a violation";

pub(super) fn new(method: &'static str, request: &proto::CreateSessionRequest) -> Result<(New, Option<requests::Key>)> {
    let mut violations = Violations::new();
    let studio = violations.id("studio_id", &request.studio_id);
    let title = violations.text("title", &request.title, 0..=TITLE_CHARS);
    let model = violations.text("model", &request.model, 0..=100);
    let key = requests::Key::read(&mut violations, method, &request.request_id, request);
    violations.finish()?;
    let model = model.expect(MISSING);
    let new = New {
        studio: studio.expect(MISSING),
        title: title.expect(MISSING),
        model: if model.is_empty() { DEFAULT_MODEL.into() } else { model },
    };
    Ok((new, key))
}

pub(super) fn changes(request: &proto::UpdateSessionRequest) -> Result<(AgentSessionId, String, Option<String>)> {
    let mut violations = Violations::new();
    let given = request.session.clone().unwrap_or_default();
    let id = violations.id("session.id", &given.id);
    let set: &[&str] = if given.title.is_empty() { &[] } else { CHANGEABLE };
    let paths = violations.include(update::paths(request.update_mask.as_ref(), CHANGEABLE, set))?;
    let is_changed = paths.is_some_and(|it| it.contains("title"));
    let title = violations.text("session.title", &given.title, 0..=TITLE_CHARS);
    violations.finish()?;
    Ok((id.expect(MISSING), given.etag, title.filter(|_| is_changed)))
}

pub(super) fn asked(
    method: &'static str,
    request: &proto::CreateRequestRequest,
) -> Result<(asking::New, Option<requests::Key>)> {
    let mut violations = Violations::new();
    let session = violations.id("session_id", &request.session_id);
    let kind = match proto::AgentRequestType::try_from(request.r#type) {
        Ok(proto::AgentRequestType::Create) => Some(Kind::Create),
        Ok(proto::AgentRequestType::Edit) => Some(Kind::Edit),
        Ok(proto::AgentRequestType::Research) => Some(Kind::Research),
        Ok(proto::AgentRequestType::Unspecified) | Err(_) => {
            violations.add("type", "must be create, edit or research");
            None
        }
    };
    let content = violations.text("content", &request.content, 1..=CONTENT_CHARS);
    if request.document_ids.len() > DOCUMENTS {
        violations.add("document_ids", format!("must be at most {DOCUMENTS}"));
    } else if kind == Some(Kind::Edit) && request.document_ids.len() != 1 {
        violations.add("document_ids", "must be the one document that is to be changed");
    }
    let mut documents: Vec<DocumentId> = Vec::new();
    for (at, id) in request.document_ids.iter().take(DOCUMENTS).enumerate() {
        documents.extend(violations.id::<DocumentId>(format!("document_ids[{at}]"), id));
    }
    let key = requests::Key::read(&mut violations, method, &request.request_id, request);
    violations.finish()?;
    let new = asking::New {
        session: session.expect(MISSING),
        kind: kind.expect(MISSING),
        content: content.expect(MISSING),
        documents,
    };
    Ok((new, key))
}

pub(super) fn feedback(request: &proto::SetFeedbackRequest) -> Result<(AgentRequestId, Option<(Rating, String)>)> {
    let mut violations = Violations::new();
    let id = violations.id("id", &request.id);
    let given = request.feedback.clone().unwrap_or_default();
    let note = violations.text("feedback.note", &given.note, 0..=NOTE_CHARS);
    let rating = match proto::AgentRating::try_from(given.rating) {
        Ok(proto::AgentRating::Unspecified) => None,
        Ok(proto::AgentRating::Up) => Some(Rating::Up),
        Ok(proto::AgentRating::Down) => Some(Rating::Down),
        Err(_) => {
            violations.add("feedback.rating", "must be an AgentRating");
            None
        }
    };
    if rating.is_none() && !given.note.trim().is_empty() {
        violations.add("feedback.note", "must be empty where there is no rating");
    }
    violations.finish()?;
    Ok((id.expect(MISSING), rating.zip(note)))
}

pub(super) fn accepted(request: &proto::AcceptProposalRequest) -> Result<(AgentRequestId, String)> {
    let mut violations = Violations::new();
    let id = violations.id("id", &request.id);
    let title = violations.text("title", &request.title, 0..=DOCUMENT_TITLE_CHARS);
    violations.finish()?;
    Ok((id.expect(MISSING), title.expect(MISSING)))
}

impl From<Session> for proto::AgentSession {
    fn from(it: Session) -> Self {
        let (summarized_through, summary) = it.summary.unwrap_or_default();
        Self {
            id: it.id.to_string(),
            company_id: it.company.to_string(),
            studio_id: it.studio.to_string(),
            owner_id: it.owner.to_string(),
            title: it.title,
            model: it.model,
            request_count: it.requests,
            context: Some(proto::AgentContext {
                summary,
                summarized_through,
                token_scale: f64::from(it.scale.thousandths()) / 1_000.0,
            }),
            create_time: Some(update::timestamp(it.created_at)),
            update_time: Some(update::timestamp(it.updated_at)),
            etag: update::etag(it.revision),
        }
    }
}

impl TryFrom<Request> for proto::AgentRequest {
    type Error = Error;

    fn try_from(it: Request) -> Result<Self> {
        let progress = it.progress();
        let results = it.results.as_ref().map(serde_json::to_value).transpose();
        let results = match results.map_err(Error::internal)? {
            Some(Value::Object(results)) => Some(update::json_to_struct(&without_contents(results))),
            _ => None,
        };
        let (citations, dropped) = it
            .results
            .map(|it| {
                (
                    it.citations.unwrap_or_default(),
                    it.dropped_citations.unwrap_or_default(),
                )
            })
            .unwrap_or_default();
        let is_open = it.status.is_open();
        let usage = proto::AgentUsage {
            input_tokens: it.usage.input_tokens,
            output_tokens: it.usage.output_tokens,
            cost_micros: it.usage.cost_micros,
        };
        Ok(Self {
            id: it.id.to_string(),
            session_id: it.session.to_string(),
            number: it.number,
            r#type: match it.kind {
                Kind::Create => proto::AgentRequestType::Create,
                Kind::Edit => proto::AgentRequestType::Edit,
                Kind::Research => proto::AgentRequestType::Research,
            }
            .into(),
            content: it.content,
            document_ids: it.documents.iter().map(ToString::to_string).collect(),
            status: match it.status {
                Status::Pending => proto::AgentRequestStatus::Pending,
                Status::Processing => proto::AgentRequestStatus::Processing,
                Status::Completed => proto::AgentRequestStatus::Completed,
                Status::Failed => proto::AgentRequestStatus::Failed,
                Status::Cancelled => proto::AgentRequestStatus::Cancelled,
            }
            .into(),
            progress,
            results,
            citations: citations.into_iter().map(Into::into).collect(),
            dropped_citations: dropped
                .into_iter()
                .map(|it| i32::try_from(it).unwrap_or(i32::MAX))
                .collect(),
            proposal: it.proposal.map(Into::into),
            failure: it.failure.map(|(classification, message)| proto::AgentFailure {
                classification,
                message,
            }),
            usage: (!is_open).then_some(usage),
            feedback: it.feedback.map(|(rating, note)| proto::AgentFeedback {
                rating: match rating {
                    Rating::Up => proto::AgentRating::Up,
                    Rating::Down => proto::AgentRating::Down,
                }
                .into(),
                note,
            }),
            execution_id: it.execution.to_string(),
            attempts: it.attempts.into(),
            create_time: Some(update::timestamp(it.created_at)),
            end_time: it.ended_at.map(update::timestamp),
        })
    }
}

/// The results with what is told beside them told once.
fn without_contents(mut results: Map<String, Value>) -> Map<String, Value> {
    if let Some(Value::Array(citations)) = results.get_mut("citations") {
        for citation in citations {
            if let Value::Object(citation) = citation {
                citation.remove("content");
            }
        }
    }
    results
}

impl From<Citation> for proto::AgentCitation {
    fn from(it: Citation) -> Self {
        let number = |given: u32| i32::try_from(given).unwrap_or(i32::MAX);
        Self {
            number: number(it.number),
            document_id: it.document_id.to_string(),
            chunk_id: it.chunk_id.to_string(),
            document_title: it.document_title,
            section: it.section,
            page: it.page.map(number).unwrap_or_default(),
            content: it.content,
        }
    }
}

impl From<Proposal> for proto::AgentProposal {
    fn from(it: Proposal) -> Self {
        let id = |id: Option<DocumentId>| id.map(|it| it.to_string()).unwrap_or_default();
        let is_accepted = it.decision == Some(Decision::Accepted);
        let (file_id, file_version) = match it.file.filter(|_| is_accepted) {
            Some((file, version)) => (file.to_string(), version),
            None => (String::new(), 0),
        };
        Self {
            document_id: id(it.document),
            title: it.title,
            diff: it.diff,
            text: it.text,
            decision: match it.decision {
                Some(Decision::Accepted) => proto::AgentDecision::Accepted,
                Some(Decision::Rejected) => proto::AgentDecision::Rejected,
                Some(Decision::Accepting) | None => proto::AgentDecision::Unspecified,
            }
            .into(),
            made_document_id: id(it.made),
            file_id,
            file_version,
            decide_time: it.decided_at.map(update::timestamp),
        }
    }
}

impl TryFrom<Event> for proto::AgentRequestEvent {
    type Error = Error;

    fn try_from(event: Event) -> Result<Self> {
        use proto::agent_request_event::Event as Told;
        let told = match event {
            Event::Request(request) => Told::Request((*request).try_into()?),
            Event::Output(text) => Told::Output(text),
            Event::Progress(progress) => Told::Progress(progress),
            Event::Restarted => Told::Restarted(proto::AgentOutputRestarted {}),
        };
        Ok(Self { event: Some(told) })
    }
}
