//! Replies, written field by field behind the header that is filled in last.

use std::time::Duration;

use crate::abi::{self, DIRENT, ENTRY_OUT, OUT_HEADER};
use crate::open::Caching;
use crate::request::{Lock, LockKind};
use crate::types::{Attr, Entry, Errno, FileKind, FsStats, Handle, Lookup, NodeId, Time};

/// The bits of `stx_mask` that every file has, and of the time when it was made (statx(2)).
const STATX_BASIC_STATS: u32 = 0x7ff;
const STATX_BTIME: u32 = 0x800;

/// A reply in the making, at the end of a buffer.
#[derive(Debug)]
pub(crate) struct Reply<'a> {
    pub(crate) out: &'a mut Vec<u8>,
    start: usize,
    unique: u64,
}

impl<'a> Reply<'a> {
    /// Leaves room for the header.
    pub(crate) fn begin(out: &'a mut Vec<u8>, unique: u64) -> Self {
        let start = out.len();
        out.resize(start + OUT_HEADER, 0);
        Self { out, start, unique }
    }

    /// No reply: the buffer is as it was.
    pub(crate) fn abandon(self) {
        self.out.truncate(self.start);
    }

    /// `struct fuse_out_header`; an error has no payload.
    pub(crate) fn finish(self, result: Result<(), Errno>) {
        if result.is_err() {
            self.out.truncate(self.start + OUT_HEADER);
        }
        let error = result.err().map_or(0, |errno| -errno.number());
        // A payload is bounded by MAX_DATA, so its length always fits.
        let len = u32::try_from(self.out.len() - self.start).unwrap_or(u32::MAX);
        let header = &mut self.out[self.start..self.start + OUT_HEADER];
        header[..4].copy_from_slice(&len.to_le_bytes());
        header[4..8].copy_from_slice(&error.to_le_bytes());
        header[8..].copy_from_slice(&self.unique.to_le_bytes());
    }

    /// `struct fuse_entry_out`; a node of zero is a name that the client may remember as absent.
    pub(crate) fn lookup(&mut self, lookup: &Lookup) {
        match lookup {
            Lookup::Found(entry) => put_entry(self.out, entry),
            Lookup::Absent(ttl) => put_entry(
                self.out,
                &Entry {
                    node: NodeId(0),
                    attr: Attr::default(),
                    entry_ttl: *ttl,
                    attr_ttl: Duration::ZERO,
                },
            ),
        }
    }

    /// `struct fuse_attr_out`.
    pub(crate) fn attr(&mut self, attr: &Attr, ttl: Duration) {
        put64(self.out, ttl.as_secs());
        put32(self.out, ttl.subsec_nanos());
        put32(self.out, 0);
        put_attr(self.out, attr);
    }

    /// `struct fuse_statx_out`, which has nothing of the attributes that few file systems have.
    pub(crate) fn statx(&mut self, attr: &Attr, ttl: Duration) {
        put64(self.out, ttl.as_secs());
        put32(self.out, ttl.subsec_nanos());
        self.out.extend_from_slice(&[0; 20]); // flags, spare
        let btime = if attr.btime.is_some() { STATX_BTIME } else { 0 };
        for number in
            [STATX_BASIC_STATS | btime, attr.blksize, 0, 0, attr.nlink, attr.uid, attr.gid]
        {
            put32(self.out, number);
        }
        put32(self.out, attr.mode & 0xffff);
        for number in [attr.ino, attr.size, attr.blocks, 0] {
            put64(self.out, number);
        }
        for time in [attr.atime, attr.btime.unwrap_or_default(), attr.ctime, attr.mtime] {
            put64(self.out, time.seconds.cast_unsigned());
            put32(self.out, time.nanos);
            put32(self.out, 0);
        }
        // Here the number is in two parts (`new_decode_dev`); that of the file system is the client's own.
        let (major, minor) = (attr.rdev >> 8 & 0xfff, attr.rdev & 0xff | attr.rdev >> 12 & !0xff);
        for number in [major, minor, 0, 0] {
            put32(self.out, number);
        }
        self.out.extend_from_slice(&[0; 112]);
    }

    /// `struct fuse_open_out`.
    pub(crate) fn opened(&mut self, handle: Handle, caching: Caching, directory: bool) {
        let keep = abi::FOPEN_KEEP_CACHE | if directory { abi::FOPEN_CACHE_DIR } else { 0 };
        put64(self.out, handle.0);
        put32(
            self.out,
            match caching {
                Caching::Keep => keep,
                Caching::Renew => 0,
                Caching::None => abi::FOPEN_DIRECT_IO,
            },
        );
        put32(self.out, 0);
    }

    /// The value of an extended attribute or the list of their names, or its length (`struct
    /// fuse_getxattr_out`) if that is what the client asks for.
    pub(crate) fn xattr(&mut self, value: &[u8], size: usize) -> Result<(), Errno> {
        match size {
            0 => self.number(value.len() as u64),
            _ if value.len() > size => return Err(Errno::ERANGE),
            _ => self.out.extend_from_slice(value),
        }
        Ok(())
    }

    /// `struct fuse_lk_out`: what stands against the lock, or that nothing does.
    pub(crate) fn lock(&mut self, asked: &Lock, held: Option<&Lock>) {
        let Lock { kind, start, end, pid, .. } =
            held.copied().unwrap_or(Lock { kind: LockKind::Unlock, ..*asked });
        put64(self.out, start);
        put64(self.out, end);
        put32(self.out, kind as u32);
        put32(self.out, pid);
    }

