//! Operations on what is open.

use super::change::{SetAttr, parse_setattr};
use super::reader::Reader;
use crate::abi::{self, MAX_DATA};
use crate::types::{Errno, Handle, NodeId, Result};

/// Who holds locks and leases of an open file: a number that the guest's kernel makes of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LockOwner(pub u64);

/// A part of a file or of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Which open file.
    pub handle: Handle,
    /// Byte, or position of a listing.
    pub offset: u64,
    /// At most [`abi::MAX_DATA`].
    pub size: usize,
}

/// What LSEEK looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whence {
    /// `SEEK_DATA`
    Data,
    /// `SEEK_HOLE`
    Hole,
}

/// How an open file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Release {
    /// The flags of open(2) that it has.
    pub flags: u32,
    /// Whose flock(2) lock ends with it.
    pub unlock: Option<LockOwner>,
}

/// A lock of fcntl(2) or flock(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock {
    /// What is asked for, or held.
    pub kind: LockKind,
    /// First byte.
    pub start: u64,
    /// Last byte; `i64::MAX` is the end of the file, wherever that comes to be.
    pub end: u64,
    /// The process in the guest.
    pub pid: u32,
    /// Whose it is.
    pub owner: LockOwner,
    /// Of flock(2): the whole file, and the open file holds it.
    pub flock: bool,
}

/// `F_RDLCK`, `F_WRLCK` and `F_UNLCK`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "as fcntl(2)")]
pub enum LockKind {
    Shared = 0,
    Exclusive = 1,
    Unlock = 2,
}

/// A change of an open file.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the names of the system calls")]
pub enum FileChange<'a> {
    SetAttr(SetAttr),
    Write(Write<'a>),
    Fallocate { offset: u64, length: u64, mode: u32 },
    CopyFrom(Copy<'a>),
}

/// `struct fuse_write_in` and its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Write<'a> {
    /// First byte. With `O_APPEND` the guest's kernel has asked for the size before.
    pub offset: u64,
    /// What to write, at most [`abi::MAX_DATA`].
    pub data: &'a [u8],
    /// The flags of open(2) that the file has.
    pub flags: u32,
    /// Whether the client's page cache writes: the caller is then not who wrote.
    pub from_cache: bool,
    /// Whose locks count.
    pub owner: Option<LockOwner>,
}

/// copy_file_range(2) into the open file that is asked.
#[derive(Debug, Clone, Copy)]
pub struct Copy<'a> {
    /// Where from; of the same provider.
    pub source: &'a dyn crate::OpenFile,
    /// First byte there.
    pub source_offset: u64,
    /// First byte here.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
}

/// `struct fuse_copy_file_range_in`. The header's node and `source` are where from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of fuse.h")]
pub struct CopyRange {
    pub source: Handle,
    pub source_offset: u64,
    pub node: NodeId,
    pub target: Handle,
    pub offset: u64,
    pub length: u64,
}

pub(super) fn parse_range(reader: &mut Reader<'_>) -> Result<Range> {
    let (handle, offset) = (Handle(reader.u64()?), reader.u64()?);
    let size = reader.u32()?.min(MAX_DATA);
    Ok(Range { handle, offset, size: size as usize })
}

pub(super) fn parse_whence(number: u32) -> Result<Whence> {
    match number {
        3 => Ok(Whence::Data),
        4 => Ok(Whence::Hole),
        _ => Err(Errno::EINVAL),
    }
}

/// RELEASE and RELEASEDIR.
pub(super) fn parse_release(reader: &mut Reader<'_>) -> Result<(Handle, Release)> {
    let handle = Handle(reader.u64()?);
    let (flags, how, owner) = (reader.u32()?, reader.u32()?, LockOwner(reader.u64()?));
    Ok((handle, Release { flags, unlock: (how & abi::RELEASE_FLOCK_UNLOCK != 0).then_some(owner) }))
}

pub(super) fn parse_flush(reader: &mut Reader<'_>) -> Result<(Handle, LockOwner)> {
    let handle = Handle(reader.u64()?);
    reader.skip(8)?;
    Ok((handle, LockOwner(reader.u64()?)))
}

/// FSYNC and FSYNCDIR.
pub(super) fn parse_fsync(reader: &mut Reader<'_>) -> Result<(Handle, bool)> {
    Ok((Handle(reader.u64()?), reader.u32()? & abi::FSYNC_FDATASYNC != 0))
}

/// GETLK, SETLK and SETLKW.
pub(super) fn parse_lock(reader: &mut Reader<'_>) -> Result<(Handle, Lock)> {
    let (handle, owner) = (Handle(reader.u64()?), LockOwner(reader.u64()?));
    let (start, end) = (reader.u64()?, reader.u64()?);
    let kind = match reader.u32()? {
        0 => LockKind::Shared,
        1 => LockKind::Exclusive,
        2 => LockKind::Unlock,
        _ => return Err(Errno::EINVAL),
    };
    let pid = reader.u32()?;
    let flock = reader.u32()? & abi::LK_FLOCK != 0;
    if start > end {
        return Err(Errno::EINVAL);
    }
    Ok((handle, Lock { kind, start, end, pid, owner, flock }))
}

pub(super) fn parse_write<'a>(reader: &mut Reader<'a>) -> Result<(Handle, FileChange<'a>)> {
    let (handle, offset, size) = (Handle(reader.u64()?), reader.u64()?, reader.u32()?);
    let (how, owner, flags) = (reader.u32()?, LockOwner(reader.u64()?), reader.u32()?);
    reader.skip(4)?;
    if size > MAX_DATA {
        return Err(Errno::EINVAL);
    }
    let data = reader.bytes(size as usize)?;
    let owner = (how & abi::WRITE_LOCKOWNER != 0).then_some(owner);
    let from_cache = how & abi::WRITE_CACHE != 0;
    Ok((handle, FileChange::Write(Write { offset, data, flags, from_cache, owner })))
}

pub(super) fn parse_fallocate<'a>(reader: &mut Reader<'a>) -> Result<(Handle, FileChange<'a>)> {
    let (handle, offset) = (Handle(reader.u64()?), reader.u64()?);
    let (length, mode) = (reader.u64()?, reader.u32()?);
    Ok((handle, FileChange::Fallocate { offset, length, mode }))
}

/// A SETATTR that names an open file, or `None` with it one of the node.
pub(super) fn parse_setattr_of(reader: &mut Reader<'_>) -> Result<(Option<Handle>, SetAttr)> {
    let (handle, set) = parse_setattr(reader)?;
    Ok((handle.filter(|handle| *handle != Handle::NONE), set))
}

pub(super) fn parse_copy(reader: &mut Reader<'_>) -> Result<CopyRange> {
    let (source, source_offset) = (Handle(reader.u64()?), reader.u64()?);
    let (node, target) = (NodeId(reader.u64()?), Handle(reader.u64()?));
    let (offset, length) = (reader.u64()?, reader.u64()?);
    // Linux has no flags for copy_file_range(2) yet.
    if reader.u64()? != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(CopyRange { source, source_offset, node, target, offset, length })
}
