//! The HTTP/1 side of an origin, by hand.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use super::routes::{self, Fields, Frames, Input, Output};
use super::{BoxedStream, Peer, Received, State, Version};

pub(super) async fn serve(stream: BoxedStream, peer: Peer, state: Arc<State>) {
    let (read, write) = tokio::io::split(stream);
    let mut wire = Wire { read, buffer: BytesMut::new() };
    let mut output = Answer { write, framing: Framing::None, close: false };
    while let Ok(Some(head)) = wire.head().await {
        let Some(request) = parse(&head, &peer) else { return };
        let keep_alive = keeps_alive(&request);
        let framing = body_framing(&request);
        let websocket = request.header("upgrade").is_some_and(|v| v == "websocket");
        let continues = request.header("expect").is_some();
        let refuses = request.target.starts_with("/refuse");
        output.start(&request);
        let index = state.record(request);
        if websocket {
            let _ = tunnel(&mut wire, &mut output).await;
            break;
        }
        if continues && !refuses && output.informational(100, &vec![]).await.is_err() {
            break;
        }
        let mut input = Body { wire: &mut wire, framing, trailers: Vec::new() };
        let result = routes::answer(&state, index, &mut input, &mut output).await;
        if result.is_err() || output.close || !keep_alive {
            break;
        }
    }
    let _ = output.write.shutdown().await;
}

/// A WebSocket: the handshake without its key's digest (nobody here checks it), then echoes.
async fn tunnel(wire: &mut Wire, output: &mut Answer) -> io::Result<()> {
    let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Accept: none\r\n\r\n";
    output.write.write_all(head.as_bytes()).await?;
    let mut frames = Frames::default();
    loop {
        let reply = frames.echo(&wire.buffer.split());
        output.write.write_all(&reply).await?;
        output.write.flush().await?;
        if frames.closed || !wire.fill().await? {
            return Ok(());
        }
    }
}

fn parse(head: &[u8], peer: &Peer) -> Option<Received> {
    let text = String::from_utf8_lossy(head).into_owned();
    let mut lines = text.split("\r\n");
    let mut first = lines.next()?.splitn(3, ' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let version = match first.next()? {
        "HTTP/1.0" => Version::Http10,
        _ => Version::Http11,
    };
    Some(Received {
        connection: peer.connection,
        version,
        sni: peer.sni.clone(),
        tls: peer.tls,
        method,
        target,
        authority: None,
        headers: lines.filter_map(field).collect(),
        head: head.to_vec(),
        body: Vec::new(),
        body_length: 0,
        body_sha256: None,
        trailers: Vec::new(),
    })
}

fn field(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    Some((name.to_owned(), value.trim().to_owned()))
}

