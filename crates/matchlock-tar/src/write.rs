//! Writes archives: POSIX pax interchange (IEEE Std 1003.1-2017, pax, "ustar Interchange Format" and
//! "pax Extended Header"), of which a pax header is written only for what a ustar header cannot say.

use std::io::{self, Write};

/// Unit of everything in an archive, in bytes.
const BLOCK: usize = 512;

/// Greatest numbers of the octal fields: seven digits, eleven digits.
const MAX_ID: u32 = 0o777_7777;
const MAX_LONG: u64 = 0o777_7777_7777;

/// One file.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// Relative, without a trailing slash; empty for the root.
    pub path: &'a [u8],
    /// What it is.
    pub kind: Kind<'a>,
    /// Permission bits and those above them.
    pub mode: u32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds and nanoseconds since the Unix epoch.
    pub mtime: (i64, u32),
    /// Extended attributes.
    pub xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

/// What an entry is.
#[derive(Debug, Clone, Copy)]
pub enum Kind<'a> {
    /// So many bytes follow.
    File(u64),
    /// Another name of a file that came before.
    HardLink(&'a [u8]),
    /// A symbolic link, and its text.
    Symlink(&'a [u8]),
    /// A character device: major and minor number.
    CharDevice(u32, u32),
    /// A block device.
    BlockDevice(u32, u32),
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

impl Kind<'_> {
    fn type_flag(self) -> u8 {
        match self {
            Self::File(_) => b'0',
            Self::HardLink(_) => b'1',
            Self::Symlink(_) => b'2',
            Self::CharDevice(..) => b'3',
            Self::BlockDevice(..) => b'4',
            Self::Directory => b'5',
            Self::Fifo => b'6',
        }
    }
}

/// Writes the header of an entry. The content of a file follows, and then [`pad`].
///
/// # Errors
/// Those of the output.
pub fn header(entry: &Entry<'_>, output: &mut impl Write) -> io::Result<()> {
    let mut path = entry.path.to_vec();
    match entry.kind {
        Kind::Directory if path.is_empty() => path.extend(b"./"),
        Kind::Directory => path.push(b'/'),
        _ => {}
    }
    let records = records(entry, &path);
    if !records.is_empty() {
        let extended = Entry {
            path: b"",
            kind: Kind::File(records.len() as u64),
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            xattrs: &[],
        };
        output.write_all(&block(&extended, b"PaxHeaders/0", b'x'))?;
        output.write_all(&records)?;
        pad(records.len() as u64, output)?;
    }
    output.write_all(&block(entry, &path, entry.kind.type_flag()))
}

/// Fills the last block of `size` bytes of content.
///
/// # Errors
/// Those of the output.
pub fn pad(size: u64, output: &mut impl Write) -> io::Result<()> {
    let rest = (size % BLOCK as u64) as usize;
    let zeros = [0; BLOCK];
    output.write_all(zeros.get(..(BLOCK - rest) % BLOCK).unwrap_or_default())
}

/// Two empty blocks.
///
/// # Errors
/// Those of the output.
pub fn end(output: &mut impl Write) -> io::Result<()> {
    output.write_all(&[0; 2 * BLOCK])?;
    output.flush()
}

/// What the ustar header cannot say.
fn records(entry: &Entry<'_>, path: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    let mut add = |key: &[u8], value: &[u8]| record(&mut all, key, value);
    if path.len() > 100 {
        add(b"path", path);
    }
    if let Kind::HardLink(link) | Kind::Symlink(link) = entry.kind
        && link.len() > 100
    {
        add(b"linkpath", link);
    }
    if let Kind::File(size) = entry.kind
        && size > MAX_LONG
    {
        add(b"size", size.to_string().as_bytes());
    }
    for (key, id) in [(b"uid", entry.uid), (b"gid", entry.gid)] {
        if id > MAX_ID {
            add(key, id.to_string().as_bytes());
        }
    }
    let (seconds, nanoseconds) = entry.mtime;
    if nanoseconds != 0 || !(0..=MAX_LONG as i64).contains(&seconds) {
        add(b"mtime", decimal(seconds, nanoseconds).as_bytes());
    }
    for (name, value) in entry.xattrs {
        add(&[b"SCHILY.xattr.", name.as_slice()].concat(), value);
    }
    all
}

/// A point in time as a decimal number: before the epoch the fraction counts backwards too.
fn decimal(seconds: i64, nanoseconds: u32) -> String {
    match (seconds, nanoseconds) {
        (_, 0) => seconds.to_string(),
        (0.., _) => format!("{seconds}.{nanoseconds:09}"),
        _ => {
            let fraction = 1_000_000_000_u32.saturating_sub(nanoseconds);
            format!("-{}.{fraction:09}", (seconds + 1).unsigned_abs())
        }
    }
}

/// `"%d %s=%s\n"`, where the number is the length of all of it.
fn record(all: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let digits = |n: usize| n.to_string().len();
    let mut length = rest + digits(rest);
    if digits(length) > digits(rest) {
        length = rest + digits(length);
    }
    all.extend(length.to_string().as_bytes());
    for part in [b" ", key, b"=", value, b"\n"] {
        all.extend(part);
    }
}

fn block(entry: &Entry<'_>, path: &[u8], type_flag: u8) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let (link, (major, minor), size) = match entry.kind {
        Kind::HardLink(link) | Kind::Symlink(link) => (link, (0, 0), 0),
        Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) => {
            (&b""[..], (major, minor), 0)
        }
        Kind::File(size) => (&b""[..], (0, 0), size),
        Kind::Directory | Kind::Fifo => (&b""[..], (0, 0), 0),
    };
    // What does not fit is in the pax header, and here cut off or 0.
    let fitting = |n: u64, max: u64| if n <= max { n } else { 0 };
    let id = |n: u32| fitting(n.into(), MAX_ID.into());
    let seconds = u64::try_from(entry.mtime.0).unwrap_or(0);
    text(&mut block, 0, 100, path);
    octal(&mut block, 100, 7, u64::from(entry.mode & 0o7777));
    octal(&mut block, 108, 7, id(entry.uid));
    octal(&mut block, 116, 7, id(entry.gid));
    octal(&mut block, 124, 11, fitting(size, MAX_LONG));
    octal(&mut block, 136, 11, fitting(seconds, MAX_LONG));
    text(&mut block, 148, 8, b"        ");
    text(&mut block, 156, 1, &[type_flag]);
    text(&mut block, 157, 100, link);
    text(&mut block, 257, 8, b"ustar\x0000");
    octal(&mut block, 329, 7, u64::from(major));
    octal(&mut block, 337, 7, u64::from(minor));
    let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
    octal(&mut block, 148, 6, sum);
    text(&mut block, 154, 2, b"\0 ");
    block
}

/// Copies what fits.
fn text(block: &mut [u8; BLOCK], at: usize, room: usize, text: &[u8]) {
    for (to, from) in block.iter_mut().skip(at).take(room).zip(text) {
        *to = *from;
    }
}

fn octal(block: &mut [u8; BLOCK], at: usize, digits: usize, number: u64) {
    text(block, at, digits, format!("{number:0digits$o}").as_bytes());
}

#[cfg(test)]
mod tests;
