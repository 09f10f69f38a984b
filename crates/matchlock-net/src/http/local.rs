//! Answers that the guest gets from us.

use matchlock_intercept::h1::{Reason, ResponseHead, Status, Version};
use matchlock_intercept::headers::{HeaderName, HeaderValue, Headers};

use super::download::DownloadError;

/// A response of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Local {
    pub(super) status: u16,
    reason: &'static str,
    pub(super) body: &'static str,
}

impl Local {
    pub(super) const BLOCKED: Self = Self::new(403, "Forbidden", "Blocked by policy");
    pub(super) const MALFORMED: Self = Self::new(400, "Bad Request", "Malformed request");
    pub(super) const METHOD: Self = Self::new(405, "Method Not Allowed", "Blocked by policy");
    pub(super) const TOO_LARGE: Self =
        Self::new(431, "Request Header Fields Too Large", "Malformed request");
    pub(super) const MISDIRECTED: Self =
        Self::new(421, "Misdirected Request", "The request is for another host");
    pub(super) const UNSUPPORTED: Self = Self::new(501, "Not Implemented", "Not supported");
    pub(super) const UNREACHABLE: Self = Self::new(502, "Bad Gateway", "Failed to connect");
    pub(super) const BAD_ANSWER: Self = Self::new(502, "Bad Gateway", "Invalid response");
    pub(super) const HIDDEN: Self =
        Self::new(502, "Bad Gateway", "The response could not be searched for secrets");

    /// What takes the place of a response that cannot go to the guest.
    pub(super) fn of(error: &DownloadError) -> Self {
        match error {
            DownloadError::Stopped(_) | DownloadError::Edit(_) | DownloadError::NoRoom => {
                Self::BLOCKED
            }
            DownloadError::Undecodable(_) => Self::HIDDEN,
        }
    }

    const fn new(status: u16, reason: &'static str, body: &'static str) -> Self {
        Self { status, reason, body }
    }

    /// Status and fields; `Content-Length` too, which HEAD may have as well.
    pub(super) fn head(self) -> ResponseHead {
        let headers = [
            (HeaderName::from_static("Content-Type"), HeaderValue::from_static("text/plain")),
            (HeaderName::from_static("Content-Length"), HeaderValue::from(self.length())),
        ];
        ResponseHead {
            version: Version::Http11,
            status: Status::new(self.status).expect("three digits"),
            reason: Reason::new(self.reason).expect("plain text"),
            headers: Headers::from_iter(headers),
        }
    }

    pub(super) fn length(self) -> u64 {
        self.body.len() as u64
    }
}
