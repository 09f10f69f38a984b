//! HTTP/2 with the guest and with the outside.
//!
//! Both sides agreed on it, so that a stream of the guest is a stream upstream: flow control, resets
//! and trailers of one are those of the other.

mod budget;
mod convert;
mod failure;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod outlet;
mod paced;
mod pipe;
mod receive;
mod stream;

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use h2::client::SendRequest;
use h2::{Ping, Reason};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use self::outlet::Outlet;
use self::paced::Paced;
use self::pipe::Chunk;
use super::{Exchange, HEAD_TIMEOUT, IDLE_TIMEOUT};
use crate::cause::Cause;
use crate::engine::stream::BoxedStream;
pub(crate) use budget::Budget;
pub(crate) use convert::MalformedHead;
pub(crate) use failure::Failure;

/// What may wait to be sent on one stream.
const SEND_BUFFER: usize = 256 << 10;

/// Streams of a guest at the same time.
const STREAMS: u32 = 100;

/// All fields of a head, names and values.
const HEADER_LIST: u32 = 64 << 10;

/// Streams that a guest may reset before we have got to them; more are an attack.
const RESETS: usize = 50;

/// How long a server may take to answer its first ping, and a guest to go when it is told to.
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
    let shared = Arc::clone(&exchange.shared);
    let budget = shared.http2();
    let seat = budget.seat().await?;
    let (sender, driver, mut tunnels) = connect(upstream, seat.window).await?;
    let context = Arc::new(Context { exchange, drained: Notify::new() });
    let (guest, blocked) = Outlet::new(guest);
    let mut guest = accept(guest, seat.window).await?;

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
    let mut places = budget.places();
    let mut draining = false;
    let mut idle_until = Instant::now() + IDLE_TIMEOUT;
    loop {
        let (running, idle) = (streams.len(), streams.is_empty());
        if !idle {
            idle_until = Instant::now() + if draining { PING } else { IDLE_TIMEOUT };
        }
        let accepting = async {
            let mut accepting = pin!(guest.accept());
            poll_fn(|cx| {
                let accepted = accepting.as_mut().poll(cx);
                // Everything is sent, of streams that have ended too.
                if accepted.is_pending() && !blocked.now() {
                    places.keep(running);
                }
                accepted
            })
            .await
        };
        let drain = tokio::select! {
            accepted = accepting => match accepted {
                Some(Ok((request, mut respond))) => {
                    if places.take() {
                        let context = Arc::clone(&context);
                        streams.spawn(stream::serve(request, respond, sender.clone(), context));
                    } else {
                        tracing::warn!("a sandbox has too many HTTP/2 streams; one is refused");
                        respond.send_reset(Reason::REFUSED_STREAM);
                    }
                    false
                }
                // Once it is told to go, a guest need not wait for our last words.
                Some(Err(error)) if draining && error.is_io() && idle => break,
                Some(Err(error)) => return Err(io_error(error)),
                None => break,
            },
            Some(_) = streams.join_next(), if !idle => false,
            () = &mut opening, if !opened => {
                opened = true;
                // RFC 8441 section 3: it may be enabled at any time.
                guest.enable_connect_protocol().map_err(io_error)?;
                false
            }
            () = driver.ended(), if !draining => true,
            () = context.drained.notified(), if !draining => true,
            () = budget.wanted(), if idle && !draining => true,
            () = tokio::time::sleep_until(idle_until), if idle => {
                if draining {
                    break;
                }
                true
            }
        };
        if drain {
            draining = true;
            idle_until = Instant::now() + PING;
            guest.graceful_shutdown();
        }
    }
    Ok(())
}

/// Begins HTTP/2 with the guest.
async fn accept<G>(guest: G, window: u32) -> io::Result<h2::server::Connection<G, Chunk>>
where
    G: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(window / 4)
        .initial_connection_window_size(window)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_LIST)
        .max_pending_accept_reset_streams(RESETS)
        .max_concurrent_reset_streams(RESETS)
        .max_send_buffer_size(SEND_BUFFER);
    let handshake = tokio::time::timeout(HEAD_TIMEOUT, builder.handshake(guest));
    handshake.await?.map_err(io_error)
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
    window: u32,
) -> io::Result<(SendRequest<Chunk>, Driver, watch::Receiver<()>)> {
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(window / 4)
        .initial_connection_window_size(window)
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
