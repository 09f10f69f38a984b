//! The first bytes of a server, before it was sent any.

use super::first::LONGEST_LINE;

/// What a server that speaks first speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// Neither HTTP nor TLS: what it speaks is its own, and no client has asked for it.
    Own,
    /// HTTP or TLS. One of HTTP/2 may send its SETTINGS before it has seen the preface (RFC 9113,
    /// section 3.4), one of HTTP/1 that it is tired of waiting: the client's bytes decide.
    Web,
}

/// Tells what the server's bytes so far are; none when more are needed.
#[must_use]
pub fn of_server(bytes: &[u8]) -> Option<Server> {
    let bytes = &bytes[..bytes.len().min(LONGEST_LINE)];
    let own = |certain: bool| if certain { Some(Server::Own) } else { None };
    match *bytes {
        // A TLS record.
        [0x14..=0x18] | [0x80..=0xff] | [0x80..=0xff, _] => None,
        [0x14..=0x18, 3, ..] => Some(Server::Web),
        // A hello of SSL 2, or a refusal of it.
        [0x80..=0xff, _, 0 | 4, ..] => Some(Server::Web),
        [0, ..] => of_frame(bytes),
        _ => {
            let text = bytes.trim_ascii_start();
            let line = text.first_chunk::<5>().map_or(text, |start| &start[..]);
            // Pages of errors come without a status line, for those who seem to speak HTTP/0.9.
            if text.first() == Some(&b'<') || line.eq_ignore_ascii_case(b"HTTP/") {
                return Some(Server::Web);
            }
            if bytes.len() == LONGEST_LINE && text.is_empty() {
                return Some(Server::Web);
            }
            own(!b"HTTP/"[..line.len()].eq_ignore_ascii_case(line))
        }
    }
}

/// The frame that an HTTP/2 server begins with is a SETTINGS of the connection.
fn of_frame(bytes: &[u8]) -> Option<Server> {
    const SETTINGS: &[u8] = &[4, 0, 0, 0, 0, 0];
    let frame = bytes.get(3..).unwrap_or_default();
    if frame.starts_with(SETTINGS) {
        Some(Server::Web)
    } else if SETTINGS.starts_with(frame) {
        None
    } else {
        Some(Server::Own)
    }
}
