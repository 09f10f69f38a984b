//! The two halves of a stream, with their buffers.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;

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
