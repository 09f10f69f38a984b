//! Fields of a header block.

use super::TarError;
use super::sparse::Map;
use crate::DeviceNumber;

/// Bytes of a block, the unit of the format.
pub(super) const BLOCK: usize = 512;

/// A block.
pub(super) type Block = [u8; BLOCK];

/// A header whose checksum is right.
#[derive(Debug)]
pub(super) struct Header<'a> {
    block: &'a Block,
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// Before POSIX: no prefix of the name, no devices.
    V7,
    Ustar,
    Gnu,
}

impl<'a> Header<'a> {
    pub(super) fn new(block: &'a Block) -> Result<Self, TarError> {
        let stated = unsigned(&block[148..156], "chksum")?;
        if stated != checksum(block, u64::from) && stated != checksum(block, signed) {
            return Err(TarError::Checksum);
        }
        let format = match &block[257..265] {
            b"ustar  \0" => Format::Gnu,
            magic if magic.starts_with(b"ustar\0") => Format::Ustar,
            _ => Format::V7,
        };
        Ok(Self { block, format })
    }

    /// The type of the entry.
    pub(super) fn flag(&self) -> u8 {
        self.block[156]
    }

    /// The name, with its prefix where the format has one.
    pub(super) fn path(&self) -> Vec<u8> {
        let name = text(&self.block[..100]);
        // star keeps times in the last bytes of the prefix.
        let prefix = if self.block.ends_with(b"tar\0") { 345..476 } else { 345..500 };
        let prefix = text(&self.block[prefix]);
        if self.format == Format::Ustar && !prefix.is_empty() {
            [prefix, b"/", name].concat()
        } else {
            name.to_vec()
        }
    }

    pub(super) fn link(&self) -> Vec<u8> {
        text(&self.block[157..257]).to_vec()
    }

    pub(super) fn size(&self) -> Result<u64, TarError> {
        unsigned(&self.block[124..136], "size")
    }

    /// Permission bits; the kind of file that some archivers add is in the type.
    pub(super) fn mode(&self) -> Result<u16, TarError> {
        let mode = number(&self.block[100..108], "mode")?;
        Ok(u16::try_from(mode & 0o7777).unwrap_or(0))
    }

    pub(super) fn uid(&self) -> Result<u64, TarError> {
        unsigned(&self.block[108..116], "uid")
    }

    pub(super) fn gid(&self) -> Result<u64, TarError> {
        unsigned(&self.block[116..124], "gid")
    }

    /// Seconds since the Unix epoch.
    pub(super) fn mtime(&self) -> Result<i64, TarError> {
        number(&self.block[136..148], "mtime")
    }

    pub(super) fn device(&self) -> Result<DeviceNumber, TarError> {
        let field = |bytes, name, bits: u32| {
            let value = u32::try_from(unsigned(bytes, name)?).ok();
            value.filter(|value| value >> bits == 0).ok_or(TarError::Field(name))
        };
        if self.format == Format::V7 {
            return Err(TarError::Field("magic"));
        }
        Ok(DeviceNumber {
            major: field(&self.block[329..337], "devmajor", 12)?,
            minor: field(&self.block[337..345], "devminor", 20)?,
        })
    }

    /// Length of a sparse file in GNU's first format.
    pub(super) fn sparse_size(&self) -> Result<u64, TarError> {
        unsigned(&self.block[483..495], "realsize")
    }

    /// Appends the extents that the header has room for; true when blocks with more of them follow.
    pub(super) fn sparse_map(&self, map: &mut Map) -> Result<bool, TarError> {
        if self.format != Format::Gnu {
            return Err(TarError::Sparse);
        }
        extents(&self.block[386..482], map)?;
        Ok(self.block[482] != 0)
    }
}

/// Appends the extents of a block behind a header; true when another one follows.
pub(super) fn sparse_continuation(block: &Block, map: &mut Map) -> Result<bool, TarError> {
    extents(&block[..504], map)?;
    Ok(block[504] != 0)
}

/// Pairs of offset and length up to the first that is not used.
fn extents(bytes: &[u8], map: &mut Map) -> Result<(), TarError> {
    for pair in bytes.chunks_exact(24) {
        let (offset, length) = pair.split_at(12);
        if offset[0] == 0 || length[0] == 0 {
            break;
        }
        map.push(unsigned(offset, "offset")?, unsigned(length, "numbytes")?)?;
    }
    Ok(())
}

/// Bytes up to the first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The sum of all bytes, those of the checksum as blanks.
fn checksum(block: &Block, value: fn(u8) -> u64) -> u64 {
    let (before, rest) = block.split_at(148);
    let sum = |bytes: &[u8]| bytes.iter().fold(0u64, |sum, byte| sum.wrapping_add(value(*byte)));
    sum(before).wrapping_add(sum(&rest[8..])).wrapping_add(8 * u64::from(b' '))
}

/// Some old archivers added up signed bytes.
fn signed(byte: u8) -> u64 {
    i64::from(byte.cast_signed()).cast_unsigned()
}

fn unsigned(field: &[u8], name: &'static str) -> Result<u64, TarError> {
    u64::try_from(number(field, name)?).map_err(|_| TarError::Field(name))
}

/// Octal digits between blanks or NULs; or, with the first bit set, a two's complement number in
/// base 256 (GNU tar manual, "Extensions").
fn number(field: &[u8], name: &'static str) -> Result<i64, TarError> {
    let invalid = || TarError::Field(name);
    if let Some((first, rest)) = field.split_first().filter(|(first, _)| **first & 0x80 != 0) {
        // The second bit is the sign.
        let negative = first & 0x40 != 0;
        let start = if negative { i64::from(first.cast_signed()) } else { i64::from(first & 0x3f) };
        return rest.iter().try_fold(start, |value, byte| {
            value.checked_mul(256).map(|value| value | i64::from(*byte)).ok_or_else(invalid)
        });
    }
    let blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !blank(byte)).unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(blank).unwrap_or(digits.len());
    if !digits[end..].iter().all(blank) {
        return Err(invalid());
    }
    // A field has at most 12 digits of 3 bits.
    digits[..end].iter().try_fold(0, |value, byte| match byte {
        b'0'..=b'7' => Ok(value << 3 | i64::from(byte - b'0')),
        _ => Err(invalid()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(field: &[u8]) -> Option<i64> {
        number(field, "size").ok()
    }

    #[test]
    fn octal_numbers_are_read_as_archivers_write_them() {
        assert_eq!(value(b"0000644\0"), Some(0o644));
        assert_eq!(value(b"   644 \0"), Some(0o644));
        assert_eq!(value(b"77777777777 "), Some(0o77_777_777_777));
        assert_eq!(value(b"\0\0\0\0\0\0\0\0"), Some(0));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for bad in [b"0000648\0", b"-000644\0", b"0x00644\0", b"644\x001\0\0\0", b"12 34\0\0\0"] {
            assert_eq!(value(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn base_256_numbers_have_a_sign_and_a_range() {
        assert_eq!(value(b"\x80\0\0\0\0\0\x01\0"), Some(256));
        assert_eq!(value(b"\xff\xff\xff\xff\xff\xff\xff\xff"), Some(-1));
        assert_eq!(value(b"\xff\xff\xff\xff\xff\xff\xff\x00"), Some(-256));
        assert_eq!(value(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"), Some(i64::MAX));
        assert_eq!(value(b"\x80\0\0\0\x80\0\0\0\0\0\0\0"), None);
        assert_eq!(value(b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), None);
        assert!(unsigned(b"\xff\xff\xff\xff\xff\xff\xff\xff", "size").is_err());
    }
}
