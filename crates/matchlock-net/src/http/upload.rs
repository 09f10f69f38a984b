//! The body of a request on its way out.

use bytes::Bytes;
use matchlock_intercept::headers::Headers;
use matchlock_intercept::rewrite::{BodyReplacer, Leak, LeakScanner, content_encoding};
use matchlock_policy::Bound;

/// Looks for placeholders that must not go where the request goes, and puts in the secrets that
/// may. However the body is cut, the same goes out.
pub(super) struct Upload {
    scanner: LeakScanner,
    replacer: BodyReplacer,
}

impl Upload {
    /// For a request with these fields.
    pub(super) fn new(bound: &Bound<'_>, headers: &Headers) -> Self {
        let encoding = content_encoding(headers);
        Self {
            scanner: LeakScanner::encoded(bound, encoding.as_deref()),
            replacer: BodyReplacer::new(bound),
        }
    }

    /// Whether the body may change, and its length with it.
    pub(super) fn replaces(&self) -> bool {
        !self.replacer.is_noop()
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
        Ok(out.into())
    }

    /// The rest, at the end.
    pub(super) fn finish(&mut self) -> Result<Bytes, Leak> {
        self.scanner.finish()?;
        let mut out = Vec::new();
        self.replacer.finish(&mut out);
        Ok(out.into())
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
