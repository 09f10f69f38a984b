//! One request and its response.

use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use matchlock_intercept::h1::{Authority, Framing, Scheme, Target, Version};
use matchlock_intercept::headers::HeaderName;
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};

use super::receive::{self, ReceiveError, Received};
use super::send::{self, SendError};
use super::wire::{Counted, Reader, Writer};
use super::{Client, Next, Session, lost};
use crate::cause::Cause;
use crate::engine::relay::relay;
use crate::engine::stream::{BoxedStream, Prefixed};
use crate::http::judge::{self, Admitted};
use crate::http::local::Local;
use crate::http::upload::Upload;
use crate::http::{Exchange, Redial};

/// The connection to the outside.
pub(super) struct Upstream {
    pub(super) read: Reader<ReadHalf<BoxedStream>>,
    pub(super) write: Writer<WriteHalf<BoxedStream>>,
    /// Whether a request was answered on it: it may then be closed at any moment.
    used: bool,
}

impl Upstream {
    pub(super) fn new(stream: BoxedStream) -> Self {
        let (read, write) = tokio::io::split(stream);
        Self { read: Reader::new(read), write: Writer::new(write), used: false }
    }
}

/// How far a request has got. What is told by both directions of an exchange.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The guest has sent all of it.
    complete: AtomicBool,
    /// Some of the body was taken from the guest, so that it cannot be sent a second time.
    consumed: AtomicBool,
    /// The head of the final response went to the guest, or part of it.
    answered: AtomicBool,
    /// The upstream has sent something.
    heard: AtomicBool,
}

macro_rules! flags {
    ($($get:ident $set:ident $field:ident),*) => {
        impl Progress {
            $(
                pub(super) fn $get(&self) -> bool { self.$field.load(Ordering::Relaxed) }
                pub(super) fn $set(&self) { self.$field.store(true, Ordering::Relaxed); }
            )*
        }
    };
}
flags!(
    is_complete set_complete complete,
    is_consumed set_consumed consumed,
    is_answered set_answered answered,
    is_heard set_heard heard
);

/// How an exchange over one upstream connection ended.
enum Outcome {
    Received(Received),
    Receive(ReceiveError),
    Send(SendError),
}

