//! Compressed layers: RFC 1952 (gzip) and RFC 8878 (Zstandard).

use std::io::{self, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

/// Largest window of Zstandard, as a power of two: what its own tool accepts without being told.
const WINDOW_LOG_MAX: u32 = 27;
/// Bytes that are read of compressed input at a time.
const BUFFER: usize = 128 * 1024;

/// How an archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, possibly of several members.
    Gzip,
    /// Zstandard, possibly of several frames; with a window of at most 128 MiB.
    Zstd,
}

impl Compression {
    /// The compression that these first bytes belong to; [`Compression::None`] when they belong to
    /// none. 4 bytes are enough.
    #[must_use]
    pub fn sniff(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // A frame, or one to be skipped.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }

    /// What `input` holds, uncompressed. Truncated and damaged input is an error, garbage behind the
    /// last member or frame too.
    ///
    /// # Errors
    /// Zstandard's memory cannot be had.
    pub fn reader<'a, R: Read + Send + 'a>(
        self,
        input: R,
    ) -> io::Result<Box<dyn Read + Send + 'a>> {
        let input = BufReader::with_capacity(BUFFER, input);
        Ok(match self {
            Self::None => Box::new(input),
            Self::Gzip => Box::new(MultiGzDecoder::new(input)),
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
                decoder.window_log_max(WINDOW_LOG_MAX)?;
                Box::new(decoder)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{gzip, zstd};

    fn unpack(compression: Compression, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        compression.reader(bytes)?.read_to_end(&mut out).map(|_| out)
    }

    #[test]
    fn members_and_frames_follow_each_other() {
        for (compression, pack) in
            [(Compression::Gzip, gzip as fn(&[u8]) -> _), (Compression::Zstd, zstd)]
        {
            let mut bytes = pack(b"first, ");
            assert_eq!(Compression::sniff(&bytes), compression);
            bytes.extend(pack(b""));
            bytes.extend(pack(b"second"));
            assert_eq!(unpack(compression, &bytes).expect("good"), b"first, second");
            for length in 1..bytes.len() {
                let cut = unpack(compression, &bytes[..length]);
                let whole = [pack(b"first, ").len(), pack(b"first, ").len() + pack(b"").len()];
                assert_eq!(cut.is_ok(), whole.contains(&length), "{compression:?} {length}");
            }
        }
    }

    #[test]
    fn garbage_and_damage_are_errors() {
        for (compression, bytes) in
            [(Compression::Gzip, gzip(b"content")), (Compression::Zstd, zstd(b"content"))]
        {
            let behind = [&bytes[..], b"garbage garbage garbage"].concat();
            assert!(unpack(compression, &behind).is_err(), "{compression:?}");
            assert!(unpack(compression, b"no such thing").is_err(), "{compression:?}");
        }
        let mut bytes = gzip(b"content");
        let checksum = bytes.len() - 8;
        bytes[checksum] ^= 1;
        assert!(unpack(Compression::Gzip, &bytes).is_err());
    }

    #[test]
    fn a_huge_window_is_refused() {
        // A frame header: no single segment, no content size, no checksum; window of 2^28, 2^27.
        let frame = |log: u8| [0x28, 0xb5, 0x2f, 0xfd, 0, (log - 10) << 3, 1, 0, 0];
        assert_eq!(unpack(Compression::Zstd, &frame(27)).expect("an empty block"), b"");
        assert!(unpack(Compression::Zstd, &frame(28)).is_err());
    }
}
