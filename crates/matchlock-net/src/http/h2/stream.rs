//! One request and its response.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::ext::Protocol;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use matchlock_intercept::h1::{self, Framing, ResponseHead};
use matchlock_intercept::headers::{HeaderName, HeaderValue, Headers};

use super::convert::{self, MalformedHead};
use super::pipe::{self, PipeError};
use super::{Context, reason};
use crate::audit::AuditLost;
use crate::http::download::{Download, DownloadError};
use crate::http::judge::{self, Admitted, Verdict, chain};
use crate::http::local::Local;
use crate::http::rewrite::{self, Leak};
use crate::http::upload::Upload;
use crate::http::{HELD_BODY, answer};

/// Why an exchange failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the audit trail does not take events")]
    Audit(#[from] AuditLost),
    #[error("the upstream's response is malformed")]
    Malformed(#[from] MalformedHead),
    #[error("the request's body carries the placeholder of a secret for other hosts")]
    Leak(Leak),
    #[error("the response cannot be searched for secrets")]
    Hidden(#[from] DownloadError),
    #[error("the upstream ended the stream")]
    Upstream(#[source] h2::Error),
    #[error("the guest ended the stream")]
    Guest(#[source] h2::Error),
    #[error("the guest reset the stream: {0}")]
    GuestReset(Reason),
    #[error("the upstream reset the stream: {0}")]
    UpstreamReset(Reason),
}

impl Failure {
    fn up(error: PipeError) -> Self {
        match error {
            PipeError::Source(error) => Self::Guest(error),
            PipeError::Sink(error) => Self::Upstream(error),
            PipeError::SinkReset(reason) => Self::UpstreamReset(reason),
        }
    }

    fn down(error: PipeError) -> Self {
        match error {
            PipeError::Source(error) => Self::Upstream(error),
            PipeError::Sink(error) => Self::Guest(error),
            PipeError::SinkReset(reason) => Self::GuestReset(reason),
        }
    }

    /// What the other side is told.
    fn reason(&self) -> Reason {
        match self {
            Self::Upstream(error) | Self::Guest(error) => reason(error),
            Self::GuestReset(reason) | Self::UpstreamReset(reason) => *reason,
            Self::Leak(_) => Reason::CANCEL,
            Self::Audit(_) | Self::Malformed(_) | Self::Hidden(_) => Reason::INTERNAL_ERROR,
        }
    }

    /// What the guest is told in the upstream's place, if it can still be told something.
    fn local(&self) -> Option<Local> {
        match self {
            Self::Leak(_) => Some(Local::BLOCKED),
            Self::Hidden(_) => Some(Local::HIDDEN),
            Self::Malformed(_) => Some(Local::BAD_ANSWER),
            // A reset says more than a status would.
            Self::Upstream(error) if !error.is_reset() && !error.is_go_away() => {
                Some(Local::UNREACHABLE)
            }
            _ => None,
        }
    }
}

/// The guest's end of a stream.
struct Answer {
    respond: SendResponse<Bytes>,
    /// Once the head of the response is sent.
    body: Option<SendStream<Bytes>>,
}

/// Serves one stream.
pub(super) async fn serve(
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    upstream: SendRequest<Bytes>,
    context: Arc<Context>,
) {
    let (parts, body) = request.into_parts();
    let mut answer = Answer { respond, body: None };
    let exchange = &context.exchange;
    let head = match convert::request_head(&parts, exchange.tls) {
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
    let tunnel = parts.extensions.get::<Protocol>().cloned();
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
            let _ = body.send_data(Bytes::from_static(local.body.as_bytes()), true);
        }
    }

    fn reset(&mut self, reason: Reason) {
        match &mut self.body {
            Some(body) => body.send_reset(reason),
            None => self.respond.send_reset(reason),
        }
    }

    /// Waits until the guest takes the stream away.
    async fn cancelled(&mut self) -> Failure {
        let reset = poll_fn(|cx| match &mut self.body {
            Some(body) => body.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        });
        match reset.await {
            Ok(reason) => Failure::GuestReset(reason),
            Err(error) => Failure::Guest(error),
        }
    }
}

struct Stream<'a> {
    context: &'a Context,
    admitted: &'a Admitted,
    answer: Answer,
    tunnel: Option<Protocol>,
    /// The fields that the guest sent.
    known: Headers,
}

impl Stream<'_> {
    async fn run(mut self, body: RecvStream, upstream: SendRequest<Bytes>) {
        let Err(failure) = self.exchange(body, upstream).await else { return };
        let record = &self.admitted.record;
        record.failed(chain(&failure));
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
        upstream: SendRequest<Bytes>,
    ) -> Result<(), Failure> {
        let mut upload = Upload::new(&self.admitted.bound());
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
        upstream: SendRequest<Bytes>,
        head: Request<()>,
        ends: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), Failure> {
        let opened = tokio::select! {
            ready = upstream.ready() => ready.and_then(|mut ready| ready.send_request(head, ends)),
            failure = self.answer.cancelled() => return Err(failure),
        };
        opened.map_err(|_error| {
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
            if length <= HELD_BODY && !head.headers.contains("expect") {
                let mut whole = BytesMut::new();
                while let Some(data) = pipe::data(body).await.map_err(Failure::up)? {
                    self.admitted.record.up(data.len());
                    pipe::taken(body, data.len()).map_err(Failure::up)?;
                    whole.extend_from_slice(&upload.push(data).map_err(Failure::Leak)?);
                }
                whole.extend_from_slice(&upload.finish());
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

    /// Passes the response on, and those before it.
    async fn receive(&mut self, mut response: ResponseFuture) -> Result<(), Failure> {
        let (mut head, mut body) = loop {
            let next = tokio::select! {
                next = next_head(&mut response) => next.map_err(Failure::Upstream)?,
                failure = self.answer.cancelled() => return Err(failure),
            };
            match next {
                Next::Informational(interim) => self.inform(&interim)?,
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
        let has_body = !body.is_end_stream();
        let download = answer::after(&self.context.exchange, admitted, &mut head, has_body).await?;
        admitted.record.status(head.status.code());
        if !has_body {
            return self.begin(&head, true).map(drop);
        }
        if self.tunnel.is_some() {
            self.begin(&head, false)?;
            return self.relay(&mut body, Download::default()).await;
        }
        self.pass(head, body, download).await
    }

    fn inform(&mut self, interim: &Response<()>) -> Result<(), Failure> {
        let mut head = convert::response_head(interim)?;
        h1::forwardable(&mut head.headers, false);
        rewrite::scrub_headers(&mut head.headers, &self.admitted.bound());
        let response = convert::to_response(&head)?;
        self.answer.respond.send_informational(response).map_err(Failure::Guest)
    }

    fn begin(&mut self, head: &ResponseHead, ends: bool) -> Result<(), Failure> {
        let response = convert::to_response(head)?;
        let body = self.answer.respond.send_response(response, ends).map_err(Failure::Guest)?;
        self.answer.body = Some(body);
        Ok(())
    }

    /// Passes on a response that has a body.
    async fn pass(
        &mut self,
        mut head: ResponseHead,
        mut body: RecvStream,
        mut download: Download,
    ) -> Result<(), Failure> {
        if let Some(instead) = download.instead() {
            return self.whole(head, instead).await;
        }
        if download.changes() {
            let length = head.headers.get("content-length").and_then(HeaderValue::to_str);
            let length = length.and_then(|length| length.parse::<usize>().ok());
            head.headers.remove("content-length");
            if length.is_some_and(|length| length <= HELD_BODY) && !download.is_live() {
                let mut held = BytesMut::new();
                while let Some(data) = pipe::data(&mut body).await.map_err(Failure::down)? {
                    pipe::taken(&mut body, data.len()).map_err(Failure::down)?;
                    held.extend_from_slice(&download.push(data)?);
                }
                held.extend_from_slice(&download.finish()?);
                return self.whole(head, held.freeze()).await;
            }
        }
        self.begin(&head, false)?;
        self.relay(&mut body, download).await
    }

    /// Sends a body that is known.
    async fn whole(&mut self, mut head: ResponseHead, body: Bytes) -> Result<(), Failure> {
        let length = HeaderValue::from(body.len() as u64);
        head.headers.set(HeaderName::from_static("content-length"), length);
        self.admitted.record.down(body.len());
        self.begin(&head, body.is_empty())?;
        if body.is_empty() {
            return Ok(());
        }
        let stream = self.answer.body.as_mut().expect("it has begun");
        pipe::send(stream, body).await.map_err(Failure::down)?;
        stream.send_data(Bytes::new(), true).map_err(Failure::Guest)
    }

    /// Passes data and trailers on as they come.
    async fn relay(
        &mut self,
        body: &mut RecvStream,
        mut download: Download,
    ) -> Result<(), Failure> {
        let admitted = self.admitted;
        let stream = self.answer.body.as_mut().expect("it has begun");
        loop {
            let data = tokio::select! {
                data = pipe::data(body) => data.map_err(Failure::down)?,
                reason = pipe::reset(stream) => return Err(Failure::GuestReset(reason)),
            };
            let Some(data) = data else { break };
            let length = data.len();
            let out = download.push(data)?;
            admitted.record.down(out.len());
            pipe::send(stream, out).await.map_err(Failure::down)?;
            pipe::taken(body, length).map_err(Failure::down)?;
        }
        let rest = download.finish()?;
        admitted.record.down(rest.len());
        pipe::send(stream, rest).await.map_err(Failure::down)?;
        match body.trailers().await.map_err(Failure::Upstream)? {
            None => stream.send_data(Bytes::new(), true).map_err(Failure::Guest),
            Some(trailers) => {
                let mut trailers = convert::fields(&trailers)?;
                rewrite::scrub_headers(&mut trailers, &admitted.bound());
                let trailers = convert::to_fields(&trailers)?;
                stream.send_trailers(trailers).map_err(Failure::Guest)
            }
        }
    }
}

impl Failure {
    /// What the upstream is told.
    fn upstream_reason(&self) -> Reason {
        match self {
            Self::Guest(_) | Self::GuestReset(_) => match self.reason() {
                Reason::NO_ERROR => Reason::CANCEL,
                reason => reason,
            },
            _ => Reason::CANCEL,
        }
    }
}

enum Next {
    Informational(Response<()>),
    Final(Response<RecvStream>),
}

async fn next_head(response: &mut ResponseFuture) -> Result<Next, h2::Error> {
    poll_fn(|cx| {
        use std::task::Poll;
        match response.poll_informational(cx) {
            Poll::Ready(Some(Ok(interim))) => return Poll::Ready(Ok(Next::Informational(interim))),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
            Poll::Ready(None) | Poll::Pending => {}
        }
        std::pin::Pin::new(&mut *response).poll(cx).map_ok(Next::Final)
    })
    .await
}

/// Sends a request's body. `plain`: it is a tunnel's, of which nothing is looked at.
async fn send(
    body: &mut RecvStream,
    sink: &mut SendStream<Bytes>,
    held: Option<Bytes>,
    upload: &mut Upload,
    admitted: &Admitted,
    plain: Option<()>,
) -> Result<(), Failure> {
    if let Some(held) = held {
        pipe::send(sink, held).await.map_err(Failure::up)?;
        return sink.send_data(Bytes::new(), true).map_err(Failure::Upstream);
    }
    loop {
        let data = tokio::select! {
            data = pipe::data(body) => data.map_err(Failure::up)?,
            reason = pipe::reset(sink) => return Err(Failure::UpstreamReset(reason)),
        };
        let Some(data) = data else { break };
        let length = data.len();
        admitted.record.up(length);
        let data = if plain.is_some() { data } else { upload.push(data).map_err(Failure::Leak)? };
        pipe::send(sink, data).await.map_err(Failure::up)?;
        pipe::taken(body, length).map_err(Failure::up)?;
    }
    if plain.is_none() {
        pipe::send(sink, upload.finish()).await.map_err(Failure::up)?;
    }
    let Some(trailers) = body.trailers().await.map_err(Failure::Guest)? else {
        return sink.send_data(Bytes::new(), true).map_err(Failure::Upstream);
    };
    let trailers = convert::fields(&trailers)?;
    upload.trailers(&trailers).map_err(Failure::Leak)?;
    sink.send_trailers(convert::to_fields(&trailers)?).map_err(Failure::Upstream)
}
