//! A caller's part of a call on its way to the service: bounded in size, watched for what became of it, and kept, where it may be
//! sent twice.

use std::{
    future,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body::Frame;
use http_body_util::{Full, LengthLimitError, Limited};
use service_kit::error::Error;
use tonic::body::Body;

/// How long a request may wait for a connection. Making one takes a channel three seconds at most, but it makes them for
/// one waiting request after the other.
const PATIENCE: Duration = Duration::from_secs(4);

/// How much of a body is kept: what is asked of calls that change nothing is short.
const KEPT_BYTES: usize = 64 << 10;

/// What became of a request's body.
#[derive(Debug, Clone, Default)]
pub(crate) struct Upload(Arc<State>);

#[derive(Debug, Default)]
struct State {
    begun: AtomicBool,
    ended: OnceLock<Ended>,
    whole: OnceLock<Bytes>,
}

/// Why a body was cut off.
#[derive(Debug, Clone, Copy)]
enum Ended {
    TooLarge,
    Broken,
}

impl Upload {
    /// The body, cut off after so many bytes; kept if it may be sent once more.
    pub(crate) fn watch(&self, body: Body, most: usize, is_kept: bool) -> Body {
        Body::new(Watched {
            inner: Limited::new(body, most),
            upload: self.clone(),
            kept: is_kept.then(BytesMut::new),
        })
    }

    /// The same body, where all of it was sent and was kept.
    pub(crate) fn again(&self) -> Option<Body> {
        self.0.whole.get().map(|it| Body::new(Full::new(it.clone())))
    }

    /// The error to answer with where the service did not get all of the body.
    pub(crate) fn error(&self) -> Option<Error> {
        Some(match self.0.ended.get()? {
            Ended::TooLarge => too_large(),
            Ended::Broken => Error::Cancelled,
        })
    }

    /// Returns if the request could not be sent in good time: its body is asked for as soon as it is.
    pub(crate) async fn stuck(&self) {
        tokio::time::sleep(PATIENCE).await;
        if self.0.begun.load(Ordering::Relaxed) {
            future::pending::<()>().await;
        }
    }
}

/// The request is larger than a message may be.
pub(crate) fn too_large() -> Error {
    Error::ResourceExhausted {
        reason: "MESSAGE_TOO_LARGE",
        message: "the request message is larger than the gateway accepts".into(),
        retry_after: None,
    }
}

/// It claims no length: what it is translated from may have another.
struct Watched {
    inner: Limited<Body>,
    upload: Upload,
    kept: Option<BytesMut>,
}

impl Watched {
    fn keep(&mut self, data: &Bytes) {
        self.kept = self.kept.take().filter(|it| it.len() + data.len() <= KEPT_BYTES);
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(data);
        }
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.upload.0.begun.store(true, Ordering::Relaxed);
        let frame = Pin::new(&mut self.inner).poll_frame(cx);
        match &frame {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.keep(data);
                }
            }
            Poll::Ready(Some(Err(error))) => {
                let reason = if error.is::<LengthLimitError>() {
                    Ended::TooLarge
                } else {
                    Ended::Broken
                };
                self.upload.0.ended.get_or_init(|| reason);
            }
            Poll::Ready(None) => {
                if let Some(kept) = self.kept.take() {
                    self.upload.0.whole.get_or_init(|| kept.freeze());
                }
            }
            Poll::Pending => {}
        }
        frame
    }
}
