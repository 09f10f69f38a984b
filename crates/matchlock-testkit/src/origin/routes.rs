//! What an origin answers, whatever the version.

use std::io;

use bytes::Bytes;
use serde_json::{Value, json};

use super::encode::{Tally, encode, pattern};
use super::{KEPT_BODY, Received, State, Version};

pub(super) type Fields = Vec<(String, String)>;

/// A request body.
pub(super) trait Input {
    async fn data(&mut self) -> io::Result<Option<Bytes>>;
    /// After the end of the data.
    async fn trailers(&mut self) -> io::Result<Fields>;
}

/// A response.
pub(super) trait Output {
    async fn informational(&mut self, status: u16, fields: &Fields) -> io::Result<()>;
    async fn head(&mut self, status: u16, fields: &Fields, length: Option<u64>) -> io::Result<()>;
    async fn data(&mut self, data: &[u8]) -> io::Result<()>;
    async fn end(&mut self, trailers: &Fields) -> io::Result<()>;
    /// The connection is not kept after this response; without a length, that ends its body.
    fn close_after(&mut self);
}

/// Answers request `index` of `state`.
pub(super) async fn answer(
    state: &State,
    index: usize,
    input: &mut impl Input,
    output: &mut impl Output,
) -> io::Result<()> {
    let request = state.received()[index].clone();
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let mut segments = path.trim_start_matches('/').splitn(2, '/');
    let route = segments.next().unwrap_or_default().to_owned();
    let argument = segments.next().and_then(|a| a.parse::<u64>().ok()).unwrap_or(0);
    let n = parameter(query, "n").and_then(|n| n.parse().ok()).unwrap_or(3);

    match route.as_str() {
        "refuse" => {
            output.close_after();
            return whole(output, 413, &[("content-type", "text/plain")], b"too much").await;
        }
        "discard" => {
            while input.data().await?.is_some() {}
            return whole(output, 200, &[("content-type", "text/plain")], b"gone").await;
        }
        "abort" => return Err(io::ErrorKind::ConnectionAborted.into()),
        "reflect" | "grpc" => return reflect(state, index, &request, input, output).await,
        _ => read_body(state, index, input).await?,
    }
    let request = state.received()[index].clone();
    let text = [("content-type", "text/plain")];
    match route.as_str() {
        "bytes" => bytes(output, argument).await,
        "upload" => {
            let body = json!({"length": request.body_length, "sha256": request.body_sha256});
            whole(output, 200, &[("content-type", "application/json")], &to_vec(&body)).await
        }
        "sse" => sse(state, output, n, parameter(query, "wait").is_some()).await,
        "chunked" | "trailers" => {
            let trailers = fields(&[("X-Checksum", "abc123"), ("X-Second", "two")]);
            output.head(200, &fields(&[("content-type", "text/plain")]), None).await?;
            for i in 0..n {
                output.data(format!("chunk {i}\n").as_bytes()).await?;
            }
            output.end(if route == "trailers" { &trailers } else { const { &Vec::new() } }).await
        }
        "status" => {
            let status = u16::try_from(argument).unwrap_or(500);
            let body: &[u8] = if matches!(status, 204 | 304) { b"" } else { b"status" };
            whole(output, status, &text, body).await
        }
        "early-hints" => {
            let link = fields(&[("Link", "</style.css>; rel=preload")]);
            output.informational(103, &link).await?;
            whole(output, 200, &text, b"after the hints").await
        }
        "close" => {
            output.close_after();
            whole(output, 200, &text, b"bye").await
        }
        "until-close" => {
            output.close_after();
            output.head(200, &fields(&text), None).await?;
            output.data(b"until the end").await?;
            output.end(&vec![]).await
        }
        "stale" => {
            whole(output, 200, &text, b"fresh").await?;
            Err(io::ErrorKind::ConnectionAborted.into())
        }
        "truncate" => {
            output.head(200, &fields(&text), Some(100)).await?;
            output.data(b"0123456789").await?;
            Err(io::ErrorKind::ConnectionAborted.into())
        }
        "slow" => {
            output.head(200, &fields(&text), None).await?;
            state.pass().await;
            output.data(b"at last").await?;
            output.end(&vec![]).await
        }
        coding @ ("gzip" | "deflate" | "br" | "zstd") => {
            let body = encode(coding, &to_vec(&description(&request)));
            let of = [("content-type", "application/json"), ("content-encoding", coding)];
            whole(output, 200, &of, &body).await
        }
        _ => echo(output, &request).await,
    }
}

/// WebSocket frames (RFC 6455): echoes data frames, answers pings and the close.
#[derive(Debug, Default)]
pub(super) struct Frames {
    pending: Vec<u8>,
    pub(super) closed: bool,
}

