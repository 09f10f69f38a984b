//! Why something went wrong, in words of our own.
//!
//! A server that was shown a secret can say it again wherever an error quotes the server: in a
//! reason phrase, in the debug data of a GOAWAY, in the names of a certificate. Text that is kept,
//! in the audit trail or in a log, must not have it. So what is kept is a [`Cause`], and a cause is
//! made of errors whose words are known to be ours.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::io;
use std::ops::Deref;

use matchlock_intercept::h1::{AuthorityError, EncodeError, H1Error, InvalidHead, InvalidTarget};
use matchlock_intercept::headers::InvalidHeader;
use matchlock_intercept::hooks::{CallbackError, EditError};
use matchlock_intercept::retry::Unexpected;
use matchlock_intercept::rewrite::{Leak, Undecodable};
use matchlock_intercept::speech::Cut;
use matchlock_policy::{Denied, DenyReason, RequestRefused};
use matchlock_text::causes;
use serde::Serialize;

use crate::{dial, dns, engine, http, stack, tls};

/// Longest text, in bytes. Ours are shorter, unless a name in them is long.
const MAX_LENGTH: usize = 512;

/// Why something was refused or failed: no word of it is a server's.
///
/// It is made of literals, of what policy says, and of errors of our own. It may name a host that
/// the guest named.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Cause(Cow<'static, str>);

impl Cause {
    /// What an error and its causes say, as far as the words are ours. An error of another crate
    /// says what kind it is, or nothing.
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Self {
        let texts: Vec<String> = causes(error).filter_map(words).collect();
        if texts.is_empty() { Self::from("it failed") } else { Self::bounded(texts.join(": ")) }
    }

    /// The same, after words that say what became of it.
    pub(crate) fn after(words: &'static str, error: &(dyn Error + 'static)) -> Self {
        Self::bounded(format!("{words}: {}", Self::of(error)))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn bounded(mut text: String) -> Self {
        text.truncate(text.floor_char_boundary(MAX_LENGTH));
        Self(text.into())
    }
}

impl From<&'static str> for Cause {
    fn from(words: &'static str) -> Self {
        Self(words.into())
    }
}

impl From<DenyReason> for Cause {
    fn from(reason: DenyReason) -> Self {
        Self::bounded(reason.to_string())
    }
}

impl Deref for Cause {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Errors that hold no text of a peer's. One that begins to leaves this list.
const OURS: &[fn(&(dyn Error + 'static)) -> Option<String>] = &[
    ours::<AuthorityError>,
    ours::<CallbackError>,
    ours::<Denied>,
    ours::<EditError>,
    ours::<EncodeError>,
    ours::<H1Error>,
    ours::<InvalidHead>,
    ours::<InvalidHeader>,
    ours::<InvalidTarget>,
    ours::<Leak>,
    ours::<RequestRefused>,
    ours::<Undecodable>,
    ours::<Unexpected>,
    ours::<crate::audit::AuditLost>,
    ours::<stack::OutOfStep>,
    ours::<dial::ConnectError>,
    ours::<dial::DialError>,
    ours::<dial::TunnelError>,
    ours::<dns::Exhausted>,
    ours::<dns::NoServer>,
    ours::<dns::ResolveError>,
    ours::<dns::UpstreamError>,
    ours::<engine::HelloRefused>,
    ours::<Cut>,
    ours::<engine::OutsideError>,
    ours::<http::CallError>,
    ours::<http::DownloadError>,
    ours::<http::Failure>,
    ours::<http::MalformedHead>,
    ours::<http::ReceiveError>,
    ours::<http::SendError>,
    ours::<http::Stop>,
    ours::<http::TooManyInterims>,
    ours::<tls::AuthorityError>,
    ours::<tls::UpstreamTlsError>,
    ours::<tokio::time::error::Elapsed>,
];

fn ours<E: Error + 'static>(error: &(dyn Error + 'static)) -> Option<String> {
    error.downcast_ref::<E>().map(ToString::to_string)
}

fn words(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref::<io::Error>() {
        // The system's words, or those of the standard library; or else those of the error in it.
        return match error.get_ref() {
            Some(inner) => words(inner),
            None => Some(error.to_string()),
        };
    }
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Some(tls::describe(error).to_owned());
    }
    if let Some(error) = error.downcast_ref::<h2::Error>() {
        return Some(http2(error));
    }
    OURS.iter().find_map(|ours| ours(error))
}

/// What h2 says, without the debug data of a GOAWAY.
fn http2(error: &h2::Error) -> String {
    let what = match error {
        _ if error.is_go_away() => "connection",
        _ if error.is_reset() => "stream",
        _ => "protocol",
    };
    let who = match error {
        _ if error.is_remote() => " received",
        _ if error.is_library() => " detected",
        _ => "",
    };
    match (error.reason(), error.get_io()) {
        (Some(reason), _) => format!("{what} error{who}: {reason}"),
        (None, Some(error)) => Cause::of(error).to_string(),
        (None, None) => "HTTP/2 failed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANARY: &str = "sk-canary";

    #[derive(Debug, thiserror::Error)]
    #[error("{CANARY}")]
    struct Foreign(#[source] H1Error);

    #[test]
    fn only_known_errors_speak() {
        let error = http::ReceiveError::Upstream(io::Error::other(Foreign(H1Error::ChunkEnd)));
        assert_eq!(
            Cause::of(&error).as_str(),
            "the upstream's connection failed: a chunk is longer than its size"
        );
        assert_eq!(Cause::of(&io::Error::other(CANARY)).as_str(), "it failed");
        let refused = io::Error::from_raw_os_error(111);
        assert_eq!(Cause::of(&refused).as_str(), refused.to_string());
    }

    #[test]
    fn certificates_and_alerts_are_kinds() {
        use rustls::{CertificateError, Error as Tls, pki_types::ServerName};
        let wrong = CertificateError::NotValidForNameContext {
            expected: ServerName::try_from("api.example.com").unwrap(),
            presented: vec![CANARY.to_owned()],
        };
        for error in [
            Tls::InvalidCertificate(wrong),
            Tls::General(CANARY.to_owned()),
            Tls::AlertReceived(rustls::AlertDescription::Unknown(200)),
        ] {
            let cause = Cause::of(&io::Error::new(io::ErrorKind::InvalidData, error));
            assert!(!cause.as_str().contains(CANARY), "{cause}");
            assert_ne!(cause.as_str(), "it failed");
        }
    }

    #[test]
    fn long_names_are_cut() {
        let cause = Cause::bounded("é".repeat(MAX_LENGTH));
        assert_eq!(cause.as_str().len(), MAX_LENGTH);
    }
}
