//! Operations that change the tree of files, its names and attributes.
//!
//! They are decoded, and the fuzzer reaches the decoding, although every provider so far refuses them.

use std::ffi::CStr;

use super::reader::{Name, Reader};
use crate::abi::Opcode;
use crate::types::{Errno, Handle, NodeId, Result, Time};

/// Longest target of a symbolic link, `PATH_MAX`.
const PATH_MAX: usize = 4096;
/// Longest value of an extended attribute, `XATTR_SIZE_MAX`.
const XATTR_SIZE_MAX: usize = 65536;

/// A change of the tree below, or of, the node that the request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the system calls")]
pub enum Change<'a> {
    SetAttr(SetAttr),
    MkNod {
        name: Name<'a>,
        mode: u32,
        rdev: u32,
        umask: u32,
    },
    MkDir {
        name: Name<'a>,
        mode: u32,
        umask: u32,
    },
    Symlink {
        name: Name<'a>,
        target: &'a CStr,
    },
    Link {
        source: NodeId,
        name: Name<'a>,
    },
    Unlink {
        name: Name<'a>,
    },
    RmDir {
        name: Name<'a>,
    },
    Rename {
        name: Name<'a>,
        new_parent: NodeId,
        new_name: Name<'a>,
        flags: u32,
    },
    Create {
        name: Name<'a>,
        flags: u32,
        mode: u32,
        umask: u32,
    },
    /// `O_TMPFILE`: a file without a name, in the file system of the directory.
    TmpFile {
        flags: u32,
        mode: u32,
        umask: u32,
    },
    SetXattr {
        name: &'a CStr,
        value: &'a [u8],
        flags: u32,
    },
    RemoveXattr {
        name: &'a CStr,
    },
}

/// `struct fuse_setattr_in`: what is to be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of inode(7)")]
pub struct SetAttr {
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
    /// What a provider answers that is read-only. Programs that cannot have a file without a name make one
    /// with a name, for which `O_TMPFILE` has an error of its own (open(2)).
    #[must_use]
    pub const fn refusal(&self) -> Errno {
        match self {
            Self::TmpFile { .. } => Errno::EOPNOTSUPP,
            _ => Errno::EROFS,
        }
    }

    /// Reads a changing operation; `None` when `opcode` is none.
    pub(super) fn parse(opcode: Opcode, reader: &mut Reader<'a>) -> Result<Option<Self>> {
        Ok(Some(match opcode {
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
            Opcode::Create => parse_create(reader)?,
            // A name follows: Linux sends `/` (`vfs_tmpfile`), which means nothing.
            Opcode::TmpFile => {
                let (flags, mode, umask) = (reader.u32()?, reader.u32()?, reader.u32()?);
                Self::TmpFile { flags, mode, umask }
            }
            Opcode::SetXattr => parse_setxattr(reader)?,
            Opcode::RemoveXattr => Self::RemoveXattr { name: reader.xattr_name()? },
            _ => return Ok(None),
        }))
    }
}

/// The bits of `valid` (`FATTR_MODE` …) say which fields count, and whether an open file is named.
pub(super) fn parse_setattr(reader: &mut Reader<'_>) -> Result<(Option<Handle>, SetAttr)> {
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
    let changes = SetAttr {
        mode: set(0).then_some(mode),
        uid: set(1).then_some(uid),
        gid: set(2).then_some(gid),
        size: set(3).then_some(size),
        atime: time(4, 7, atime, atime_nanos)?,
        mtime: time(5, 8, mtime, mtime_nanos)?,
    };
    Ok((set(6).then_some(handle), changes))
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

/// The short form: INIT never grants `FUSE_SETXATTR_EXT`.
fn parse_setxattr<'a>(reader: &mut Reader<'a>) -> Result<Change<'a>> {
    let (size, flags) = (reader.u32()? as usize, reader.u32()?);
    if size > XATTR_SIZE_MAX {
        return Err(Errno::EINVAL);
    }
    Ok(Change::SetXattr { name: reader.xattr_name()?, value: reader.bytes(size)?, flags })
}
