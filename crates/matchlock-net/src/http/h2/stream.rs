//! One request and its response.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::ext::Protocol;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::Request;
use matchlock_intercept::headers::{HeaderName, HeaderValue, Headers};

use super::Context;
use super::convert::{self, MalformedHead};
use super::failure::Failure;
use super::pipe::{self, Chunk, Sink};
use crate::cause::Cause;
use crate::http::judge::{self, Admitted, Verdict};
use crate::http::local::Local;
use crate::http::upload::{Upload, check_trailers};

/// The guest's end of a stream.
pub(super) struct Answer {
    pub(super) respond: SendResponse<Chunk>,
    /// Once the head of the response is sent.
    pub(super) body: Option<Sink>,
}

/// Serves one stream.
pub(super) async fn serve(
    request: Request<RecvStream>,
    respond: SendResponse<Chunk>,
    upstream: SendRequest<Chunk>,
    context: Arc<Context>,
) {
    let (parts, body) = request.into_parts();
    let exchange = &context.exchange;
    let mut answer = Answer { respond, body: None };
    let head = convert::request_head(&parts, exchange.tls);
    let tunnel = parts.extensions.get::<Protocol>().cloned();
    // Heads may be long, and a copy of this one is made.
    drop(parts);
    let head = match head {
        Ok(head) => head,
        Err(error) => {
            let Ok(record) = judge::malformed(exchange, &error) else { return };
            let local = match error {
                MalformedHead::Protocol => Local::UNSUPPORTED,
                _ => Local::MALFORMED,
            };
            record.status(local.status);
            return answer.local(local, false);
        }
    };
    let is_head = head.method.is("HEAD");
    let known = head.headers.clone();
    match judge::judge(exchange, head).await {
        // The connection is about to be cut.
        Err(_lost) => answer.reset(Reason::INTERNAL_ERROR),
        Ok(Verdict::Refuse(local, record)) => {
            answer.local(local, is_head);
            drop(record);
        }
        Ok(Verdict::Forward(admitted)) => {
            let work = Stream { context: &context, admitted: &admitted, answer, tunnel, known };
            work.run(body, upstream).await;
        }
    }
}

impl Answer {
    /// An answer of our own.
    fn local(&mut self, local: Local, is_head: bool) {
        let head = local.head();
        let Ok(response) = convert::to_response(&head) else { return };
        if let Ok(mut body) = self.respond.send_response(response, is_head)
            && !is_head
        {
            let _ = body.send_data(Chunk::short(local.body), true);
        }
    }

    fn reset(&mut self, reason: Reason) {
        match &mut self.body {
            Some(body) => body.send_reset(reason),
            None => self.respond.send_reset(reason),
        }
    }

    /// Waits until the guest takes the stream away.
    pub(super) async fn cancelled(&mut self) -> Failure {
        let reset = match &mut self.body {
            Some(body) => body.cancelled().await,
            None => poll_fn(|cx| self.respond.poll_reset(cx)).await,
        };
        match reset {
            Ok(reason) => Failure::GuestReset(reason),
            Err(error) => Failure::Guest(error),
        }
    }
}

pub(super) struct Stream<'a> {
    pub(super) context: &'a Context,
    pub(super) admitted: &'a Admitted,
    pub(super) answer: Answer,
    pub(super) tunnel: Option<Protocol>,
    /// The fields that the guest sent.
    known: Headers,
}

