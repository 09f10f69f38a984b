//! From the outside to the guest.

use std::io;

use bytes::{Bytes, BytesMut};
use matchlock_intercept::h1::{
    self, Framing, H1Error, ResponseDecoder, ResponseEncoder, ResponseEvent, ResponseHead, Status,
    Version,
};
use matchlock_intercept::headers::{HeaderName, HeaderValue, Headers};
use matchlock_intercept::rewrite;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Client;
use super::exchange::Progress;
use super::wire::{Reader, Writer};
use crate::http::answer;
use crate::http::download::{Download, DownloadError};
use crate::http::interim::{Interims, TooManyInterims};
use crate::http::judge::Admitted;
use crate::http::{Exchange, HELD_BODY};

/// A response that was received.
#[derive(Clone, Copy, Debug)]
pub(super) enum Received {
    /// It went to the guest.
    Complete { upstream_persists: bool, guest_persists: bool },
    /// It was a 101, and went to the guest.
    Switched,
}

/// Why receiving stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    #[error("the upstream's connection failed")]
    Upstream(#[source] io::Error),
    #[error("the upstream's response is malformed")]
    Malformed(#[source] H1Error),
    #[error("the upstream does not come to its response")]
    Interims(#[from] TooManyInterims),
    #[error("the response does not go to the guest")]
    Download(#[source] DownloadError),
    #[error("the guest's connection failed")]
    Guest(#[source] io::Error),
}

impl From<DownloadError> for ReceiveError {
    fn from(error: DownloadError) -> Self {
        Self::Download(error)
    }
}

/// Receives the response to a request, with those before it.
pub(super) async fn receive<R, W>(
    upstream: &mut Reader<R>,
    guest: &mut Writer<W>,
    exchange: &Exchange,
    admitted: &Admitted,
    client: Client,
    progress: &Progress,
) -> Result<Received, ReceiveError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut source =
        Source { read: upstream, decoder: ResponseDecoder::new(&admitted.head), progress };
    let mut interims = Interims::new();
    let (mut head, framing) = loop {
        match source.next(guest).await? {
            ResponseEvent::Informational(mut head) => {
                interims.pass(&mut head, &admitted.bound())?;
                inform(&head, guest, client).await?;
            }
            ResponseEvent::Head(head, framing) => break (head, framing),
            _ => unreachable!("a response begins with its head"),
        }
    };
    admitted.record.status(head.status.code());
    let upstream_persists =
        h1::persists(head.version, &head.headers) && framing != Framing::UntilClose;
    let switches = head.status == Status::SWITCHING_PROTOCOLS;
    h1::forwardable(&mut head.headers, switches);
    let has_body = framing != Framing::None;
    let download = answer::after(exchange, admitted, &mut head, has_body).await?;
    admitted.record.status(head.status.code());
    if switches {
        progress.set_answered();
        ResponseEncoder::new().head(&head, Framing::None, &mut guest.out);
        guest.flush().await.map_err(ReceiveError::Guest)?;
        return Ok(Received::Switched);
    }
    let mut relay = Relay { source, guest, admitted, client, download, progress, trailers: None };
    let (whole, guest_persists) = relay.run(head, framing).await?;
    let upstream_persists = upstream_persists && whole && relay.source.read.buffer.is_empty();
    Ok(Received::Complete { upstream_persists, guest_persists })
}

/// Passes a response on that is not the last one.
async fn inform<W: AsyncWrite + Unpin>(
    head: &ResponseHead,
    guest: &mut Writer<W>,
    client: Client,
) -> Result<(), ReceiveError> {
    // RFC 9110 section 15.2: HTTP/1.0 knows none.
    if client.version < Version::Http11 {
        return Ok(());
    }
    ResponseEncoder::new().head(head, Framing::None, &mut guest.out);
    guest.flush().await.map_err(ReceiveError::Guest)
}

/// What the upstream sends.
struct Source<'a, R> {
    read: &'a mut Reader<R>,
    decoder: ResponseDecoder,
    progress: &'a Progress,
}

impl<R: AsyncRead + Unpin> Source<'_, R> {
    /// The next event. What is for the guest goes out before the upstream is waited for.
    async fn next<W>(&mut self, guest: &mut Writer<W>) -> Result<ResponseEvent, ReceiveError>
    where
        W: AsyncWrite + Unpin,
    {
        loop {
            let event = self.decoder.decode(&mut self.read.buffer);
            if let Some(event) = event.map_err(ReceiveError::Malformed)? {
                return Ok(event);
            }
            guest.flush().await.map_err(ReceiveError::Guest)?;
            if self.read.fill().await.map_err(ReceiveError::Upstream)? {
                self.progress.set_heard();
                continue;
            }
            if !self.progress.is_heard() {
                return Err(ReceiveError::Upstream(io::ErrorKind::UnexpectedEof.into()));
            }
            return match self.decoder.eof().map_err(ReceiveError::Malformed)? {
                Some(event) => Ok(event),
                None => Err(ReceiveError::Malformed(H1Error::CutOff)),
            };
        }
    }
}

/// The final response on its way.
struct Relay<'a, R, W> {
    source: Source<'a, R>,
    guest: &'a mut Writer<W>,
    admitted: &'a Admitted,
    client: Client,
    download: Download,
    progress: &'a Progress,
    trailers: Option<Headers>,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Relay<'_, R, W> {
    /// Whether the upstream's response was read to its end, and whether the guest's connection
    /// can be kept.
    async fn run(
        &mut self,
        mut head: ResponseHead,
        framing: Framing,
    ) -> Result<(bool, bool), ReceiveError> {
        if framing == Framing::None {
            let persists = self.begin(head, framing, &mut ResponseEncoder::new());
            self.guest.flush().await.map_err(ReceiveError::Guest)?;
            self.source.next(self.guest).await?;
            return Ok((true, persists));
        }
        if self.download.is_instead() {
            let body = self.download.finish()?;
            let persists = self.whole(head, &body).await?;
            return Ok((false, persists));
        }
        let short = matches!(framing, Framing::Length(length) if length <= HELD_BODY as u64);
        let mut held = BytesMut::new();
        if self.download.gathers() || (self.download.changes() && short && !self.download.is_live())
        {
            loop {
                let Some(data) = self.data().await? else {
                    let persists = self.whole(head, &held).await?;
                    return Ok((true, persists));
                };
                let fits = self.download.may_hold(held.len(), data.len());
                held.extend_from_slice(&data);
                if !fits {
                    break;
                }
            }
        }
        let framing = match framing {
            Framing::Length(_) if !self.download.changes() => framing,
            _ if self.client.version < Version::Http11 => Framing::UntilClose,
            _ => Framing::Chunked,
        };
        if self.download.changes() {
            Download::fit(&mut head, None);
        }
        let persists = self.stream(head, framing, held.freeze()).await?;
        Ok((true, persists))
    }

    /// Passes the body on as it comes, after what of it is here already.
    async fn stream(
        &mut self,
        head: ResponseHead,
        framing: Framing,
        first: Bytes,
    ) -> Result<bool, ReceiveError> {
        let mut encoder = ResponseEncoder::new();
        let persists = self.begin(head, framing, &mut encoder);
        let mut next = Some(first);
        while let Some(data) = next {
            self.admitted.record.down(data.len());
            encoder.data(&data, &mut self.guest.out).map_err(encoding)?;
            self.guest.relieve().await.map_err(ReceiveError::Guest)?;
            next = self.data().await?;
        }
        encoder.end(self.trailers.as_ref(), &mut self.guest.out).map_err(encoding)?;
        self.guest.flush().await.map_err(ReceiveError::Guest)?;
        Ok(persists)
    }

    /// Encodes the head; whether the guest may send another request.
    fn begin(
        &mut self,
        mut head: ResponseHead,
        framing: Framing,
        encoder: &mut ResponseEncoder,
    ) -> bool {
        // A request that is not all here will not be awaited.
        let persists =
            self.client.persists && framing != Framing::UntilClose && self.progress.is_complete();
        let option = match (persists, self.client.version) {
            (false, _) => Some("close"),
            (true, Version::Http10) => Some("keep-alive"),
            (true, Version::Http11) => None,
        };
        if let Some(option) = option {
            let name = HeaderName::from_static("Connection");
            head.headers.append(name, HeaderValue::from_static(option));
        }
        self.progress.set_answered();
        encoder.head(&head, framing, &mut self.guest.out);
        persists
    }

    /// Sends a body that is known.
    async fn whole(&mut self, mut head: ResponseHead, body: &[u8]) -> Result<bool, ReceiveError> {
        let length = body.len() as u64;
        if self.download.changes() {
            Download::fit(&mut head, Some(length));
        }
        let mut encoder = ResponseEncoder::new();
        let persists = self.begin(head, Framing::Length(length), &mut encoder);
        self.admitted.record.down(body.len());
        encoder.data(body, &mut self.guest.out).map_err(encoding)?;
        encoder.end(None, &mut self.guest.out).map_err(encoding)?;
        self.guest.flush().await.map_err(ReceiveError::Guest)?;
        Ok(persists)
    }

    /// More of the body as the guest shall see it, perhaps nothing yet; `None` at the end.
    async fn data(&mut self) -> Result<Option<Bytes>, ReceiveError> {
        if let Some(more) = self.download.more()? {
            return Ok(Some(more));
        }
        if self.download.is_done() {
            return Ok(None);
        }
        Ok(Some(match self.source.next(self.guest).await? {
            ResponseEvent::Data(data) => self.download.push(data)?,
            ResponseEvent::Trailers(mut trailers) => {
                h1::forwardable(&mut trailers, false);
                rewrite::scrub_headers(&mut trailers, &self.admitted.bound());
                self.trailers = Some(trailers);
                Bytes::new()
            }
            ResponseEvent::End => self.download.finish()?,
            _ => unreachable!("a body follows its head"),
        }))
    }
}

fn encoding(error: h1::EncodeError) -> ReceiveError {
    ReceiveError::Upstream(io::Error::other(error))
}
