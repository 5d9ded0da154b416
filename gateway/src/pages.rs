//! The few things that the gateway answers itself: what it is, whether it lives and is ready, and the public keys.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{connect, forward::Forwarder, jwks::Jwks, openapi};

/// How long a service has to say that it is well.
const HEALTH_PATIENCE: Duration = Duration::from_secs(2);

/// What the pages are made from.
#[derive(Clone)]
pub(crate) struct Pages {
    pub(crate) forwarder: Arc<Forwarder>,
    pub(crate) jwks: Arc<Jwks>,
}

/// Says what this is and how to talk to it.
pub(crate) async fn index(State(pages): State<Pages>) -> Json<Value> {
    Json(json!({
        "name": "Studios gateway",
        "version": env!("CARGO_PKG_VERSION"),
        "protocols": {
            "connect": "POST /<service>/<method>, content-type: application/json; unary RPCs",
            "grpc-web": "content-type: application/grpc-web or application/grpc-web-text; unary RPCs and server streams",
            "grpc": "content-type: application/grpc over HTTP/2",
            "tus": "files up, in parts that can be gone on with: POST /files/uploads, or the URL that CreateUpload answers with",
        },
        "services": pages.forwarder.methods.services(),
        "pages": ["/healthz", "/readyz", "/.well-known/jwks.json", "/openapi.json", "/auth/v1/.well-known/jwks.json"],
        "supabase": ["/auth/v1/signup", "/auth/v1/token", "/auth/v1/user", "/auth/v1/logout", "/auth/v1/recover"],
        "documentation": {
            "openapi": "/openapi.json",
            "connect": "https://connectrpc.com/docs/protocol",
            "tus": "https://tus.io/protocols/resumable-upload",
            "grpc-web": "https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md",
        },
    }))
}

/// The process lives.
pub(crate) async fn live() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// Both services can be reached and say that they serve, and the gateway is not stopping.
pub(crate) async fn ready(State(pages): State<Pages>) -> Response {
    let forwarder = &pages.forwarder;
    let (core, execution) = tokio::join!(health(&forwarder.core), health(&forwarder.execution));
    let stopping = forwarder.lifecycle.soft().is_cancelled();
    let ready = !stopping && [core, execution] == [SERVING; 2];
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let word = match (ready, stopping) {
        (true, _) => "ready",
        (false, true) => "stopping",
        (false, false) => "not ready",
    };
    (
        status,
        Json(json!({"status": word, "core-service": core, "execution-service": execution})),
    )
        .into_response()
}

const SERVING: &str = "serving";

async fn health(channel: &Channel) -> &'static str {
    let mut client = HealthClient::new(channel.clone());
    match timeout(HEALTH_PATIENCE, client.check(HealthCheckRequest::default())).await {
        Ok(Ok(answer)) if answer.get_ref().status() == ServingStatus::Serving => SERVING,
        Ok(Ok(_)) => "not serving",
        Ok(Err(_)) => "unreachable",
        Err(_) => "no answer in time",
    }
}

/// What is served as JSON, for people and generators.
pub(crate) async fn openapi() -> impl IntoResponse {
    (
        [
            (header::CONTENT_TYPE, "application/json"),
            (header::CACHE_CONTROL, "public, max-age=300"),
        ],
        openapi::COMMITTED,
    )
}

/// The public keys that verify access tokens, cacheable as long as core-service says.
pub(crate) async fn keys(State(pages): State<Pages>) -> Response {
    match pages.jwks.get().await {
        Ok(keys) => {
            let max_age = format!("public, max-age={}", keys.max_age().as_secs());
            let max_age = HeaderValue::from_str(&max_age).expect("it is visible ASCII");
            let headers = [
                (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
                (header::CACHE_CONTROL, max_age),
            ];
            (headers, keys.json).into_response()
        }
        Err(error) => connect::Error::from(error).into_response(),
    }
}
