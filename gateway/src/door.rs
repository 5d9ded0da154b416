//! The layers that every request passes, top down, and the fork by protocol behind them.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    middleware::{Next, from_fn, from_fn_with_state},
    response::Response,
    routing::{any, get},
};
use http::{HeaderName, HeaderValue, Method, StatusCode, Version, header};
use http_body_util::BodyExt;
use service_kit::{error::Error, status::with_request_id};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Code, Status};
use tonic_web::GrpcWebLayer;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowOrigin, CorsLayer},
};

use crate::{
    connect,
    forward::Forwarder,
    headers::{self, REQUEST_ID},
    hooks::{self, Hooks},
    limits::Limits,
    pages::{self, Pages},
    supabase, trace,
    transfers::{self, Transfers},
};

/// How long a browser may remember what it was told about an origin.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_hours(2);

/// What an RPC is answered with.
#[derive(Clone)]
struct Rpc {
    forwarder: Arc<Forwarder>,
    permits: Arc<Semaphore>,
    limits: Arc<Limits>,
}

/// Everything that the gateway serves.
pub(crate) fn router(
    pages: Pages,
    cors_origins: Vec<HeaderValue>,
    concurrent_requests: usize,
    limits: Limits,
) -> Router {
    let rpc = Rpc {
        forwarder: pages.forwarder.clone(),
        permits: Arc::new(Semaphore::new(concurrent_requests)),
        limits: Arc::new(limits),
    };
    let transfers = Transfers {
        core: pages.forwarder.core.clone(),
        permits: rpc.permits.clone(),
        limits: rpc.limits.clone(),
    };
    let layers = ServiceBuilder::new()
        .layer(from_fn(identify))
        .layer(from_fn_with_state(pages.forwarder.clone(), trace::traced))
        .layer(from_fn(transfers::announced))
        .layer(cors(cors_origins))
        .layer(CatchPanicLayer::custom(|_| panicked()));
    let hooks = Hooks {
        forwarder: rpc.forwarder.clone(),
        permits: rpc.permits.clone(),
        limits: rpc.limits.clone(),
    };
    Router::new()
        .route("/", get(pages::index))
        .route("/healthz", get(pages::live))
        .route("/readyz", get(pages::ready))
        .route("/.well-known/jwks.json", get(pages::keys))
        .route("/auth/v1/.well-known/jwks.json", get(pages::keys))
        .route("/openapi.json", get(pages::openapi))
        .with_state(pages)
        .route(
            "/hooks/activepieces/{token}",
            any(hooks::activepieces).with_state(hooks),
        )
        .fallback_service(any(answer).with_state(rpc))
        .method_not_allowed_fallback(|| async { not_allowed("GET", "this page can only be read: GET") })
        .merge(transfers::router(transfers))
        .layer(layers)
}

/// Gives the request its id, and the answer too.
async fn identify(mut request: Request, next: Next) -> Response {
    let id = headers::request_id(request.headers());
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let text = id.to_str().expect("it was checked or made of visible ASCII").into();
    let mut response = with_request_id(text, next.run(request)).await;
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// With no origin configured nothing is allowed from any.
fn cors(origins: Vec<HeaderValue>) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ])
        .allow_headers(
            transfers::ALLOWED
                .into_iter()
                .chain([
                    header::AUTHORIZATION,
                    header::CONTENT_TYPE,
                    HeaderName::from_static("connect-protocol-version"),
                    HeaderName::from_static("connect-timeout-ms"),
                    HeaderName::from_static("grpc-timeout"),
                    HeaderName::from_static("traceparent"),
                    HeaderName::from_static("tracestate"),
                    HeaderName::from_static("x-grpc-web"),
                    HeaderName::from_static("x-user-agent"),
                    // Those of supabase-js.
                    HeaderName::from_static("apikey"),
                    HeaderName::from_static("x-client-info"),
                    HeaderName::from_static("x-supabase-api-version"),
                    REQUEST_ID,
                ])
                .collect::<Vec<_>>(),
        )
        .expose_headers(
            transfers::EXPOSED
                .into_iter()
                .chain([
                    HeaderName::from_static("grpc-status"),
                    HeaderName::from_static("grpc-message"),
                    HeaderName::from_static("grpc-status-details-bin"),
                    header::RETRY_AFTER,
                    HeaderName::from_static("x-supabase-api-version"),
                    REQUEST_ID,
                ])
                .collect::<Vec<_>>(),
        )
        .max_age(PREFLIGHT_MAX_AGE)
}

fn panicked() -> http::Response<Body> {
    connect::Error::Http(
        StatusCode::INTERNAL_SERVER_ERROR,
        Code::Internal,
        "internal error".into(),
    )
    .into_response()
}

/// What a request speaks, by its content type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Grpc,
    GrpcWeb,
    Json,
    Other,
}

impl Protocol {
    fn of(media_type: Option<&str>) -> Self {
        match media_type {
            Some("application/json") => Self::Json,
            Some("application/grpc" | "application/grpc+proto") => Self::Grpc,
            Some(
                "application/grpc-web"
                | "application/grpc-web+proto"
                | "application/grpc-web-text"
                | "application/grpc-web-text+proto",
            ) => Self::GrpcWeb,
            _ => Self::Other,
        }
    }
}

