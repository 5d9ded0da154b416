//! A bound on the calls that are at work at a time. One too many is told to come back, and not queued.
//!
//! A stream counts until its answer begins.

use std::{sync::Arc, time::Duration};

use http::{Request, Response};
use tokio::sync::Semaphore;
use tonic::{Status, body::Body};

use super::step::{Below, Next, Step};
use crate::error::Error;

#[derive(Debug, Clone)]
pub(super) struct InFlight(Arc<Semaphore>);

impl InFlight {
    pub(super) fn new(most: usize) -> Self {
        Self(Arc::new(Semaphore::new(most)))
    }
}

impl Step for InFlight {
    async fn run(self, request: Request<Body>, next: Next<impl Below>) -> Response<Body> {
        let Ok(_permit) = self.0.try_acquire() else {
            let error = Error::Unavailable {
                reason: "OVERLOADED",
                message: "the server has too much to do right now".into(),
                retry_after: Some(Duration::from_secs(1)),
            };
            return Status::from(error).into_http();
        };
        next.run(request).await
    }
}
