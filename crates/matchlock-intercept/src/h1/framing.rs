//! Where a body ends (RFC 9112, section 6.3).

use super::{H1Error, Method, Status, Version};
use crate::headers::Headers;

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// After so many bytes.
    Length(u64),
    /// Chunk by chunk, perhaps with trailers.
    Chunked,
    /// With the connection; responses only.
    UntilClose,
}

impl Framing {
    pub(super) fn of_request(
        method: &Method,
        version: Version,
        headers: &Headers,
    ) -> Result<Self, H1Error> {
        let framing = declared(version, headers)?;
        if method.is("CONNECT") && framing.is_some() {
            return Err(H1Error::ConnectBody);
        }
        Ok(framing.unwrap_or(Self::None))
    }

    pub(super) fn of_response(
        to_head: bool,
        version: Version,
        status: Status,
        headers: &Headers,
    ) -> Result<Self, H1Error> {
        let framing = declared(version, headers)?;
        if to_head || status.has_no_body() {
            return Ok(Self::None);
        }
        Ok(framing.unwrap_or(Self::UntilClose))
    }
}

/// What the fields say: at most one of them, once.
fn declared(version: Version, headers: &Headers) -> Result<Option<Framing>, H1Error> {
    let mut lengths = headers.get_all("content-length");
    let mut codings = headers.get_all("transfer-encoding");
    match (lengths.next(), codings.next()) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(H1Error::TwoLengths),
        (Some(length), None) => {
            let length = content_length(length.as_bytes()).filter(|_| lengths.next().is_none());
            Ok(Some(Framing::Length(length.ok_or(H1Error::ContentLength)?)))
        }
        (None, Some(coding)) => {
            let chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
            // RFC 9112, section 6.1: HTTP/1.0 has no chunks, so its framing is then faulty.
            if chunked && codings.next().is_none() && version == Version::Http11 {
                Ok(Some(Framing::Chunked))
            } else {
                Err(H1Error::TransferEncoding)
            }
        }
    }
}

/// Digits only, and below 2^63, where signed implementations turn negative.
pub(super) fn content_length(value: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(value).ok()?;
    let decimal = (1..=19).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|&length: &u64| decimal && i64::try_from(length).is_ok())
}
