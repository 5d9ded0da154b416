//! Connect's protocol (<https://connectrpc.com/docs/protocol>) with JSON, for every unary RPC: what curl speaks.
//!
//! JSON is read against the contract and becomes the very gRPC call that any other client would make, by the same way.
//! Two things are stricter than Connect asks, because a person may be typing: a field that the contract does not have is
//! refused by its name instead of ignored, and so is an enum value. Compressed bodies and binary messages are not taken.

mod codec;
mod error;
mod json;

use std::{convert::Infallible, sync::Arc};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header, uri::PathAndQuery};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use prost_reflect::MethodDescriptor;
use service_kit::error::Error as KitError;
use tokio::time::{Duration, timeout};
use tonic::{Code, Extensions, Status, client::Grpc, metadata::MetadataMap};
use tower::service_fn;

pub(crate) use error::Error;
use error::Result;

use self::codec::DynamicCodec;
use crate::{deadline, forward::Forwarder, upload};

/// The largest answer that is turned into JSON.
const LARGEST_ANSWER_BYTES: usize = 64 << 20;

/// The largest body of a call that needs no token: strangers get no more of this process's memory.
const LARGEST_PUBLIC_BYTES: usize = 64 << 10;
/// JSON that is turned into messages at a time, in KiB: a message can take many times its text.
pub(crate) const JSON_KIB: usize = 64 << 10;

/// Answers a call that came as a POST of JSON.
pub(crate) async fn unary(forwarder: Arc<Forwarder>, request: Request<Body>) -> Response<Body> {
    match call(forwarder, request).await {
        Ok(json) => {
            let mut response = Response::new(Body::from(json));
            response.headers_mut().insert(header::CONTENT_TYPE, error::JSON);
            response
        }
        Err(error) => error.into_response(),
    }
}

async fn call(forwarder: Arc<Forwarder>, request: Request<Body>) -> Result<Vec<u8>> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let Some(method) = forwarder.methods.find(path) else {
        return Err(KitError::Unimplemented("this RPC").into());
    };
    if !method.is_unary() {
        let message = "this RPC streams, which JSON cannot: call it with gRPC-Web (application/grpc-web) or gRPC";
        return Err(Error::Http(
            StatusCode::NOT_IMPLEMENTED,
            Code::Unimplemented,
            message.into(),
        ));
    }
    check_protocol(&parts.headers)?;
    let limits = forwarder.limits;
    // Whether the token is good is the service's to say; without one there is no reason to read on.
    let largest = if method.is_public() {
        LARGEST_PUBLIC_BYTES.min(limits.message_bytes)
    } else if parts.headers.contains_key(header::AUTHORIZATION) {
        limits.message_bytes
    } else {
        return Err(KitError::Unauthenticated("TOKEN_MISSING").into());
    };
    let asked = deadline::connect(&parts.headers)?;
    let allowed = asked.map_or(limits.timeout, |asked| asked.min(limits.timeout));
    let path = PathAndQuery::try_from(path).expect("the path of a URI is one itself");
    let descriptor = method.descriptor.clone();

    let work = async {
        let body = read(body, largest).await?;
        Ok(send(forwarder, parts.headers, allowed, path, &descriptor, &body).await?)
    };
    timeout(allowed, work)
        .await
        .unwrap_or_else(|_| Err(KitError::DeadlineExceeded.into()))
}

fn check_protocol(headers: &HeaderMap) -> Result<(), KitError> {
    const VERSION: &str = "connect-protocol-version";
    if headers.get(VERSION).is_some_and(|version| version != "1") {
        return Err(KitError::invalid(VERSION, "must be 1"));
    }
    if headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|encoding| encoding != "identity")
    {
        return Err(KitError::Unimplemented("a compressed body (content-encoding)"));
    }
    Ok(())
}

async fn read(body: Body, most: usize) -> Result<Bytes> {
    match Limited::new(body, most).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Error::TooLarge(upload::too_large().into())),
        Err(_) => Err(KitError::Cancelled.into()),
    }
}

async fn send(
    forwarder: Arc<Forwarder>,
    mut headers: HeaderMap,
    allowed: Duration,
    path: PathAndQuery,
    method: &MethodDescriptor,
    body: &[u8],
) -> Result<Vec<u8>, Status> {
    let kib = u32::try_from(body.len() / 1024).unwrap_or(u32::MAX).max(1);
    let room = forwarder.json_kib.acquire_many(kib).await.map_err(KitError::internal)?;
    let message = json::read(method.input(), body)?;
    headers.insert(deadline::GRPC_TIMEOUT, deadline::header(allowed));
    let request = tonic::Request::from_parts(MetadataMap::from_headers(headers), Extensions::new(), message);
    let backend = forwarder.clone();
    let service = service_fn(move |request| {
        let forwarder = backend.clone();
        async move { Ok::<_, Infallible>(forwarder.answer(request).await) }
    });
    let answer = Grpc::new(service)
        .max_decoding_message_size(LARGEST_ANSWER_BYTES)
        .unary(request, path, DynamicCodec::new(method.output()))
        .await?;
    drop(room);
    json::write(answer.get_ref())
}
