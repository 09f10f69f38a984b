//! A stream that is not read without end in one go.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes after which others have their turn.
const TURN: usize = 64 * 1024;

/// The connection to the outside, of which h2 reads as much as there is. Heads are under no flow
/// control: who counts them has to come to it before there are many.
#[derive(Debug)]
pub(super) struct Paced<S> {
    inner: S,
    /// What may still be read in this turn.
    left: usize,
}

impl<S> Paced<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, left: TURN }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.left == 0 {
            this.left = TURN;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let result = Pin::new(&mut this.inner).poll_read(cx, buf);
        this.left = match result {
            Poll::Pending => TURN,
            Poll::Ready(_) => this.left.saturating_sub(buf.filled().len() - before),
        };
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
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

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn others_have_their_turn() {
        let endless = tokio::io::repeat(0);
        let mut paced = Paced::new(tokio::io::join(endless, tokio::io::sink()));
        let mut read = [0; 4096];
        for _ in 0..3 {
            let mut turn = 0;
            // One poll of a task reads until there is nothing now.
            poll_fn(|cx| {
                loop {
                    let mut buf = ReadBuf::new(&mut read);
                    match Pin::new(&mut paced).poll_read(cx, &mut buf) {
                        Poll::Ready(_) => turn += buf.filled().len(),
                        Poll::Pending => return Poll::Ready(()),
                    }
                }
            })
            .await;
            assert_eq!(turn, TURN);
        }
    }
}
