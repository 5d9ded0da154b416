//! The RPCs of `ExecutionService`.

use std::sync::Arc;

use futures::{StreamExt, stream::BoxStream};
use prost::Message;
use service_kit::{auth::Caller, db, error::Violations, ids::ExecutionId, page::Page};
use studios_proto::execution::{self as proto, execution_service_server::ExecutionService};
use tonic::{Request, Response, Status};

use super::{
    again, attempts, bulk, control, convert, decide, dry, explain, files, quotas, trial, wait, waiting, watch,
};
use crate::{
    App,
    pieces::started::{self, Asked},
    templates,
};

const START: &str = "/studios.execution.v1.ExecutionService/StartExecution";
const DECIDE: &str = "/studios.execution.v1.ExecutionService/DecideAttempt";
const SIGNAL: &str = "/studios.execution.v1.ExecutionService/SendSignal";
const DELEGATE: &str = "/studios.execution.v1.ExecutionService/DelegateDecision";
const RETRY: &str = "/studios.execution.v1.ExecutionService/RetryExecution";
const FORK: &str = "/studios.execution.v1.ExecutionService/ForkExecution";
const RESTART: &str = "/studios.execution.v1.ExecutionService/RestartExecution";
const CONTROL: &str = "/studios.execution.v1.ExecutionService/ControlExecutions";
const LIST_WAITING: &str = "/studios.execution.v1.ExecutionService/ListWaiting";
const LIST: &str = "/studios.execution.v1.ExecutionService/ListExecutions";
const LIST_ATTEMPTS: &str = "/studios.execution.v1.ExecutionService/ListAttempts";
const LIST_FILES: &str = "/studios.execution.v1.ExecutionService/ListExecutionFiles";

/// The attempts of a page have at most so many bytes, if it is more than one: what clients take of a message is bounded.
const ATTEMPT_BYTES: usize = 2 << 20;

/// Serves `ExecutionService`.
#[derive(Clone)]
pub struct Api {
    app: Arc<App>,
}

impl Api {
    /// Serves it from `app`.
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }

    async fn begin_again(&self, caller: Caller, again: &again::Again) -> Result<Response<proto::Execution>, Status> {
        let execution = db::retry("executions.again", || again::begin(&self.app, &caller, again));
        Ok(Response::new(shown(&self.app, execution.await?).await?))
    }
}

#[tonic::async_trait]
impl ExecutionService for Api {
    type WatchExecutionStream = BoxStream<'static, Result<proto::ExecutionEvent, Status>>;

    async fn start_execution(
        &self,
        request: Request<proto::StartExecutionRequest>,
    ) -> Result<Response<proto::Execution>, Status> {
        let caller = Caller::of(&request)?;
        let new = convert::new(START, request.get_ref())?;
        let execution = db::retry("executions.start", || super::start(&self.app, &caller, &new));
        Ok(Response::new(shown(&self.app, execution.await?).await?))
    }

