//! From the outside to the guest.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use h2::client::ResponseFuture;
use http::Response;
use matchlock_intercept::h1::{self, ResponseHead};
use matchlock_intercept::headers::HeaderValue;
use matchlock_intercept::rewrite;

use super::convert;
use super::failure::Failure;
use super::pipe::{self, Sink};
use super::stream::Stream;
use crate::http::download::Download;
use crate::http::interim::Interims;
use crate::http::{HELD_BODY, answer};

impl Stream<'_> {
    /// Passes the response on, and those before it.
    pub(super) async fn receive(&mut self, mut response: ResponseFuture) -> Result<(), Failure> {
        let mut interims = Interims::new();
        let (mut head, mut body) = loop {
            let next = tokio::select! {
                next = next_head(&mut response) => next.map_err(Failure::Upstream)?,
                failure = self.answer.cancelled() => return Err(failure),
            };
            match next {
                Next::Informational(interim) => self.inform(&interim, &mut interims)?,
                Next::Final(response) => {
                    let (parts, body) = response.into_parts();
                    let head = convert::response_head(&Response::from_parts(parts, ()))?;
                    break (head, body);
                }
            }
        };
        let admitted = self.admitted;
        admitted.record.status(head.status.code());
        h1::forwardable(&mut head.headers, false);
        let bodiless = matches!(head.status.code(), 204 | 304) || admitted.head.method.is("HEAD");
        let has_body = !bodiless;
        let download = answer::after(&self.context.exchange, admitted, &mut head, has_body).await?;
        admitted.record.status(head.status.code());
        if bodiless || (body.is_end_stream() && !download.changes()) {
            return self.begin(&head, true);
        }
        if self.tunnel.is_some() {
            self.begin(&head, false)?;
            return self.relay(&mut body, Download::default(), Bytes::new()).await;
        }
        self.pass(head, body, download).await
    }

    fn inform(&mut self, interim: &Response<()>, interims: &mut Interims) -> Result<(), Failure> {
        let mut head = convert::response_head(interim)?;
        interims.pass(&mut head, &self.admitted.bound())?;
        let response = convert::to_response(&head)?;
        self.answer.respond.send_informational(response).map_err(Failure::Guest)
    }

    fn begin(&mut self, head: &ResponseHead, ends: bool) -> Result<(), Failure> {
        let response = convert::to_response(head)?;
        let body = self.answer.respond.send_response(response, ends).map_err(Failure::Guest)?;
        let budget = self.context.exchange.shared.http2();
        self.answer.body = Some(Sink::new(body, budget));
        Ok(())
    }

    /// Passes on a response that has a body.
    async fn pass(
        &mut self,
        mut head: ResponseHead,
        mut body: RecvStream,
        mut download: Download,
    ) -> Result<(), Failure> {
        if download.is_instead() {
            let instead = download.finish()?;
            Download::fit(&mut head, Some(instead.len() as u64));
            return self.whole(&head, instead).await;
        }
        let length = head.headers.get("content-length").and_then(HeaderValue::to_str);
        let length = length.and_then(|length| length.parse::<usize>().ok());
        let short = length.is_some_and(|length| length <= HELD_BODY);
        let mut held = BytesMut::new();
        if download.gathers() || (download.changes() && short && !download.is_live()) {
            loop {
                let Some(data) = next(&mut body, &mut download).await? else {
                    let length = held.len() as u64;
                    if download.changes() {
                        Download::fit(&mut head, Some(length));
                    }
                    return self.whole(&head, held.freeze()).await;
                };
                let fits = download.may_hold(held.len(), data.len());
                held.extend_from_slice(&data);
                if !fits {
                    break;
                }
            }
        }
        if download.changes() {
            Download::fit(&mut head, None);
        }
        self.begin(&head, false)?;
        self.relay(&mut body, download, held.freeze()).await
    }

    /// Sends a body that is known.
    async fn whole(&mut self, head: &ResponseHead, body: Bytes) -> Result<(), Failure> {
        self.admitted.record.down(body.len());
        self.begin(head, body.is_empty())?;
        if body.is_empty() {
            return Ok(());
        }
        let sink = self.answer.body.as_mut().expect("it has begun");
        sink.send(body).await.map_err(Failure::down)?;
        sink.end().map_err(Failure::Guest)
    }

    /// Passes data and trailers on as they come, after what is here already.
    async fn relay(
        &mut self,
        body: &mut RecvStream,
        mut download: Download,
        first: Bytes,
    ) -> Result<(), Failure> {
        let admitted = self.admitted;
        let sink = self.answer.body.as_mut().expect("it has begun");
        let mut data = Some(first);
        while let Some(some) = data {
            admitted.record.down(some.len());
            sink.send(some).await.map_err(Failure::down)?;
            data = tokio::select! {
                data = next(body, &mut download) => data?,
                reason = sink.reset() => return Err(Failure::GuestReset(reason)),
            };
        }
        match body.trailers().await.map_err(Failure::Upstream)? {
            None => sink.end().map_err(Failure::Guest),
            Some(trailers) => {
                let mut trailers = convert::fields(&trailers)?;
                rewrite::scrub_headers(&mut trailers, &admitted.bound());
                let trailers = convert::to_fields(&trailers)?;
                sink.end_with_trailers(trailers).map_err(Failure::Guest)
            }
        }
    }
}

/// More of a body as the guest shall see it, perhaps nothing yet; `None` at the end.
async fn next(body: &mut RecvStream, download: &mut Download) -> Result<Option<Bytes>, Failure> {
    if let Some(more) = download.more()? {
        return Ok(Some(more));
    }
    if download.is_done() {
        return Ok(None);
    }
    let Some(data) = pipe::data(body).await.map_err(Failure::down)? else {
        return Ok(Some(download.finish()?));
    };
    // What is changed is copied, and what is not goes on before more of it is asked for.
    pipe::taken(body, data.len()).map_err(Failure::down)?;
    Ok(Some(download.push(data)?))
}

enum Next {
    Informational(Response<()>),
    Final(Response<RecvStream>),
}

async fn next_head(response: &mut ResponseFuture) -> Result<Next, h2::Error> {
    poll_fn(|cx| {
        match response.poll_informational(cx) {
            Poll::Ready(Some(Ok(interim))) => return Poll::Ready(Ok(Next::Informational(interim))),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
            Poll::Ready(None) | Poll::Pending => {}
        }
        Pin::new(&mut *response).poll(cx).map_ok(Next::Final)
    })
    .await
}
