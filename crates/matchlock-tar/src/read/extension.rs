//! What comes in front of an entry and says more of it: pax extended headers, GNU's long names.

use super::header::{Header, text};
use super::sparse::{self, Map, decimal};
use super::{Entry, Kind, TarError};
use crate::Attributes;

/// Extended attributes in pax headers, since Jörg Schilling's star.
const XATTR: &[u8] = b"SCHILY.xattr.";

/// The extensions of one entry.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    pax: Option<Pax>,
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

/// What is stored for an entry.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) bytes: u64,
    pub(super) sparse: Option<sparse::Kind>,
}

/// The records of a pax header that are understood; the others change nothing of a file.
#[derive(Debug, Default)]
struct Pax {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    xattrs: std::collections::BTreeMap<Box<[u8]>, Box<[u8]>>,
    sparse: SparseRecords,
}

#[derive(Debug, Default)]
struct SparseRecords {
    any: bool,
    version: (Option<u64>, Option<u64>),
    name: Option<Vec<u8>>,
    size: Option<u64>,
    extents: Option<u64>,
    offset: Option<u64>,
    map: Map,
    listed: bool,
}

impl Extensions {
    pub(super) fn is_empty(&self) -> bool {
        self.pax.is_none() && self.long_path.is_none() && self.long_link.is_none()
    }

    pub(super) fn pax(&mut self, bytes: &[u8]) -> Result<(), TarError> {
        set(&mut self.pax, Pax::parse(bytes)?)
    }

    pub(super) fn long_path(&mut self, bytes: Vec<u8>) -> Result<(), TarError> {
        set(&mut self.long_path, until_nul(bytes))
    }

    pub(super) fn long_link(&mut self, bytes: Vec<u8>) -> Result<(), TarError> {
        set(&mut self.long_link, until_nul(bytes))
    }

    /// The entry that `header` and the extensions before it describe, and what is stored of it. The
    /// size of a sparse file may be in a place that only the caller can read.
    pub(super) fn apply(self, header: &Header<'_>) -> Result<(Entry, Stored), TarError> {
        let mut pax = self.pax.unwrap_or_default();
        let path = self.long_path.or(pax.sparse.name.take()).or(pax.path);
        let path = path.unwrap_or_else(|| header.path());
        let mut link = self.long_link.or(pax.link).unwrap_or_else(|| header.link());
        let kind = match header.flag() {
            // Before POSIX a directory was a file with a slash.
            0 if path.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink(std::mem::take(&mut link)),
            b'2' => Kind::Symlink(std::mem::take(&mut link)),
            b'3' => Kind::CharDevice(header.device()?),
            b'4' => Kind::BlockDevice(header.device()?),
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => return Err(TarError::Type(other)),
        };
        // What is no regular file has no content, whatever its size says: as container engines read it.
        let bytes = match kind {
            Kind::File => pax.size.map_or_else(|| header.size(), Ok)?,
            _ => 0,
        };
        // Lengths are signed in every other reader; ours can be added to without overflow.
        if i64::try_from(bytes).is_err() {
            return Err(TarError::Field("size"));
        }
        let (size, sparse) = match (header.flag() == b'S', pax.sparse.any) {
            (false, false) => (bytes, None),
            (true, false) => (bytes, Some(sparse::Kind::Old)),
            (false, true) if kind == Kind::File => pax.sparse.kind()?,
            (_, true) => return Err(TarError::Conflict),
        };
        let id = |value: Option<u64>, stated: Result<u64, TarError>, name| {
            let value = value.map_or(stated, Ok)?;
            // The highest number stands for nobody (chown(2)).
            let id = u32::try_from(value).ok().filter(|id| *id != u32::MAX);
            id.ok_or(TarError::Field(name))
        };
        let attributes = Attributes {
            mode: header.mode()?,
            uid: id(pax.uid, header.uid(), "uid")?,
            gid: id(pax.gid, header.gid(), "gid")?,
            mtime: pax.mtime.map_or_else(|| Ok((header.mtime()?, 0)), Ok)?,
            xattrs: pax.xattrs,
        };
        Ok((Entry { path, attributes, kind, size }, Stored { bytes, sparse }))
    }
}

impl Pax {
    fn parse(bytes: &[u8]) -> Result<Self, TarError> {
        let mut pax = Self::default();
        for record in Records(bytes) {
            let (key, value) = record?;
            // An empty value takes back what an earlier header said.
            let given = Some(value).filter(|value| !value.is_empty());
            let number = || given.map(|value| decimal(value).ok_or(TarError::Pax)).transpose();
            match key {
                b"path" => pax.path = given.map(string).transpose()?,
                b"linkpath" => pax.link = given.map(string).transpose()?,
                b"size" => pax.size = number()?,
                b"uid" => pax.uid = number()?,
                b"gid" => pax.gid = number()?,
                b"mtime" => pax.mtime = given.map(time).transpose()?,
                _ => match (key.strip_prefix(XATTR), key.strip_prefix(b"GNU.sparse.")) {
                    (Some(name), _) if !name.is_empty() => {
                        pax.xattrs.insert(name.into(), value.into());
                    }
                    (_, Some(key)) => pax.sparse.record(key, value)?,
                    _ => {}
                },
            }
        }
        Ok(pax)
    }
}