    async fn get_execution(
        &self,
        request: Request<proto::GetExecutionRequest>,
    ) -> Result<Response<proto::Execution>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        let execution = db::retry("executions.get", || super::get(&self.app, &caller, id));
        Ok(Response::new(shown(&self.app, execution.await?).await?))
    }

    async fn get_quotas(&self, request: Request<proto::GetQuotasRequest>) -> Result<Response<proto::Quotas>, Status> {
        let caller = Caller::of(&request)?;
        let company = Violations::only_id("company_id", &request.get_ref().company_id)?;
        let found = db::retry("executions.quotas", || quotas::quotas(&self.app, &caller, company));
        Ok(Response::new(found.await?.into()))
    }

    async fn list_executions(
        &self,
        request: Request<proto::ListExecutionsRequest>,
    ) -> Result<Response<proto::ListExecutionsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let filter = convert::filter(&request)?;
        let page = Page::parse(&self.app.keys, LIST, &filter, request.page_size, &request.page_token)?;
        let rows = db::retry("executions.list", || super::list(&self.app, &caller, &filter, &page)).await?;
        let (executions, next_page_token) = page.finish(&self.app.keys, LIST, &filter, rows, |it| it.id);
        let workflows = executions.iter().map(|it| it.workflow).collect::<Vec<_>>();
        let mut marks = templates::marks(&self.app, &workflows).await?.into_iter();
        let marked = |it: super::Summary| convert::marked(it.into(), marks.next().flatten());
        let executions = executions.into_iter().map(marked).collect();
        Ok(Response::new(proto::ListExecutionsResponse {
            executions,
            next_page_token,
        }))
    }

    async fn list_attempts(
        &self,
        request: Request<proto::ListAttemptsRequest>,
    ) -> Result<Response<proto::ListAttemptsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let filter = convert::attempt_filter(&request)?;
        let page = Page::parse(
            &self.app.keys,
            LIST_ATTEMPTS,
            &filter,
            request.page_size,
            &request.page_token,
        )?;
        let rows = db::retry("executions.list_attempts", || {
            attempts::list(&self.app, &caller, &filter, &page)
        })
        .await?;
        let rows = rows
            .into_iter()
            .map(|it| convert::attempt(filter.execution, it))
            .collect::<Vec<_>>();
        let page = shortened(&page, &rows);
        let (attempts, next_page_token) = page.finish(&self.app.keys, LIST_ATTEMPTS, &filter, rows, |it| it.seq);
        Ok(Response::new(proto::ListAttemptsResponse {
            attempts,
            next_page_token,
        }))
    }

    async fn list_execution_files(
        &self,
        request: Request<proto::ListExecutionFilesRequest>,
    ) -> Result<Response<proto::ListExecutionFilesResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let id = violations.id::<ExecutionId>("execution_id", &request.execution_id);
        let page = Page::parse(&self.app.keys, LIST_FILES, &id, request.page_size, &request.page_token);
        let page = violations.include(page)?;
        violations.finish()?;
        let (id, page) = id.zip(page).expect("a missing one is a violation");
        let rows = db::retry("executions.list_files", || files::list(&self.app, &caller, id, &page)).await?;
        let (files, next_page_token) = page.finish(&self.app.keys, LIST_FILES, &Some(id), rows, |it| it.place);
        Ok(Response::new(proto::ListExecutionFilesResponse {
            files: files.into_iter().map(convert::file).collect(),
            next_page_token,
        }))
    }

    async fn cancel_execution(
        &self,
        request: Request<proto::CancelExecutionRequest>,
    ) -> Result<Response<proto::Execution>, Status> {
        let caller = Caller::of(&request)?;
        let (id, reason) = convert::with_reason(&request.get_ref().id, &request.get_ref().reason)?;
        let notes = started::notes(&self.app, &caller, id, Asked::Cancel).await?;
        let execution = db::retry("executions.cancel", || control::cancel(&self.app, &caller, id, &reason));
        Ok(Response::new(proto::Execution {
            notes,
            ..shown(&self.app, execution.await?).await?
        }))
    }

    async fn pause_execution(
        &self,
        request: Request<proto::PauseExecutionRequest>,
    ) -> Result<Response<proto::Execution>, Status> {
        let caller = Caller::of(&request)?;
        let (id, reason) = convert::with_reason(&request.get_ref().id, &request.get_ref().reason)?;
        let notes = started::notes(&self.app, &caller, id, Asked::Pause).await?;
        let execution = db::retry("executions.pause", || control::pause(&self.app, &caller, id, &reason));
        Ok(Response::new(proto::Execution {
            notes,
            ..shown(&self.app, execution.await?).await?
        }))
    }

    async fn resume_execution(
        &self,
        request: Request<proto::ResumeExecutionRequest>,
    ) -> Result<Response<proto::Execution>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        let notes = started::notes(&self.app, &caller, id, Asked::Resume).await?;
        let execution = db::retry("executions.resume", || control::resume(&self.app, &caller, id));
        Ok(Response::new(proto::Execution {
            notes,
            ..shown(&self.app, execution.await?).await?
        }))
    }

    async fn send_signal(
        &self,
        request: Request<proto::SendSignalRequest>,
    ) -> Result<Response<proto::Execution>, Status> {
        let caller = Caller::of(&request)?;
        let send = convert::signal(SIGNAL, request.get_ref())?;
        let execution = db::retry("executions.signal", || control::signal(&self.app, &caller, &send));
        Ok(Response::new(shown(&self.app, execution.await?).await?))
    }

    async fn decide_attempt(
        &self,
        request: Request<proto::DecideAttemptRequest>,
    ) -> Result<Response<proto::Execution>, Status> {
        let caller = Caller::of(&request)?;
        let decision = convert::decide(DECIDE, request.get_ref())?;
        let execution = db::retry("executions.decide", || decide::decide(&self.app, &caller, &decision));
        Ok(Response::new(shown(&self.app, execution.await?).await?))
    }

    async fn delegate_decision(
        &self,
        request: Request<proto::DelegateDecisionRequest>,
    ) -> Result<Response<proto::Execution>, Status> {
        let caller = Caller::of(&request)?;
        let delegate = convert::delegate(DELEGATE, request.get_ref())?;
        let execution = db::retry("executions.delegate", || {
            decide::delegate(&self.app, &caller, &delegate)
        });
        Ok(Response::new(shown(&self.app, execution.await?).await?))
    }

    async fn list_waiting(
        &self,
        request: Request<proto::ListWaitingRequest>,
    ) -> Result<Response<proto::ListWaitingResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let filter = convert::waiting_filter(&request)?;
        let page = Page::parse(
            &self.app.keys,
            LIST_WAITING,
            &filter,
            request.page_size,
            &request.page_token,
        )?;
        let rows = db::retry("executions.list_waiting", || {
            waiting::list(&self.app, &caller, &filter, &page)
        })
        .await?;
        let (waiting, next_page_token) =
            page.finish(&self.app.keys, LIST_WAITING, &filter, rows, waiting::Place::cursor);
        Ok(Response::new(proto::ListWaitingResponse {
            waiting: waiting.into_iter().map(convert::place).collect(),
            next_page_token,
        }))
    }

    async fn retry_execution(
        &self,
        request: Request<proto::RetryExecutionRequest>,
    ) -> Result<Response<proto::Execution>, Status> {
        let caller = Caller::of(&request)?;
        self.begin_again(caller, &convert::retry(RETRY, request.get_ref())?)
            .await
    }

    async fn fork_execution(
        &self,
        request: Request<proto::ForkExecutionRequest>,
    ) -> Result<Response<proto::Execution>, Status> {
        let caller = Caller::of(&request)?;
        self.begin_again(caller, &convert::fork(FORK, request.get_ref())?).await
    }

    async fn restart_execution(
        &self,
        request: Request<proto::RestartExecutionRequest>,
    ) -> Result<Response<proto::Execution>, Status> {
        let caller = Caller::of(&request)?;
        self.begin_again(caller, &convert::restart(RESTART, request.get_ref())?)
            .await
    }

    async fn control_executions(
        &self,
        request: Request<proto::ControlExecutionsRequest>,
    ) -> Result<Response<proto::ControlExecutionsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let control = convert::control(&request)?;
        let list = (&control.filter, control.act);
        let size = request.page_size.min(bulk::LARGEST_PAGE);
        let page = Page::parse(&self.app.keys, CONTROL, &list, size, &request.page_token)?;
        let (outcomes, last) = bulk::control(&self.app, &caller, &control, &page).await?;
        let next_page_token = last.map_or_else(String::new, |last| Page::token(&self.app.keys, CONTROL, &list, &last));
        let results = outcomes.into_iter().map(|it| convert::outcome(it, control.dry));
        Ok(Response::new(proto::ControlExecutionsResponse {
            results: results.collect(),
            next_page_token,
        }))
    }

    async fn explain_execution(
        &self,
        request: Request<proto::ExplainExecutionRequest>,
    ) -> Result<Response<proto::ExplainExecutionResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        let explanation = db::retry("executions.explain", || explain::explain(&self.app, &caller, id));
        Ok(Response::new(convert::explanation(explanation.await?)))
    }

    async fn test_stage(
        &self,
        request: Request<proto::TestStageRequest>,
    ) -> Result<Response<proto::TestStageResponse>, Status> {
        let caller = Caller::of(&request)?;
        let tried = trial::stage(&self.app, &caller, &convert::trial(request.get_ref())?).await?;
        Ok(Response::new(proto::TestStageResponse {
            attempt: Some(convert::alone(tried)),
        }))
    }

    async fn dry_run_workflow(
        &self,
        request: Request<proto::DryRunWorkflowRequest>,
    ) -> Result<Response<proto::DryRunWorkflowResponse>, Status> {
        let caller = Caller::of(&request)?;
        let given = convert::dry_run(request.get_ref())?;
        let trace = db::retry("executions.dry_run", || dry::run(&self.app, &caller, &given)).await?;
        Ok(Response::new(convert::trace(trace)))
    }

    async fn wait_execution(
        &self,
        request: Request<proto::WaitExecutionRequest>,
    ) -> Result<Response<proto::Execution>, Status> {
        let caller = Caller::of(&request)?;
        let (id, at_most) = convert::wait(request.get_ref())?;
        let execution = wait::wait(&self.app, &caller, id, at_most).await?;
        Ok(Response::new(shown(&self.app, execution).await?))
    }

    async fn watch_execution(
        &self,
        request: Request<proto::WatchExecutionRequest>,
    ) -> Result<Response<Self::WatchExecutionStream>, Status> {
        let caller = Caller::of(&request)?;
        let (id, after) = convert::watch(request.get_ref())?;
        let events = watch::watch(Arc::clone(&self.app), caller, id, after).await?;
        let events = events.map(move |it| it.map(|event| convert::event(id, event)).map_err(Status::from));
        Ok(Response::new(events.boxed()))
    }
}

