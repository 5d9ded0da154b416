//! One step of the server's list as an async function, in place of a hand-written tower service each.

use std::{
    convert::Infallible,
    future::Future,
    mem,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use http::{Request, Response};
use tonic::body::Body;
use tower::{Layer, Service};

/// What a step does with a request on its way down and with the answer on its way up.
pub(crate) trait Step: Clone + Send + Sync + 'static {
    fn run(self, request: Request<Body>, next: Next<impl Below>) -> impl Future<Output = Response<Body>> + Send;
}

/// The services that can be below a step.
pub(crate) trait Below:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

impl<S> Below for S where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

/// What is below a step.
pub(crate) struct Next<S>(S);

impl<S: Below> Next<S> {
    pub(crate) async fn run(mut self, request: Request<Body>) -> Response<Body> {
        // The service was found ready before the step began.
        let Ok(response) = self.0.call(request).await;
        response
    }
}

/// Puts a step above a service.
#[derive(Debug, Clone)]
pub(crate) struct StepLayer<T>(pub(crate) T);

impl<T: Clone, S> Layer<S> for StepLayer<T> {
    type Service = Stepped<T, S>;

    fn layer(&self, below: S) -> Self::Service {
        Stepped {
            step: self.0.clone(),
            below,
        }
    }
}

/// A service with a step above it.
#[derive(Debug, Clone)]
pub struct Stepped<T, S> {
    step: T,
    below: S,
}

impl<T: Step, S: Below> Service<Request<Body>> for Stepped<T, S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.below.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let clone = self.below.clone();
        let ready = mem::replace(&mut self.below, clone);
        let step = self.step.clone();
        Box::pin(async move { Ok(step.run(request, Next(ready)).await) })
    }
}
