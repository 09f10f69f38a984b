//! From the guest to the outside.

use std::io;

use bytes::{Bytes, BytesMut};
use matchlock_intercept::h1::{
    self, EncodeError, Framing, H1Error, RequestDecoder, RequestEncoder, RequestEvent,
};
use matchlock_intercept::headers::Headers;
use matchlock_intercept::rewrite::Leak;
use tokio::io::{AsyncRead, AsyncWrite};

use super::exchange::Progress;
use super::wire::{Reader, Writer};
use crate::http::judge::Admitted;
use crate::http::upload::{Upload, check_trailers};

/// What the guest may send ahead while its response is still on the way.
const AHEAD: usize = 64 * 1024;

/// Why sending stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("the guest's connection failed")]
    Guest(#[source] io::Error),
    #[error("the request's body is malformed")]
    Malformed(#[source] H1Error),
    #[error("the request's body carries the placeholder of a secret for other hosts")]
    Leak(Leak),
    #[error("the upstream does not take the request")]
    Upstream(#[source] io::Error),
}

impl From<Leak> for SendError {
    fn from(leak: Leak) -> Self {
        Self::Leak(leak)
    }
}

impl From<EncodeError> for SendError {
    fn from(error: EncodeError) -> Self {
        Self::Upstream(io::Error::other(error))
    }
}

/// Sends a request as the guest sends it, and then watches the guest. Ends only if something is
/// wrong. `body` says how the request is framed and what of it is here already.
pub(super) async fn send<R, W>(
    (read, decoder): (&mut Reader<R>, &mut RequestDecoder),
    upstream: &mut Writer<W>,
    admitted: &Admitted,
    body: (Framing, Option<&Bytes>),
    upload: &mut Upload,
    progress: &Progress,
) -> SendError
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let sent = send_all((read, decoder), upstream, admitted, body, upload, progress).await;
    if let Err(error) = sent {
        return error;
    }
    // The next request may come already; an end only says that there is none.
    loop {
        if read.ended || read.buffer.len() >= AHEAD {
            return std::future::pending().await;
        }
        if let Err(error) = read.fill().await {
            return SendError::Guest(error);
        }
    }
}

async fn send_all<R, W>(
    guest: (&mut Reader<R>, &mut RequestDecoder),
    upstream: &mut Writer<W>,
    admitted: &Admitted,
    (framing, held): (Framing, Option<&Bytes>),
    upload: &mut Upload,
    progress: &Progress,
) -> Result<(), SendError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut encoder = RequestEncoder::new();
    encoder.head(&admitted.head, framing, &mut upstream.out);
    if let Some(body) = held {
        encoder.data(body, &mut upstream.out)?;
        encoder.end(None, &mut upstream.out)?;
        return upstream.flush().await.map_err(SendError::Upstream);
    }
    let mut body = Body { guest, admitted, upload, progress, trailers: None };
    while let Some(data) = body.next(upstream).await? {
        encoder.data(&data, &mut upstream.out)?;
        upstream.relieve().await.map_err(SendError::Upstream)?;
    }
    encoder.end(body.trailers.as_ref(), &mut upstream.out)?;
    upstream.flush().await.map_err(SendError::Upstream)
}

/// Takes a whole body from the guest.
pub(super) async fn take_whole<R: AsyncRead + Unpin>(
    guest: (&mut Reader<R>, &mut RequestDecoder),
    admitted: &Admitted,
    upload: &mut Upload,
    progress: &Progress,
) -> Result<Bytes, SendError> {
    let mut whole = BytesMut::new();
    let mut nowhere = Writer::new(tokio::io::sink());
    let mut body = Body { guest, admitted, upload, progress, trailers: None };
    while let Some(data) = body.next(&mut nowhere).await? {
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

/// The body of a request as it goes out.
struct Body<'a, R> {
    guest: (&'a mut Reader<R>, &'a mut RequestDecoder),
    admitted: &'a Admitted,
    upload: &'a mut Upload,
    progress: &'a Progress,
    trailers: Option<Headers>,
}

impl<R: AsyncRead + Unpin> Body<'_, R> {
    /// More of it, perhaps nothing yet; `None` at the end. What was written before goes out while
    /// the guest is waited for.
    async fn next<W>(&mut self, upstream: &mut Writer<W>) -> Result<Option<Bytes>, SendError>
    where
        W: AsyncWrite + Unpin,
    {
        let (read, decoder) = &mut self.guest;
        while !self.progress.is_complete() {
            match decoder.decode(&mut read.buffer).map_err(SendError::Malformed)? {
                Some(RequestEvent::Data(data)) => {
                    self.progress.set_consumed();
                    self.admitted.record.up(data.len());
                    return Ok(Some(self.upload.push(data)?));
                }
                Some(RequestEvent::Trailers(mut trailers)) => {
                    check_trailers(&trailers, &self.admitted.bound())?;
                    h1::forwardable(&mut trailers, false);
                    self.trailers = Some(trailers);
                }
                Some(RequestEvent::End) => {
                    self.progress.set_complete();
                    return Ok(Some(self.upload.finish()?));
                }
                Some(RequestEvent::Head(..)) => unreachable!("a body ends before the next head"),
                None => {
                    upstream.flush().await.map_err(SendError::Upstream)?;
                    if !read.fill().await.map_err(SendError::Guest)? {
                        decoder.eof().map_err(SendError::Malformed)?;
                    }
                }
            }
        }
        Ok(None)
    }
}
