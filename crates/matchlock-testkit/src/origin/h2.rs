//! The HTTP/2 side of an origin.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use h2::ext::Protocol;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};

use super::routes::{self, Fields, Input, Output};
use super::{BoxedStream, Peer, Received, State, Version};

pub(super) async fn serve(stream: BoxedStream, peer: Peer, state: Arc<State>) {
    let mut builder = h2::server::Builder::new();
    builder.initial_window_size(1 << 20).initial_connection_window_size(4 << 20);
    if state.extended_connect {
        builder.enable_connect_protocol();
    }
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(exchange(request, respond, peer.clone(), Arc::clone(&state)));
    }
}

async fn exchange(
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    peer: Peer,
    state: Arc<State>,
) {
    let (parts, body) = request.into_parts();
    let index = state.record(Received {
        connection: peer.connection,
        version: Version::Http2,
        sni: peer.sni,
        tls: peer.tls,
        method: parts.method.to_string(),
        target: parts.uri.path_and_query().map_or_else(String::new, ToString::to_string),
        authority: parts.uri.authority().map(ToString::to_string),
        headers: fields_of(&parts.headers),
        head: Vec::new(),
        body: Vec::new(),
        body_length: 0,
        body_sha256: None,
        trailers: Vec::new(),
    });
    let websocket = parts.extensions.get::<Protocol>().is_some_and(|p| p.as_str() == "websocket");
    let mut input = Body(body);
    let mut output = Answer { respond, stream: None };
    let result = if websocket {
        tunnel(&mut input, &mut output).await
    } else {
        routes::answer(&state, index, &mut input, &mut output).await
    };
    if result.is_err() {
        output.reset();
    }
}

/// A WebSocket over a stream (RFC 8441): echoes the bytes of its frames, unmasked.
async fn tunnel(input: &mut Body, output: &mut Answer) -> io::Result<()> {
    output.head(200, &vec![], None).await?;
    let mut frames = routes::Frames::default();
    while let Some(data) = input.data().await? {
        let reply = frames.echo(&data);
        if !reply.is_empty() {
            output.data(&reply).await?;
        }
    }
    output.end(&vec![]).await
}

fn fields_of(headers: &HeaderMap) -> Fields {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

fn map_of(fields: &Fields) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes()).expect("a name");
        map.append(name, HeaderValue::from_str(value).expect("a value"));
    }
    map
}

struct Body(RecvStream);

impl Input for Body {
    async fn data(&mut self) -> io::Result<Option<Bytes>> {
        let Some(data) = self.0.data().await.transpose().map_err(io::Error::other)? else {
            return Ok(None);
        };
        self.0.flow_control().release_capacity(data.len()).map_err(io::Error::other)?;
        Ok(Some(data))
    }

    async fn trailers(&mut self) -> io::Result<Fields> {
        let trailers = self.0.trailers().await.map_err(io::Error::other)?;
        Ok(trailers.as_ref().map_or_else(Vec::new, fields_of))
    }
}

struct Answer {
    respond: SendResponse<Bytes>,
    stream: Option<SendStream<Bytes>>,
}

impl Answer {
    fn reset(&mut self) {
        match &mut self.stream {
            Some(stream) => stream.send_reset(Reason::INTERNAL_ERROR),
            None => self.respond.send_reset(Reason::INTERNAL_ERROR),
        }
    }

    fn stream(&mut self) -> io::Result<&mut SendStream<Bytes>> {
        self.stream.as_mut().ok_or_else(|| io::Error::other("no head"))
    }
}

impl Output for Answer {
    async fn informational(&mut self, status: u16, fields: &Fields) -> io::Result<()> {
        let mut response = Response::new(());
        *response.status_mut() = http::StatusCode::from_u16(status).map_err(io::Error::other)?;
        *response.headers_mut() = map_of(fields);
        self.respond.send_informational(response).map_err(io::Error::other)
    }

    async fn head(&mut self, status: u16, fields: &Fields, length: Option<u64>) -> io::Result<()> {
        let mut response = Response::new(());
        *response.status_mut() = http::StatusCode::from_u16(status).map_err(io::Error::other)?;
        *response.headers_mut() = map_of(fields);
        response.headers_mut().remove("connection");
        if let Some(length) = length {
            response.headers_mut().insert("content-length", length.into());
        }
        self.stream = Some(self.respond.send_response(response, false).map_err(io::Error::other)?);
        Ok(())
    }

    async fn data(&mut self, mut data: &[u8]) -> io::Result<()> {
        let stream = self.stream()?;
        while !data.is_empty() {
            stream.reserve_capacity(data.len());
            let ready = poll_fn(|cx| stream.poll_capacity(cx)).await;
            let ready = ready.ok_or_else(|| io::Error::other("stream closed"))?;
            let (now, later) = data.split_at(ready.map_err(io::Error::other)?.min(data.len()));
            stream.send_data(Bytes::copy_from_slice(now), false).map_err(io::Error::other)?;
            data = later;
        }
        Ok(())
    }

    async fn end(&mut self, trailers: &Fields) -> io::Result<()> {
        let stream = self.stream()?;
        if trailers.is_empty() {
            stream.send_data(Bytes::new(), true).map_err(io::Error::other)
        } else {
            stream.send_trailers(map_of(trailers)).map_err(io::Error::other)
        }
    }

    fn close_after(&mut self) {}
}
