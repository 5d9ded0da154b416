//! A bound on the calls that are at work at a time. One too many is told to come back, and not queued.
//!
//! A stream counts until its answer begins.

use std::{sync::Arc, time::Duration};

use futures::{
    FutureExt,
    future::{Either, ready},
};
use http::{Request, Response};
use tokio::sync::Semaphore;
use tonic::{Status, body::Body};

use super::step::{Below, Step};
use crate::error::Error;

#[derive(Debug, Clone)]
pub(super) struct InFlight(Arc<Semaphore>);

impl InFlight {
    pub(super) fn new(most: usize) -> Self {
        Self(Arc::new(Semaphore::new(most)))
    }
}

impl Step for InFlight {
    fn run(self, request: Request<Body>, below: impl Below) -> impl Future<Output = Response<Body>> + Send {
        let Ok(permit) = self.0.try_acquire_owned() else {
            let error = Error::Unavailable {
                reason: "OVERLOADED",
                message: "the server has too much to do right now".into(),
                retry_after: Some(Duration::from_secs(1)),
            };
            return Either::Right(ready(Status::from(error).into_http()));
        };
        Either::Left(below.run(request).inspect(move |_| drop(permit)))
    }
}
