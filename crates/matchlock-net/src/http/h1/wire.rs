//! The two halves of a stream, with their buffers.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

/// Bytes that one read may bring.
const READ: usize = 32 * 1024;

/// Output is written out when there is this much of it.
const WRITE: usize = 64 * 1024;

/// The half that is read.
#[derive(Debug)]
pub(super) struct Reader<R> {
    pub(super) io: R,
    pub(super) buffer: BytesMut,
    /// Whether the end was read.
    pub(super) ended: bool,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(super) fn new(io: R) -> Self {
        Self { io, buffer: BytesMut::new(), ended: false }
    }

    /// Reads what there is, at least a byte; false at the end. Nothing is lost if it is cancelled.
    pub(super) async fn fill(&mut self) -> io::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        if self.buffer.capacity() - self.buffer.len() < READ / 4 {
            self.buffer.reserve(READ);
        }
        self.ended = self.io.read_buf(&mut self.buffer).await? == 0;
        Ok(!self.ended)
    }

    /// Whether something happens on a stream on which nothing should: it ended, or failed, or there
    /// are bytes that nobody asked for.
    pub(super) async fn is_stale(&mut self) -> bool {
        if self.ended || !self.buffer.is_empty() {
            return true;
        }
        let mut byte = [0];
        let io = &mut self.io;
        poll_fn(|cx| {
            let happened = Pin::new(&mut *io).poll_read(cx, &mut ReadBuf::new(&mut byte));
            Poll::Ready(happened.is_ready())
        })
        .await
    }

    /// Reads `limit` bytes at most and forgets them, until the end.
    pub(super) async fn discard(&mut self, mut limit: usize) {
        self.buffer.clear();
        while limit > 0 && matches!(self.fill().await, Ok(true)) {
            limit = limit.saturating_sub(self.buffer.len());
            self.buffer.clear();
        }
    }
}

/// The half that is written.
#[derive(Debug)]
pub(super) struct Writer<W> {
    pub(super) io: W,
    /// What is encoded and not yet written.
    pub(super) out: BytesMut,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    pub(super) fn new(io: W) -> Self {
        Self { io, out: BytesMut::new() }
    }

    /// Writes all of `out` once there is much of it.
    pub(super) async fn relieve(&mut self) -> io::Result<()> {
        if self.out.len() < WRITE { Ok(()) } else { self.write_out().await }
    }

    /// Writes all of `out` and passes it on.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        self.write_out().await?;
        self.io.flush().await
    }

    async fn write_out(&mut self) -> io::Result<()> {
        self.io.write_all_buf(&mut self.out).await
    }
}

/// A stream of which what is read is counted.
pub(super) struct Counted<S, F> {
    inner: S,
    count: F,
}

impl<S, F: Fn(usize)> Counted<S, F> {
    pub(super) fn new(inner: S, count: F) -> Self {
        Self { inner, count }
    }
}

impl<S: AsyncRead + Unpin, F: Fn(usize) + Unpin> AsyncRead for Counted<S, F> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let result = Pin::new(&mut this.inner).poll_read(cx, buf);
        (this.count)(buf.filled().len() - before);
        result
    }
}

impl<S: AsyncWrite + Unpin, F: Unpin> AsyncWrite for Counted<S, F> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
