//! A tunnel through a proxy: `CONNECT` (RFC 9110 9.3.6).

use std::io;

use matchlock_policy::Endpoint;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use super::proxy::Authorization;

/// The longest head of an answer, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// What is looked at in one go, in bytes.
const CHUNK: usize = 1024;

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TunnelError {
    #[error("cannot reach the proxy")]
    Unreachable(#[source] io::Error),
    #[error("the proxy did not answer in time")]
    Timeout,
    #[error("the proxy closed the connection")]
    Closed(#[source] io::Error),
    #[error("the proxy did not answer in HTTP")]
    NotHttp,
    #[error("the proxy does not accept the credentials of its URL (status 407)")]
    Credentials,
    #[error("the proxy refused the tunnel (status {0})")]
    Refused(u16),
}

/// Asks the proxy at the other end of `stream` for a tunnel. Afterwards the stream is the
/// tunnel: nothing behind the head of the answer has been read.
pub(crate) async fn open(
    stream: &mut TcpStream,
    target: &Endpoint,
    authorization: Option<&Authorization>,
) -> Result<(), TunnelError> {
    let mut request = Zeroizing::new(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"));
    if let Some(authorization) = authorization {
        request.push_str("Proxy-Authorization: ");
        request.push_str(authorization.value());
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await.map_err(TunnelError::Closed)?;
    match status(&read_head(stream).await?) {
        Some(200..=299) => Ok(()),
        Some(407) => Err(TunnelError::Credentials),
        Some(status) => Err(TunnelError::Refused(status)),
        None => Err(TunnelError::NotHttp),
    }
}

/// Reads up to the empty line and no byte more: what follows may be the server's first words.
async fn read_head(stream: &mut TcpStream) -> Result<Vec<u8>, TunnelError> {
    let mut head = Vec::new();
    let mut peeked = [0; CHUNK];
    while head.len() < MAX_HEAD {
        let count = stream.peek(&mut peeked).await.map_err(TunnelError::Closed)?;
        if count == 0 {
            return Err(TunnelError::Closed(io::ErrorKind::UnexpectedEof.into()));
        }
        let before = head.len();
        head.extend_from_slice(&peeked[..count]);
        let end = end_of_head(&head, before.saturating_sub(3));
        head.truncate(end.unwrap_or(head.len()));
        let taken = head.len() - before;
        stream.read_exact(&mut peeked[..taken]).await.map_err(TunnelError::Closed)?;
        if end.is_some() {
            return Ok(head);
        }
        // Anything else than HTTP need not be read to the limit.
        if !is_http(&head) {
            break;
        }
    }
    Err(TunnelError::NotHttp)
}

fn end_of_head(head: &[u8], from: usize) -> Option<usize> {
    head[from..].windows(4).position(|four| four == b"\r\n\r\n").map(|at| from + at + 4)
}

fn is_http(head: &[u8]) -> bool {
    let start = b"HTTP/1.";
    let count = head.len().min(start.len());
    head[..count] == start[..count]
}

/// RFC 9112 4: `HTTP/1.1 200 reason`.
fn status(head: &[u8]) -> Option<u16> {
    let rest = head.strip_prefix(b"HTTP/1.")?;
    let [b'0' | b'1', b' ', a, b, c, b' ' | b'\r', ..] = rest else { return None };
    let digits = [*a, *b, *c];
    digits.iter().all(u8::is_ascii_digit).then_some(())?;
    std::str::from_utf8(&digits).ok()?.parse().ok()
}
