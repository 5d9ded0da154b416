//! The steps that refuse one request too many: of a client address before anything is verified, of a user once he is known.
//!
//! Health and reflection are not counted, nor what a service does with its own token. They are services of their own and
//! no [`Step`](super::step::Step)s, because they wait for nothing and every request pays for them.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::Either;
use http::{Request, Response};
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use super::step::Below;
use crate::{
    auth::{self, Caller},
    error::Result,
    limits::Limits,
};

/// By what requests are counted.
#[derive(Debug, Clone, Copy)]
pub(super) enum By {
    Address,
    User,
}

/// Puts a limit above a service.
#[derive(Debug, Clone)]
pub(super) struct LimitLayer {
    pub(super) by: By,
    pub(super) limits: Arc<Limits>,
}

impl LimitLayer {
    fn check(&self, request: &mut Request<Body>) -> Result<()> {
        match self.by {
            By::Address => {
                let address = self.limits.client_address(request.extensions(), request.headers());
                let Some(address) = address else { return Ok(()) };
                if !auth::is_open(request.uri().path()) {
                    self.limits.address(address)?;
                }
                request.extensions_mut().insert(address);
                Ok(())
            }
            By::User => match request.extensions().get::<Caller>() {
                Some(Caller {
                    user, service: None, ..
                }) => self.limits.user(*user),
                _ => Ok(()),
            },
        }
    }
}

impl<S> Layer<S> for LimitLayer {
    type Service = Limited<S>;

    fn layer(&self, below: S) -> Limited<S> {
        Limited {
            limit: self.clone(),
            below,
        }
    }
}

/// A service with a limit above it.
#[derive(Debug, Clone)]
pub(super) struct Limited<S> {
    limit: LimitLayer,
    below: S,
}

impl<S: Below> Service<Request<Body>> for Limited<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<Response<Body>, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.below.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        match self.limit.check(&mut request) {
            Ok(()) => Either::Left(self.below.call(request)),
            Err(error) => Either::Right(ready(Ok(Status::from(error).into_http()))),
        }
    }
}
