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
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response, StatusCode, header, uri::PathAndQuery};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use prost_reflect::MethodDescriptor;
use service_kit::error::Error as KitError;
use tokio::{
    sync::SemaphorePermit,
    time::{Duration, timeout},
};
use tonic::{Code, Extensions, Status, client::Grpc, metadata::MetadataMap};
use tower::service_fn;

use error::Result;
pub(crate) use error::{Error, http_status, http_statuses, name};

use self::codec::DynamicCodec;
use crate::{deadline, forward::Forwarder, headers, upload};

/// The largest answer that is turned into JSON.
const LARGEST_ANSWER_BYTES: usize = 64 << 20;

/// The largest body of a caller who shows no token: strangers get no more of this process's memory.
const LARGEST_PUBLIC_BYTES: usize = 64 << 10;
/// Bodies beyond that which are read at a time, in KiB: a token that only looks like one costs its sender nothing.
pub(crate) const LARGE_KIB: usize = 256 << 10;
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
    if !method.is_public() && !parts.headers.contains_key(header::AUTHORIZATION) {
        return Err(KitError::Unauthenticated("TOKEN_MISSING").into());
    }
    let largest = if !method.is_public() && headers::has_token(&parts.headers) {
        limits.message_bytes
    } else {
        LARGEST_PUBLIC_BYTES.min(limits.message_bytes)
    };
    let asked = deadline::connect(&parts.headers)?;
    let allowed = asked.map_or(limits.timeout, |asked| asked.min(limits.timeout));
    let path = PathAndQuery::try_from(path).expect("the path of a URI is one itself");
    let descriptor = method.descriptor.clone();

    let work = async {
        let (body, _room) = read(&forwarder, body, largest).await?;
        Ok(send(forwarder.clone(), parts.headers, allowed, path, &descriptor, &body).await?)
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

/// Reads a body. A large one waits for room first, which it has until the call ends.
async fn read(forwarder: &Forwarder, body: Body, most: usize) -> Result<(Bytes, Option<SemaphorePermit<'_>>)> {
    let mut body = Limited::new(body, most);
    let mut whole = BytesMut::new();
    let mut room = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            if error.is::<LengthLimitError>() {
                Error::TooLarge(upload::too_large().into())
            } else {
                let message = "the body is malformed or was broken off";
                Error::Http(StatusCode::BAD_REQUEST, Code::InvalidArgument, message.into())
            }
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if room.is_none() && whole.len() + data.len() > LARGEST_PUBLIC_BYTES {
            let kib = u32::try_from(most.div_ceil(1024).min(LARGE_KIB)).unwrap_or(u32::MAX);
            let large = forwarder.large_kib.acquire_many(kib).await;
            room = Some(large.map_err(KitError::internal)?);
        }
        whole.extend_from_slice(&data);
    }
    Ok((whole.freeze(), room))
}

async fn send(
    forwarder: Arc<Forwarder>,
    mut headers: HeaderMap,
    allowed: Duration,
    path: PathAndQuery,
    method: &MethodDescriptor,
    body: &[u8],
) -> Result<Vec<u8>, Status> {
    let kib = u32::try_from((body.len() / 1024).clamp(1, JSON_KIB)).unwrap_or(u32::MAX);
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
