//! A span for every request, which joins the caller's trace and is the parent of what the services do.
//!
//! It is open until the answer has ended, for a stream's events too: what relays the answer keeps it.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::HeaderMap;
use service_kit::telemetry;
use tokio::time::Instant;
use tonic::Code;
use tracing::{Instrument, Span, field::Empty};

use crate::{forward::Forwarder, headers::REQUEST_ID};

/// Runs a request in its span.
pub(crate) async fn traced(State(forwarder): State<Arc<Forwarder>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let span = span(&forwarder, &request);
    let response = next.run(request).instrument(span.clone()).await;
    let status = response.status().as_u16();
    span.record("http.response.status_code", status);
    let duration_ms = begun.elapsed().as_secs_f64() * 1000.0;
    tracing::debug!(parent: &span, status, duration_ms, "answered");
    response
}

/// Notes an RPC's outcome on its span.
pub(crate) fn record(span: &Span, code: Code) {
    span.record("rpc.grpc.status_code", i32::from(code));
    let fault = [
        Code::Unknown,
        Code::DeadlineExceeded,
        Code::Internal,
        Code::Unavailable,
        Code::DataLoss,
    ];
    if fault.contains(&code) {
        span.record("otel.status_code", "ERROR");
    }
}

fn span(forwarder: &Forwarder, request: &Request) -> Span {
    let path = request.uri().path();
    // A name stands for many requests; a path that is no RPC could be anything.
    let rpc = forwarder.methods.find(path).map(|_| path.trim_start_matches('/'));
    let (service, method) = rpc.and_then(|rpc| rpc.split_once('/')).unzip();
    let span = tracing::info_span!(
        "gateway",
        otel.name = rpc.unwrap_or("http"),
        otel.kind = "server",
        otel.status_code = Empty,
        rpc.system = rpc.map(|_| "grpc"),
        rpc.service = service,
        rpc.method = method,
        rpc.grpc.status_code = Empty,
        http.request.method = request.method().as_str(),
        http.response.status_code = Empty,
        correlation_id = text(request.headers(), REQUEST_ID.as_str()),
    );
    telemetry::span_with_parent(text(request.headers(), "traceparent"), span)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}
