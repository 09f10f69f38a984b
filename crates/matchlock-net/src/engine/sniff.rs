//! What a flow speaks, told by its first bytes.
//!
//! A guest must not get HTTP past us by writing it oddly: whatever some lenient server could take
//! for an HTTP request counts as one, and the strict parser refuses it then. So nothing here is
//! decided by a clock either.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

/// A first line of more than this is no request line of any server.
const LONGEST_LINE: usize = 16 * 1024;
/// The longest method that is looked for.
const LONGEST_METHOD: usize = 32;
/// RFC 9113, section 3.4.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";

/// What a flow speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speech {
    /// The guest began with a TLS handshake record.
    Tls,
    /// HTTP/1, or an attempt at it.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// Something else, or the server speaks first.
    Other,
}

/// What a flow speaks, and what was read to find out.
#[derive(Debug)]
pub(crate) struct Sniffed {
    pub(crate) speech: Speech,
    pub(crate) from_guest: BytesMut,
    pub(crate) from_upstream: BytesMut,
}

/// Reads from both sides until it is clear what the flow speaks. The side that speaks first decides.
pub(crate) async fn sniff(
    guest: &mut (impl AsyncRead + Unpin),
    upstream: &mut (impl AsyncRead + Unpin),
) -> io::Result<Sniffed> {
    let mut from_guest = BytesMut::new();
    let mut from_upstream = BytesMut::new();
    let mut upstream_open = true;
    loop {
        let decided = tokio::select! {
            biased;
            read = guest.read_buf(&mut from_guest) => match read? {
                0 => Some(at_end(&from_guest)),
                _ => of_guest(&from_guest),
            },
            read = upstream.read_buf(&mut from_upstream), if upstream_open => {
                upstream_open = read? != 0;
                of_server(&from_upstream, upstream_open)
            },
        };
        if let Some(speech) = decided {
            return Ok(Sniffed { speech, from_guest, from_upstream });
        }
    }
}

/// What the guest's first bytes are; none when more are needed.
fn of_guest(bytes: &[u8]) -> Option<Speech> {
    // A handshake record of any TLS (RFC 8446, section 5.1).
    match bytes {
        [0x16] => return None,
        [0x16, 0x03, ..] => return Some(Speech::Tls),
        _ => {}
    }
    if bytes.starts_with(HTTP2_PREFACE) {
        return Some(Speech::Http2);
    }
    if HTTP2_PREFACE.starts_with(bytes) {
        return None;
    }
    of_line(bytes)
}

/// Whether the first line is a request line, for the most lenient reader of it.
fn of_line(bytes: &[u8]) -> Option<Speech> {
    let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n' | b' ' | b'\t'));
    let start = start.unwrap_or(bytes.len());
    if start >= LONGEST_LINE {
        return Some(Speech::Http1);
    }
    let line = &bytes[start..];
    let end = line.iter().position(|&byte| !is_token(byte)).unwrap_or(line.len());
    if end > LONGEST_METHOD {
        return Some(Speech::Other);
    }
    let (method, rest) = line.split_at(end);
    if rest.is_empty() {
        return None;
    }
    let spaced = matches!(rest[0], b' ' | b'\t' | 0x0b | 0x0c);
    if method.is_empty() || !spaced {
        return Some(Speech::Other);
    }
    let target = until_end(rest);
    if is_known_method(method) || mentions_http(target) {
        return Some(Speech::Http1);
    }
    (target.len() < rest.len() || rest.len() >= LONGEST_LINE).then_some(Speech::Other)
}

/// What the server's first bytes are, while the guest has not decided; none to go on waiting.
fn of_server(bytes: &[u8], open: bool) -> Option<Speech> {
    // A server of HTTP/2 may send its SETTINGS before it has seen the preface (RFC 9113, section
    // 3.4), one of HTTP/1 that it is tired of waiting: neither makes the guest's bytes harmless.
    const SETTINGS: &[u8] = &[4, 0, 0, 0, 0, 0];
    let http1 = bytes.starts_with(b"HTTP/") || b"HTTP/".starts_with(bytes);
    let http2 = match bytes.get(3..) {
        Some(frame) if bytes[0] == 0 => frame.starts_with(SETTINGS) || SETTINGS.starts_with(frame),
        _ => bytes.len() <= 3 && bytes.first() == Some(&0),
    };
    match (http1 || http2, open) {
        (true, true) if bytes.len() < LONGEST_LINE => None,
        _ => Some(Speech::Other),
    }
}

/// The guest is done writing and nothing was decided: an unfinished line is an unfinished request.
fn at_end(bytes: &[u8]) -> Speech {
    match of_guest(bytes) {
        Some(speech) => speech,
        None if bytes.iter().any(|byte| matches!(byte, b' ' | b'\t')) => Speech::Http1,
        None => Speech::Other,
    }
}

