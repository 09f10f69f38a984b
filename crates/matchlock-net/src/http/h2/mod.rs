//! HTTP/2 with the guest and with the outside.
//!
//! Both sides agreed on it, so that a stream of the guest is a stream upstream: flow control, resets
//! and trailers of one are those of the other.

mod convert;
mod failure;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod paced;
mod pipe;
mod receive;
mod stream;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use h2::client::SendRequest;
use h2::{Ping, Reason};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use self::paced::Paced;
use self::pipe::Chunk;
use super::{Exchange, HEAD_TIMEOUT, IDLE_TIMEOUT};
use crate::cause::Cause;
use crate::engine::stream::BoxedStream;
pub(crate) use convert::MalformedHead;
pub(crate) use failure::Failure;

/// What a stream may have on the way to us, and all streams of a connection together: this is also
/// what is held of bodies whose receiver is slow.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// What may wait to be sent on one stream.
const SEND_BUFFER: usize = 256 << 10;

/// Streams of a guest at the same time.
const STREAMS: u32 = 100;

/// All fields of a head, names and values.
const HEADER_LIST: u32 = 64 << 10;

/// Streams that a guest may reset before we have got to them; more are an attack.
const RESETS: usize = 50;

/// How long a server may take to answer its first ping.
const PING: Duration = Duration::from_secs(30);

/// Serves a connection of the guest until it ends.
///
/// # Errors
/// The connection failed: drop it without a proper end.
pub(crate) async fn serve<G>(guest: G, upstream: BoxedStream, exchange: Exchange) -> io::Result<()>
where
    G: AsyncRead + AsyncWrite + Unpin + Send,
{
    exchange.check()?;
    let shared = exchange.shared.clone();
    tokio::select! {
        result = run(guest, upstream, exchange) => result,
        () = shared.closed() => Err(io::Error::other("the network is closed")),
    }
}

/// What the streams of a connection share.
struct Context {
    exchange: Exchange,
    /// Told when the upstream takes no more streams.
    drained: Notify,
}

async fn run<G>(guest: G, upstream: BoxedStream, exchange: Exchange) -> io::Result<()>
where
    G: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (sender, driver, mut tunnels) = connect(upstream).await?;
    let context = Arc::new(Context { exchange, drained: Notify::new() });
    let mut handshake = h2::server::Builder::new();
    handshake
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_LIST)
        .max_pending_accept_reset_streams(RESETS)
        .max_concurrent_reset_streams(RESETS)
        .max_send_buffer_size(SEND_BUFFER);
    let handshake = tokio::time::timeout(HEAD_TIMEOUT, handshake.handshake::<_, Chunk>(guest));
    let mut guest = handshake.await?.map_err(io_error)?;

    let mut ping = guest.ping_pong().expect("it is asked for once");
    // Settings must wait for the acknowledgement of those before them, and a slow guest may not have
    // seen ours yet; its answer to a ping comes after that.
    let opening = async move {
        if tunnels.changed().await.is_err() || ping.ping(Ping::opaque()).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::pin!(opening);
    let mut opened = false;
    let mut streams = JoinSet::new();
    let mut draining = false;
    let mut idle_until = Instant::now() + IDLE_TIMEOUT;
    loop {
        if !streams.is_empty() {
            idle_until = Instant::now() + IDLE_TIMEOUT;
        }
        tokio::select! {
            accepted = guest.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    let context = Arc::clone(&context);
                    streams.spawn(stream::serve(request, respond, sender.clone(), context));
                }
                // Once it is told to go, a guest need not wait for our last words.
                Some(Err(error)) if draining && error.is_io() && streams.is_empty() => break,
                Some(Err(error)) => return Err(io_error(error)),
                None => break,
            },
            Some(_) = streams.join_next(), if !streams.is_empty() => {}
            () = &mut opening, if !opened => {
                opened = true;
                // RFC 8441 section 3: it may be enabled at any time.
                guest.enable_connect_protocol().map_err(io_error)?;
            }
            () = driver.ended(), if !draining => {
                draining = true;
                guest.graceful_shutdown();
            }
            () = context.drained.notified(), if !draining => {
                draining = true;
                guest.graceful_shutdown();
            }
            () = tokio::time::sleep_until(idle_until), if streams.is_empty() && !draining => {
                draining = true;
                guest.graceful_shutdown();
            }
        }
    }
    Ok(())
}

/// The task that keeps the connection to the outside going; it ends with the value.
struct Driver {
    task: AbortHandle,
    ended: Arc<watch::Sender<bool>>,
}

impl Driver {
    async fn ended(&self) {
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Begins HTTP/2 upstream. The receiver changes once if tunnels (extended CONNECT) may be asked for.
async fn connect(
    upstream: BoxedStream,
) -> io::Result<(SendRequest<Chunk>, Driver, watch::Receiver<()>)> {
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(0)
        .enable_push(false)
        .max_header_list_size(HEADER_LIST)
        .max_send_buffer_size(SEND_BUFFER);
    let (sender, mut connection) =
        builder.handshake::<_, Chunk>(Paced::new(upstream)).await.map_err(io_error)?;
    let mut ping = connection.ping_pong().expect("it is asked for once");
    let (tell, tunnels) = watch::channel(());
    let ended = Arc::new(watch::Sender::new(false));
    let (settled, over) = (sender.clone(), Arc::clone(&ended));
    let task = tokio::spawn(async move {
        // The settings come before the answer to a ping.
        let settle = async {
            let pong = tokio::time::timeout(PING, ping.ping(Ping::opaque())).await;
            if matches!(pong, Ok(Ok(_))) && settled.is_extended_connect_protocol_enabled() {
                tell.send_replace(());
            }
            drop(settled);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            result = connection => if let Err(error) = result {
                let cause = Cause::of(&error);
                tracing::debug!(%cause, "an HTTP/2 connection to the outside failed");
            },
            () = settle => {}
        }
        over.send_replace(true);
    });
    Ok((sender, Driver { task: task.abort_handle(), ended }, tunnels))
}

/// The reason that an error gives for ending a stream.
fn reason(error: &h2::Error) -> Reason {
    error.reason().unwrap_or(Reason::INTERNAL_ERROR)
}

fn io_error(error: h2::Error) -> io::Error {
    if error.is_io() {
        return error.into_io().expect("it is one");
    }
    io::Error::other(error)
}
