//! Connect's form of an error: an HTTP status, and JSON with the code's name, the message and the details.
//!
//! A detail is given as Connect wants it, in binary, and beside it readably, so that somebody with curl sees which field
//! is wrong and when to try again.

use std::collections::BTreeMap;

use axum::body::Body;
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use http::{HeaderValue, Response, StatusCode, header};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use prost_types::Any;
use serde::Serialize;
use serde_json::Value;
use service_kit::error::Error as KitError;
use tonic::{Code, Status};
use tonic_types::{StatusExt, pb};

pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

pub(super) type Result<T, E = Error> = std::result::Result<T, E>;

/// A call that came to nothing.
#[derive(Debug)]
pub(crate) enum Error {
    /// As the service, or the gateway in its place, answered.
    Status(Status),
    /// The body was too large: the one case with an HTTP status of its own.
    TooLarge(Status),
    /// The request does not fit the protocol or leads nowhere: the HTTP status says it.
    Http(StatusCode, Code, String),
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl From<KitError> for Error {
    fn from(error: KitError) -> Self {
        Self::Status(error.into())
    }
}

impl Error {
    /// The answer over HTTP.
    pub(crate) fn into_response(self) -> Response<Body> {
        let (http, status) = match self {
            Self::Status(status) => (http_status(status.code()), status),
            Self::TooLarge(status) => (StatusCode::PAYLOAD_TOO_LARGE, status),
            Self::Http(http, code, message) => (http, Status::new(code, message)),
        };
        let body = ErrorBody {
            code: name(status.code()),
            message: status.message(),
            details: details(status.details()),
        };
        let retry_after = status.get_details_retry_info().and_then(|it| it.retry_delay);
        let json = serde_json::to_vec(&body).expect("it has string keys only");
        let mut response = Response::new(Body::from(json));
        *response.status_mut() = http;
        response.headers_mut().insert(header::CONTENT_TYPE, JSON);
        if let Some(delay) = retry_after {
            let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    code: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<Detail>,
}

#[derive(Serialize)]
struct Detail {
    r#type: String,
    value: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    debug: Option<Value>,
}

fn details(encoded: &[u8]) -> Vec<Detail> {
    if encoded.is_empty() {
        return Vec::new();
    }
    let Ok(status) = pb::Status::decode(encoded) else {
        return Vec::new();
    };
    // Made anew for every error: decoding takes microseconds, and errors are not the path that has to be fast.
    let pool = DescriptorPool::decode(pb::FILE_DESCRIPTOR_SET).expect("tonic-types encoded this descriptor set");
    status.details.into_iter().map(|any| detail(&pool, any)).collect()
}

fn detail(pool: &DescriptorPool, any: Any) -> Detail {
    let name = any.type_url.rsplit('/').next().unwrap_or_default().to_owned();
    let debug = pool
        .get_message_by_name(&name)
        .and_then(|descriptor| DynamicMessage::decode(descriptor, any.value.as_slice()).ok())
        .and_then(|message| serde_json::to_value(message).ok());
    Detail {
        r#type: name,
        value: STANDARD_NO_PAD.encode(any.value),
        debug,
    }
}

/// The HTTP statuses that codes are answered with, and which those are.
pub(crate) fn http_statuses() -> BTreeMap<u16, Vec<&'static str>> {
    let mut statuses = BTreeMap::<_, Vec<_>>::new();
    for code in (1..=16).map(Code::from_i32) {
        statuses.entry(http_status(code).as_u16()).or_default().push(name(code));
    }
    statuses
}

/// Connect's name of a code.
pub(crate) fn name(code: Code) -> &'static str {
    match code {
        Code::Cancelled => "canceled",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::PermissionDenied => "permission_denied",
        Code::ResourceExhausted => "resource_exhausted",
        Code::FailedPrecondition => "failed_precondition",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out_of_range",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data_loss",
        Code::Unauthenticated => "unauthenticated",
        // An error with the code OK has lost its code.
        Code::Unknown | Code::Ok => "unknown",
    }
}

/// Connect's HTTP status of a code.
pub(crate) fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Cancelled => StatusCode::from_u16(499).expect("it has three digits"),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unknown | Code::Internal | Code::DataLoss | Code::Ok => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
