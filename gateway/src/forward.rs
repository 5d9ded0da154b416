//! Passes a gRPC call on to the service that answers it, without decoding its messages.
//!
//! Every call gets an answer in gRPC's terms, whatever happens to the service, and gets it in time: nothing here waits
//! without an end but a stream whose caller asked for no deadline, and that one ends with the service or the process. Where a
//! connection breaks before the answer, what changes nothing is asked once more, on another one.

use std::{error::Error as StdError, future, time::Duration};

use http::{Request, Response, StatusCode, Uri, request::Parts, uri::PathAndQuery};
use service_kit::{
    error::{Error, Result},
    lifecycle::Lifecycle,
    telemetry,
};
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, TimeoutExpired, body::Body, transport::Channel};
use tower::ServiceExt;
use tracing::Span;

use crate::{
    deadline, headers,
    methods::{Backend, Method, Methods},
    relay::Relay,
    trace,
    upload::Upload,
};

/// Length and compression flag before each message.
const PREFIX_BYTES: usize = 5;

/// What a caller may ask of the gateway at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Size of a request message.
    pub(crate) message_bytes: usize,
    /// Duration of a unary call.
    pub(crate) timeout: Duration,
}

/// The way to the services.
#[derive(Debug)]
pub(crate) struct Forwarder {
    pub(crate) methods: Methods,
    pub(crate) core: Channel,
    pub(crate) execution: Channel,
    pub(crate) limits: Limits,
    pub(crate) json_kib: Semaphore,
    pub(crate) large_kib: Semaphore,
    pub(crate) lifecycle: Lifecycle,
}

impl Forwarder {
    /// Has the call answered. Errors are answers too, with HTTP status 200 and a `grpc-status`.
    pub(crate) async fn answer(&self, request: Request<Body>) -> Response<Body> {
        self.pass_on(request).await.unwrap_or_else(|error| {
            let status = Status::from(error);
            trace::record(&Span::current(), status.code());
            status.into_http()
        })
    }

    async fn pass_on(&self, request: Request<Body>) -> Result<Response<Body>> {
        let path = request.uri().path();
        let Some(method) = self.methods.find(path) else {
            return Err(Error::Unimplemented("this RPC"));
        };
        let asked = deadline::grpc(request.headers())?;
        let timeout = deadline::effective(asked, method.is_unary(), self.limits.timeout);
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let stop = self.stop(method);
        let most = if method.descriptor.is_client_streaming() {
            usize::MAX
        } else {
            self.limits.message_bytes.saturating_add(PREFIX_BYTES)
        };

        let (head, body) = request.into_parts();
        let mut upload = Upload::default();
        let mut body = upload.watch(body, most, method.is_read());
        let (mut left, mut is_again) = (timeout, false);
        let response = loop {
            let request = outgoing(&head, body, left);
            let answered = tokio::select! {
                biased;
                answered = self.channel(method.backend).clone().oneshot(request) => answered,
                () = sleep_until(deadline) => return Err(Error::DeadlineExceeded),
                () = stop.cancelled() => return Err(stopping()),
                () = upload.stuck() => return Err(unreachable(method.backend)),
            };
            let error = match answered {
                Ok(response) => break response,
                Err(error) => error,
            };
            // The connection broke under a call that changes nothing, before a byte of its answer came.
            let Some(same) = upload.again().filter(|_| !is_again && !is_late(&error)) else {
                return Err(upload.error().unwrap_or_else(|| unanswered(method.backend, &error)));
            };
            let cause: &(dyn StdError + 'static) = &error;
            tracing::info!(backend = method.backend.name(), error = cause, "asked once more");
            (left, is_again) = (deadline.map(|it| it.saturating_duration_since(Instant::now())), true);
            upload = Upload::default();
            body = upload.watch(same, most, false);
        };
        if response.status() != StatusCode::OK {
            tracing::error!(backend = method.backend.name(), status = %response.status(), "answer is not gRPC");
            return Err(lost(method.backend));
        }
        if let Some(code) = response.headers().get(Status::GRPC_STATUS) {
            trace::record(&Span::current(), Code::from_bytes(code.as_bytes()));
            return Ok(response);
        }
        let backend = method.backend;
        Ok(response.map(|body| Body::new(Relay::new(body, backend, deadline, stop, upload))))
    }

    /// What ends a call: streams end softly, so that their callers resume elsewhere, other calls are let finish.
    fn stop(&self, method: &Method) -> CancellationToken {
        if method.is_unary() {
            self.lifecycle.hard()
        } else {
            self.lifecycle.soft()
        }
    }

    fn channel(&self, backend: Backend) -> &Channel {
        match backend {
            Backend::Core => &self.core,
            Backend::Execution => &self.execution,
        }
    }
}

/// The call as the service gets it.
fn outgoing(head: &Parts, body: Body, timeout: Option<Duration>) -> Request<Body> {
    let mut headers = headers::forwarded(&head.headers);
    telemetry::inject_headers(&mut headers);
    match timeout {
        Some(timeout) => headers.insert(deadline::GRPC_TIMEOUT, deadline::header(timeout)),
        None => headers.remove(deadline::GRPC_TIMEOUT),
    };
    let mut outgoing = Request::new(body);
    *outgoing.method_mut() = head.method.clone();
    *outgoing.uri_mut() = without_query(&head.uri);
    *outgoing.headers_mut() = headers;
    outgoing
}

/// The service went away in the middle of a call.
pub(crate) fn lost(backend: Backend) -> Error {
    unavailable("BACKEND_LOST", format!("{} did not finish its answer", backend.name()))
}

/// The process ends.
pub(crate) fn stopping() -> Error {
    unavailable("GATEWAY_STOPPING", "the gateway is stopping".into())
}

/// Whether the time that was set to a call is over.
fn is_late(error: &(dyn StdError + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| (*error).source());
    causes.any(<dyn StdError>::is::<TimeoutExpired>)
}

fn unanswered(backend: Backend, error: &(dyn StdError + 'static)) -> Error {
    if is_late(error) {
        return Error::DeadlineExceeded;
    }
    tracing::warn!(backend = backend.name(), error, "backend unavailable");
    unreachable(backend)
}

fn unreachable(backend: Backend) -> Error {
    unavailable("BACKEND_UNAVAILABLE", format!("{} cannot be reached", backend.name()))
}

fn unavailable(reason: &'static str, message: String) -> Error {
    Error::Unavailable {
        reason,
        message,
        retry_after: Some(Duration::from_secs(1)),
    }
}

fn without_query(uri: &Uri) -> Uri {
    PathAndQuery::try_from(uri.path())
        .map(Uri::from)
        .expect("the path of a URI is one itself")
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => future::pending().await,
    }
}