    /// `struct fuse_lseek_out`, and any other reply that is one number.
    pub(crate) fn number(&mut self, number: u64) {
        put64(self.out, number);
    }

    /// `struct fuse_statfs_out`.
    pub(crate) fn statfs(&mut self, stats: &FsStats) {
        for number in [stats.blocks, stats.bfree, stats.bavail, stats.files, stats.ffree] {
            put64(self.out, number);
        }
        for number in [stats.bsize, stats.namelen, stats.frsize, 0, 0, 0, 0, 0, 0, 0] {
            put32(self.out, number);
        }
    }

    /// `struct fuse_init_out`, 64 bytes since 7.23.
    pub(crate) fn init(&mut self, max_readahead: u32, flags: u64) {
        let (low, high) = (flags as u32, (flags >> 32) as u32);
        for number in [abi::MAJOR, abi::MINOR, max_readahead, low] {
            put32(self.out, number);
        }
        put16(self.out, 64); // max_background
        put16(self.out, 48); // congestion_threshold
        put32(self.out, abi::MAX_DATA);
        put32(self.out, 1); // time_gran: nanoseconds
        put16(self.out, abi::MAX_PAGES);
        put16(self.out, 0); // map_alignment
        put32(self.out, high);
        for _ in 0..7 {
            put32(self.out, 0);
        }
    }
}

/// One name of a directory.
#[derive(Debug, Clone, Copy)]
pub struct DirItem<'a> {
    /// The name.
    pub name: &'a [u8],
    /// Inode number as stat shows it.
    pub ino: u64,
    /// Position after this name: where to go on.
    pub next: u64,
    /// Kind, if it is known.
    pub kind: Option<FileKind>,
}

/// The reply of READDIR or READDIRPLUS, filled to the size that the client gave.
#[derive(Debug)]
pub struct DirBuffer<'a> {
    out: &'a mut Vec<u8>,
    end: usize,
    plus: bool,
    pushed: usize,
    full: bool,
}

impl<'a> DirBuffer<'a> {
    /// Appends at most `size` bytes to `out`.
    pub fn new(out: &'a mut Vec<u8>, size: usize, plus: bool) -> Self {
        let end = out.len() + size;
        Self { out, end, plus, pushed: 0, full: false }
    }

    /// Whether the client wants nodes with the names (READDIRPLUS).
    #[must_use]
    pub const fn plus(&self) -> bool {
        self.plus
    }

    /// Bytes left.
    #[must_use]
    pub fn room(&self) -> usize {
        self.end.saturating_sub(self.out.len())
    }

    /// Whether a name still fits. To be asked before a reference is counted for its node.
    pub fn fits(&mut self, name: &[u8]) -> bool {
        let size =
            (DIRENT + name.len()).next_multiple_of(8) + if self.plus { ENTRY_OUT } else { 0 };
        self.full |= size > self.room();
        !self.full
    }

    /// Adds a name that fits. Without an entry the client looks the node up when it wants it.
    pub fn push(&mut self, item: &DirItem<'_>, entry: Option<&Entry>) {
        if !self.fits(item.name) {
            return;
        }
        if self.plus {
            match entry {
                Some(entry) => put_entry(self.out, entry),
                None => self.out.extend_from_slice(&[0; ENTRY_OUT]),
            }
        }
        put64(self.out, item.ino);
        put64(self.out, item.next);
        put32(self.out, u32::try_from(item.name.len()).unwrap_or(0));
        put32(self.out, item.kind.map_or(0, |kind| kind as u32));
        self.out.extend_from_slice(item.name);
        let padding = item.name.len().next_multiple_of(8) - item.name.len();
        self.out.extend_from_slice(&[0; 8][..padding]);
        self.pushed += 1;
    }

    /// An empty reply means the end of the directory, so a buffer too small for one name is an error.
    pub(crate) const fn too_small(&self) -> bool {
        self.full && self.pushed == 0
    }
}

pub(crate) fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    put64(out, entry.node.0);
    put64(out, 0); // generation: node ids are never used twice
    put64(out, entry.entry_ttl.as_secs());
    put64(out, entry.attr_ttl.as_secs());
    put32(out, entry.entry_ttl.subsec_nanos());
    put32(out, entry.attr_ttl.subsec_nanos());
    put_attr(out, &entry.attr);
}

fn put_attr(out: &mut Vec<u8>, attr: &Attr) {
    let Time { seconds: atime, nanos: atime_nanos } = attr.atime;
    let Time { seconds: mtime, nanos: mtime_nanos } = attr.mtime;
    let Time { seconds: ctime, nanos: ctime_nanos } = attr.ctime;
    let wide = [attr.ino, attr.size, attr.blocks];
    for number in wide.into_iter().chain([atime, mtime, ctime].map(i64::cast_unsigned)) {
        put64(out, number);
    }
    let narrow = [atime_nanos, mtime_nanos, ctime_nanos, attr.mode, attr.nlink, attr.uid, attr.gid];
    for number in narrow.into_iter().chain([attr.rdev, attr.blksize, 0]) {
        put32(out, number);
    }
}

fn put16(out: &mut Vec<u8>, number: u16) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put32(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}
