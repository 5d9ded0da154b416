//! The two small services behind the gateway, which do what a test wants to see passed on.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::HeaderMap;
use service_kit::error::{Error, Violation};
use studios_proto::{
    core::{
        ConfirmEmailRequest, ConfirmEmailResponse, CreateStudioRequest, DeleteStudioRequest, GetJwksRequest,
        GetJwksResponse, GetStudioRequest, ListStudiosRequest, ListStudiosResponse, RefreshRequest, RegisterRequest,
        RequestPasswordResetRequest, RequestPasswordResetResponse, ResetPasswordRequest, ResetPasswordResponse,
        Session, SignInRequest, SignOutRequest, SignOutResponse, Studio, UndeleteStudioRequest, UpdateStudioRequest,
        auth_service_server::AuthService, studio_service_server::StudioService,
    },
    execution::{
        CancelExecutionRequest, ControlExecutionsRequest, ControlExecutionsResponse, DecideAttemptRequest,
        DelegateDecisionRequest, DryRunWorkflowRequest, DryRunWorkflowResponse, Execution, ExecutionEvent,
        ExplainExecutionRequest, ExplainExecutionResponse, ForkExecutionRequest, GetExecutionRequest, GetQuotasRequest,
        ListAttemptsRequest, ListAttemptsResponse, ListExecutionFilesRequest, ListExecutionFilesResponse,
        ListExecutionsRequest, ListExecutionsResponse, ListWaitingRequest, ListWaitingResponse, PauseExecutionRequest,
        Quotas, RestartExecutionRequest, ResumeExecutionRequest, RetryExecutionRequest, SendSignalRequest,
        StartExecutionRequest, TestStageRequest, TestStageResponse, WaitExecutionRequest, WatchExecutionRequest,
        execution_service_server::ExecutionService,
    },
};
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// The end of a watch that the test writes its events to.
pub(crate) type Watch = mpsc::Sender<Result<ExecutionEvent, Status>>;

/// Stands for core-service. What it does with a studio depends on the id that is asked for.
#[derive(Default)]
pub(crate) struct Core {
    /// The metadata of every call, in order.
    pub(crate) seen: Mutex<Vec<HeaderMap>>,
    /// Lets calls for the studio `held`, which may be its name, go on.
    pub(crate) gate: Notify,
    /// Fires when a call for the studio `held` has come in.
    pub(crate) arrived: Notify,
    /// How often the keys were asked for.
    pub(crate) key_calls: AtomicUsize,
}

impl Core {
    /// The metadata of the last call.
    pub(crate) fn last(&self) -> HeaderMap {
        self.seen.lock().unwrap().last().cloned().unwrap()
    }

    /// How many calls have come in.
    pub(crate) fn calls(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    fn see<T>(&self, request: &Request<T>) {
        self.seen
            .lock()
            .unwrap()
            .push(request.metadata().clone().into_headers());
    }
}

#[tonic::async_trait]
impl StudioService for Core {
    async fn get_studio(&self, request: Request<GetStudioRequest>) -> Result<Response<Studio>, Status> {
        self.see(&request);
        let id = request.into_inner().id;
        match id.as_str() {
            "missing" => return Err(Error::not_found("studio", id).into()),
            "held" => {
                self.arrived.notify_one();
                self.gate.notified().await;
            }
            _ => {}
        }
        Ok(Response::new(Studio {
            name: format!("Studio {id}"),
            id,
            ..Studio::default()
        }))
    }

    async fn create_studio(&self, request: Request<CreateStudioRequest>) -> Result<Response<Studio>, Status> {
        self.see(&request);
        let studio = request.into_inner().studio.unwrap_or_default();
        if studio.name.is_empty() {
            let violation = |field: &str, description: &str| Violation {
                field: field.into(),
                description: description.into(),
            };
            let violations = vec![
                violation("studio.name", "must have 3 to 100 characters"),
                violation("studio.company_id", "must be a UUID"),
            ];
            return Err(Error::Invalid(violations).into());
        }
        if studio.name == "held" {
            self.arrived.notify_one();
            self.gate.notified().await;
        }
        Ok(Response::new(studio))
    }

    async fn list_studios(&self, _: Request<ListStudiosRequest>) -> Result<Response<ListStudiosResponse>, Status> {
        Ok(Response::new(ListStudiosResponse::default()))
    }

    async fn update_studio(&self, _: Request<UpdateStudioRequest>) -> Result<Response<Studio>, Status> {
        Err(Error::Aborted {
            reason: "ETAG_MISMATCH",
            message: "it has changed".into(),
        }
        .into())
    }

    async fn delete_studio(&self, _: Request<DeleteStudioRequest>) -> Result<Response<Studio>, Status> {
        let retry_after = Some(Duration::from_secs(7));
        Err(Error::ResourceExhausted {
            reason: "RATE_LIMITED",
            message: "slower".into(),
            retry_after,
        }
        .into())
    }

    async fn undelete_studio(&self, _: Request<UndeleteStudioRequest>) -> Result<Response<Studio>, Status> {
        Err(Error::Unauthenticated("TOKEN_MISSING").into())
    }
}

#[tonic::async_trait]
impl AuthService for Core {
    async fn get_jwks(&self, _: Request<GetJwksRequest>) -> Result<Response<GetJwksResponse>, Status> {
        self.key_calls.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        Ok(Response::new(GetJwksResponse {
            jwks_json: r#"{"keys":[]}"#.into(),
            max_age: Some(prost_types::Duration { seconds: 300, nanos: 0 }),
        }))
    }

    async fn register(&self, _: Request<RegisterRequest>) -> Result<Response<Session>, Status> {
        Err(Status::unimplemented("register"))
    }

