//! The services of a server by their names: a call finds its own by one look into a map.
//!
//! Tonic's router, which is axum's, matches patterns, makes notes of what matched and boxes both ways; it is asked for what
//! is not here, like health.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::{BoxFuture, Either};
use http::{Request, Response};
use tonic::{body::Body, server::NamedService};
use tower::{Layer, Service};

type Answer = BoxFuture<'static, Result<Response<Body>, Infallible>>;

/// The services that a server serves.
#[derive(Clone, Default)]
pub struct Routes(Arc<HashMap<&'static str, Arc<dyn Route>>>);

/// A service of a contract, as it is generated, can be called by many at a time.
trait Route: Send + Sync {
    fn call(&self, request: Request<Body>) -> Answer;
}

impl<S> Route for S
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future = Answer> + Clone + Send + Sync,
{
    fn call(&self, request: Request<Body>) -> Answer {
        // A generated service is always ready.
        Service::call(&mut self.clone(), request)
    }
}

impl Routes {
    /// No services.
    pub fn new() -> Self {
        Self::default()
    }

    /// These and one more.
    #[must_use]
    pub fn with<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future = Answer>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
    {
        Arc::make_mut(&mut self.0).insert(S::NAME, Arc::new(service));
        self
    }

    /// Whose method a path names, like `/studios.core.v1.StudioService/GetStudio`.
    fn find(&self, path: &str) -> Option<&dyn Route> {
        let (service, _) = path.strip_prefix('/')?.split_once('/')?;
        self.0.get(service).map(|it| &**it)
    }
}

// The services stand in front of the one that is asked for everything else.
impl<S> Layer<S> for Routes {
    type Service = Routed<S>;

    fn layer(&self, others: S) -> Routed<S> {
        Routed {
            routes: self.clone(),
            others,
        }
    }
}

/// A service behind [`Routes`].
#[derive(Clone)]
pub struct Routed<S> {
    routes: Routes,
    others: S,
}

impl<S> Service<Request<Body>> for Routed<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<Answer, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.others.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self.routes.find(request.uri().path()) {
            Some(route) => Either::Left(route.call(request)),
            None => Either::Right(self.others.call(request)),
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tonic_health::pb::health_server::HealthServer;
    use tower::ServiceExt;

    use super::*;
    use crate::server::Health;

    async fn code(path: &str) -> Option<Code> {
        let service = Routes::new()
            .with(Health::new().server())
            .layer(tonic::service::Routes::default());
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        let Ok(response) = service.oneshot(request).await;
        tonic::Status::from_header_map(response.headers()).map(|it| it.code())
    }

    #[tokio::test]
    async fn a_path_that_names_no_method_of_a_service_is_unimplemented() {
        for path in [
            "/grpc.health.v1.Health/Nothing",
            "/grpc.health.v1.Health",
            "/",
            "//Check",
            "/other.Service/Check",
        ] {
            assert_eq!(code(path).await, Some(Code::Unimplemented), "{path}");
        }
        let found = code(&format!(
            "/{}/Check",
            HealthServer::<tonic_health::server::HealthService>::NAME
        ))
        .await;
        assert_ne!(found, Some(Code::Unimplemented));
    }
}