impl Frames {
    /// Takes bytes of the client and gives those to send.
    pub(super) fn echo(&mut self, data: &[u8]) -> Vec<u8> {
        self.pending.extend_from_slice(data);
        let mut out = Vec::new();
        while let Some((opcode, payload, used)) = self.frame() {
            self.pending.drain(..used);
            self.closed |= opcode == 8;
            let reply = if opcode == 9 { 10 } else { opcode };
            out.push(0x80 | reply);
            match u16::try_from(payload.len()) {
                Ok(length @ 0..126) => out.push(length as u8),
                Ok(length) => {
                    out.push(126);
                    out.extend(length.to_be_bytes());
                }
                Err(_) => {
                    out.push(127);
                    out.extend((payload.len() as u64).to_be_bytes());
                }
            }
            out.extend(payload);
        }
        out
    }

    /// Opcode, unmasked payload and size of the first frame, if it is complete.
    fn frame(&self) -> Option<(u8, Vec<u8>, usize)> {
        let bytes = &self.pending;
        let (opcode, short) = (bytes.first()? & 15, bytes.get(1)? & 127);
        let (length, at) = match short {
            126 => (u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
            127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?), 10),
            short => (u64::from(short), 2),
        };
        let masked = bytes[1] & 128 != 0;
        let start = if masked { at + 4 } else { at };
        let end = start + usize::try_from(length).ok()?;
        let mut payload = bytes.get(start..end)?.to_vec();
        if masked {
            let mask = &bytes[at..start];
            payload.iter_mut().enumerate().for_each(|(i, byte)| *byte ^= mask[i % 4]);
        }
        Some((opcode, payload, end))
    }
}

async fn read_body(state: &State, index: usize, input: &mut impl Input) -> io::Result<()> {
    let mut tally = Tally::default();
    while let Some(data) = input.data().await? {
        keep(state, index, &mut tally, &data);
    }
    finish(state, index, tally, input.trailers().await?);
    Ok(())
}

fn keep(state: &State, index: usize, tally: &mut Tally, data: &[u8]) {
    tally.add(data);
    state.update(index, |request| {
        let room = KEPT_BODY.saturating_sub(request.body.len()).min(data.len());
        request.body.extend_from_slice(&data[..room]);
        request.body_length = tally.length;
    });
}

fn finish(state: &State, index: usize, tally: Tally, trailers: Fields) {
    let digest = tally.hex();
    state.update(index, |request| {
        request.body_sha256 = Some(digest);
        request.trailers = trailers;
    });
}

async fn reflect(
    state: &State,
    index: usize,
    request: &Received,
    input: &mut impl Input,
    output: &mut impl Output,
) -> io::Result<()> {
    let grpc = request.target.starts_with("/grpc");
    let kind = if grpc { "application/grpc" } else { "application/octet-stream" };
    output.head(200, &fields(&[("content-type", kind)]), None).await?;
    let mut tally = Tally::default();
    while let Some(data) = input.data().await? {
        keep(state, index, &mut tally, &data);
        output.data(&data).await?;
    }
    let mut trailers = input.trailers().await?;
    finish(state, index, tally, trailers.clone());
    if grpc {
        trailers = fields(&[("grpc-status", "0"), ("grpc-message", "fine")]);
    }
    output.end(&trailers).await
}

async fn bytes(output: &mut impl Output, length: u64) -> io::Result<()> {
    output
        .head(200, &fields(&[("content-type", "application/octet-stream")]), Some(length))
        .await?;
    // A multiple of the pattern's period, so that one block serves for all offsets.
    let block = pattern(0, 251 * 261);
    let mut left = length;
    while left > 0 {
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
        output.data(&block[..take]).await?;
        left -= take as u64;
    }
    output.end(&vec![]).await
}

async fn sse(state: &State, output: &mut impl Output, n: u64, wait: bool) -> io::Result<()> {
    output.head(200, &fields(&[("content-type", "text/event-stream")]), None).await?;
    for i in 0..n {
        if wait {
            state.pass().await;
        }
        let event = format!("event: tick\ndata: {{\"id\":{i},\"text\":\"foo\"}}\n\n");
        output.data(event.as_bytes()).await?;
    }
    output.end(&vec![]).await
}

async fn echo(output: &mut impl Output, request: &Received) -> io::Result<()> {
    let mut of = vec![("content-type", "application/json")];
    if let Some(value) = request.header("x-reflect") {
        of.push(("x-reflected", value));
    }
    whole(output, 200, &of, &to_vec(&description(request))).await
}

fn description(request: &Received) -> Value {
    json!({
        "method": request.method,
        "target": request.target,
        "authority": request.authority,
        "version": match request.version {
            Version::Http10 => "1.0",
            Version::Http11 => "1.1",
            Version::Http2 => "2",
        },
        "headers": request.headers,
        "body": String::from_utf8_lossy(&request.body),
        "body_length": request.body_length,
        "body_sha256": request.body_sha256,
        "trailers": request.trailers,
    })
}

async fn whole(
    output: &mut impl Output,
    status: u16,
    of: &[(&str, &str)],
    body: &[u8],
) -> io::Result<()> {
    output.head(status, &fields(of), Some(body.len() as u64)).await?;
    if !body.is_empty() {
        output.data(body).await?;
    }
    output.end(&vec![]).await
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })
}

fn fields(of: &[(&str, &str)]) -> Fields {
    of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn to_vec(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("JSON")
}
