#![expect(missing_docs, unreachable_pub, reason = "stands in for what is not written yet")]
use matchlock_intercept::h1::RequestHead;
use matchlock_intercept::headers::Headers;
use matchlock_policy::{Bound, SecretName};
#[derive(Debug, Clone, thiserror::Error)]
#[error("leak")]
pub struct Leak {
    pub secret: SecretName,
}
#[derive(Debug, Clone, thiserror::Error)]
#[error("undecodable")]
pub struct Undecodable;
pub fn request(_: &mut RequestHead, _: &Bound<'_>) -> Result<Vec<SecretName>, Leak> {
    Ok(vec![])
}
pub struct BodyReplacer;
impl BodyReplacer {
    pub fn new(_: &Bound<'_>) -> Self {
        Self
    }
    pub fn push(&mut self, d: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(d);
    }
    pub fn finish(&mut self, _: &mut Vec<u8>) {}
    pub fn is_noop(&self) -> bool {
        true
    }
}
pub struct LeakScanner;
impl LeakScanner {
    pub fn new(_: &Bound<'_>) -> Self {
        Self
    }
    pub fn push(&mut self, _: &[u8]) -> Result<(), Leak> {
        Ok(())
    }
}
pub struct Scrubber;
impl Scrubber {
    pub fn new(_: &Bound<'_>, _: Option<&[u8]>) -> Result<Option<Self>, Undecodable> {
        Ok(None)
    }
    pub fn push(&mut self, d: &[u8], out: &mut Vec<u8>) -> Result<(), Undecodable> {
        out.extend_from_slice(d);
        Ok(())
    }
    pub fn finish(&mut self, _: &mut Vec<u8>) -> Result<(), Undecodable> {
        Ok(())
    }
}
pub fn scrub_headers(_: &mut Headers, _: &Bound<'_>) {}