/// What of a line comes before its end. No server reads a line over a NUL, or one that is too long.
fn until_end(line: &[u8]) -> &[u8] {
    let line = &line[..line.len().min(LONGEST_LINE)];
    line.split(|byte| matches!(byte, b'\n' | 0)).next().unwrap_or(line)
}

fn mentions_http(line: &[u8]) -> bool {
    line.windows(5).any(|window| window.eq_ignore_ascii_case(b"HTTP/"))
}

fn is_known_method(token: &[u8]) -> bool {
    const METHODS: &[&[u8]] = &[
        b"GET",
        b"HEAD",
        b"POST",
        b"PUT",
        b"DELETE",
        b"CONNECT",
        b"OPTIONS",
        b"TRACE",
        b"PATCH",
        b"QUERY",
        b"PROPFIND",
        b"REPORT",
        b"SEARCH",
    ];
    METHODS.iter().any(|method| method.eq_ignore_ascii_case(token))
}

/// RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Any bytes of a guest: the answer must not depend on how they come, and must come.
#[cfg(any(test, feature = "fuzzing"))]
pub fn speech(bytes: &[u8]) {
    let whole = of_guest(bytes);
    let stepwise = (1..=bytes.len()).find_map(|end| of_guest(&bytes[..end]));
    assert_eq!(whole, stepwise, "{:?}", String::from_utf8_lossy(bytes));
    assert!(whole.is_some() || bytes.len() < 3 * LONGEST_LINE);
    let _ = (of_server(bytes, true), at_end(bytes));
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// What the bytes are taken for, whole and byte by byte.
    fn guess(bytes: &[u8]) -> Option<Speech> {
        speech(bytes);
        of_guest(bytes)
    }

    #[test]
    fn what_could_be_a_request_is_one() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"get / http/1.1\r\n",
            b"\r\n\r\nGET / HTTP/1.1\r\n",
            b" \tGET / HTTP/1.1\r\n",
            b"GET\t/\tHTTP/1.1\r\n",
            b"GET\x0b/\x0cHTTP/1.1\r\n",
            b"GET /\x00 HTTP/1.1\r\n",
            b"BREW /pot HTTP/1.1\r\n",
            b"BREW /pot http/1.1\n",
            b"GET /\n",
        ] {
            assert_eq!(guess(bytes), Some(Speech::Http1), "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn other_protocols_are_recognised_as_such() {
        for bytes in [
            &b"SSH-2.0-OpenSSH_10.0\r\n"[..],
            b"*1\r\n$4\r\nPING\r\n",
            b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
            b"NICK someone\r\n",
            b"EHLO mail.example.com\r\n",
            b"003egit-upload-pack /repo.git\0host=example.com\0",
            b"AMQP\x00\x00\x09\x01",
            b"{\"jsonrpc\":\"2.0\"}",
        ] {
            assert_eq!(guess(bytes), Some(Speech::Other), "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn the_preface_and_the_handshake_are_recognised() {
        assert_eq!(guess(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Some(Speech::Http2));
        assert_eq!(guess(b"\x16\x03\x01\x02\x00"), Some(Speech::Tls));
        assert_eq!(guess(b"PRI * HTTP/2"), None);
        assert_eq!(guess(b"GE"), None);
    }

    #[test]
    fn no_input_keeps_us_reading_for_ever() {
        for byte in 0..=255 {
            let flood = vec![byte; 2 * LONGEST_LINE];
            assert!(of_guest(&flood).is_some(), "{byte:#x}");
            assert!(of_server(&flood, true).is_some(), "{byte:#x}");
        }
        speech(b"FOO \0 HTTP/1.1\r\n");
        let mut line = b"FOO ".to_vec();
        line.resize(2 * LONGEST_LINE, b'x');
        assert_eq!(of_guest(&line), Some(Speech::Other));
    }

    #[tokio::test]
    async fn the_server_may_speak_first() {
        let (_guest, mut near_guest) = tokio::io::duplex(64);
        let (mut upstream, mut near_upstream) = tokio::io::duplex(64);
        upstream.write_all(b"220 mail.example.com ESMTP\r\n").await.expect("the pipe is open");
        let sniffed = sniff(&mut near_guest, &mut near_upstream).await.expect("both are readable");
        assert_eq!(sniffed.speech, Speech::Other);
        assert_eq!(&sniffed.from_upstream[..], b"220 mail.example.com ESMTP\r\n");
    }

    #[tokio::test]
    async fn early_settings_do_not_hide_a_request() {
        let (mut guest, mut near_guest) = tokio::io::duplex(64);
        let (mut upstream, mut near_upstream) = tokio::io::duplex(64);
        upstream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.expect("the pipe is open");
        guest.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("the pipe is open");
        let sniffed = sniff(&mut near_guest, &mut near_upstream).await.expect("both are readable");
        assert_eq!(sniffed.speech, Speech::Http2);
    }
}
