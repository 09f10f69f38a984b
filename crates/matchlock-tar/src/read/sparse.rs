//! Maps of sparse files: which parts of a file an archive stores (GNU tar manual, "Storing Sparse
//! Files").

use std::io::BufRead;

use super::header::BLOCK;
use super::{Archive, TarError};

/// Extents of one file.
const EXTENTS_MAX: usize = 1 << 20;

/// A stored part of a file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// The stored parts of a file, in their order. Complete maps are checked by [`Map::check`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Map(Vec<Extent>);

/// Where the map of an entry is.
#[derive(Debug)]
pub(super) enum Kind {
    /// In the header and in blocks behind it.
    Old,
    /// In the extended header: format 0.0 and 0.1.
    Listed(Map),
    /// In the first blocks of the content: format 1.0.
    Leading,
}

impl Extent {
    /// The first byte behind; no overflow in a map that was checked.
    pub(super) fn end(self) -> u64 {
        self.offset.saturating_add(self.length)
    }
}

impl Map {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn get(&self, index: usize) -> Option<Extent> {
        self.0.get(index).copied()
    }

    /// The map of a file that is stored as a whole.
    pub(super) fn push_whole(&mut self, length: u64) {
        self.0.push(Extent { offset: 0, length });
    }

    pub(super) fn push(&mut self, offset: u64, length: u64) -> Result<(), TarError> {
        if self.0.len() == EXTENTS_MAX {
            return Err(TarError::Sparse);
        }
        self.0.push(Extent { offset, length });
        Ok(())
    }

    /// In order, without overlap, within the file, and together as long as what is stored.
    pub(super) fn check(&self, size: u64, stored: u64) -> Result<(), TarError> {
        let (mut end, mut sum) = (0u64, 0u64);
        for extent in &self.0 {
            if extent.offset < end {
                return Err(TarError::Sparse);
            }
            end = extent.offset.checked_add(extent.length).ok_or(TarError::Sparse)?;
            // No overflow: extents do not overlap.
            sum += extent.length;
        }
        if end > size || sum != stored {
            return Err(TarError::Sparse);
        }
        Ok(())
    }
}

/// Reads the map in front of the content into the body's map; its length in blocks.
///
/// Decimal numbers, each with a line feed: how many extents, then offset and length of each; filled
/// up to a whole block.
pub(super) fn read_leading<R: BufRead>(archive: &mut Archive<R>) -> Result<u64, TarError> {
    let mut blocks = 0;
    let mut expected: Option<u64> = None;
    let mut offset: Option<u64> = None;
    let mut number: Option<u64> = None;
    loop {
        blocks += 1;
        let block: [u8; BLOCK] = archive.block()?.ok_or(TarError::Truncated)?;
        for byte in block {
            if byte != b'\n' {
                number = Some(append_digit(number, byte)?);
                continue;
            }
            let value = number.take().ok_or(TarError::Sparse)?;
            match (expected, offset.take()) {
                (None, _) if value > EXTENTS_MAX as u64 => return Err(TarError::Sparse),
                (None, _) => expected = Some(value),
                (Some(_), None) => offset = Some(value),
                (Some(left), Some(offset)) => {
                    archive.body.map.push(offset, value)?;
                    expected = Some(left - 1);
                }
            }
            if expected == Some(0) {
                return Ok(blocks);
            }
        }
    }
}

/// A decimal number with one digit more.
fn append_digit(number: Option<u64>, digit: u8) -> Result<u64, TarError> {
    let digit = match digit {
        b'0'..=b'9' => u64::from(digit - b'0'),
        _ => return Err(TarError::Sparse),
    };
    number.unwrap_or(0).checked_mul(10).and_then(|n| n.checked_add(digit)).ok_or(TarError::Sparse)
}

/// A decimal number.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(None, |number, digit| append_digit(number, *digit).map(Some)).ok()?
}
