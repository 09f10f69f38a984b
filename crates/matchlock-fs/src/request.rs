//! Bytes of a guest, read into operations. After [`Operation::parse`] nobody doubts names, sizes, counts.
//!
//! Reading never panics and never allocates; whatever the bytes say, the result borrows from them.

mod change;
mod file;
mod reader;

use std::ffi::CStr;

use crate::abi::{self, Opcode};
use crate::context::Caller;
use crate::types::{Errno, Handle, NodeId, Result};

pub use change::{Change, SetAttr, SetTime};
pub use file::{
    Copy, CopyRange, FileChange, Lock, LockKind, LockOwner, Range, Release, Whence, Write,
};
pub use reader::Name;
use reader::Reader;

/// `struct fuse_in_header`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Length of the whole message, as the client claims.
    pub len: u32,
    /// Number of the operation.
    pub opcode: u32,
    /// Number that the reply repeats.
    pub unique: u64,
    /// The node that the operation is about.
    pub node: NodeId,
    /// Who asks, by the guest's word.
    pub caller: Caller,
}

impl Header {
    /// Reads the header; `None` when the message is too short to be answered.
    #[must_use]
    pub fn parse(message: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(message.get(..abi::IN_HEADER)?);
        let mut header = || -> Result<Self> {
            Ok(Self {
                len: reader.u32()?,
                opcode: reader.u32()?,
                unique: reader.u64()?,
                node: NodeId(reader.u64()?),
                caller: Caller { uid: reader.u32()?, gid: reader.u32()?, pid: reader.u32()? },
            })
        };
        header().ok()
    }
}

/// One operation with what it needs.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the names of fuse.h")]
pub enum Operation<'a> {
    Init(Init),
    Destroy,
    Lookup {
        name: Name<'a>,
    },
    Forget {
        count: u64,
    },
    BatchForget(Forgets<'a>),
    /// GETATTR, and STATX, which also wants to know when the inode was made.
    GetAttr {
        handle: Option<Handle>,
        statx: bool,
    },
    ReadLink,
    Access {
        mask: u32,
    },
    /// `size` 0 asks for the length.
    GetXattr {
        name: &'a CStr,
        size: usize,
    },
    ListXattr {
        size: usize,
    },
    StatFs,
    SyncFs,
    Open {
        flags: u32,
    },
    OpenDir {
        flags: u32,
    },
    Read(Range),
    ReadDir {
        range: Range,
        plus: bool,
    },
    Lseek {
        handle: Handle,
        offset: u64,
        whence: Whence,
    },
    Flush {
        handle: Handle,
        owner: LockOwner,
    },
    Fsync {
        handle: Handle,
        data_only: bool,
    },
    FsyncDir {
        handle: Handle,
        data_only: bool,
    },
    GetLock {
        handle: Handle,
        lock: Lock,
    },
    SetLock {
        handle: Handle,
        lock: Lock,
        wait: bool,
    },
    Release {
        handle: Handle,
        release: Release,
    },
    ReleaseDir {
        handle: Handle,
    },
    Change(Change<'a>),
    ChangeFile(Handle, FileChange<'a>),
    Copy(CopyRange),
    /// Which request the guest's program does not want to wait for any longer.
    Interrupt {
        unique: u64,
    },
    /// NOTIFY_REPLY, the client's answer to a question that nobody here asks.
    Unanswered,
    /// What no file of ours can do.
    Refused(Errno),
}

/// `struct fuse_init_in`: what the client can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Init {
    /// Protocol version.
    pub major: u32,
    /// Protocol revision.
    pub minor: u32,
    /// Bytes that the client reads ahead.
    pub max_readahead: u32,
    /// Both flag words as one.
    pub flags: u64,
}

/// The nodes of BATCH_FORGET.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forgets<'a>(&'a [u8]);

impl Forgets<'_> {
    /// Node and count of each.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, u64)> + '_ {
        self.0.chunks_exact(16).filter_map(|one| {
            let mut reader = Reader::new(one);
            Some((NodeId(reader.u64().ok()?), reader.u64().ok()?))
        })
    }
}

impl<'a> Operation<'a> {
    /// Reads the operation of a message whose header was read.
    ///
    /// # Errors
    /// [`Errno::EINVAL`] for a message that lies about its length or content, [`Errno::ENAMETOOLONG`]
    /// for a long name, [`Errno::ENOSYS`] for an operation without a name here.
    pub fn parse(header: &Header, message: &'a [u8]) -> Result<Self> {
        if usize::try_from(header.len) != Ok(message.len()) {
            return Err(Errno::EINVAL);
        }
        let opcode = Opcode::from_number(header.opcode).ok_or(Errno::ENOSYS)?;
        let mut reader = Reader::new(message.get(abi::IN_HEADER..).unwrap_or_default());
        if let Some(change) = Change::parse(opcode, &mut reader)? {
            return Ok(Self::Change(change));
        }
        if let Some(operation) = Self::parse_open(opcode, &mut reader)? {
            return Ok(operation);
        }
        Self::parse_node(opcode, &mut reader)
    }

