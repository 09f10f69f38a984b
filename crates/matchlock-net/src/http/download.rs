//! The body of a response on its way to the guest.

use bytes::Bytes;

use super::rewrite::{Scrubber, Undecodable};

/// Why a body cannot go to the guest.
#[derive(Debug, thiserror::Error)]
pub(super) enum DownloadError {
    /// It has to be searched for secrets, and cannot be read.
    #[error("the body cannot be decoded")]
    Undecodable(#[from] Undecodable),
}

/// What is done to the body. However it is cut, the same goes to the guest.
#[derive(Default)]
pub(super) struct Download {
    scrubber: Option<Scrubber>,
    /// Goes to the guest instead of what the upstream sends.
    instead: Option<Bytes>,
    /// Events are passed on one by one, so that nothing may be held back.
    live: bool,
    finished: bool,
}

impl Download {
    /// Whether the body may change, and its length with it.
    pub(super) fn changes(&self) -> bool {
        self.scrubber.is_some() || self.instead.is_some()
    }

    /// Whether the body must not be held back, however short.
    pub(super) fn is_live(&self) -> bool {
        self.live
    }

    /// A body that takes the place of the upstream's.
    pub(super) fn instead(&mut self) -> Option<Bytes> {
        self.instead.take()
    }

    /// Whether [`finish`](Self::finish) was called.
    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Takes some of the body and gives what of it can go to the guest.
    pub(super) fn push(&mut self, data: Bytes) -> Result<Bytes, DownloadError> {
        let Some(scrubber) = &mut self.scrubber else { return Ok(data) };
        let mut out = Vec::with_capacity(data.len());
        scrubber.push(&data, &mut out)?;
        Ok(out.into())
    }

    /// The rest, at the end.
    pub(super) fn finish(&mut self) -> Result<Bytes, DownloadError> {
        self.finished = true;
        let mut out = Vec::new();
        if let Some(scrubber) = &mut self.scrubber {
            scrubber.finish(&mut out)?;
        }
        Ok(out.into())
    }
}
