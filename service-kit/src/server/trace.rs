//! The outermost step: a request's span, which joins the caller's trace, and its correlation id.
//!
//! Both hold for the whole answer, a stream's items included. The correlation id is the caller's `x-request-id` where that
//! is a sane one; the answer names it either way.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use time::OffsetDateTime;
use tonic::{Code, Status, body::Body};
use tracing::{Instrument, Span, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use uuid::Uuid;

use super::step::{Below, Step, lazily};
use crate::{
    clock::{Clock, SystemClock},
    status, telemetry,
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID_BYTES: usize = 64;

#[derive(Debug, Clone, Copy)]
pub(super) struct Trace;

impl Step for Trace {
    fn run(self, mut request: Request<Body>, below: impl Below) -> impl Future<Output = Response<Body>> + Send {
        let id = correlation_id(request.headers());
        let header = HeaderValue::from_str(&id).expect("a correlation id is plain ASCII");
        let span = span(request.uri().path(), &id);
        telemetry::adopt(&span, telemetry::extract_headers(request.headers()));
        // What is called from here carries the same id.
        request.headers_mut().insert(REQUEST_ID, header.clone());
        let mut outcome = Outcome {
            span: span.clone(),
            begun: SystemClock.monotonic(),
            told: false,
        };
        status::with_request_id(id.clone(), lazily(below, request))
            .instrument(span)
            .map(move |mut response| {
                response.headers_mut().insert(REQUEST_ID, header);
                outcome.look_at(response.headers());
                response.map(|body| Body::new(Traced { body, id, outcome }))
            })
    }
}

fn span(path: &str, id: &str) -> Span {
    let path = path.trim_start_matches('/');
    let (service, method) = path.split_once('/').unwrap_or((path, ""));
    tracing::info_span!(
        "rpc",
        otel.name = path,
        otel.kind = "server",
        rpc.system = "grpc",
        rpc.service = service,
        rpc.method = method,
        correlation_id = id,
        user = Empty,
        company = Empty,
        studio = Empty,
        execution = Empty,
    )
}

fn correlation_id(headers: &HeaderMap) -> Arc<str> {
    let given = headers.get(REQUEST_ID).and_then(|it| it.to_str().ok());
    let sane = |it: &&str| {
        (1..=REQUEST_ID_BYTES).contains(&it.len())
            && it
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
    };
    given.filter(sane).map_or_else(new_correlation_id, Into::into)
}

/// A UUIDv7 whose random part comes from the thread's generator: to ask the system for it would be a call for each request.
fn new_correlation_id() -> Arc<str> {
    let since_1970 = SystemClock.now() - OffsetDateTime::UNIX_EPOCH;
    let millis = u64::try_from(since_1970.whole_milliseconds()).unwrap_or(0);
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &rand::random()).into_uuid();
    Arc::from(&*id.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
}

/// How a call ended, told once: in the span, and in the log where somebody wants to know.
struct Outcome {
    span: Span,
    begun: std::time::Instant,
    told: bool,
}

impl Outcome {
    /// Tells the status if these headers or trailers have it.
    fn look_at(&mut self, headers: &HeaderMap) {
        if let Some(code) = headers.get(Status::GRPC_STATUS) {
            self.tell(Code::from_bytes(code.as_bytes()));
        }
    }

    fn tell(&mut self, code: Code) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        // Not recorded as fields: every field recorded late makes the span's part of log lines anew.
        self.span
            .set_attribute("rpc.grpc.status_code", i64::from(i32::from(code)));
        if is_fault(code) {
            self.span
                .set_status(opentelemetry::trace::Status::error(code.description()));
        }
        let duration = SystemClock.monotonic() - self.begun;
        let duration_ms = duration.as_secs_f64() * 1000.0;
        tracing::debug!(parent: &self.span, code = ?code, duration_ms, "answered");
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        // No status was sent: the caller went away.
        self.tell(Code::Cancelled);
    }
}

/// Whether a status is the server's failure, not the caller's (OpenTelemetry's semantic conventions for gRPC servers).
fn is_fault(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

/// A body that is made in the request's span, under its correlation id, and watched for its status.
struct Traced {
    body: Body,
    id: Arc<str>,
    outcome: Outcome,
}

impl HttpBody for Traced {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { body, id, outcome } = &mut *self;
        let frame = status::with_request_id(id.clone(), poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)));
        let frame = ready!(outcome.span.in_scope(|| pin!(frame).poll(cx)));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    outcome.look_at(trailers);
                }
            }
            Some(Err(status)) => outcome.tell(status.code()),
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