impl<G, R> Session<G, R>
where
    G: AsyncRead + AsyncWrite + Unpin + Send,
    R: Redial,
{
    /// Sends the request on and its response back.
    pub(super) async fn forward(
        &mut self,
        mut admitted: Box<Admitted>,
        framing: Framing,
        client: Client,
    ) -> io::Result<Next> {
        set_target(&mut admitted, &self.exchange);
        let (bound, room) = (admitted.bound(), self.exchange.shared.held());
        let record = admitted.record.in_body();
        let mut upload = Upload::new(&bound, &admitted.head.headers, record, room);
        let progress = Progress::default();
        let (framing, held) = match self.hold(&admitted, framing, &mut upload, &progress).await {
            Ok(held) => held,
            Err(error) => return self.stop(&admitted, &progress, error, client).await,
        };
        loop {
            let mut upstream = match self.connect().await {
                Ok(upstream) => upstream,
                Err(error) => {
                    admitted.record.failed(Cause::of(&error));
                    return self.give_up(&admitted, &progress, Local::UNREACHABLE, client).await;
                }
            };
            let outcome = {
                let guest = &mut self.guest;
                let sending = send::send(
                    (&mut guest.read, &mut guest.decoder),
                    &mut upstream.write,
                    &admitted,
                    (framing, held.as_ref()),
                    &mut upload,
                    &progress,
                );
                let receiving = receive::receive(
                    &mut upstream.read,
                    &mut guest.write,
                    &self.exchange,
                    &admitted,
                    client,
                    &progress,
                );
                let (mut sending, mut receiving) = (pin!(sending), pin!(receiving));
                let mut sends = true;
                loop {
                    tokio::select! {
                        received = &mut receiving => break match received {
                            Ok(received) => Outcome::Received(received),
                            Err(error) => Outcome::Receive(error),
                        },
                        error = &mut sending, if sends => match error {
                            // It may have answered before it stopped listening.
                            SendError::Upstream(_) => sends = false,
                            error => break Outcome::Send(error),
                        },
                    }
                }
            };
            let error = match outcome {
                Outcome::Received(received) => {
                    return Ok(self.finish(admitted, upstream, received, &progress));
                }
                Outcome::Send(error) => {
                    return self.stop(&admitted, &progress, error, client).await;
                }
                Outcome::Receive(error) => error,
            };
            // RFC 9110 section 9.2.2; a connection that was kept may close as we send.
            let again = upstream.used
                && !progress.is_heard()
                && !progress.is_consumed()
                && is_idempotent(admitted.head.method.as_str());
            if again && matches!(error, ReceiveError::Upstream(_)) {
                continue;
            }
            admitted.record.failed(Cause::of(&error));
            return match error {
                ReceiveError::Guest(error) => Err(error),
                ReceiveError::Download(error) => {
                    self.give_up(&admitted, &progress, Local::of(&error), client).await
                }
                ReceiveError::Upstream(_)
                | ReceiveError::Malformed(_)
                | ReceiveError::Interims(_) => {
                    self.give_up(&admitted, &progress, Local::BAD_ANSWER, client).await
                }
            };
        }
    }

    /// Relays what is no longer HTTP.
    pub(super) async fn tunnel(self, admitted: &Admitted) -> io::Result<()> {
        let Self { guest, upstream, .. } = self;
        let upstream = upstream.expect("the exchange has just left it");
        let guest = Prefixed::new(guest.read.buffer, guest.read.io.unsplit(guest.write.io));
        let upstream =
            Prefixed::new(upstream.read.buffer, upstream.read.io.unsplit(upstream.write.io));
        let (mut guest, mut upstream) = (
            Counted::new(guest, |bytes| admitted.record.up(bytes)),
            Counted::new(upstream, |bytes| admitted.record.down(bytes)),
        );
        let result = relay(&mut guest, &mut upstream, &mut ()).await;
        if let Err(error) = &result {
            admitted.record.failed(Cause::of(error));
        }
        result
    }

    /// An upstream for the request: the one of the last request, if it is still good.
    async fn connect(&mut self) -> io::Result<Upstream> {
        if let Some(mut upstream) = self.upstream.take()
            && !(upstream.used && upstream.read.is_stale().await)
        {
            return Ok(upstream);
        }
        Ok(Upstream::new(self.redial.redial().await?))
    }

    /// Takes a short body in before its head is sent, when putting secrets in changes its length.
    /// A guest that waits for a 100 (Continue) does not send it before.
    async fn hold(
        &mut self,
        admitted: &Admitted,
        framing: Framing,
        upload: &mut Upload,
        progress: &Progress,
    ) -> Result<(Framing, Option<Bytes>), SendError> {
        let Framing::Length(length) = framing else { return Ok((framing, None)) };
        if !upload.replaces() {
            return Ok((framing, None));
        }
        let short = usize::try_from(length).is_ok_and(|length| upload.may_hold(length));
        if !short || admitted.head.headers.contains("expect") {
            return Ok((Framing::Chunked, None));
        }
        let guest = (&mut self.guest.read, &mut self.guest.decoder);
        let body = send::take_whole(guest, admitted, upload, progress).await?;
        Ok((Framing::Length(body.len() as u64), Some(body)))
    }

    fn finish(
        &mut self,
        admitted: Box<Admitted>,
        mut upstream: Upstream,
        received: Received,
        progress: &Progress,
    ) -> Next {
        upstream.used = true;
        match received {
            Received::Switched => {
                self.upstream = Some(upstream);
                Next::Switched(admitted)
            }
            Received::Complete { upstream_persists, guest_persists } => {
                if upstream_persists && progress.is_complete() {
                    self.upstream = Some(upstream);
                }
                if guest_persists { Next::KeepAlive } else { Next::Close }
            }
        }
    }

    /// The guest's side of the exchange went wrong.
    async fn stop(
        &mut self,
        admitted: &Admitted,
        progress: &Progress,
        error: SendError,
        client: Client,
    ) -> io::Result<Next> {
        admitted.record.failed(Cause::of(&error));
        match error {
            SendError::Guest(error) => Err(error),
            SendError::Malformed(_) => {
                self.give_up(admitted, progress, Local::MALFORMED, client).await
            }
            SendError::Leak(leak) => {
                judge::leak_in_body(&self.exchange, admitted, &leak.secret).map_err(lost)?;
                self.give_up(admitted, progress, Local::BLOCKED, client).await
            }
            SendError::Upstream(_) => {
                self.give_up(admitted, progress, Local::BAD_ANSWER, client).await
            }
        }
    }

    /// Answers in the upstream's place, if it has not begun to; otherwise the connection is cut, so
    /// that the guest does not take half of a response for the whole.
    async fn give_up(
        &mut self,
        admitted: &Admitted,
        progress: &Progress,
        local: Local,
        client: Client,
    ) -> io::Result<Next> {
        if progress.is_answered() {
            return Err(io::Error::other("the response was cut off"));
        }
        admitted.record.status(local.status);
        self.guest.write.out.clear();
        self.guest.answer(local, client.is_head).await?;
        Ok(Next::Close)
    }
}

/// Servers are asked for a path, proxies for the whole (RFC 9112 section 3.2).
fn set_target(admitted: &mut Admitted, exchange: &Exchange) {
    let head = &mut admitted.head;
    head.version = Version::Http11;
    let Some(path_and_query) = head.target.path_and_query().cloned() else { return };
    let Some(proxy) = &exchange.proxy else {
        head.target = Target::Origin(path_and_query);
        return;
    };
    let host = head.headers.get("host").and_then(|host| Authority::parse(host.as_bytes()).ok());
    let Some(authority) = host else { return };
    head.target = Target::Absolute { scheme: Scheme::Http, authority, path_and_query };
    if let Some(value) = &proxy.authorization {
        head.headers.set(HeaderName::from_static("Proxy-Authorization"), value.clone());
    }
}

fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE")
}