impl SparseRecords {
    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), TarError> {
        let number = || decimal(value).ok_or(TarError::Sparse);
        self.any = true;
        match key {
            b"major" => self.version.0 = Some(number()?),
            b"minor" => self.version.1 = Some(number()?),
            b"name" => self.name = Some(string(value)?),
            b"size" | b"realsize" => self.size = Some(number()?),
            b"numblocks" => self.extents = Some(number()?),
            // Format 0.0 repeats two keys for each extent.
            b"offset" => {
                self.listed = true;
                set(&mut self.offset, number()?)?;
            }
            b"numbytes" => {
                let offset = self.offset.take().ok_or(TarError::Sparse)?;
                self.map.push(offset, number()?)?;
            }
            b"map" => {
                if std::mem::replace(&mut self.listed, true) {
                    return Err(TarError::Conflict);
                }
                let mut numbers = value.split(|byte| *byte == b',').filter(|_| !value.is_empty());
                while let Some(offset) = numbers.next() {
                    let length = numbers.next().ok_or(TarError::Sparse)?;
                    let pair = decimal(offset).zip(decimal(length)).ok_or(TarError::Sparse)?;
                    self.map.push(pair.0, pair.1)?;
                }
            }
            _ => return Err(TarError::Sparse),
        }
        Ok(())
    }

    /// The size of the file and where its map is.
    fn kind(self) -> Result<(u64, Option<sparse::Kind>), TarError> {
        let size = self.size.ok_or(TarError::Sparse)?;
        let kind = match self.version {
            (Some(1), Some(0)) if !self.listed => sparse::Kind::Leading,
            (None | Some(0), None | Some(0 | 1)) if self.offset.is_none() => {
                let listed = self.map.len() as u64;
                if self.extents.is_some_and(|extents| extents != listed) {
                    return Err(TarError::Sparse);
                }
                sparse::Kind::Listed(self.map)
            }
            _ => return Err(TarError::Sparse),
        };
        Ok((size, Some(kind)))
    }
}

/// A header for all entries that follow. Container engines do not apply it; one that they would
/// have to apply to find the same entries is refused.
pub(super) fn check_global(bytes: &[u8]) -> Result<(), TarError> {
    for record in Records(bytes) {
        let (key, _) = record?;
        if matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(b"GNU.sparse.") {
            return Err(TarError::Conflict);
        }
    }
    Ok(())
}

/// `<length> <key>=<value>\n` one after the other, the length that of the whole record.
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), TarError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let record = self.split();
        if record.is_none() {
            self.0 = &[];
        }
        Some(record.ok_or(TarError::Pax))
    }
}

impl<'a> Records<'a> {
    fn split(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        // Extended headers are of at most 1 MiB: 7 digits.
        let blank = self.0.iter().take(8).position(|byte| *byte == b' ')?;
        let length = usize::try_from(decimal(&self.0[..blank])?).ok()?;
        let (record, rest) = self.0.split_at_checked(length)?;
        let record = record.get(blank + 1..)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|byte| *byte == b'=').filter(|at| *at > 0)?;
        self.0 = rest;
        Some((&record[..equals], &record[equals + 1..]))
    }
}

fn set<T>(place: &mut Option<T>, value: T) -> Result<(), TarError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(TarError::Conflict),
    }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(text(&bytes).len());
    bytes
}

fn string(value: &[u8]) -> Result<Vec<u8>, TarError> {
    if value.contains(&0) { Err(TarError::Pax) } else { Ok(value.to_vec()) }
}

/// Decimal seconds, possibly negative, with a fraction: rounded down to nanoseconds.
fn time(value: &[u8]) -> Result<(i64, u32), TarError> {
    let (negative, digits) = match value.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, value),
    };
    let mut parts = digits.splitn(2, |byte| *byte == b'.');
    let whole = parts.next().and_then(decimal).and_then(|whole| i64::try_from(whole).ok());
    let whole = whole.ok_or(TarError::Pax)?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(TarError::Pax);
    }
    let nanos = fraction.iter().chain(std::iter::repeat(&b'0')).take(9);
    let nanos = nanos.fold(0, |nanos, digit| nanos * 10 + u32::from(digit - b'0'));
    Ok(match (negative, nanos) {
        (false, _) => (whole, nanos),
        (true, 0) => (-whole, 0),
        (true, _) => (-whole - 1, 1_000_000_000 - nanos),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_fractions_and_signs() {
        assert_eq!(time(b"1700000000.123456789").ok(), Some((1_700_000_000, 123_456_789)));
        assert_eq!(time(b"5").ok(), Some((5, 0)));
        assert_eq!(time(b"5.").ok(), Some((5, 0)));
        assert_eq!(time(b"-1.5").ok(), Some((-2, 500_000_000)));
        assert_eq!(time(b"-3").ok(), Some((-3, 0)));
        assert_eq!(time(b"0.0000000019").ok(), Some((0, 1)));
        for bad in ["", "-", "1.x", "1e9", "--1", " 1", "9223372036854775808"] {
            assert!(time(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn records_say_their_own_length() {
        let good: Vec<_> = Records(b"12 path=a=b\n6 k=v\n").map(|r| r.expect("a record")).collect();
        assert_eq!(good, [(&b"path"[..], &b"a=b"[..]), (b"k", b"v")]);
        for bad in [
            &b"13 path=a=b\n"[..],
            b"11 path=a=b\n",
            b"12 path=a=b",
            b"6 =abc\n",
            b"5 abc\n",
            b"path=a\n",
            b"0 a=b\n",
            b"1 a=b\n",
            b"-6 k=v\n",
            b"99999999999999999999 a=b\n",
            b"\0",
        ] {
            assert!(Records(bad).any(|record| record.is_err()), "{bad:?}");
        }
    }
}
