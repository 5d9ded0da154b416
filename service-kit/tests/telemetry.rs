//! One trace over two services: the caller's span, the server's, and work that is done later from a stored context, all
//! sent to an OTLP receiver under the service's name; and the trace id as callers are told it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    trace::v1::Span,
};
use service_kit::{
    auth::{AuthLayer, Door, StaticJwks, UserTokens, Verifier},
    client,
    clock::SystemClock,
    lifecycle::Lifecycle,
    server::{Listener, Routes, ServerOptions, serve},
    telemetry::{self, TelemetryConfig},
};
use studios_proto::core::{
    AccessDecision, ApiKeyAccess, CheckApiKeyRequest, CheckCompanyRequest, CheckStudioRequest, FollowEventsRequest,
    FollowEventsResponse, ResolveIdentityRequest, ResolveIdentityResponse,
    access_service_client::AccessServiceClient,
    access_service_server::{AccessService, AccessServiceServer},
};
use tokio::sync::mpsc;
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};
use tracing::Instrument;
use url::Url;

/// Answers with its trace id and traceparent.
struct Double;

#[tonic::async_trait]
impl AccessService for Double {
    type FollowEventsStream = tokio_stream::Empty<Result<FollowEventsResponse, Status>>;

    async fn resolve_identity(
        &self,
        _: Request<ResolveIdentityRequest>,
    ) -> Result<Response<ResolveIdentityResponse>, Status> {
        Err(Status::unimplemented("identities"))
    }

    async fn check_studio(&self, _: Request<CheckStudioRequest>) -> Result<Response<AccessDecision>, Status> {
        Ok(Response::new(AccessDecision {
            studio_id: telemetry::current_trace_id(),
            studio_name: telemetry::current_traceparent(),
            ..AccessDecision::default()
        }))
    }

    async fn check_company(&self, _: Request<CheckCompanyRequest>) -> Result<Response<AccessDecision>, Status> {
        Err(Status::internal("not used"))
    }

    async fn check_api_key(&self, _: Request<CheckApiKeyRequest>) -> Result<Response<ApiKeyAccess>, Status> {
        Ok(Response::new(ApiKeyAccess::default()))
    }

    async fn follow_events(
        &self,
        _: Request<FollowEventsRequest>,
    ) -> Result<Response<Self::FollowEventsStream>, Status> {
        Err(Status::internal("not used"))
    }
}

/// Hands on what it receives.
struct Receiver(mpsc::UnboundedSender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0
            .send(request.into_inner())
            .map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A server without our layers, so that receiving spans makes none.
fn start_receiver(lifecycle: &Lifecycle, spans: mpsc::UnboundedSender<ExportTraceServiceRequest>) -> Url {
    let incoming = TcpIncoming::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let url = format!("http://{}", incoming.local_addr().unwrap()).parse().unwrap();
    let server = Server::builder().add_service(TraceServiceServer::new(Receiver(spans)));
    lifecycle.spawn("receiver", server.serve_with_incoming(incoming));
    url
}

async fn start_service(lifecycle: &Lifecycle) -> Url {
    let routes = Routes::new().with(AccessServiceServer::new(Double));
    let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let url = format!("http://{}", listener.local_addr()).parse().unwrap();
    let users = UserTokens {
        issuer: String::new(),
        audience: String::new(),
        keys: Arc::new(StaticJwks(String::new())),
    };
    let verifier = Verifier::new(users, [], Arc::new(SystemClock)).unwrap();
    let auth = AuthLayer::new(Arc::new(verifier), |_| Door::Public);
    lifecycle.spawn(
        "server",
        serve(listener, routes, auth, lifecycle.clone(), ServerOptions::default()),
    );
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_and_later_work_are_one_trace_that_is_sent_by_the_end() {
    let lifecycle = Lifecycle::new();
    let (spans, mut received) = mpsc::unbounded_channel();
    let receiver = start_receiver(&lifecycle, spans);
    let config = TelemetryConfig {
        otlp_endpoint: Some(receiver),
        ..TelemetryConfig::default()
    };
    let guard = telemetry::init("core-service", &config);
    assert_eq!(telemetry::current_trace_id(), "", "outside of every span");

    let url = start_service(&lifecycle).await;
    let mut peer = AccessServiceClient::new(client::channel(&url).unwrap());
    let (trace_id, told) = async {
        let request = client::call(None, None, CheckStudioRequest::default(), Duration::from_secs(10));
        let told = peer.check_studio(request).await.unwrap().into_inner();
        (telemetry::current_trace_id(), told)
    }
    .instrument(tracing::info_span!("caller"))
    .await;
    assert_eq!(trace_id.len(), 32);
    assert_eq!(told.studio_id, trace_id);

    let later = telemetry::span_with_parent(&told.studio_name, tracing::info_span!(parent: None, "later"));
    assert_eq!(later.in_scope(telemetry::current_trace_id), trace_id);
    drop(later);
    let unrelated = telemetry::span_with_parent("nonsense", tracing::info_span!(parent: None, "unrelated"));
    assert_ne!(unrelated.in_scope(telemetry::current_trace_id), trace_id);
    drop(unrelated);

    tokio::task::spawn_blocking(move || drop(guard)).await.unwrap();
    received.close();
    let mut sent = Vec::new();
    while let Some(request) = received.recv().await {
        for resource in request.resource_spans {
            let attributes = resource.resource.unwrap().attributes;
            let service = attributes.iter().find(|it| it.key == "service.name").unwrap();
            assert!(format!("{:?}", service.value).contains("core-service"));
            sent.extend(resource.scope_spans.into_iter().flat_map(|it| it.spans));
        }
    }
    let named = |name: &str| {
        sent.iter()
            .find(|it| it.name == name)
            .unwrap_or_else(|| panic!("{name} in {sent:?}"))
    };
    let (caller, later) = (named("caller"), named("later"));
    let server: &Span = named("studios.core.v1.AccessService/CheckStudio");
    assert_eq!(server.parent_span_id, caller.span_id);
    assert_eq!(later.parent_span_id, server.span_id);
    assert!([server, later].iter().all(|it| it.trace_id == caller.trace_id));
    assert_eq!(named("unrelated").parent_span_id, Vec::<u8>::new());
    assert!(
        !sent.iter().any(|it| it.name.contains("TraceService")),
        "the export itself is traced: {sent:?}"
    );
}
