//! A connection of the guest as a stream of bytes.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::poll_proceed;

use super::connection::{Cause, Connection};
use super::flow::Flow;

/// A TCP connection that the guest has opened and we have accepted.
///
/// The guest's FIN is end of file; shutting down is our FIN, after which reading goes on. A reset
/// is `ConnectionReset`, a guest that no longer answers `TimedOut`. Dropping it ends in peace what
/// is closed on both sides and read to the end, and resets all else.
#[derive(Debug)]
pub(crate) struct TcpFlow {
    flow: Arc<Flow>,
}

impl TcpFlow {
    pub(super) fn new(flow: Arc<Flow>) -> Self {
        Self { flow }
    }

    /// The guest's address and port.
    #[cfg_attr(not(test), expect(dead_code, reason = "only tests ask"))]
    pub(crate) fn src(&self) -> SocketAddr {
        self.flow.key.guest
    }

    /// What the guest wanted to reach.
    #[cfg_attr(not(test), expect(dead_code, reason = "only tests ask"))]
    pub(crate) fn dst(&self) -> SocketAddr {
        self.flow.key.remote
    }

    /// Ends the connection by RST, whatever is still on its way.
    #[cfg_attr(
        not(any(test, feature = "fuzzing")),
        expect(dead_code, reason = "only tests and the fuzzer ask")
    )]
    pub(crate) fn reset(self) {
        self.flow.act(Cause::Stream, |connection, _| {
            connection.abort(io::ErrorKind::ConnectionAborted);
        });
    }
}

impl AsyncRead for TcpFlow {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let budget = ready!(poll_proceed(context));
        let result = self.flow.act(Cause::Stream, |connection, _| {
            connection.read(buffer.initialize_unfilled(), context.waker())
        });
        self.flow.shared.flush();
        let Some(result) = result else { return Poll::Pending };
        budget.made_progress();
        Poll::Ready(result.map(|count| buffer.advance(count)))
    }
}

impl AsyncWrite for TcpFlow {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let result =
            self.flow.act(Cause::Stream, |connection, _| connection.write(data, context.waker()));
        self.flow.shared.flush();
        result.map_or(Poll::Pending, Poll::Ready)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// FIN follows what was written; it is not waited for.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flow.act(Cause::Stream, |connection, _| connection.close());
        self.flow.shared.flush();
        Poll::Ready(Ok(()))
    }
}

impl Drop for TcpFlow {
    fn drop(&mut self) {
        self.flow.act(Cause::Stream, Connection::abandon);
        self.flow.shared.flush();
    }
}