fn keeps_alive(request: &Received) -> bool {
    let close = request.header("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
    request.version == Version::Http11 && !close
}

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

fn body_framing(request: &Received) -> Framing {
    if request.header("transfer-encoding").is_some() {
        return Framing::Chunked;
    }
    let length = request.header("content-length").and_then(|v| v.parse().ok());
    length.map_or(Framing::None, Framing::Length)
}

struct Wire {
    read: ReadHalf<BoxedStream>,
    buffer: BytesMut,
}

impl Wire {
    /// Reads more; false at the end.
    async fn fill(&mut self) -> io::Result<bool> {
        self.buffer.reserve(32 * 1024);
        Ok(self.read.read_buf(&mut self.buffer).await? > 0)
    }

    /// All up to and with the empty line.
    async fn head(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                return Ok(Some(self.buffer.split_to(at + 4).freeze()));
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                let line = self.buffer.split_to(at + 2);
                return Ok(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            if !self.fill().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// At most `most` bytes, as many as are there.
    async fn some(&mut self, most: u64) -> io::Result<Bytes> {
        if self.buffer.is_empty() && !self.fill().await? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let take = usize::try_from(most).unwrap_or(usize::MAX).min(self.buffer.len());
        Ok(self.buffer.split_to(take).freeze())
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

struct Body<'a> {
    wire: &'a mut Wire,
    framing: Framing,
    trailers: Fields,
}

impl Body<'_> {
    async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        let line = self.wire.line().await?;
        let size = line.split(';').next().unwrap_or_default();
        let mut left = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
        if left == 0 {
            self.framing = Framing::None;
            loop {
                let line = self.wire.line().await?;
                let Some(field) = field(&line) else { return Ok(None) };
                self.trailers.push(field);
            }
        }
        let mut chunk = BytesMut::new();
        while left > 0 {
            let some = self.wire.some(left as u64).await?;
            left -= some.len();
            chunk.extend_from_slice(&some);
        }
        self.wire.line().await?;
        Ok(Some(chunk.freeze()))
    }
}

impl Input for Body<'_> {
    async fn data(&mut self) -> io::Result<Option<Bytes>> {
        match self.framing {
            Framing::None | Framing::Length(0) | Framing::UntilClose => Ok(None),
            Framing::Length(left) => {
                let data = self.wire.some(left).await?;
                self.framing = Framing::Length(left - data.len() as u64);
                Ok(Some(data))
            }
            Framing::Chunked => self.chunk().await,
        }
    }

    async fn trailers(&mut self) -> io::Result<Fields> {
        Ok(std::mem::take(&mut self.trailers))
    }
}

struct Answer {
    write: WriteHalf<BoxedStream>,
    framing: Framing,
    close: bool,
}

impl Answer {
    /// Framing::None from here on means: no body, whatever the head says (HEAD).
    fn start(&mut self, request: &Received) {
        self.framing = match (request.method.as_str(), request.version) {
            ("HEAD", _) => Framing::None,
            (_, Version::Http10) => Framing::UntilClose,
            _ => Framing::Chunked,
        };
    }

    async fn write_head(&mut self, status: u16, fields: &Fields) -> io::Result<()> {
        let reason = http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason());
        let mut head = format!("HTTP/1.1 {status} {}\r\n", reason.unwrap_or("Some"));
        for (name, value) in fields {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        self.write.write_all(head.as_bytes()).await?;
        self.write.flush().await
    }
}

impl Output for Answer {
    async fn informational(&mut self, status: u16, fields: &Fields) -> io::Result<()> {
        self.write_head(status, fields).await
    }

    async fn head(&mut self, status: u16, fields: &Fields, length: Option<u64>) -> io::Result<()> {
        let mut fields = fields.clone();
        let bodiless = matches!(status, 204 | 304);
        match (length, self.framing) {
            _ if bodiless => {}
            (Some(length), _) => fields.push(("Content-Length".into(), length.to_string())),
            (None, Framing::Chunked | Framing::None) if !self.close => {
                fields.push(("Transfer-Encoding".into(), "chunked".into()));
            }
            (None, _) => self.close = true,
        }
        if self.framing != Framing::None {
            self.framing = match length {
                _ if bodiless => Framing::None,
                Some(length) => Framing::Length(length),
                None if self.close => Framing::UntilClose,
                None => Framing::Chunked,
            };
        }
        if self.close {
            fields.push(("Connection".into(), "close".into()));
        }
        self.write_head(status, &fields).await
    }

    async fn data(&mut self, data: &[u8]) -> io::Result<()> {
        match self.framing {
            Framing::None => return Ok(()),
            Framing::Chunked if data.is_empty() => return Ok(()),
            Framing::Chunked => {
                self.write.write_all(format!("{:x}\r\n", data.len()).as_bytes()).await?;
                self.write.write_all(data).await?;
                self.write.write_all(b"\r\n").await?;
            }
            Framing::Length(_) | Framing::UntilClose => self.write.write_all(data).await?,
        }
        self.write.flush().await
    }

    async fn end(&mut self, trailers: &Fields) -> io::Result<()> {
        if self.framing == Framing::Chunked {
            let mut end = String::from("0\r\n");
            for (name, value) in trailers {
                end += &format!("{name}: {value}\r\n");
            }
            end += "\r\n";
            self.write.write_all(end.as_bytes()).await?;
        }
        self.write.flush().await
    }

    fn close_after(&mut self) {
        self.close = true;
    }
}