impl Stream<'_> {
    async fn run(mut self, body: RecvStream, upstream: SendRequest<Chunk>) {
        let Err(failure) = self.exchange(body, upstream).await else { return };
        let record = &self.admitted.record;
        record.failed(Cause::of(&failure));
        if let Failure::Leak(leak) = &failure
            && judge::leak_in_body(&self.context.exchange, self.admitted, &leak.secret).is_err()
        {
            return self.answer.reset(Reason::INTERNAL_ERROR);
        }
        match failure.local() {
            Some(local) if self.answer.body.is_none() => {
                record.status(local.status);
                self.answer.local(local, self.admitted.head.method.is("HEAD"));
            }
            _ => self.answer.reset(failure.reason()),
        }
    }

    async fn exchange(
        &mut self,
        mut body: RecvStream,
        upstream: SendRequest<Chunk>,
    ) -> Result<(), Failure> {
        let record = self.admitted.record.in_body();
        let (bound, room) = (self.admitted.bound(), self.context.exchange.shared.held());
        let mut upload = Upload::new(&bound, &self.admitted.head.headers, record, room);
        let is_tunnel = self.tunnel.is_some();
        let (head, held) = self.hold(&mut body, &mut upload).await?;
        let ends = held.as_ref().map_or_else(|| body.is_end_stream(), Bytes::is_empty);
        let (response, mut sink) = self.open(upstream, head, ends && !is_tunnel).await?;

        let admitted = self.admitted;
        let sending = async {
            if !ends || is_tunnel {
                let plain = is_tunnel.then_some(());
                send(&mut body, &mut sink, held, &mut upload, admitted, plain).await?;
            }
            Ok(())
        };
        let result = {
            let (mut sending, mut receiving) = (pin!(sending), pin!(self.receive(response)));
            let mut sends = true;
            loop {
                tokio::select! {
                    received = &mut receiving => break received,
                    sent = &mut sending, if sends => match sent {
                        // RFC 9113 section 8.1: it may have answered all that it wants to.
                        Ok(()) | Err(Failure::UpstreamReset(Reason::NO_ERROR)) => sends = false,
                        Err(Failure::UpstreamReset(_) | Failure::Upstream(_)) => sends = false,
                        Err(error) => break Err(error),
                    },
                }
            }
        };
        if let Err(failure) = &result {
            sink.send_reset(failure.upstream_reason());
        }
        result
    }

    /// Opens a stream to the outside.
    async fn open(
        &mut self,
        upstream: SendRequest<Chunk>,
        head: Request<()>,
        ends: bool,
    ) -> Result<(ResponseFuture, Sink), Failure> {
        let opened = tokio::select! {
            ready = upstream.ready() => ready.and_then(|mut ready| ready.send_request(head, ends)),
            failure = self.answer.cancelled() => return Err(failure),
        };
        let budget = self.context.exchange.shared.http2();
        opened.map(|(response, sink)| (response, Sink::new(sink, budget))).map_err(|_error| {
            // Nothing was sent, so that the guest may ask again on another connection.
            self.context.drained.notify_one();
            Failure::UpstreamReset(Reason::REFUSED_STREAM)
        })
    }

    /// The head to send. If secrets change the length of a short body that has told it, the body is
    /// taken in first; for a longer one the length is left out.
    async fn hold(
        &mut self,
        body: &mut RecvStream,
        upload: &mut Upload,
    ) -> Result<(Request<()>, Option<Bytes>), Failure> {
        let mut head = self.admitted.head.clone();
        let mut held = None;
        let length = head.headers.get("content-length").and_then(HeaderValue::to_str);
        if upload.replaces()
            && self.tunnel.is_none()
            && let Some(length) = length.and_then(|length| length.parse::<usize>().ok())
        {
            if !head.headers.contains("expect") && upload.may_hold(length) {
                let mut whole = BytesMut::new();
                while let Some(data) = pipe::data(body).await.map_err(Failure::up)? {
                    self.admitted.record.up(data.len());
                    pipe::taken(body, data.len()).map_err(Failure::up)?;
                    whole.extend_from_slice(&upload.push(data).map_err(Failure::Leak)?);
                }
                whole.extend_from_slice(&upload.finish().map_err(Failure::Leak)?);
                let length = HeaderValue::from(whole.len() as u64);
                head.headers.set(HeaderName::from_static("content-length"), length);
                held = Some(whole.freeze());
            } else {
                head.headers.remove("content-length");
            }
        }
        let tls = self.context.exchange.tls;
        Ok((convert::to_request(&head, &self.known, self.tunnel.clone(), tls)?, held))
    }
}

/// Sends a request's body. `plain`: it is a tunnel's, of which nothing is looked at.
async fn send(
    body: &mut RecvStream,
    sink: &mut Sink,
    held: Option<Bytes>,
    upload: &mut Upload,
    admitted: &Admitted,
    plain: Option<()>,
) -> Result<(), Failure> {
    if let Some(held) = held {
        sink.send(held).await.map_err(Failure::up)?;
        return sink.end().map_err(Failure::Upstream);
    }
    loop {
        let data = tokio::select! {
            data = pipe::data(body) => data.map_err(Failure::up)?,
            reason = sink.reset() => return Err(Failure::UpstreamReset(reason)),
        };
        let Some(data) = data else { break };
        let length = data.len();
        admitted.record.up(length);
        let data = if plain.is_some() { data } else { upload.push(data).map_err(Failure::Leak)? };
        sink.send(data).await.map_err(Failure::up)?;
        pipe::taken(body, length).map_err(Failure::up)?;
    }
    if plain.is_none() {
        sink.send(upload.finish().map_err(Failure::Leak)?).await.map_err(Failure::up)?;
    }
    let Some(trailers) = body.trailers().await.map_err(Failure::Guest)? else {
        return sink.end().map_err(Failure::Upstream);
    };
    let trailers = convert::fields(&trailers)?;
    check_trailers(&trailers, &admitted.bound()).map_err(Failure::Leak)?;
    sink.end_with_trailers(convert::to_fields(&trailers)?).map_err(Failure::Upstream)
}
