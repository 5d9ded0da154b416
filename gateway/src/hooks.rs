//! What others post here of themselves: flows of ActivePieces that have ended.
//!
//! The URL is the right to do so: it is passed on unread, and is in no span or log. Who posts is counted by his address as
//! callers of RPCs are; what he posts is small.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
};
use http::{Method, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use service_kit::{client, limits::CLIENT_ADDRESS, status::from_status};
use studios_proto::execution::{
    CallbackResult, TakeCallbackRequest, flow_callback_service_client::FlowCallbackServiceClient,
};
use tokio::{sync::Semaphore, time::timeout};
use tonic::{
    Code,
    metadata::{AsciiMetadataKey, MetadataValue},
};

use crate::{connect, door, forward::Forwarder, limits::Limits};

/// The largest body: what execution-service takes.
const LARGEST_BYTES: usize = 256 << 10;
/// The longest token.
const LONGEST_TOKEN: usize = 256;
/// How long a body may take to come.
const BODY_PATIENCE: Duration = Duration::from_secs(10);
/// How long execution-service may take to note it.
const PATIENCE: Duration = Duration::from_secs(10);

/// What hooks are answered with.
#[derive(Clone)]
pub(crate) struct Hooks {
    pub(crate) forwarder: Arc<Forwarder>,
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) limits: Arc<Limits>,
}

/// A flow says that it has ended.
pub(crate) async fn activepieces(State(hooks): State<Hooks>, Path(token): Path<String>, request: Request) -> Response {
    if request.method() != Method::POST {
        return door::not_allowed("POST", "call-backs are posted");
    }
    take(&hooks, token, request)
        .await
        .unwrap_or_else(|error| error.into_response().map(axum::body::Body::new))
}

async fn take(hooks: &Hooks, token: String, mut request: Request) -> Result<Response, connect::Error> {
    hooks.limits.admit(&mut request)?;
    let _permit = hooks.permits.clone().try_acquire_owned().map_err(|_| door::busy())?;
    if token.len() > LONGEST_TOKEN {
        return Ok(unknown());
    }
    let client_address = request
        .headers()
        .get(CLIENT_ADDRESS)
        .and_then(|it| MetadataValue::try_from(it.as_bytes()).ok());
    let body = timeout(
        BODY_PATIENCE,
        Limited::new(request.into_body(), LARGEST_BYTES).collect(),
    )
    .await;
    let body = match body {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let message = format!("a call-back has at most {LARGEST_BYTES} bytes");
            return Err(connect::Error::Http(
                StatusCode::PAYLOAD_TOO_LARGE,
                Code::ResourceExhausted,
                message,
            ));
        }
        Ok(Err(_)) | Err(_) => {
            let message = "the body is malformed, was broken off, or did not come in time";
            return Err(connect::Error::Http(
                StatusCode::BAD_REQUEST,
                Code::InvalidArgument,
                message.into(),
            ));
        }
    };
    let wish = TakeCallbackRequest {
        token,
        body: body.to_vec(),
    };
    let mut call = client::call(None, None, wish, PATIENCE);
    if let Some(address) = client_address {
        let name = AsciiMetadataKey::from_bytes(CLIENT_ADDRESS.as_str().as_bytes()).expect("a header's name is one");
        call.metadata_mut().insert(name, address);
    }
    let channel = hooks.forwarder.execution.clone();
    let answer = FlowCallbackServiceClient::new(channel)
        .take_callback(call)
        .await
        .map_err(from_status)?;
    let result = answer.into_inner().result();
    Ok(match result {
        CallbackResult::Noted | CallbackResult::Repeated => StatusCode::NO_CONTENT.into_response(),
        CallbackResult::Mismatch => door::refuse(
            StatusCode::CONFLICT,
            Code::FailedPrecondition,
            "the correlation_id is another run's",
        ),
        CallbackResult::Unknown | CallbackResult::Unspecified => unknown(),
    })
}

/// Whether a URL was forged or has expired is nobody's to know.
fn unknown() -> Response {
    door::refuse(StatusCode::NOT_FOUND, Code::NotFound, "no call-back is taken here")
}
