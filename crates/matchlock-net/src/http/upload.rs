//! The body of a request on its way out.

use std::sync::PoisonError;

use bytes::Bytes;
use matchlock_intercept::headers::Headers;
use matchlock_intercept::rewrite::{BodyReplacer, Leak, LeakScanner, content_encoding};
use matchlock_policy::Bound;

use super::HELD_BODY;
use super::held::{Place, Room};
use super::record::InBody;

/// Looks for placeholders that must not go where the request goes, and puts in the secrets that
/// may. However the body is cut, the same goes out.
pub(super) struct Upload {
    scanner: LeakScanner,
    replacer: BodyReplacer,
    record: InBody,
    place: Place,
}

impl Upload {
    /// For a request with these fields; the secrets that it puts in are noted in `record`.
    pub(super) fn new(bound: &Bound<'_>, headers: &Headers, record: InBody, room: &Room) -> Self {
        let encoding = content_encoding(headers);
        Self {
            scanner: LeakScanner::encoded(bound, encoding.as_deref()),
            replacer: BodyReplacer::new(bound),
            record,
            place: room.place(),
        }
    }

    /// Whether the body may change, and its length with it.
    pub(super) fn replaces(&self) -> bool {
        !self.replacer.is_noop()
    }

    /// Whether so many bytes of the body may be held back until it has gone.
    pub(super) fn may_hold(&mut self, bytes: usize) -> bool {
        bytes <= HELD_BODY && self.place.take(bytes)
    }

    /// Takes some of the body and gives what of it can go out.
    pub(super) fn push(&mut self, data: Bytes) -> Result<Bytes, Leak> {
        if !self.scanner.is_noop() {
            self.scanner.push(&data)?;
        }
        if !self.replaces() {
            return Ok(data);
        }
        let mut out = Vec::with_capacity(data.len());
        self.replacer.push(&data, &mut out);
        self.note();
        Ok(out.into())
    }

    /// The rest, at the end.
    pub(super) fn finish(&mut self) -> Result<Bytes, Leak> {
        self.scanner.finish()?;
        let mut out = Vec::new();
        self.replacer.finish(&mut out);
        self.note();
        Ok(out.into())
    }

    /// Tells the record which secrets are in the body by now.
    fn note(&self) {
        let mut names = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() != self.replacer.used().count() {
            *names = self.replacer.used().map(ToString::to_string).collect();
        }
    }
}

/// Trailers get no secrets, and must not carry placeholders for other hosts either.
pub(super) fn check_trailers(trailers: &Headers, bound: &Bound<'_>) -> Result<(), Leak> {
    for (name, value) in trailers.iter() {
        for text in [name.as_bytes(), value.as_bytes()] {
            let mut scanner = LeakScanner::new(bound);
            scanner.push(text)?;
            scanner.finish()?;
        }
    }
    Ok(())
}
