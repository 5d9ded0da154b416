//! A handler that panics answers INTERNAL; its neighbours on the connection do not notice.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use http::{Request, Response};
use tonic::{Status, body::Body};

use super::step::{Below, Step, lazily};
use crate::{error::Error, lifecycle::panic_text};

#[derive(Debug, Clone, Copy)]
pub(super) struct CatchPanic;

impl Step for CatchPanic {
    fn run(self, request: Request<Body>, below: impl Below) -> impl Future<Output = Response<Body>> + Send {
        AssertUnwindSafe(lazily(below, request)).catch_unwind().map(|answered| {
            answered.unwrap_or_else(|panic| {
                let error = Error::internal(format!("a handler panicked: {}", panic_text(&*panic)));
                Status::from(error).into_http()
            })
        })
    }
}
