//! Signed URLs: files up by TUS 1.0, down by GET with ranges. Bytes pass through as streams.
//!
//! What an URL is good for stands in its token, which core-service made and looks at; how far an upload is lies there too. So any
//! gateway goes on with what another one began, and nothing is lost with this one.

mod downloads;
mod headers;
mod uploads;

use std::sync::Arc;

use axum::{Router, extract::Request, middleware::Next, response::Response, routing::any};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use service_kit::{error::Error, limits::CLIENT_ADDRESS, telemetry};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Code, Status, metadata::MetadataMap, transport::Channel};
use tonic_types::StatusExt;

use crate::{connect, headers::REQUEST_ID, limits::Limits};

pub(crate) use headers::{ALLOWED, EXPOSED};

/// Where uploads begin, and below which they go on.
const UPLOADS: &str = "/files/uploads";

/// What transfers are made with.
#[derive(Clone)]
pub(crate) struct Transfers {
    pub(crate) core: Channel,
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) limits: Arc<Limits>,
}

impl Transfers {
    /// Counts a request, and gives it its place among those that are answered at once.
    fn admit(&self, request: &mut Request) -> Result<OwnedSemaphorePermit, Refusal> {
        self.limits.admit(request)?;
        let permit = self.permits.clone().try_acquire_owned();
        permit.map_err(|_| Refusal::from(crate::door::busy()))
    }
}

/// The pages of transfers.
pub(crate) fn router(transfers: Transfers) -> Router {
    Router::new()
        .route(UPLOADS, any(uploads::create))
        .route(&format!("{UPLOADS}/{{token}}"), any(uploads::go_on))
        .route("/files/downloads/{token}", any(downloads::read))
        .with_state(transfers)
}

/// Says what of TUS is spoken here, in the answers to OPTIONS too, which are a browser's business otherwise.
pub(crate) async fn announced(request: Request, next: Next) -> Response {
    let is_upload = request.uri().path().starts_with(UPLOADS);
    let asks = request.method() == Method::OPTIONS;
    let mut response = next.run(request).await;
    if is_upload {
        let headers = response.headers_mut();
        headers.insert(headers::TUS_RESUMABLE, headers::VERSION);
        if asks {
            headers.insert(HeaderName::from_static("tus-version"), headers::VERSION);
            let extensions = HeaderValue::from_static("creation,termination,expiration,checksum");
            headers.insert(HeaderName::from_static("tus-extension"), extensions);
            let sums = HeaderValue::from_static("sha1,sha256");
            headers.insert(HeaderName::from_static("tus-checksum-algorithm"), sums);
        }
    }
    response
}

/// Why a transfer is not done.
pub(crate) struct Refusal {
    status: Status,
    http: Option<StatusCode>,
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let reason = details.error_info().map_or("", |it| &it.reason);
        let http = match reason {
            "OFFSET_MISMATCH" | "FILE_SCANNING" => Some(StatusCode::CONFLICT),
            "UPLOAD_IN_USE" => Some(StatusCode::LOCKED),
            "URL_EXPIRED" | "FILE_LOST" => Some(StatusCode::GONE),
            "FILE_QUARANTINED" => Some(StatusCode::FORBIDDEN),
            "STORAGE_QUOTA_EXCEEDED" => Some(StatusCode::PAYLOAD_TOO_LARGE),
            "CHECKSUM_MISMATCH" => StatusCode::from_u16(460).ok(),
            _ => None,
        };
        Self { status, http }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Status::from(error).into()
    }
}

impl Refusal {
    /// One that HTTP has a word for.
    fn http(http: StatusCode, code: Code, message: &str) -> Self {
        Self {
            status: Status::new(code, message),
            http: Some(http),
        }
    }

    fn not_allowed(allowed: &'static str) -> Response {
        let refusal = Self::http(
            StatusCode::METHOD_NOT_ALLOWED,
            Code::Unimplemented,
            "not by this method",
        );
        let mut response = refusal.into_response();
        response
            .headers_mut()
            .insert(header::ALLOW, HeaderValue::from_static(allowed));
        response
    }

    fn into_response(self) -> Response {
        let mut response = connect::Error::Status(self.status).into_response();
        if let Some(http) = self.http {
            *response.status_mut() = http;
        }
        response
            .headers_mut()
            .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// A request to core-service with what of the caller's headers it may see: not those that are of gRPC, which he does not speak.
fn request<T>(given: &HeaderMap, message: T) -> tonic::Request<T> {
    let mut passed = HeaderMap::new();
    for name in [header::AUTHORIZATION, REQUEST_ID, CLIENT_ADDRESS] {
        if let Some(value) = given.get(&name) {
            passed.insert(name, value.clone());
        }
    }
    telemetry::inject_headers(&mut passed);
    let mut request = tonic::Request::new(message);
    *request.metadata_mut() = MetadataMap::from_headers(passed);
    request
}
