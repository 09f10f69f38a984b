//! Why a message is refused.

use super::{AuthorityError, InvalidHead, InvalidTarget};
use crate::headers::InvalidHeader;

/// What the peer sent is not a message, or not one that everyone would read alike. Where it ends is
/// then unknown: the connection is of no more use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum H1Error {
    /// Not `method SP target SP version`; HTTP/0.9 too.
    #[error("the request line is malformed")]
    RequestLine,
    /// Not `version SP code [SP reason]`.
    #[error("the status line is malformed")]
    StatusLine,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    #[error("the HTTP version is not 1.0 or 1.1")]
    Version,
    /// Method, status or reason.
    #[error("the start line is malformed")]
    Start(#[source] InvalidHead),
    /// The target of the request.
    #[error("the request target is refused")]
    Target(#[source] InvalidTarget),
    /// No host, several, or two that differ.
    #[error("the host of the request is refused")]
    Authority(#[source] AuthorityError),
    /// A line feed without carriage return, or the other way round.
    #[error("a line does not end with CR LF")]
    LineEnd,
    /// A field line that continues the one before (RFC 9112, section 5.2).
    #[error("a header field is folded")]
    ObsoleteFold,
    /// A field line without colon.
    #[error("a header field has no colon")]
    NoColon,
    /// White space between name and colon (RFC 9112, section 5.1).
    #[error("a header field has white space before its colon")]
    SpaceBeforeColon,
    /// The name or the value of a field.
    #[error("a header field is malformed")]
    Field(#[source] InvalidHeader),
    /// More than [`MAX_HEAD`](super::MAX_HEAD) bytes.
    #[error("the head or the trailers are too long")]
    TooLong,
    /// More than [`MAX_FIELDS`](super::MAX_FIELDS) lines.
    #[error("there are too many header fields")]
    TooManyFields,
    /// `Content-Length` is repeated or not a decimal number of 63 bits.
    #[error("the Content-Length is not one number")]
    ContentLength,
    /// `Transfer-Encoding` is repeated, not `chunked`, or in HTTP/1.0.
    #[error("the Transfer-Encoding is not just chunked")]
    TransferEncoding,
    /// Both `Content-Length` and `Transfer-Encoding`.
    #[error("the message has both Content-Length and Transfer-Encoding")]
    TwoLengths,
    /// CONNECT with a body.
    #[error("a CONNECT request has a body")]
    ConnectBody,
    /// Not 1 to 16 hexadecimal digits.
    #[error("the size of a chunk is malformed")]
    ChunkSize,
    /// Malformed, or more of them than any use explains.
    #[error("the extension of a chunk is malformed or too long")]
    ChunkExtension,
    /// Something else than CR LF after the data of a chunk.
    #[error("a chunk is longer than its size")]
    ChunkEnd,
    /// A trailer field that would change where or how the message is read.
    #[error("a trailer field belongs into the head")]
    Trailer,
    /// 101 to a request that asked for no upgrade.
    #[error("the response switches protocols unasked")]
    UnaskedUpgrade,
    /// The connection ended within a message.
    #[error("the message is cut off")]
    CutOff,
}

impl H1Error {
    /// The status that tells a client so.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Version => 505,
            Self::TooLong | Self::TooManyFields => 431,
            _ => 400,
        }
    }
}
