//! Why a stream ends before its exchange does, and who is told what.

use h2::Reason;
use matchlock_intercept::rewrite::Leak;

use super::convert::MalformedHead;
use super::pipe::PipeError;
use super::reason;
use crate::audit::AuditLost;
use crate::http::download::DownloadError;
use crate::http::interim::TooManyInterims;
use crate::http::local::Local;

/// Why an exchange failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the audit trail does not take events")]
    Audit(#[from] AuditLost),
    #[error("the upstream's response is malformed")]
    Malformed(#[from] MalformedHead),
    #[error("the upstream does not come to its response")]
    Interims(#[from] TooManyInterims),
    #[error("the request's body carries the placeholder of a secret for other hosts")]
    Leak(Leak),
    #[error("the response does not go to the guest")]
    Download(#[from] DownloadError),
    #[error("the upstream ended the stream")]
    Upstream(#[source] h2::Error),
    #[error("the guest ended the stream")]
    Guest(#[source] h2::Error),
    #[error("the guest reset the stream: {0}")]
    GuestReset(Reason),
    #[error("the upstream reset the stream: {0}")]
    UpstreamReset(Reason),
}

impl Failure {
    pub(super) fn up(error: PipeError) -> Self {
        match error {
            PipeError::Source(error) => Self::Guest(error),
            PipeError::Sink(error) => Self::Upstream(error),
            PipeError::SinkReset(reason) => Self::UpstreamReset(reason),
        }
    }

    pub(super) fn down(error: PipeError) -> Self {
        match error {
            PipeError::Source(error) => Self::Upstream(error),
            PipeError::Sink(error) => Self::Guest(error),
            PipeError::SinkReset(reason) => Self::GuestReset(reason),
        }
    }

    /// What the other side is told.
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Upstream(error) | Self::Guest(error) => reason(error),
            Self::GuestReset(reason) | Self::UpstreamReset(reason) => *reason,
            Self::Leak(_) => Reason::CANCEL,
            Self::Audit(_) | Self::Malformed(_) | Self::Interims(_) | Self::Download(_) => {
                Reason::INTERNAL_ERROR
            }
        }
    }

    /// What the guest is told in the upstream's place, if it can still be told something.
    pub(super) fn local(&self) -> Option<Local> {
        match self {
            Self::Leak(_) => Some(Local::BLOCKED),
            Self::Download(error) => Some(Local::of(error)),
            Self::Malformed(_) | Self::Interims(_) => Some(Local::BAD_ANSWER),
            // A reset says more than a status would.
            Self::Upstream(error) if !error.is_reset() && !error.is_go_away() => {
                Some(Local::UNREACHABLE)
            }
            _ => None,
        }
    }

    /// What the upstream is told.
    pub(super) fn upstream_reason(&self) -> Reason {
        match self {
            Self::Guest(_) | Self::GuestReset(_) => match self.reason() {
                Reason::NO_ERROR => Reason::CANCEL,
                reason => reason,
            },
            _ => Reason::CANCEL,
        }
    }
}
