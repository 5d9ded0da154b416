//! Writes that let others go first: what many handlers answer at the same time goes out together.
//!
//! A finished handler wakes its connection, and the scheduler runs what was woken last next; so each answer would be written
//! by itself, and writing is the dearest thing that a small answer needs. Here a connection about to write goes once to the
//! end of the queue, behind the handlers that are ready to run, and writes what all of them have left there by then. With
//! nothing in the queue that is at once.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

/// A connection that waits for its turn before each write.
#[derive(Debug)]
pub struct Patient<C> {
    connection: C,
    /// Whether it has let others go first since it last wrote.
    has_waited: bool,
}

impl<C> Patient<C> {
    /// Makes a connection patient.
    pub fn new(connection: C) -> Self {
        Self {
            connection,
            has_waited: false,
        }
    }
}

impl<C: AsyncWrite + Unpin> Patient<C> {
    fn in_turn(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut C>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if !self.has_waited {
            self.has_waited = true;
            // A task that wakes itself goes to the end of the queue.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let written = ready!(write(Pin::new(&mut self.connection), cx));
        self.has_waited = false;
        Poll::Ready(written)
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Patient<C> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.in_turn(cx, |connection, cx| connection.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.in_turn(cx, |connection, cx| connection.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(cx)
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Patient<C> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_read(cx, buf)
    }
}

impl<C: Connected> Connected for Patient<C> {
    type ConnectInfo = C::ConnectInfo;

    fn connect_info(&self) -> C::ConnectInfo {
        self.connection.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use futures::task::{ArcWake, waker};
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl ArcWake for Woken {
        fn wake_by_ref(this: &Arc<Self>) {
            this.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn each_write_waits_one_turn_and_asks_for_it() {
        let mut written = Vec::new();
        let mut patient = Patient::new(io::Cursor::new(&mut written));
        let woken = Arc::new(Woken::default());
        let waker = waker(woken.clone());
        let mut cx = Context::from_waker(&waker);
        for turn in 1..=2 {
            assert!(Pin::new(&mut patient).poll_write(&mut cx, b"answer").is_pending());
            assert_eq!(woken.0.load(Ordering::Relaxed), turn);
            let done = Pin::new(&mut patient).poll_write(&mut cx, b"answer and another");
            assert!(matches!(done, Poll::Ready(Ok(18))));
        }
        assert_eq!(woken.0.load(Ordering::Relaxed), 2, "nobody is woken without need");
        assert_eq!(written.len(), 36);
    }

    #[tokio::test]
    async fn everything_is_written_in_the_end() {
        let (ours, mut theirs) = tokio::io::duplex(16);
        let mut patient = Patient::new(ours);
        let sent = vec![7; 1000];
        let send = async {
            patient.write_all(&sent).await.unwrap();
            patient.shutdown().await.unwrap();
        };
        let mut received = Vec::new();
        let receive = tokio::io::AsyncReadExt::read_to_end(&mut theirs, &mut received);
        let ((), count) = futures::join!(send, receive);
        assert_eq!(count.unwrap(), 1000);
    }
}