    /// The operations that name something open, and those that open.
    fn parse_open(opcode: Opcode, reader: &mut Reader<'a>) -> Result<Option<Self>> {
        Ok(Some(match opcode {
            Opcode::Open => Self::Open { flags: reader.u32()? },
            Opcode::OpenDir => Self::OpenDir { flags: reader.u32()? },
            Opcode::Read => Self::Read(file::parse_range(reader)?),
            Opcode::ReadDir => Self::ReadDir { range: file::parse_range(reader)?, plus: false },
            Opcode::ReadDirPlus => Self::ReadDir { range: file::parse_range(reader)?, plus: true },
            Opcode::Lseek => Self::Lseek {
                handle: Handle(reader.u64()?),
                offset: reader.u64()?,
                whence: file::parse_whence(reader.u32()?)?,
            },
            Opcode::Flush => {
                let (handle, owner) = file::parse_flush(reader)?;
                Self::Flush { handle, owner }
            }
            Opcode::Fsync => {
                let (handle, data_only) = file::parse_fsync(reader)?;
                Self::Fsync { handle, data_only }
            }
            Opcode::FsyncDir => {
                let (handle, data_only) = file::parse_fsync(reader)?;
                Self::FsyncDir { handle, data_only }
            }
            Opcode::GetLk => {
                let (handle, lock) = file::parse_lock(reader)?;
                Self::GetLock { handle, lock }
            }
            Opcode::SetLk | Opcode::SetLkw => {
                let (handle, lock) = file::parse_lock(reader)?;
                Self::SetLock { handle, lock, wait: opcode == Opcode::SetLkw }
            }
            Opcode::Release => {
                let (handle, release) = file::parse_release(reader)?;
                Self::Release { handle, release }
            }
            Opcode::ReleaseDir => Self::ReleaseDir { handle: file::parse_release(reader)?.0 },
            Opcode::SetAttr => match file::parse_setattr_of(reader)? {
                (Some(handle), set) => Self::ChangeFile(handle, FileChange::SetAttr(set)),
                (None, set) => Self::Change(Change::SetAttr(set)),
            },
            Opcode::Write => {
                let (handle, write) = file::parse_write(reader)?;
                Self::ChangeFile(handle, write)
            }
            Opcode::Fallocate => {
                let (handle, fallocate) = file::parse_fallocate(reader)?;
                Self::ChangeFile(handle, fallocate)
            }
            Opcode::CopyFileRange => Self::Copy(file::parse_copy(reader)?),
            _ => return Ok(None),
        }))
    }

    /// The operations of a node, or of all of them.
    fn parse_node(opcode: Opcode, reader: &mut Reader<'a>) -> Result<Self> {
        Ok(match opcode {
            Opcode::Init => Self::Init(parse_init(reader)?),
            Opcode::Destroy => Self::Destroy,
            Opcode::Lookup => Self::Lookup { name: reader.name()? },
            Opcode::Forget => Self::Forget { count: reader.u64()? },
            Opcode::BatchForget => Self::BatchForget(parse_forgets(reader)?),
            // `struct fuse_statx_in` begins as `struct fuse_getattr_in`; we tell all that we know.
            Opcode::GetAttr | Opcode::Statx => {
                let flags = reader.u32()?;
                reader.skip(4)?;
                let handle = Handle(reader.u64()?);
                let named = flags & abi::GETATTR_FH != 0 && handle != Handle::NONE;
                Self::GetAttr { handle: named.then_some(handle), statx: opcode == Opcode::Statx }
            }
            Opcode::ReadLink => Self::ReadLink,
            Opcode::Access => Self::Access { mask: reader.u32()? },
            Opcode::GetXattr => {
                let size = parse_xattr_size(reader)?;
                Self::GetXattr { name: reader.xattr_name()?, size }
            }
            Opcode::ListXattr => Self::ListXattr { size: parse_xattr_size(reader)? },
            Opcode::StatFs => Self::StatFs,
            Opcode::SyncFs => Self::SyncFs,
            Opcode::Interrupt => Self::Interrupt { unique: reader.u64()? },
            Opcode::NotifyReply => Self::Unanswered,
            // What ioctl(2) says of a file that has none.
            Opcode::Ioctl => Self::Refused(Errno::ENOTTY),
            // The client then takes every file as always ready, which regular files and directories are.
            Opcode::Poll => Self::Refused(Errno::ENOSYS),
            // Blocks of a device below, and memory that is mapped into the guest: neither is ever offered.
            Opcode::Bmap | Opcode::SetupMapping | Opcode::RemoveMapping => {
                Self::Refused(Errno::ENOSYS)
            }
            _ => return Err(Errno::ENOSYS),
        })
    }
}

/// `struct fuse_getxattr_in`: how many bytes the client has room for.
fn parse_xattr_size(reader: &mut Reader<'_>) -> Result<usize> {
    let size = reader.u32()? as usize;
    reader.skip(4)?;
    Ok(size)
}

/// INIT ends after 16 bytes for clients before 7.36, which have one flag word.
fn parse_init(reader: &mut Reader<'_>) -> Result<Init> {
    let (major, minor) = (reader.u32()?, reader.u32()?);
    let (max_readahead, low) = (reader.u32()?, reader.u32()?);
    let mut flags = u64::from(low);
    if flags & abi::init::INIT_EXT != 0 {
        flags |= u64::from(reader.u32()?) << 32;
    }
    Ok(Init { major, minor, max_readahead, flags })
}

fn parse_forgets<'a>(reader: &mut Reader<'a>) -> Result<Forgets<'a>> {
    let count = reader.u32()? as usize;
    reader.skip(4)?;
    let bytes = count.checked_mul(16).ok_or(Errno::EINVAL)?;
    Ok(Forgets(reader.bytes(bytes)?))
}