async fn answer(State(rpc): State<Rpc>, mut request: Request) -> Response {
    let path = request.uri().path();
    if supabase::serves(path) {
        return sign_in(rpc, request).await;
    }
    let known = rpc.forwarder.methods.find(path).is_some();
    if request.method() != Method::POST {
        return if known {
            not_allowed("POST", "RPCs are called by POST; see / for the protocols")
        } else {
            not_found()
        };
    }
    let media_type = headers::media_type(request.headers());
    let protocol = Protocol::of(media_type.as_deref());
    match (protocol, request.version()) {
        (Protocol::Other, _) if !known => return not_found(),
        (Protocol::Other, _) => return unsupported(),
        (Protocol::Json, _) if !headers::is_utf8(request.headers()) => return unsupported_charset(),
        (Protocol::Json, _) if !known && !names_a_method(path) => return not_found(),
        (Protocol::Grpc, version) if version < Version::HTTP_2 => return needs_http2(),
        _ => {}
    }
    if headers::too_large(request.headers()) {
        return headers_too_large();
    }
    if let Some(bare) = media_type.and_then(|it| HeaderValue::try_from(it).ok()) {
        request.headers_mut().insert(header::CONTENT_TYPE, bare);
    }

    let admitted = rpc.limits.admit(&mut request);
    let admitted = admitted.and_then(|()| rpc.permits.try_acquire_owned().map_err(|_| busy()));
    match (protocol, admitted) {
        (Protocol::Json, Ok(_permit)) => connect::unary(rpc.forwarder, request).await,
        (Protocol::Json, Err(refusal)) => connect::Error::from(refusal).into_response(),
        (_, Ok(permit)) => {
            let response = grpc(rpc.forwarder, None, request).await;
            response.map(|body| held_by(permit, body))
        }
        (_, Err(refusal)) => grpc(rpc.forwarder, Some(refusal.into()), request).await.map(Body::new),
    }
}

/// Supabase's way to sign in, let in as all calls are.
async fn sign_in(rpc: Rpc, mut request: Request) -> Response {
    if headers::too_large(request.headers()) {
        return headers_too_large();
    }
    let admitted = rpc.limits.admit(&mut request);
    let admitted = admitted.and_then(|()| rpc.permits.try_acquire_owned().map_err(|_| busy()));
    match admitted {
        Ok(_permit) => supabase::answer(rpc.forwarder, request).await,
        Err(refusal) => supabase::refuse(refusal, request.headers()),
    }
}

/// gRPC, and gRPC-Web translated to it.
async fn grpc(
    forwarder: Arc<Forwarder>,
    refusal: Option<Status>,
    request: Request,
) -> http::Response<tonic::body::Body> {
    let service = service_fn(|request| async {
        Ok::<_, Infallible>(match &refusal {
            None => forwarder.answer(request).await,
            Some(status) => status.clone().into_http(),
        })
    });
    let response = GrpcWebLayer::new().layer(service).oneshot(request).await;
    response.unwrap_or_else(|never| match never {})
}

/// The body, which keeps the permit until it has ended or the caller has gone.
fn held_by(permit: OwnedSemaphorePermit, body: tonic::body::Body) -> Body {
    Body::new(body.map_frame(move |frame| {
        let _held = &permit;
        frame
    }))
}

/// Whether a path looks like `/package.Service/Method`.
fn names_a_method(path: &str) -> bool {
    match path.trim_start_matches('/').split_once('/') {
        Some((service, method)) => service.contains('.') && !method.is_empty() && !method.contains('/'),
        None => false,
    }
}

/// As many requests are answered as may be.
pub(crate) fn busy() -> Error {
    Error::ResourceExhausted {
        reason: "GATEWAY_BUSY",
        message: "the gateway is answering as many requests as it may".into(),
        retry_after: Some(Duration::from_secs(1)),
    }
}

fn not_found() -> Response {
    refuse(
        StatusCode::NOT_FOUND,
        Code::NotFound,
        "nothing is here; see / for what is",
    )
}

pub(crate) fn not_allowed(allowed: &'static str, message: &str) -> Response {
    let mut response = refuse(StatusCode::METHOD_NOT_ALLOWED, Code::Unimplemented, message);
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

fn unsupported() -> Response {
    let message = "the content type must be application/json, application/grpc-web or application/grpc";
    let mut response = refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument, message);
    let accepted = HeaderValue::from_static("application/json, application/grpc-web, application/grpc");
    response.headers_mut().insert("accept-post", accepted);
    response
}

fn unsupported_charset() -> Response {
    refuse(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Code::InvalidArgument,
        "the charset of application/json must be utf-8",
    )
}

fn needs_http2() -> Response {
    refuse(
        StatusCode::BAD_REQUEST,
        Code::InvalidArgument,
        "gRPC needs HTTP/2; over HTTP/1.1 there is gRPC-Web",
    )
}

fn headers_too_large() -> Response {
    let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    refuse(
        status,
        Code::ResourceExhausted,
        "the headers are larger than the gateway accepts",
    )
}

pub(crate) fn refuse(http: StatusCode, code: Code, message: &str) -> Response {
    connect::Error::Http(http, code, message.into()).into_response()
}