/// An execution as the contract writes it, with the template that it runs.
pub(crate) async fn shown(app: &App, execution: super::Execution) -> service_kit::error::Result<proto::Execution> {
    let mut marks = templates::marks(app, &[execution.summary.workflow]).await?;
    Ok(convert::marked(execution.into(), marks.pop().flatten()))
}

/// The page, with no more attempts than its bytes allow. They count for more here than in [`attempts::list`], so where that
/// left some out, there is one beyond the page.
fn shortened(page: &Page<i64>, attempts: &[proto::Attempt]) -> Page<i64> {
    let mut bytes = 0;
    let fitting = attempts.iter().take_while(|it| {
        bytes += it.encoded_len();
        bytes <= ATTEMPT_BYTES
    });
    let fitting = i64::try_from(fitting.count()).unwrap_or(i64::MAX);
    Page {
        size: page.size.min(fitting.max(1)),
        after: page.after,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_large_attempts_is_shorter() {
        let page = |size| Page { size, after: None };
        let attempt = |bytes| proto::Attempt {
            raw_output: "x".repeat(bytes),
            ..Default::default()
        };
        let small = vec![attempt(10); 3];
        assert_eq!(shortened(&page(2), &small).size, 2);
        let large = vec![attempt(ATTEMPT_BYTES / 2 - 100); 3];
        assert_eq!(shortened(&page(3), &large).size, 2);
        let huge = vec![attempt(ATTEMPT_BYTES); 3];
        assert_eq!(shortened(&page(3), &huge).size, 1);
    }
}
