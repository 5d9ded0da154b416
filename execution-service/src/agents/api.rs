//! The RPCs of `AgentService`.

use std::sync::Arc;

use futures::{StreamExt, stream::BoxStream};
use service_kit::{auth::Caller, db, error::Violations, ids::AgentSessionId, page::Page};
use studios_proto::execution::{self as proto, agent_service_server::AgentService};
use tonic::{Request, Response, Status};

use super::{asking, convert, export, proposing, watch};
use crate::App;

const CREATE: &str = "/studios.execution.v1.AgentService/CreateSession";
const LIST: &str = "/studios.execution.v1.AgentService/ListSessions";
const ASK: &str = "/studios.execution.v1.AgentService/CreateRequest";
const LIST_REQUESTS: &str = "/studios.execution.v1.AgentService/ListRequests";

/// Serves `AgentService`.
#[derive(Clone)]
pub struct Api {
    app: Arc<App>,
}

impl Api {
    /// Serves it from `app`.
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl AgentService for Api {
    type WatchRequestStream = BoxStream<'static, Result<proto::AgentRequestEvent, Status>>;

    async fn create_session(
        &self,
        request: Request<proto::CreateSessionRequest>,
    ) -> Result<Response<proto::AgentSession>, Status> {
        let caller = Caller::of(&request)?;
        let (new, key) = convert::new(CREATE, request.get_ref())?;
        let session = db::retry("agents.create", || {
            super::create(&self.app, &caller, &new, key.as_ref())
        });
        Ok(Response::new(session.await?.into()))
    }

    async fn get_session(
        &self,
        request: Request<proto::GetSessionRequest>,
    ) -> Result<Response<proto::AgentSession>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        let session = db::retry("agents.get", || super::get(&self.app, &caller, id));
        Ok(Response::new(session.await?.into()))
    }

    async fn list_sessions(
        &self,
        request: Request<proto::ListSessionsRequest>,
    ) -> Result<Response<proto::ListSessionsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let studio = violations.id("studio_id", &request.studio_id);
        let page = Page::parse(
            &self.app.keys,
            LIST,
            &request.studio_id,
            request.page_size,
            &request.page_token,
        );
        let page = violations.include(page)?;
        violations.finish()?;
        let (Some(studio), Some(page)) = (studio, page) else {
            unreachable!("a missing one is a violation")
        };
        let sessions = db::retry("agents.list", || super::list(&self.app, &caller, studio, &page)).await?;
        let (sessions, next_page_token) = page.finish(&self.app.keys, LIST, &request.studio_id, sessions, |it| it.id);
        Ok(Response::new(proto::ListSessionsResponse {
            sessions: sessions.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }

    async fn update_session(
        &self,
        request: Request<proto::UpdateSessionRequest>,
    ) -> Result<Response<proto::AgentSession>, Status> {
        let caller = Caller::of(&request)?;
        let (id, etag, title) = convert::changes(request.get_ref())?;
        let session = db::retry("agents.rename", || {
            super::rename(&self.app, &caller, id, &etag, title.as_deref())
        });
        Ok(Response::new(session.await?.into()))
    }

    async fn delete_session(
        &self,
        request: Request<proto::DeleteSessionRequest>,
    ) -> Result<Response<proto::DeleteSessionResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        db::retry("agents.delete", || super::delete(&self.app, &caller, id)).await?;
        Ok(Response::new(proto::DeleteSessionResponse {}))
    }

    async fn create_request(
        &self,
        request: Request<proto::CreateRequestRequest>,
    ) -> Result<Response<proto::AgentRequest>, Status> {
        let caller = Caller::of(&request)?;
        let (new, key) = convert::asked(ASK, request.get_ref())?;
        let asked = db::retry("agents.ask", || asking::create(&self.app, &caller, &new, key.as_ref()));
        Ok(Response::new(asked.await?.try_into()?))
    }

    async fn get_request(
        &self,
        request: Request<proto::GetRequestRequest>,
    ) -> Result<Response<proto::AgentRequest>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        let found = db::retry("agents.get_request", || super::get_request(&self.app, &caller, id));
        Ok(Response::new(found.await?.try_into()?))
    }

    async fn list_requests(
        &self,
        request: Request<proto::ListRequestsRequest>,
    ) -> Result<Response<proto::ListRequestsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let id: AgentSessionId = Violations::only_id("session_id", &request.session_id)?;
        let page = Page::parse(
            &self.app.keys,
            LIST_REQUESTS,
            &id,
            request.page_size,
            &request.page_token,
        )?;
        let listed = db::retry("agents.list_requests", || {
            super::list_requests(&self.app, &caller, id, &page)
        });
        let (listed, next_page_token) = page.finish(&self.app.keys, LIST_REQUESTS, &id, listed.await?, |it| it.number);
        let requests: Result<_, _> = listed.into_iter().map(TryInto::try_into).collect();
        Ok(Response::new(proto::ListRequestsResponse {
            requests: requests?,
            next_page_token,
        }))
    }

    async fn watch_request(
        &self,
        request: Request<proto::WatchRequestRequest>,
    ) -> Result<Response<Self::WatchRequestStream>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        let events = watch::watch(Arc::clone(&self.app), caller, id).await?;
        let events = events.map(|it| it.and_then(TryInto::try_into).map_err(Status::from));
        Ok(Response::new(events.boxed()))
    }

    async fn cancel_request(
        &self,
        request: Request<proto::CancelRequestRequest>,
    ) -> Result<Response<proto::AgentRequest>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        let stopped = db::retry("agents.cancel", || super::cancel(&self.app, &caller, id));
        Ok(Response::new(stopped.await?.try_into()?))
    }

    async fn retry_request(
        &self,
        request: Request<proto::RetryRequestRequest>,
    ) -> Result<Response<proto::AgentRequest>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        let begun = db::retry("agents.retry", || asking::retry(&self.app, &caller, id));
        Ok(Response::new(begun.await?.try_into()?))
    }

    async fn set_feedback(
        &self,
        request: Request<proto::SetFeedbackRequest>,
    ) -> Result<Response<proto::AgentRequest>, Status> {
        let caller = Caller::of(&request)?;
        let (id, said) = convert::feedback(request.get_ref())?;
        let rated = db::retry("agents.rate", || {
            let said = said.as_ref().map(|(rating, note)| (*rating, note.as_str()));
            super::rate(&self.app, &caller, id, said)
        });
        Ok(Response::new(rated.await?.try_into()?))
    }

    async fn accept_proposal(
        &self,
        request: Request<proto::AcceptProposalRequest>,
    ) -> Result<Response<proto::AgentRequest>, Status> {
        let caller = Caller::of(&request)?;
        let (id, title) = convert::accepted(request.get_ref())?;
        let accepted = db::retry("agents.accept", || proposing::accept(&self.app, &caller, id, &title));
        Ok(Response::new(accepted.await?.try_into()?))
    }

    async fn reject_proposal(
        &self,
        request: Request<proto::RejectProposalRequest>,
    ) -> Result<Response<proto::AgentRequest>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        let rejected = db::retry("agents.reject", || proposing::reject(&self.app, &caller, id));
        Ok(Response::new(rejected.await?.try_into()?))
    }

    async fn export_session(
        &self,
        request: Request<proto::ExportSessionRequest>,
    ) -> Result<Response<proto::ExportSessionResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        let markdown = db::retry("agents.export", || export::export(&self.app, &caller, id)).await?;
        Ok(Response::new(proto::ExportSessionResponse { markdown }))
    }
}
