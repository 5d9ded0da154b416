//! A bare gRPC server that answers GetStudio from memory, for anybody: what HTTP/2, gRPC and the driver cost alone, and so the
//! limit of what the service can reach.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    net::Ipv4Addr,
    task::{Context, Poll},
};

use anyhow::Result;
use futures::{FutureExt, future::BoxFuture};
use http::{Request, Response};
use serde_json::json;
use studios_proto::core::{BusinessArea, GetStudioRequest, Studio, studio_service_server};
use tokio::net::TcpListener;
use tonic::{
    body::Body,
    codegen::Service,
    server::{Grpc, NamedService, UnaryService},
    transport::{Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;

use crate::output::Output;

/// Serves until the process is ended.
pub(super) async fn serve() -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    Output { json: true }.result("", || json!({ "url": url }));
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    Server::builder()
        .add_service(Echo)
        .serve_with_incoming(incoming)
        .await?;
    Ok(())
}

#[derive(Clone)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = studio_service_server::SERVICE_NAME;
}

impl Service<Request<Body>> for Echo {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        async move {
            let mut grpc = Grpc::new(ProstCodec::default());
            Ok(grpc.unary(Answer, request).await)
        }
        .boxed()
    }
}

struct Answer;

impl UnaryService<GetStudioRequest> for Answer {
    type Response = Studio;
    type Future = Ready<Result<tonic::Response<Studio>, tonic::Status>>;

    fn call(&mut self, request: tonic::Request<GetStudioRequest>) -> Self::Future {
        let id = request.into_inner().id;
        let at = prost_types::Timestamp {
            seconds: 1_700_000_000,
            nanos: 123_456_000,
        };
        ready(Ok(tonic::Response::new(Studio {
            company_id: id.clone(),
            name: "Studio 1".into(),
            description: "What the studio is for, in a line of text.".into(),
            business_area: BusinessArea::Operations.into(),
            created_by: id.clone(),
            create_time: Some(at),
            update_time: Some(at),
            etag: "1".into(),
            id,
            ..Studio::default()
        })))
    }
}
