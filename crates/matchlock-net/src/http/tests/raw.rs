//! Servers that say what no web server says.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// A frame (RFC 9113 section 4.1).
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A literal field without indexing (RFC 7541 section 6.2.2), up to 126 bytes each.
pub(super) fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [vec![0], text(name), text(value)].concat()
}

/// Fields of a whole head.
pub(super) fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| field(name, value)).collect()
}

/// A server of HTTP/1 that answers a head with these bytes and waits for the end.
pub(super) fn h1(answer: Vec<u8>) -> DuplexStream {
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move {
        let mut read = Vec::new();
        while !read.windows(4).any(|four| four == b"\r\n\r\n") {
            if far.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return;
            }
        }
        if far.write_all(&answer).await.is_ok() {
            let _ = far.shutdown().await;
        }
        let _ = far.read_to_end(&mut read).await;
    });
    near
}

/// A server of HTTP/2 that answers the first request with these frames, as often as is told, and
/// then reads to the end.
pub(super) fn h2(answer: Vec<u8>, times: usize) -> DuplexStream {
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move {
        far.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
        far.read_exact(&mut [0; 24]).await?;
        loop {
            let mut head = [0; 9];
            far.read_exact(&mut head).await?;
            let [a, b, c, kind, ..] = head;
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            far.read_exact(&mut vec![0; length]).await?;
            if kind == HEADERS {
                break;
            }
        }
        let (mut read, mut write) = tokio::io::split(far);
        let sending = async {
            for _ in 0..times {
                write.write_all(&answer).await?;
            }
            Ok(())
        };
        let mut nowhere = tokio::io::sink();
        let (sent, _) = tokio::join!(sending, tokio::io::copy(&mut read, &mut nowhere));
        sent as std::io::Result<()>
    });
    near
}
