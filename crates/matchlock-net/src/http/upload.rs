//! The body of a request on its way out.

use bytes::Bytes;
use matchlock_intercept::headers::Headers;
use matchlock_policy::Bound;

use super::rewrite::{BodyReplacer, Leak, LeakScanner};

/// Looks for placeholders that must not go where the request goes, and puts in the secrets that
/// may. However the body is cut, the same goes out.
pub(super) struct Upload {
    scanner: LeakScanner,
    replacer: BodyReplacer,
}

impl Upload {
    pub(super) fn new(bound: &Bound<'_>) -> Self {
        Self { scanner: LeakScanner::new(bound), replacer: BodyReplacer::new(bound) }
    }

    /// Whether the body may change, and its length with it.
    pub(super) fn replaces(&self) -> bool {
        !self.replacer.is_noop()
    }

    /// Takes some of the body and gives what of it can go out.
    pub(super) fn push(&mut self, data: Bytes) -> Result<Bytes, Leak> {
        self.scanner.push(&data)?;
        if !self.replaces() {
            return Ok(data);
        }
        let mut out = Vec::with_capacity(data.len());
        self.replacer.push(&data, &mut out);
        Ok(out.into())
    }

    /// The rest, at the end.
    pub(super) fn finish(&mut self) -> Bytes {
        let mut out = Vec::new();
        self.replacer.finish(&mut out);
        out.into()
    }

    /// Trailers get no secrets, and must not carry placeholders for other hosts either.
    pub(super) fn trailers(&mut self, trailers: &Headers) -> Result<(), Leak> {
        for (_, value) in trailers.iter() {
            self.scanner.push(value.as_bytes())?;
            self.scanner.push(b"\n")?;
        }
        Ok(())
    }
}