    async fn sign_in(&self, _: Request<SignInRequest>) -> Result<Response<Session>, Status> {
        Err(Status::unimplemented("sign in"))
    }

    async fn refresh(&self, _: Request<RefreshRequest>) -> Result<Response<Session>, Status> {
        Err(Status::unimplemented("refresh"))
    }

    async fn confirm_email(&self, _: Request<ConfirmEmailRequest>) -> Result<Response<ConfirmEmailResponse>, Status> {
        Err(Status::unimplemented("verify"))
    }

    async fn request_password_reset(
        &self,
        _: Request<RequestPasswordResetRequest>,
    ) -> Result<Response<RequestPasswordResetResponse>, Status> {
        Err(Status::unimplemented("request a reset"))
    }

    async fn reset_password(
        &self,
        _: Request<ResetPasswordRequest>,
    ) -> Result<Response<ResetPasswordResponse>, Status> {
        Err(Status::unimplemented("reset"))
    }

    async fn sign_out(&self, _: Request<SignOutRequest>) -> Result<Response<SignOutResponse>, Status> {
        Err(Status::unimplemented("sign out"))
    }
}

/// Stands for execution-service: every watch is handed to the test.
pub(crate) struct Executions {
    pub(crate) watches: mpsc::UnboundedSender<(HeaderMap, Watch)>,
}

#[tonic::async_trait]
impl ExecutionService for Executions {
    type WatchExecutionStream = ReceiverStream<Result<ExecutionEvent, Status>>;

    async fn watch_execution(
        &self,
        request: Request<WatchExecutionRequest>,
    ) -> Result<Response<Self::WatchExecutionStream>, Status> {
        let (sender, receiver) = mpsc::channel(1);
        self.watches
            .send((request.metadata().clone().into_headers(), sender))
            .unwrap();
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn start_execution(&self, _: Request<StartExecutionRequest>) -> Result<Response<Execution>, Status> {
        Err(Status::unimplemented("start"))
    }

    async fn get_execution(&self, _: Request<GetExecutionRequest>) -> Result<Response<Execution>, Status> {
        Err(Status::unimplemented("get"))
    }

    async fn list_executions(
        &self,
        _: Request<ListExecutionsRequest>,
    ) -> Result<Response<ListExecutionsResponse>, Status> {
        Err(Status::unimplemented("list"))
    }

    async fn list_attempts(&self, _: Request<ListAttemptsRequest>) -> Result<Response<ListAttemptsResponse>, Status> {
        Err(Status::unimplemented("list attempts"))
    }

    async fn list_execution_files(
        &self,
        _: Request<ListExecutionFilesRequest>,
    ) -> Result<Response<ListExecutionFilesResponse>, Status> {
        Err(Status::unimplemented("list files"))
    }

    async fn cancel_execution(&self, _: Request<CancelExecutionRequest>) -> Result<Response<Execution>, Status> {
        Err(Status::unimplemented("cancel"))
    }

    async fn wait_execution(&self, _: Request<WaitExecutionRequest>) -> Result<Response<Execution>, Status> {
        Err(Status::unimplemented("wait"))
    }

    async fn get_quotas(&self, _: Request<GetQuotasRequest>) -> Result<Response<Quotas>, Status> {
        Err(Status::unimplemented("quotas"))
    }

    async fn decide_attempt(&self, _: Request<DecideAttemptRequest>) -> Result<Response<Execution>, Status> {
        Err(Status::unimplemented("decide"))
    }

    async fn pause_execution(&self, _: Request<PauseExecutionRequest>) -> Result<Response<Execution>, Status> {
        Err(Status::unimplemented("pause"))
    }

    async fn resume_execution(&self, _: Request<ResumeExecutionRequest>) -> Result<Response<Execution>, Status> {
        Err(Status::unimplemented("resume"))
    }

    async fn send_signal(&self, _: Request<SendSignalRequest>) -> Result<Response<Execution>, Status> {
        Err(Status::unimplemented("signal"))
    }

    async fn delegate_decision(&self, _: Request<DelegateDecisionRequest>) -> Result<Response<Execution>, Status> {
        Err(Status::unimplemented("delegate"))
    }

    async fn list_waiting(&self, _: Request<ListWaitingRequest>) -> Result<Response<ListWaitingResponse>, Status> {
        Err(Status::unimplemented("list waiting"))
    }

    async fn retry_execution(&self, _: Request<RetryExecutionRequest>) -> Result<Response<Execution>, Status> {
        Err(Status::unimplemented("retry"))
    }

    async fn fork_execution(&self, _: Request<ForkExecutionRequest>) -> Result<Response<Execution>, Status> {
        Err(Status::unimplemented("fork"))
    }

    async fn restart_execution(&self, _: Request<RestartExecutionRequest>) -> Result<Response<Execution>, Status> {
        Err(Status::unimplemented("restart"))
    }

    async fn control_executions(
        &self,
        _: Request<ControlExecutionsRequest>,
    ) -> Result<Response<ControlExecutionsResponse>, Status> {
        Err(Status::unimplemented("control"))
    }

    async fn explain_execution(
        &self,
        _: Request<ExplainExecutionRequest>,
    ) -> Result<Response<ExplainExecutionResponse>, Status> {
        Err(Status::unimplemented("explain"))
    }

    async fn test_stage(&self, _: Request<TestStageRequest>) -> Result<Response<TestStageResponse>, Status> {
        Err(Status::unimplemented("test"))
    }

    async fn dry_run_workflow(
        &self,
        _: Request<DryRunWorkflowRequest>,
    ) -> Result<Response<DryRunWorkflowResponse>, Status> {
        Err(Status::unimplemented("dry run"))
    }
}
