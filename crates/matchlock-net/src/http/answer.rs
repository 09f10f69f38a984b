//! Hooks before the request, and after the response.

use matchlock_intercept::h1::{RequestHead, ResponseHead};
use matchlock_policy::Endpoint;

use super::Exchange;
use super::download::{Download, DownloadError};
use super::judge::Admitted;

/// What rules for the response go by.
#[derive(Debug)]
pub(super) struct Hooked {}

/// Why a request is not sent on; with the name of the rule.
pub(super) enum Stop {
    Blocked(String),
    Failed(String),
}

impl Hooked {
    pub(super) fn with_sent(self, _head: &RequestHead) -> Self {
        self
    }
}

/// Applies the rules for requests.
pub(super) async fn before(
    _exchange: &Exchange,
    _endpoint: &Endpoint,
    _head: &mut RequestHead,
) -> Result<Hooked, Stop> {
    Ok(Hooked {})
}

/// Applies the rules for responses, and says what is to be done to the body.
pub(super) async fn after(
    _exchange: &Exchange,
    _admitted: &Admitted,
    _head: &mut ResponseHead,
    _has_body: bool,
) -> Result<Download, DownloadError> {
    Ok(Download::default())
}
