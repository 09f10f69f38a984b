//! Streams as the engine handles them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

/// How long a peer may take to read our last words, and how many bytes it may send meanwhile.
const LINGER: (Duration, u64) = (Duration::from_secs(2), 1024 * 1024);

/// A connection, whatever it is made of. Dropping one that was not shut down on both sides resets
/// it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A [`Stream`] of some kind.
pub(crate) type BoxedStream = Box<dyn Stream>;

/// A stream of which the first bytes were read already: they are read again, first.
#[derive(Debug)]
pub(crate) struct Prefixed<S> {
    prefix: BytesMut,
    inner: S,
}

impl<S> Prefixed<S> {
    pub(crate) fn new(prefix: BytesMut, inner: S) -> Self {
        Self { prefix, inner }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }
        let amount = self.prefix.len().min(buf.remaining());
        buf.put_slice(&self.prefix[..amount]);
        self.prefix.advance(amount);
        if self.prefix.is_empty() {
            self.prefix = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
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

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

/// Ends a connection so that what was written last arrives: dropped at once, with bytes of the peer
/// unread, it would be reset, and the peer could lose what it has not read yet.
pub(crate) async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let (time, bytes) = LINGER;
    let draining = async {
        let _ = tokio::io::copy(&mut stream.take(bytes), &mut tokio::io::sink()).await;
    };
    let _ = tokio::time::timeout(time, draining).await;
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_was_read_comes_first() {
        let (mut far, near) = tokio::io::duplex(64);
        let mut near = Prefixed::new(BytesMut::from(&b"first "[..]), near);
        far.write_all(b"then").await.expect("the pipe is open");
        drop(far);
        let mut all = String::new();
        near.read_to_string(&mut all).await.expect("the pipe is readable");
        assert_eq!(all, "first then");
    }
}
