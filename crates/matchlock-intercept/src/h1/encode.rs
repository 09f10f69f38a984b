//! Messages to bytes.

use std::io::Write;

use bytes::{BufMut, BytesMut};

use super::chunked::is_no_trailer;
use super::framing::content_length;
use super::{Framing, RequestHead, ResponseHead, Target};
use crate::headers::Headers;

/// A body is not what its head says. Nothing has been written: the connection is to be closed, so that
/// the peer does not take what follows for the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// More data than the head says.
    #[error("the body is longer than its head says")]
    TooLong,
    /// The end before that.
    #[error("the body is shorter than its head says")]
    TooShort,
}

/// Writes requests. `Content-Length` and `Transfer-Encoding` are of the encoder's own making.
#[derive(Debug, Default)]
pub struct RequestEncoder(Body);

impl RequestEncoder {
    /// For a connection.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a request, as HTTP/1.1. A request cannot last until the connection closes: with
    /// [`Framing::UntilClose`] it is chunked.
    pub fn head(&mut self, head: &RequestHead, framing: Framing, out: &mut BytesMut) {
        let framing = match framing {
            Framing::UntilClose => Framing::Chunked,
            framing => framing,
        };
        out.put_slice(head.method.as_str().as_bytes());
        out.put_u8(b' ');
        put_target(&head.target, out);
        out.put_slice(b" HTTP/1.1\r\n");
        put_fields(&head.headers, framing, false, out);
        self.0 = Body::new(framing);
    }

    /// Writes some of the body.
    pub fn data(&mut self, data: &[u8], out: &mut BytesMut) -> Result<(), EncodeError> {
        self.0.data(data, out)
    }

    /// Ends the body. Trailers are written if it is chunked, but for those that belong into a head.
    pub fn end(
        &mut self,
        trailers: Option<&Headers>,
        out: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        self.0.end(trailers, out)
    }
}

/// Writes responses. `Content-Length` and `Transfer-Encoding` are of the encoder's own making.
#[derive(Debug, Default)]
pub struct ResponseEncoder(Body);

impl ResponseEncoder {
    /// For a connection.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a response, interim ones too, as HTTP/1.1. [`Framing::None`] is for those that have no
    /// body by their request or status (RFC 9112, section 6.3): a `Content-Length` then stays, where it
    /// may. Clients of HTTP/1.0 cannot read [`Framing::Chunked`].
    pub fn head(&mut self, head: &ResponseHead, framing: Framing, out: &mut BytesMut) {
        out.put_slice(b"HTTP/1.1 ");
        put_number(format_args!("{}", head.status.code()), out);
        out.put_u8(b' ');
        out.put_slice(head.reason.as_bytes());
        out.put_slice(b"\r\n");
        let code = head.status.code();
        // RFC 9110, section 8.6.
        let keep_length = framing == Framing::None && code >= 200 && code != 204;
        put_fields(&head.headers, framing, keep_length, out);
        self.0 = Body::new(framing);
    }

    /// Writes some of the body.
    pub fn data(&mut self, data: &[u8], out: &mut BytesMut) -> Result<(), EncodeError> {
        self.0.data(data, out)
    }

    /// Ends the body. Trailers are written if it is chunked, but for those that belong into a head.
    pub fn end(
        &mut self,
        trailers: Option<&Headers>,
        out: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        self.0.end(trailers, out)
    }
}

#[derive(Debug)]
enum Body {
    Length(u64),
    Chunked,
    UntilClose,
}

impl Default for Body {
    fn default() -> Self {
        Self::Length(0)
    }
}

impl Body {
    fn new(framing: Framing) -> Self {
        match framing {
            Framing::None => Self::Length(0),
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked,
            Framing::UntilClose => Self::UntilClose,
        }
    }

    fn data(&mut self, data: &[u8], out: &mut BytesMut) -> Result<(), EncodeError> {
        match self {
            Self::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(EncodeError::TooLong)?;
                out.put_slice(data);
            }
            // A chunk of nothing would be the last one.
            Self::Chunked if data.is_empty() => {}
            Self::Chunked => {
                out.reserve(data.len() + 20);
                put_number(format_args!("{:x}\r\n", data.len()), out);
                out.put_slice(data);
                out.put_slice(b"\r\n");
            }
            Self::UntilClose => out.put_slice(data),
        }
        Ok(())
    }

    fn end(&mut self, trailers: Option<&Headers>, out: &mut BytesMut) -> Result<(), EncodeError> {
        match std::mem::take(self) {
            Self::Length(0) | Self::UntilClose => Ok(()),
            Self::Length(_) => Err(EncodeError::TooShort),
            Self::Chunked => {
                out.put_slice(b"0\r\n");
                for (name, value) in trailers.into_iter().flat_map(Headers::iter) {
                    if !is_no_trailer(name.as_str()) {
                        put_field(name.as_bytes(), value.as_bytes(), out);
                    }
                }
                out.put_slice(b"\r\n");
                Ok(())
            }
        }
    }
}

fn put_target(target: &Target, out: &mut BytesMut) {
    match target {
        Target::Origin(path_and_query) => out.put_slice(path_and_query.as_bytes()),
        Target::Absolute { scheme, authority, path_and_query } => {
            out.put_slice(scheme.as_str().as_bytes());
            out.put_slice(b"://");
            out.put_slice(authority.to_string().as_bytes());
            out.put_slice(path_and_query.as_bytes());
        }
        Target::Authority(authority) => out.put_slice(authority.to_string().as_bytes()),
        Target::Asterisk => out.put_u8(b'*'),
    }
}

/// The fields and the empty line. Those that frame the body are written where they were, else last.
fn put_fields(headers: &Headers, framing: Framing, keep_length: bool, out: &mut BytesMut) {
    let mut length = match framing {
        Framing::Length(length) => Some(length),
        _ if keep_length => only_length(headers),
        _ => None,
    };
    for (name, value) in headers.iter() {
        if name.is("content-length") {
            if let Some(length) = length.take() {
                put_length(name.as_bytes(), length, out);
            }
        } else if !name.is("transfer-encoding") {
            put_field(name.as_bytes(), value.as_bytes(), out);
        }
    }
    if let Some(length) = length {
        put_length(b"Content-Length", length, out);
    }
    if framing == Framing::Chunked {
        put_field(b"Transfer-Encoding", b"chunked", out);
    }
    out.put_slice(b"\r\n");
}

fn only_length(headers: &Headers) -> Option<u64> {
    let mut lengths = headers.get_all("content-length");
    let length = lengths.next().and_then(|value| content_length(value.as_bytes()));
    length.filter(|_| lengths.next().is_none())
}

fn put_length(name: &[u8], length: u64, out: &mut BytesMut) {
    out.put_slice(name);
    put_number(format_args!(": {length}\r\n"), out);
}

fn put_field(name: &[u8], value: &[u8], out: &mut BytesMut) {
    out.reserve(name.len() + value.len() + 4);
    out.put_slice(name);
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

fn put_number(number: std::fmt::Arguments<'_>, out: &mut BytesMut) {
    out.writer().write_fmt(number).expect("a buffer in memory grows");
}
