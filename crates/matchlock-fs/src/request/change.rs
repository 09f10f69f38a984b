//! Operations that change something.
//!
//! They are decoded, and the fuzzer reaches the decoding, although every provider so far refuses them.

use std::ffi::CStr;

use super::reader::{Name, Reader};
use crate::abi::{MAX_DATA, Opcode};
use crate::types::{Attr, Entry, Errno, Handle, NodeId, Opened, Result, Time};

/// Longest target of a symbolic link, `PATH_MAX`.
const PATH_MAX: usize = 4096;
/// Longest value of an extended attribute, `XATTR_SIZE_MAX`.
const XATTR_SIZE_MAX: usize = 65536;

/// A change of the tree below, or of, the node that the request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the system calls")]
pub enum Change<'a> {
    SetAttr(SetAttr),
    MkNod { name: Name<'a>, mode: u32, rdev: u32, umask: u32 },
    MkDir { name: Name<'a>, mode: u32, umask: u32 },
    Symlink { name: Name<'a>, target: &'a CStr },
    Link { source: NodeId, name: Name<'a> },
    Unlink { name: Name<'a> },
    RmDir { name: Name<'a> },
    Rename { name: Name<'a>, new_parent: NodeId, new_name: Name<'a>, flags: u32 },
    Create { name: Name<'a>, flags: u32, mode: u32, umask: u32 },
    Write { handle: Handle, offset: u64, data: &'a [u8] },
    Fallocate { handle: Handle, offset: u64, length: u64, mode: u32 },
    SetXattr { name: &'a CStr, value: &'a [u8], flags: u32 },
    RemoveXattr { name: &'a CStr },
}

/// What a change answers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "one for each kind of reply")]
pub enum Changed {
    Done,
    Attr(Attr, std::time::Duration),
    Entry(Entry),
    Created(Entry, Opened),
    Written(u32),
}

/// `struct fuse_setattr_in`: what is to be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of inode(7)")]
pub struct SetAttr {
    pub handle: Option<Handle>,
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<SetTime>,
    pub mtime: Option<SetTime>,
}

/// A time to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "as utimensat(2)")]
pub enum SetTime {
    Now,
    To(Time),
}

impl<'a> Change<'a> {
    /// Reads a changing operation; `None` when `opcode` is none.
    pub(super) fn parse(opcode: Opcode, reader: &mut Reader<'a>) -> Result<Option<Self>> {
        Ok(Some(match opcode {
            Opcode::SetAttr => Self::SetAttr(parse_setattr(reader)?),
            Opcode::MkNod => {
                let (mode, rdev, umask) = (reader.u32()?, reader.u32()?, reader.u32()?);
                reader.skip(4)?;
                Self::MkNod { mode, rdev, umask, name: reader.name()? }
            }
            Opcode::MkDir => {
                let (mode, umask) = (reader.u32()?, reader.u32()?);
                Self::MkDir { mode, umask, name: reader.name()? }
            }
            Opcode::Symlink => {
                Self::Symlink { name: reader.name()?, target: parse_target(reader)? }
            }
            Opcode::Link => Self::Link { source: NodeId(reader.u64()?), name: reader.name()? },
            Opcode::Unlink => Self::Unlink { name: reader.name()? },
            Opcode::RmDir => Self::RmDir { name: reader.name()? },
            Opcode::Rename | Opcode::Rename2 => parse_rename(opcode, reader)?,
            Opcode::Create | Opcode::TmpFile => parse_create(reader)?,
            Opcode::Write => parse_write(reader)?,
            Opcode::Fallocate => Self::Fallocate {
                handle: Handle(reader.u64()?),
                offset: reader.u64()?,
                length: reader.u64()?,
                mode: reader.u32()?,
            },
            Opcode::SetXattr => parse_setxattr(reader)?,
            Opcode::RemoveXattr => Self::RemoveXattr { name: reader.text()? },
            _ => return Ok(None),
        }))
    }
}

/// The bits of `valid` (`FATTR_MODE` …) say which fields count.
fn parse_setattr(reader: &mut Reader<'_>) -> Result<SetAttr> {
    let valid = reader.u32()?;
    reader.skip(4)?;
    let set = |bit: u32| valid & (1 << bit) != 0;
    let handle = Handle(reader.u64()?);
    let size = reader.u64()?;
    reader.skip(8)?; // lock_owner
    let (atime, mtime) = (reader.u64()?, reader.u64()?);
    reader.skip(8)?; // ctime, which is the host's to choose
    let (atime_nanos, mtime_nanos) = (reader.u32()?, reader.u32()?);
    reader.skip(4)?; // ctimensec
    let mode = reader.u32()?;
    reader.skip(4)?;
    let (uid, gid) = (reader.u32()?, reader.u32()?);
    let time = |at: u32, now: u32, seconds: u64, nanos: u32| match (set(at), set(now)) {
        (true, true) => Ok(Some(SetTime::Now)),
        (true, false) if nanos >= 1_000_000_000 => Err(Errno::EINVAL),
        (true, false) => Ok(Some(SetTime::To(Time { seconds: seconds.cast_signed(), nanos }))),
        (false, _) => Ok(None),
    };
    Ok(SetAttr {
        mode: set(0).then_some(mode),
        uid: set(1).then_some(uid),
        gid: set(2).then_some(gid),
        size: set(3).then_some(size),
        handle: set(6).then_some(handle),
        atime: time(4, 7, atime, atime_nanos)?,
        mtime: time(5, 8, mtime, mtime_nanos)?,
    })
}

fn parse_target<'a>(reader: &mut Reader<'a>) -> Result<&'a CStr> {
    let target = reader.text()?;
    match target.to_bytes_with_nul().len() {
        ..2 => Err(Errno::EINVAL),
        2..=PATH_MAX => Ok(target),
        _ => Err(Errno::ENAMETOOLONG),
    }
}

fn parse_rename<'a>(opcode: Opcode, reader: &mut Reader<'a>) -> Result<Change<'a>> {
    let new_parent = NodeId(reader.u64()?);
    let flags = if opcode == Opcode::Rename2 { reader.u32()? } else { 0 };
    if opcode == Opcode::Rename2 {
        reader.skip(4)?;
    }
    Ok(Change::Rename { new_parent, flags, name: reader.name()?, new_name: reader.name()? })
}

fn parse_create<'a>(reader: &mut Reader<'a>) -> Result<Change<'a>> {
    let (flags, mode, umask) = (reader.u32()?, reader.u32()?, reader.u32()?);
    reader.skip(4)?;
    Ok(Change::Create { flags, mode, umask, name: reader.name()? })
}

fn parse_write<'a>(reader: &mut Reader<'a>) -> Result<Change<'a>> {
    let (handle, offset, size) = (Handle(reader.u64()?), reader.u64()?, reader.u32()?);
    reader.skip(20)?;
    if size > MAX_DATA {
        return Err(Errno::EINVAL);
    }
    Ok(Change::Write { handle, offset, data: reader.bytes(size as usize)? })
}

/// The short form: INIT never grants `FUSE_SETXATTR_EXT`.
fn parse_setxattr<'a>(reader: &mut Reader<'a>) -> Result<Change<'a>> {
    let (size, flags) = (reader.u32()? as usize, reader.u32()?);
    if size > XATTR_SIZE_MAX {
        return Err(Errno::EINVAL);
    }
    Ok(Change::SetXattr { name: reader.text()?, value: reader.bytes(size)?, flags })
}
