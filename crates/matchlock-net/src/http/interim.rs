//! Responses before the response.

use matchlock_intercept::h1::{self, MAX_HEAD, ResponseHead};
use matchlock_intercept::rewrite;
use matchlock_policy::Bound;

/// So many for one request; servers send one or two.
const MOST: usize = 16;

/// A server does not come to its response.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the upstream sent more than {MOST} interim responses, or more of them than fit in a head")]
pub(crate) struct TooManyInterims;

/// What the interim responses to one request may still come to. Over HTTP/2 they are not under flow
/// control: they wait for a guest that does not read.
#[derive(Debug)]
pub(super) struct Interims {
    left: usize,
    bytes: usize,
}

impl Interims {
    pub(super) fn new() -> Self {
        Self { left: MOST, bytes: MAX_HEAD }
    }

    /// Counts one, and makes it what the guest may see.
    pub(super) fn pass(
        &mut self,
        head: &mut ResponseHead,
        bound: &Bound<'_>,
    ) -> Result<(), TooManyInterims> {
        let fields = head.headers.iter();
        let fields = fields.map(|(name, value)| name.as_bytes().len() + value.as_bytes().len());
        let bytes = head.reason.as_bytes().len() + fields.sum::<usize>();
        self.left = self.left.checked_sub(1).ok_or(TooManyInterims)?;
        self.bytes = self.bytes.checked_sub(bytes).ok_or(TooManyInterims)?;
        h1::forwardable(&mut head.headers, false);
        rewrite::scrub_head(head, bound);
        Ok(())
    }
}
