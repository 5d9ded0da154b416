//! A handler that panics answers INTERNAL; its neighbours on the connection do not notice.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use http::{Request, Response};
use tonic::{Status, body::Body};

use super::step::{Below, Next, Step};
use crate::{error::Error, lifecycle::panic_text};

#[derive(Debug, Clone, Copy)]
pub(super) struct CatchPanic;

impl Step for CatchPanic {
    async fn run(self, request: Request<Body>, next: Next<impl Below>) -> Response<Body> {
        match AssertUnwindSafe(next.run(request)).catch_unwind().await {
            Ok(response) => response,
            Err(panic) => {
                let error = Error::internal(format!("a handler panicked: {}", panic_text(&*panic)));
                Status::from(error).into_http()
            }
        }
    }
}
