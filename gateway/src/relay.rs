//! A service's answer on its way to the caller.
//!
//! It always ends with trailers: the service's own, or, where the service breaks off, the deadline passes or the
//! process ends, trailers made here. Without them a browser could not tell a cut stream from a finished one.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::FutureExt;
use http::HeaderMap;
use http_body::{Body as _, Frame};
use service_kit::{
    error::Error,
    status::{current_request_id, with_request_id},
};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Code, Status, body::Body};
use tracing::Span;

use crate::{forward, methods::Backend, trace, upload::Upload};

/// The body of an answer whose trailers are still to come. It keeps the call's span open until then.
pub(crate) struct Relay {
    inner: Body,
    backend: Backend,
    upload: Upload,
    deadline: Option<Pin<Box<Sleep>>>,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    span: Span,
    id: Option<Arc<str>>,
    done: bool,
}

impl Relay {
    pub(crate) fn new(
        inner: Body,
        backend: Backend,
        deadline: Option<Instant>,
        stop: CancellationToken,
        upload: Upload,
    ) -> Self {
        Self {
            inner,
            backend,
            upload,
            deadline: deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline))),
            stop: Box::pin(stop.cancelled_owned()),
            span: Span::current(),
            id: current_request_id(),
            done: false,
        }
    }

    /// The next frame of the service, or why there is none.
    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame<Bytes>, Error>> {
        if self
            .deadline
            .as_mut()
            .is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready())
        {
            return Poll::Ready(Err(Error::DeadlineExceeded));
        }
        if self.stop.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(forward::stopping()));
        }
        Pin::new(&mut self.inner).poll_frame(cx).map(|frame| match frame {
            Some(Ok(frame)) => Ok(frame),
            Some(Err(error)) => {
                tracing::warn!(parent: &self.span, backend = self.backend.name(), error = %error, "answer broken off");
                Err(self.upload.error().unwrap_or_else(|| forward::lost(self.backend)))
            }
            None => Err(forward::lost(self.backend)),
        })
    }

    /// The status of an error, with the request's id in it.
    fn status(&self, error: Error) -> Status {
        let Some(id) = self.id.clone() else { return error.into() };
        let status = with_request_id(id, async { Status::from(error) });
        status.now_or_never().expect("it waits for nothing")
    }

    /// Ends the answer and lets go of the call, which cancels it where the service still works on it.
    fn finish(&mut self, trailers: HeaderMap) -> Frame<Bytes> {
        self.done = true;
        self.inner = Body::empty();
        if let Some(code) = trailers.get(Status::GRPC_STATUS) {
            trace::record(&self.span, Code::from_bytes(code.as_bytes()));
        }
        Frame::trailers(trailers)
    }
}

impl http_body::Body for Relay {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.done {
            return Poll::Ready(None);
        }
        self.poll_inner(cx).map(|frame| {
            Some(match frame.map(Frame::into_trailers) {
                Ok(Err(data)) => Ok(data),
                Ok(Ok(trailers)) => Ok(self.finish(trailers)),
                Err(error) => {
                    let mut trailers = HeaderMap::new();
                    self.status(error)
                        .add_header(&mut trailers)
                        .map(|()| self.finish(trailers))
                }
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.done
    }
}
