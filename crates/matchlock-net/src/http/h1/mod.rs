//! HTTP/1.1 with the guest and with the outside.

mod exchange;
mod receive;
mod send;
mod wire;

use std::io;
use std::time::Duration;

use matchlock_intercept::h1::{
    Framing, H1Error, RequestDecoder, RequestEvent, RequestHead, ResponseEncoder, Version, persists,
};
use matchlock_intercept::headers::{HeaderName, HeaderValue};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::{Instant, timeout, timeout_at};

use super::judge::{self, Verdict};
use super::local::Local;
use super::{Exchange, HEAD_TIMEOUT, IDLE_TIMEOUT, Redial};
use crate::engine::stream::BoxedStream;
pub(crate) use receive::ReceiveError;
pub(crate) use send::SendError;
use wire::{Reader, Writer};

/// After the last response, what the guest still sends is read for so long and so far: a close with
/// unread bytes would reset the connection, and with it the response.
const LINGER: Duration = Duration::from_secs(5);
const LINGER_BYTES: usize = 4 << 20;

/// Serves a connection of the guest until it ends.
///
/// `upstream` goes where all requests of the connection go, and `redial` connects there again.
///
/// # Errors
/// The connection failed or has to be cut off: drop it without a proper end.
pub(crate) async fn serve<G, R>(
    guest: G,
    upstream: BoxedStream,
    redial: R,
    exchange: Exchange,
) -> io::Result<()>
where
    G: AsyncRead + AsyncWrite + Unpin + Send,
    R: Redial,
{
    serve_within(Limits::default(), guest, upstream, redial, exchange).await
}

/// [`serve`], with other limits.
pub(super) async fn serve_within<G, R>(
    limits: Limits,
    guest: G,
    upstream: BoxedStream,
    redial: R,
    exchange: Exchange,
) -> io::Result<()>
where
    G: AsyncRead + AsyncWrite + Unpin + Send,
    R: Redial,
{
    exchange.check()?;
    let shared = exchange.shared.clone();
    let (read, write) = tokio::io::split(guest);
    let session = Session {
        guest: Guest {
            read: Reader::new(read),
            decoder: RequestDecoder::new(),
            write: Writer::new(write),
            limits,
        },
        upstream: Some(exchange::Upstream::new(upstream)),
        redial,
        exchange,
    };
    tokio::select! {
        result = session.run() => result,
        () = shared.closed() => Err(io::Error::other("the network is closed")),
    }
}

/// How long a guest may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// For a head that has begun.
    pub(super) head: Duration,
    /// Between requests.
    pub(super) idle: Duration,
    /// To take the last response and go.
    pub(super) linger: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { head: HEAD_TIMEOUT, idle: IDLE_TIMEOUT, linger: LINGER }
    }
}

struct Guest<G> {
    limits: Limits,
    read: Reader<ReadHalf<G>>,
    decoder: RequestDecoder,
    write: Writer<WriteHalf<G>>,
}

struct Session<G, R> {
    guest: Guest<G>,
    upstream: Option<exchange::Upstream>,
    redial: R,
    exchange: Exchange,
}

/// What the guest is, as far as it decides how to answer.
#[derive(Clone, Copy, Debug)]
struct Client {
    version: Version,
    /// Whether the guest keeps the connection.
    persists: bool,
    /// Whether it is HEAD that is answered.
    is_head: bool,
}

/// What follows an exchange.
enum Next {
    /// Another request may come.
    KeepAlive,
    /// The guest was told that none may.
    Close,
    /// HTTP is over; the bytes are of another protocol.
    Switched(Box<judge::Admitted>),
}

impl<G, R> Session<G, R>
where
    G: AsyncRead + AsyncWrite + Unpin + Send,
    R: Redial,
{
    async fn run(mut self) -> io::Result<()> {
        loop {
            let (head, framing) = match self.guest.head().await {
                Ok(Some(head)) => head,
                Ok(None) => return self.guest.write.io.shutdown().await,
                Err(HeadError::Io(error)) => return Err(error),
                Err(HeadError::Malformed(error)) => {
                    let record = judge::malformed(&self.exchange, &error).map_err(lost)?;
                    let local = local_of(&error);
                    record.status(local.status);
                    self.guest.answer(local, false).await?;
                    return self.guest.linger().await;
                }
            };
            let client = Client {
                version: head.version,
                persists: persists(head.version, &head.headers),
                is_head: head.method.is("HEAD"),
            };
            match judge::judge(&self.exchange, head).await.map_err(lost)? {
                Verdict::Refuse(local, record) => {
                    self.guest.answer(local, client.is_head).await?;
                    drop(record);
                    return self.guest.linger().await;
                }
                Verdict::Forward(admitted) => {
                    match self.forward(admitted, framing, client).await? {
                        Next::KeepAlive => {}
                        Next::Close => return self.guest.linger().await,
                        Next::Switched(admitted) => return self.tunnel(&admitted).await,
                    }
                }
            }
        }
    }
}

enum HeadError {
    Io(io::Error),
    Malformed(H1Error),
}

impl<G: AsyncRead + AsyncWrite + Unpin> Guest<G> {
    /// The next request's head; none if the guest is done, or idle for too long.
    async fn head(&mut self) -> Result<Option<(RequestHead, Framing)>, HeadError> {
        let mut limit = Instant::now() + self.limits.idle;
        let mut begun = false;
        loop {
            match self.decoder.decode(&mut self.read.buffer).map_err(HeadError::Malformed)? {
                Some(RequestEvent::Head(head, framing)) => return Ok(Some((head, framing))),
                Some(_) => return Err(HeadError::Malformed(H1Error::RequestLine)),
                None => {}
            }
            let idle = self.decoder.is_idle() && self.read.buffer.is_empty();
            if !idle && !begun {
                begun = true;
                limit = Instant::now() + self.limits.head;
            }
            match timeout_at(limit, self.read.fill()).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) if idle => return Ok(None),
                Ok(Ok(false)) => return Err(HeadError::Malformed(H1Error::CutOff)),
                Ok(Err(error)) => return Err(HeadError::Io(error)),
                Err(_) if idle => return Ok(None),
                Err(_) => return Err(HeadError::Io(io::ErrorKind::TimedOut.into())),
            }
        }
    }

    /// Sends an answer of our own, the last one of the connection.
    async fn answer(&mut self, local: Local, is_head: bool) -> io::Result<()> {
        let mut head = local.head();
        head.headers
            .append(HeaderName::from_static("Connection"), HeaderValue::from_static("close"));
        let mut encoder = ResponseEncoder::new();
        let framing = if is_head { Framing::None } else { Framing::Length(local.length()) };
        encoder.head(&head, framing, &mut self.write.out);
        if !is_head {
            encoder.data(local.body.as_bytes(), &mut self.write.out).map_err(io::Error::other)?;
        }
        encoder.end(None, &mut self.write.out).map_err(io::Error::other)?;
        self.write.flush().await
    }

    /// Ends the connection so that the guest sees the last response whole.
    async fn linger(&mut self) -> io::Result<()> {
        self.write.io.shutdown().await?;
        let _ = timeout(self.limits.linger, self.read.discard(LINGER_BYTES)).await;
        Ok(())
    }
}

fn local_of(error: &H1Error) -> Local {
    if error.status() == 431 { Local::TOO_LARGE } else { Local::MALFORMED }
}

fn lost(error: crate::audit::AuditLost) -> io::Error {
    io::Error::other(error)
}
