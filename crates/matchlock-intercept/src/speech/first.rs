//! The first bytes of a client.

use super::protocol::{self, Match, Opening};

/// A first line of more than this is no request line of any server.
pub const LONGEST_LINE: usize = 16 * 1024;
/// RFC 9113, section 3.4.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";

/// What a client speaks.
#[derive(Debug, PartialEq, Eq)]
pub enum Detected {
    /// It began with a TLS record of any kind, or with what servers take for one.
    Tls,
    /// HTTP/1, or an attempt at it.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// A protocol of the closed list, with its whole first message.
    Known(Opening),
    /// Something else. Some server may well take it for HTTP.
    Unknown,
    /// It ended without a word.
    Silent,
}

/// Finds out what a client speaks. Each byte is looked at a bounded number of times.
#[derive(Debug, Default)]
pub struct Sniffer {
    scanned: usize,
    line: Line,
}

#[derive(Debug, Default, Clone, Copy)]
enum Line {
    #[default]
    Lead,
    Method {
        start: usize,
    },
    Rest,
}

impl Sniffer {
    /// Looks at all bytes so far, which begin with those of the last call; none when more are needed.
    pub fn look(&mut self, bytes: &[u8]) -> Option<Detected> {
        match looks_like_tls(bytes) {
            Some(true) => return Some(Detected::Tls),
            Some(false) => {}
            None => return None,
        }
        if bytes.starts_with(HTTP2_PREFACE) {
            return Some(Detected::Http2);
        }
        if HTTP2_PREFACE.starts_with(bytes) {
            return None;
        }
        match protocol::opening(bytes) {
            Match::Yes(opening) => Some(Detected::Known(opening)),
            Match::More => None,
            Match::No => self.line(bytes),
        }
    }

    /// What all bytes are, now that no more will come. An unfinished line is a request for those for
    /// whom it would be one if it were complete.
    pub fn at_end(&mut self, bytes: &[u8]) -> Detected {
        match self.look(bytes) {
            Some(speech) => speech,
            None if bytes.is_empty() => Detected::Silent,
            None => self.line(bytes).unwrap_or(Detected::Unknown),
        }
    }

    /// Whether the first line is a request line.
    fn line(&mut self, bytes: &[u8]) -> Option<Detected> {
        while let Some(&byte) = bytes.get(self.scanned) {
            let at = self.scanned;
            self.scanned += 1;
            if let Line::Lead = self.line
                && !matches!(byte, b'\r' | b'\n' | b' ' | b'\t')
            {
                self.line = Line::Method { start: at };
            }
            match self.line {
                Line::Method { .. } if is_token(byte) => {}
                Line::Method { start } => {
                    if at == start || !matches!(byte, b' ' | b'\t' | 0x0b | 0x0c) {
                        return Some(Detected::Unknown);
                    }
                    if is_known_method(&bytes[start..at]) {
                        return Some(Detected::Http1);
                    }
                    self.line = Line::Rest;
                }
                Line::Rest if ends_in_http(&bytes[..=at]) => return Some(Detected::Http1),
                Line::Rest if byte == b'\n' => return Some(Detected::Unknown),
                Line::Rest | Line::Lead => {}
            }
            // The strict parser says why it is refused.
            if self.scanned >= LONGEST_LINE {
                return Some(Detected::Http1);
            }
        }
        None
    }
}

/// Whether some server takes the bytes for TLS; none when more are needed.
fn looks_like_tls(bytes: &[u8]) -> Option<bool> {
    match *bytes {
        [] => Some(false),
        // A record of any type (RFC 8446, section 5.1; RFC 6520): Go's server, for one, drops a
        // warning alert and goes on with the hello behind it.
        [0x14..=0x18] => None,
        [0x14..=0x18, major, ..] => Some(major == 3),
        // The ClientHello of SSL 2 (RFC 5246, appendix E.2).
        [0x80..=0xff] | [0x80..=0xff, _] => None,
        [0x80..=0xff, _, kind, ..] => Some(kind == 1),
        _ => Some(false),
    }
}

fn ends_in_http(bytes: &[u8]) -> bool {
    bytes.last_chunk::<5>().is_some_and(|end| end.eq_ignore_ascii_case(b"HTTP/"))
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
