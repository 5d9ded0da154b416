//! One step of the server's list as an async function, in place of a hand-written tower service each.
//!
//! Steps are put together before anything is boxed: a request's way down the whole list and up again is one future, in one
//! allocation, however many steps there are. A step that waits for nothing of its own is no `async` block, which would keep
//! the request once more. It does its own part when it is run; so a step that sets something for those below it, like a
//! task-local, runs them [`lazily`].

use std::{
    convert::Infallible,
    future::Future,
    mem,
    task::{Context, Poll},
};

use futures::{
    FutureExt,
    future::{BoxFuture, lazy},
};
use http::{Request, Response};
use tonic::body::Body;
use tower::{Layer, Service};

/// What a step does with a request on its way down and with the answer on its way up.
pub(crate) trait Step: Clone + Send + Sync + 'static {
    fn run(self, request: Request<Body>, below: impl Below) -> impl Future<Output = Response<Body>> + Send;

    /// This step, and that one below it.
    fn then<T: Step>(self, below: T) -> Then<Self, T> {
        Then { above: self, below }
    }
}

/// What can be below a step: further steps, and at last the service.
pub(crate) trait Below: Send + 'static {
    fn run(self, request: Request<Body>) -> impl Future<Output = Response<Body>> + Send;
}

/// Two steps as one.
#[derive(Debug, Clone)]
pub(crate) struct Then<A, B> {
    above: A,
    below: B,
}

impl<A: Step, B: Step> Step for Then<A, B> {
    fn run(self, request: Request<Body>, below: impl Below) -> impl Future<Output = Response<Body>> + Send {
        let below = Rest {
            step: self.below,
            below,
        };
        self.above.run(request, below)
    }
}

/// A step and what is below it.
struct Rest<T, B> {
    step: T,
    below: B,
}

impl<T: Step, B: Below> Below for Rest<T, B> {
    fn run(self, request: Request<Body>) -> impl Future<Output = Response<Body>> + Send {
        self.step.run(request, self.below)
    }
}

/// Runs what is below a step when it is polled, and not before.
pub(crate) fn lazily(below: impl Below, request: Request<Body>) -> impl Future<Output = Response<Body>> + Send {
    lazy(move |_| below.run(request)).flatten()
}

/// The service below all steps, which was found ready before the first one began.
struct Bottom<S>(S);

impl<S> Below for Bottom<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Send + 'static,
{
    fn run(mut self, request: Request<Body>) -> impl Future<Output = Response<Body>> + Send {
        self.0.call(request).map(|answered| {
            let Ok(response) = answered;
            response
        })
    }
}

/// Puts steps above a service.
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

/// A service with steps above it.
#[derive(Debug, Clone)]
pub(crate) struct Stepped<T, S> {
    step: T,
    below: S,
}

impl<T, S> Service<Request<Body>> for Stepped<T, S>
where
    T: Step,
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + 'static,
{
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
        Box::pin(step.run(request, Bottom(ready)).map(Ok))
    }
}
