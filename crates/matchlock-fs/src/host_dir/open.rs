//! The only code that opens host files.
//!
//! A path of the host is a list of names, walked beneath the root by openat2(2) with
//! [`BENEATH`]: no `..`, no symbolic link and no magic link is ever followed, wherever the walk is
//! raced. What was found is compared with what the node stands for, so a swapped name is stale and
//! never another file. A file is first opened with `O_PATH`, which opens nothing, and its kind is
//! looked at before the open that counts; so no FIFO hangs us and no device is touched.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Mode, OFlags, ResolveFlags, Statx, StatxAttributes, StatxFlags, fstatfs, makedev,
    openat, openat2, statx,
};
use rustix::io::Errno as HostErrno;

use super::table::Identity;
use crate::types::{Attr, Errno, FileKind, Result, Time};

/// How each host open resolves.
const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS).union(ResolveFlags::NO_SYMLINKS);

/// Longest path given to one system call (`PATH_MAX` is 4096); a longer one is walked in parts.
const MAX_STEP: usize = 4000;

/// Attempts at a walk that the kernel could not finish because something moved (`EAGAIN`).
const ATTEMPTS: usize = 16;

const PATH_ONLY: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens beneath directories of the host.
#[derive(Debug)]
pub(super) struct Opener {
    resolve: ResolveFlags,
    /// `/proc/self/fd`, through which an `O_PATH` descriptor is opened for real.
    own_fds: File,
}

impl Opener {
    /// `cross_mounts`: whether mounts inside the root belong to it.
    pub(super) fn new(cross_mounts: bool) -> std::io::Result<Self> {
        let own_fds = File::open("/proc/self/fd")?;
        if fstatfs(&own_fds)?.f_type != rustix::fs::PROC_SUPER_MAGIC {
            return Err(std::io::Error::other("/proc is not a proc file system"));
        }
        let resolve = if cross_mounts { BENEATH } else { BENEATH | ResolveFlags::NO_XDEV };
        Ok(Self { resolve, own_fds })
    }

    /// Whether a mount is a border.
    pub(super) const fn stops_at_mounts(&self) -> bool {
        self.resolve.contains(ResolveFlags::NO_XDEV)
    }

    /// An `O_PATH` descriptor of a directory below `root`. What is not there any more is stale.
    pub(super) fn directory(&self, root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd> {
        let flags = PATH_ONLY | OFlags::DIRECTORY;
        let (mut at, mut rest): (Option<OwnedFd>, _) = (None, path);
        while rest.len() > MAX_STEP {
            let cut = rest[..MAX_STEP].iter().rposition(|byte| *byte == b'/');
            let cut = cut.ok_or(Errno::ENAMETOOLONG)?;
            let from = at.as_ref().map_or(root, AsFd::as_fd);
            at = Some(self.step(from, &rest[..cut], flags).map_err(stale)?);
            rest = &rest[cut + 1..];
        }
        self.step(at.as_ref().map_or(root, AsFd::as_fd), rest, flags).map_err(stale)
    }

    /// An `O_PATH` descriptor of whatever `name` is.
    pub(super) fn path_only(&self, directory: impl AsFd, name: &CStr) -> Result<OwnedFd> {
        self.step(directory.as_fd(), name.to_bytes(), PATH_ONLY).map_err(stale)
    }

    /// Opens the very directory that an `O_PATH` descriptor stands for, to read its entries. (Opening `.`
    /// in it would need the permission to search it.)
    pub(super) fn listing(&self, directory: impl AsFd) -> Result<OwnedFd> {
        self.reopen(directory.as_fd(), OFlags::DIRECTORY)
    }

    /// Opens the very file that an `O_PATH` descriptor stands for; its kind is known to be regular.
    pub(super) fn readable(&self, file: impl AsFd) -> Result<OwnedFd> {
        self.reopen(file.as_fd(), OFlags::NONBLOCK | OFlags::NOCTTY)
    }

    fn reopen(&self, found: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | flags;
        let name = found.as_raw_fd().to_string();
        Ok(openat(&self.own_fds, name, flags, Mode::empty())?)
    }

    fn step(&self, from: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, HostErrno> {
        let mut last = HostErrno::AGAIN;
        for _ in 0..ATTEMPTS {
            match openat2(from, path, flags, Mode::empty(), self.resolve) {
                Err(error @ (HostErrno::AGAIN | HostErrno::INTR)) => last = error,
                result => return result,
            }
        }
        Err(last)
    }
}

/// A node that is not where it was: the client will look its name up anew.
fn stale(error: HostErrno) -> Errno {
    match error {
        HostErrno::NOENT | HostErrno::NOTDIR | HostErrno::LOOP | HostErrno::AGAIN => Errno::ESTALE,
        other => other.into(),
    }
}

const WANTED: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

/// What statx(2) says of one file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Status {
    pub(super) identity: Identity,
    pub(super) mode: u32,
    /// Whether another file system is mounted here.
    pub(super) mount_point: bool,
    raw: Statx,
}

impl Status {
    /// Of an open file.
    pub(super) fn of(file: impl AsFd) -> Result<Self> {
        Self::new(statx(file, c"", AtFlags::EMPTY_PATH, WANTED)?)
    }

    /// Of a name. It opens and follows nothing, so it needs no openat2.
    pub(super) fn of_name(directory: impl AsFd, name: &CStr) -> Result<Self> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        Self::new(statx(directory, name, flags, WANTED)?)
    }

    fn new(raw: Statx) -> Result<Self> {
        let mode = u32::from(raw.stx_mode);
        let identity = Identity {
            device: makedev(raw.stx_dev_major, raw.stx_dev_minor),
            ino: raw.stx_ino,
            kind: FileKind::from_mode(mode).ok_or(Errno::EIO)?,
        };
        let mount_point = raw.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
        Ok(Self { identity, mode, mount_point, raw })
    }

    /// As the guest sees it, under the inode number `ino`.
    pub(super) fn attr(&self, ino: u64) -> Attr {
        let raw = &self.raw;
        let time = |seconds: i64, nanos: u32| Time { seconds, nanos };
        let btime = StatxFlags::from_bits_retain(raw.stx_mask).contains(StatxFlags::BTIME);
        Attr {
            ino,
            size: raw.stx_size,
            blocks: raw.stx_blocks,
            atime: time(raw.stx_atime.tv_sec, raw.stx_atime.tv_nsec),
            mtime: time(raw.stx_mtime.tv_sec, raw.stx_mtime.tv_nsec),
            ctime: time(raw.stx_ctime.tv_sec, raw.stx_ctime.tv_nsec),
            btime: btime.then(|| time(raw.stx_btime.tv_sec, raw.stx_btime.tv_nsec)),
            mode: self.mode,
            nlink: raw.stx_nlink,
            uid: raw.stx_uid,
            gid: raw.stx_gid,
            rdev: encode_device(raw.stx_rdev_major, raw.stx_rdev_minor),
            blksize: raw.stx_blksize,
        }
    }
}

/// `new_encode_dev` of the kernel, which FUSE uses on the wire.
const fn encode_device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}
