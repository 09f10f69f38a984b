use std::io::Write as _;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use proptest::prelude::*;

use super::*;

/// Without an encoder at hand: the text as it is, in the frame of the coding.
fn brotli_stored(text: &[u8]) -> Vec<u8> {
    // RFC 7932, section 9.2: WBITS 16 is one zero bit; then metablocks of up to 64 KiB, stored.
    let mut bits = Bits::default();
    bits.put(0, 1);
    for block in text.chunks(1 << 16) {
        bits.put(0, 1);
        bits.put(0, 2);
        bits.put(block.len() as u64 - 1, 16);
        bits.put(1, 1);
        bits.align();
        bits.bytes.extend_from_slice(block);
    }
    bits.put(0b11, 2);
    bits.align();
    bits.bytes
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    pending: u64,
    count: u32,
}

impl Bits {
    fn put(&mut self, value: u64, count: u32) {
        self.pending |= value << self.count;
        self.count += count;
        while self.count >= 8 {
            self.bytes.push(self.pending.to_le_bytes()[0]);
            self.pending >>= 8;
            self.count -= 8;
        }
    }

    fn align(&mut self) {
        if self.count > 0 {
            self.put(0, 8 - self.count);
        }
    }
}

pub(crate) fn encode(coding: &str, text: &[u8]) -> Vec<u8> {
    let level = Compression::fast();
    let encoded = match coding {
        "gzip" => {
            let mut encoder = GzEncoder::new(Vec::new(), level);
            encoder.write_all(text).and_then(|()| encoder.finish())
        }
        "zlib" => {
            let mut encoder = ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(text).and_then(|()| encoder.finish())
        }
        "deflate" => {
            let mut encoder = DeflateEncoder::new(Vec::new(), level);
            encoder.write_all(text).and_then(|()| encoder.finish())
        }
        "zstd" => zstd::encode_all(text, 1),
        "br" => Ok(brotli_stored(text)),
        other => panic!("no encoder for {other}"),
    };
    encoded.expect("memory takes it")
}

fn decode(codings: &str, chunks: &[&[u8]]) -> Result<Vec<u8>, Undecodable> {
    let mut decoder = Decoder::new(Some(codings.as_bytes()))?.expect("an encoded body");
    let mut out = Vec::new();
    for chunk in chunks {
        decoder.push(chunk);
        while decoder.pull(&mut out)? == Progress::More {}
    }
    decoder.finish();
    while decoder.pull(&mut out)? == Progress::More {}
    Ok(out)
}

fn text() -> Vec<u8> {
    (0u32..50_000).flat_map(|number| number.to_string().into_bytes()).collect()
}

#[test]
fn codings_are_undone() {
    let text = text();
    for (header, coding) in [
        ("gzip", "gzip"),
        ("X-GZip", "gzip"),
        ("identity, gzip", "gzip"),
        ("deflate", "zlib"),
        ("deflate", "deflate"),
        ("br", "br"),
        ("zstd", "zstd"),
    ] {
        let encoded = encode(coding, &text);
        assert_eq!(decode(header, &[&encoded]).unwrap(), text, "{header} {coding}");
        assert_eq!(decode(header, &[]).unwrap(), b"", "{header}");
        let empty = encode(coding, b"");
        assert_eq!(decode(header, &[&empty]).unwrap(), b"", "{header} {coding} of nothing");
        for cut in [1, 5, encoded.len() / 2, encoded.len() - 1] {
            let result = decode(header, &[&encoded[..cut]]);
            assert!(matches!(result, Err(Undecodable::Truncated { .. })), "{coding} {result:?}");
        }
        let trailing = decode(header, &[&encoded, b"garbage"]);
        assert!(matches!(trailing, Err(Undecodable::Malformed { .. })), "{coding}");
    }
    let twice = encode("br", &encode("gzip", &text));
    assert_eq!(decode("gzip, br", &[&twice]).unwrap(), text);
    let members = [encode("gzip", b"one "), encode("gzip", b"two")].concat();
    assert_eq!(decode("gzip", &[&members]).unwrap(), b"one two");
    let frames = [encode("zstd", b"one "), encode("zstd", b"two")].concat();
    assert_eq!(decode("zstd", &[&frames]).unwrap(), b"one two");
}

#[test]
fn other_codings_are_refused() {
    assert!(Decoder::new(None).unwrap().is_none());
    assert!(Decoder::new(Some(b" , identity")).unwrap().is_none());
    assert!(matches!(Decoder::new(Some(b"compress")), Err(Undecodable::Unknown)));
    assert!(matches!(Decoder::new(Some(b"gzip, dcz")), Err(Undecodable::Unknown)));
    assert!(matches!(Decoder::new(Some(b"gzip, br, zstd")), Err(Undecodable::Stacked)));
}

#[test]
fn headers_of_gzip_members_are_skipped() {
    let plain = encode("gzip", b"text");
    let mut full = plain[..10].to_vec();
    full[3] = FLAGS;
    full.extend_from_slice(b"\x03\x00abcname\0comment\0\x12\x34");
    full.extend_from_slice(&plain[10..]);
    assert_eq!(decode("gzip", &[&full]).unwrap(), b"text");
    let bytes: Vec<&[u8]> = full.chunks(1).collect();
    assert_eq!(decode("gzip", &bytes).unwrap(), b"text");
    full[3] |= 0x80;
    assert!(decode("gzip", &[&full]).is_err());
    let mut changed = plain;
    let crc = changed.len() - 8;
    changed[crc] ^= 1;
    assert!(decode("gzip", &[&changed]).is_err());
}

/// FEXTRA, FNAME, FCOMMENT and FHCRC.
const FLAGS: u8 = 0b1_1110;

#[test]
fn a_bomb_comes_out_in_parts() {
    let zeros = vec![0; 8 << 20];
    for coding in ["gzip", "zstd"] {
        let bomb = encode(coding, &zeros);
        let twice = encode("zstd", &bomb);
        let mut decoder =
            Decoder::new(Some(format!("{coding}, zstd").as_bytes())).unwrap().unwrap();
        decoder.push(&twice);
        let (mut total, mut out) = (0, Vec::new());
        loop {
            let progress = decoder.pull(&mut out).unwrap();
            assert!(out.len() <= MAX_PULL);
            total += out.len();
            out.clear();
            if progress == Progress::Drained {
                break;
            }
        }
        assert_eq!(total, zeros.len());
    }
}

#[test]
fn zstd_windows_are_bounded() {
    // RFC 8878, section 3.1.1: magic, no single segment, window descriptor.
    let frame = |exponent: u8| [0x28, 0xb5, 0x2f, 0xfd, 0, exponent << 3, 1, 0, 0];
    assert_eq!(decode("zstd", &[&frame(13)]).unwrap(), b"");
    assert!(matches!(decode("zstd", &[&frame(14)]), Err(Undecodable::Malformed { .. })));
}

proptest! {
    #[test]
    fn splits_do_not_matter(
        size in 0usize..3000,
        coding in prop::sample::select(&["gzip", "zlib", "deflate", "br", "zstd"][..]),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let text = &text()[..size];
        let encoded = encode(coding, text);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(encoded.len() + 1)).collect();
        cuts.extend([0, encoded.len()]);
        cuts.sort_unstable();
        let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &encoded[pair[0]..pair[1]]).collect();
        let header = if coding == "zlib" { "deflate" } else { coding };
        prop_assert_eq!(decode(header, &chunks).unwrap(), text);
    }
}
