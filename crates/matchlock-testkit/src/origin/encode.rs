//! Bodies and their encodings.

use std::io::Write;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

/// `length` bytes of the pattern of `/bytes/N`, from `offset` on.
pub fn pattern(offset: u64, length: usize) -> Vec<u8> {
    (offset..).take(length).map(|i| (i % 251) as u8).collect()
}

/// Encodes for a `Content-Encoding`.
pub(super) fn encode(coding: &str, plain: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => {
            let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            to.write_all(plain).and_then(|()| to.finish()).expect("memory")
        }
        "deflate" => {
            let mut to = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            to.write_all(plain).and_then(|()| to.finish()).expect("memory")
        }
        "zstd" => zstd::encode_all(plain, 3).expect("memory"),
        "br" => brotli_stored(plain),
        _ => plain.to_vec(),
    }
}

/// Brotli without compression (RFC 7932 section 9): one stored meta-block, and an empty last one.
fn brotli_stored(plain: &[u8]) -> Vec<u8> {
    if plain.is_empty() {
        return vec![0x06];
    }
    let length = u32::try_from(plain.len() - 1).expect("a small body");
    assert!(length < 1 << 16, "a small body");
    // WBITS 16: one bit 0. ISLAST 0, MNIBBLES 00 (four), MLEN-1 in 16 bits, ISUNCOMPRESSED 1.
    let bits = (length << 4) | (1 << 20);
    let mut out = bits.to_le_bytes()[..3].to_vec();
    out.extend_from_slice(plain);
    out.push(0x03);
    out
}

/// A running SHA-256 and length.
#[derive(Default)]
pub(super) struct Tally {
    digest: Sha256,
    pub(super) length: u64,
}

impl Tally {
    pub(super) fn add(&mut self, data: &[u8]) {
        self.digest.update(data);
        self.length += data.len() as u64;
    }

    pub(super) fn hex(self) -> String {
        HEXLOWER.encode(&self.digest.finalize())
    }
}
