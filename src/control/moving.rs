//! When a connection was last written to.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep_until};

/// A connection that notes when something was written to it.
pub(super) struct Moving<S> {
    stream: S,
    written: Written,
}

/// When that was last.
#[derive(Clone)]
pub(super) struct Written {
    since: Instant,
    /// Milliseconds after `since`.
    at: Arc<AtomicU64>,
}

impl<S> Moving<S> {
    pub(super) fn new(stream: S) -> (Self, Written) {
        let written = Written { since: Instant::now(), at: Arc::default() };
        (Self { stream, written: written.clone() }, written)
    }
}

impl Written {
    fn note(&self, result: &Poll<io::Result<usize>>) {
        if matches!(result, Poll::Ready(Ok(written)) if *written > 0) {
            let now = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.at.store(now, Ordering::Relaxed);
        }
    }

    /// Ends when nothing was written for so long.
    pub(super) async fn until_quiet(&self, patience: Duration) {
        loop {
            let last = self.since + Duration::from_millis(self.at.load(Ordering::Relaxed));
            if last.elapsed() >= patience {
                return;
            }
            sleep_until(last + patience).await;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Moving<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Moving<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, buf);
        self.written.note(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, bufs);
        self.written.note(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_is_written_to_stays_and_who_is_not_goes() {
        let (near, _far) = tokio::io::duplex(20);
        let (mut stream, written) = Moving::new(near);
        let patience = Duration::from_secs(600);
        let began = Instant::now();
        let writing = async {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(400)).await;
                // The other end reads nothing: from the third time on nothing goes out any more.
                let _ = tokio::time::timeout(Duration::from_secs(1), stream.write_all(b"event: x\n\n")).await;
            }
        };
        tokio::select! {
            () = written.until_quiet(patience) => {}
            () = writing => panic!("never quiet"),
        }
        assert_eq!(began.elapsed().as_secs(), 800 + 600);
    }
}
