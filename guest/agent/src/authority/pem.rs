//! PEM (RFC 7468), however its lines are broken and whatever it says beside the certificate.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem;

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

pub(super) fn base64(der: &[u8]) -> String {
    STANDARD.encode(der)
}

/// The content of the first block.
pub(super) fn decode(pem: &str) -> Option<Vec<u8>> {
    let block = Block::first(pem.as_bytes())?;
    STANDARD.decode(block.base64).ok()
}

/// The text without the blocks that begin with this certificate: OpenSSL's trusted certificates have
/// more behind it.
pub(super) fn without(text: &[u8], der: &[u8]) -> Vec<u8> {
    // The last characters depend on what follows.
    let whole = der.len() - der.len() % 3;
    let wanted = base64(der.get(..whole).unwrap_or(der));
    let mut kept = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(block) = Block::first(rest) {
        let is_ours = block.base64.starts_with(wanted.as_bytes());
        let end = if is_ours { block.start } else { block.end };
        kept.extend(rest.get(..end).unwrap_or_default());
        rest = rest.get(block.end..).unwrap_or_default();
    }
    kept.extend(rest);
    kept
}

/// A block of a text, from the first character of its armour to the end of its last line.
struct Block {
    start: usize,
    end: usize,
    /// Without white space.
    base64: Vec<u8>,
}

impl Block {
    fn first(text: &[u8]) -> Option<Self> {
        let start = memmem::find(text, BEGIN)?;
        let label = start + BEGIN.len();
        let body = label + memmem::find(text.get(label..)?, DASHES)? + DASHES.len();
        let last = body + memmem::find(text.get(body..)?, END)?;
        let label = last + END.len();
        let armour = label + memmem::find(text.get(label..)?, DASHES)? + DASHES.len();
        let breaks = match text.get(armour..) {
            Some([b'\r', b'\n', ..]) => 2,
            Some([b'\n', ..]) => 1,
            _ => 0,
        };
        let base64 = text.get(body..last)?.iter().copied();
        let base64 = base64.filter(|byte| !byte.is_ascii_whitespace()).collect();
        Some(Self { start, end: armour + breaks, base64 })
    }
}
