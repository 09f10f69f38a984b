//! Bytes from one stream to the other, both ways.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// For each direction.
const BUFFER: usize = 64 * 1024;

/// Looks at bytes before they are passed on. An error ends both directions, and they are not.
pub(crate) trait Tap {
    /// Bytes of the guest.
    fn up(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Bytes of the other side.
    fn down(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// Nobody looks.
impl Tap for () {
    fn up(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn down(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// Copies until both sides have ended. The end of one direction is passed on while the other still
/// goes on; nothing is ever closed for being idle.
pub(crate) async fn relay(
    guest: &mut (impl AsyncRead + AsyncWrite + Unpin),
    upstream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    tap: &mut impl Tap,
) -> io::Result<()> {
    let mut up = Direction::new();
    let mut down = Direction::new();
    poll_fn(|cx| {
        let up = up.poll(cx, guest, upstream, |bytes| tap.up(bytes))?;
        let down = down.poll(cx, upstream, guest, |bytes| tap.down(bytes))?;
        match (up, down) {
            (Poll::Ready(()), Poll::Ready(())) => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        }
    })
    .await
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Copying,
    /// The reader has ended; the writer is told.
    Closing,
    Closed,
}

struct Direction {
    state: State,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Whether the writer holds bytes that it may not have passed on.
    unflushed: bool,
}

impl Direction {
    fn new() -> Self {
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Self { state: State::Copying, buffer, start: 0, end: 0, unflushed: false }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut (impl AsyncRead + Unpin),
        writer: &mut (impl AsyncWrite + Unpin),
        look: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Poll<io::Result<()>> {
        if self.state == State::Copying {
            ready!(self.poll_copy(cx, reader, writer, look))?;
            self.state = State::Closing;
        }
        if self.state == State::Closing {
            ready!(Pin::new(writer).poll_shutdown(cx))?;
            self.state = State::Closed;
            self.buffer = Box::default();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_copy(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut (impl AsyncRead + Unpin),
        writer: &mut (impl AsyncWrite + Unpin),
        mut look: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Poll<io::Result<()>> {
        loop {
            // One busy direction must not starve the other flows of this worker.
            let coop = ready!(tokio::task::coop::poll_proceed(cx));
            if self.start == self.end {
                let mut buf = ReadBuf::new(&mut self.buffer);
                match Pin::new(&mut *reader).poll_read(cx, &mut buf)? {
                    Poll::Ready(()) => {}
                    Poll::Pending => {
                        if self.unflushed {
                            ready!(Pin::new(&mut *writer).poll_flush(cx))?;
                            self.unflushed = false;
                        }
                        return Poll::Pending;
                    }
                }
                (self.start, self.end) = (0, buf.filled().len());
                if self.end == 0 {
                    return Poll::Ready(Ok(()));
                }
                look(&self.buffer[..self.end])?;
            }
            let pending = &self.buffer[self.start..self.end];
            let written = ready!(Pin::new(&mut *writer).poll_write(cx, pending))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            coop.made_progress();
            self.start += written;
            self.unflushed = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn one_direction_ends_before_the_other() {
        let (mut guest, mut near_guest) = tokio::io::duplex(1024);
        let (mut upstream, mut near_upstream) = tokio::io::duplex(1024);
        let sides = async {
            guest.write_all(b"question").await.expect("the guest writes");
            guest.shutdown().await.expect("the guest ends");
            let mut question = String::new();
            upstream.read_to_string(&mut question).await.expect("the server sees the end");
            assert_eq!(question, "question");
            // Only now, after the end of the other direction.
            let answer = vec![7; 300_000];
            let (_, read) = tokio::join!(
                async {
                    upstream.write_all(&answer).await.expect("the server answers");
                    drop(upstream);
                },
                async {
                    let mut got = Vec::new();
                    guest.read_to_end(&mut got).await.expect("the guest reads");
                    got
                }
            );
            assert_eq!(read.len(), 300_000);
        };
        let mut nobody = ();
        let relaying = relay(&mut near_guest, &mut near_upstream, &mut nobody);
        let (relayed, ()) = tokio::join!(relaying, sides);
        relayed.expect("both sides ended well");
    }
}
