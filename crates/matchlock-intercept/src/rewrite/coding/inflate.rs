//! The `deflate` coding: zlib (RFC 1950), and the bare DEFLATE data that some servers mean by it.

use flate2::{Decompress, DecompressError, FlushDecompress, Status};

use super::Step;

/// The coding, as far as it is known which of the two it is.
pub(super) enum Deflate {
    /// Nothing is known, but perhaps the first byte.
    Unknown(Option<u8>),
    Known(Inflate),
}

impl Default for Deflate {
    fn default() -> Self {
        Self::Unknown(None)
    }
}

impl Deflate {
    pub(super) fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Step, DecompressError> {
        match self {
            Self::Known(inflate) => inflate.step(input, out),
            Self::Unknown(first) => match (*first, input) {
                (_, []) => Ok(Step { read: 0, written: 0 }),
                (None, [byte, ..]) => {
                    *first = Some(*byte);
                    Ok(Step { read: 1, written: 0 })
                }
                (Some(first), [second, ..]) => {
                    let header = [first, *second];
                    let mut inflate = Inflate::new(is_zlib(header));
                    let step = inflate.step(&header, out);
                    *self = Self::Known(inflate);
                    // Two bytes of input end in no more than an empty block: `out` has room.
                    Ok(Step { read: 1, written: step?.written })
                }
            },
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        matches!(self, Self::Known(Inflate { ended: true, .. }))
    }
}

/// RFC 1950, section 2.2: method 8, a window of at most 32 KiB, a check over both bytes.
fn is_zlib(header: [u8; 2]) -> bool {
    header[0] & 15 == 8 && header[0] >> 4 <= 7 && u16::from_be_bytes(header).is_multiple_of(31)
}

/// DEFLATE data (RFC 1951), perhaps within zlib.
pub(super) struct Inflate {
    state: Decompress,
    pub(super) ended: bool,
}

impl Inflate {
    pub(super) fn new(zlib: bool) -> Self {
        Self { state: Decompress::new(zlib), ended: false }
    }

    pub(super) fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Step, DecompressError> {
        if self.ended {
            return Ok(Step { read: 0, written: 0 });
        }
        let (read, written) = (self.state.total_in(), self.state.total_out());
        let status = self.state.decompress(input, out, FlushDecompress::None)?;
        self.ended = status == Status::StreamEnd;
        let since = |now: u64, before: u64| usize::try_from(now - before).unwrap_or(usize::MAX);
        Ok(Step {
            read: since(self.state.total_in(), read),
            written: since(self.state.total_out(), written),
        })
    }
}
