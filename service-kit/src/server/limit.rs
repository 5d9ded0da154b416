//! The steps that refuse one request too many: of a client address before anything is verified, of a user once he is known.
//!
//! Health and reflection are not counted, nor what a service does with its own token.

use std::sync::Arc;

use futures::future::{Either, ready};
use http::{Request, Response};
use tonic::{Status, body::Body};

use super::step::{Below, Step};
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

#[derive(Debug, Clone)]
pub(super) struct LimitStep {
    pub(super) by: By,
    pub(super) limits: Arc<Limits>,
}

impl LimitStep {
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

impl Step for LimitStep {
    fn run(self, mut request: Request<Body>, below: impl Below) -> impl Future<Output = Response<Body>> + Send {
        match self.check(&mut request) {
            Ok(()) => Either::Left(below.run(request)),
            Err(error) => Either::Right(ready(Status::from(error).into_http())),
        }
    }
}
