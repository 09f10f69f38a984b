//! Bytes of a guest, read into operations. After [`Request::parse`] nobody doubts names, sizes, counts.
//!
//! Reading never panics and never allocates; whatever the bytes say, the result borrows from them.

mod change;
mod reader;

use crate::abi::{self, Opcode};
use crate::types::{Errno, Handle, NodeId, Result};

pub use change::{Change, Changed, SetAttr, SetTime};
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
                caller: Caller { uid: reader.u32()?, gid: reader.u32()? },
            })
        };
        header().ok()
    }
}

/// The user of the guest in whose name an operation is asked for. Nothing may be decided by it: the
/// guest's kernel is as hostile as its processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of credentials(7)")]
pub struct Caller {
    pub uid: u32,
    pub gid: u32,
}

/// One operation with what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    GetAttr {
        handle: Option<Handle>,
    },
    ReadLink,
    Open {
        flags: u32,
    },
    Read(Range),
    Lseek {
        handle: Handle,
        offset: u64,
        whence: Whence,
    },
    Release {
        handle: Handle,
    },
    OpenDir,
    ReadDir {
        range: Range,
        plus: bool,
    },
    ReleaseDir {
        handle: Handle,
    },
    StatFs,
    Change(Change<'a>),
    /// INTERRUPT and NOTIFY_REPLY, which have no reply.
    Unanswered,
    /// What nothing here implements: the client is told to stop asking.
    Unsupported,
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
        Self::parse_reading(opcode, &mut reader)
    }

    /// The operations that change nothing.
    fn parse_reading(opcode: Opcode, reader: &mut Reader<'a>) -> Result<Self> {
        Ok(match opcode {
            Opcode::Init => Self::Init(parse_init(reader)?),
            Opcode::Destroy => Self::Destroy,
            Opcode::Lookup => Self::Lookup { name: reader.name()? },
            Opcode::Forget => Self::Forget { count: reader.u64()? },
            Opcode::BatchForget => Self::BatchForget(parse_forgets(reader)?),
            Opcode::GetAttr => {
                let flags = reader.u32()?;
                reader.skip(4)?;
                let handle = Handle(reader.u64()?);
                Self::GetAttr { handle: (flags & abi::GETATTR_FH != 0).then_some(handle) }
            }
            Opcode::ReadLink => Self::ReadLink,
            Opcode::Open => Self::Open { flags: reader.u32()? },
            Opcode::Read => Self::Read(parse_range(reader)?),
            Opcode::Lseek => Self::Lseek {
                handle: Handle(reader.u64()?),
                offset: reader.u64()?,
                whence: match reader.u32()? {
                    3 => Whence::Data,
                    4 => Whence::Hole,
                    _ => return Err(Errno::EINVAL),
                },
            },
            Opcode::Release => Self::Release { handle: Handle(reader.u64()?) },
            Opcode::OpenDir => Self::OpenDir,
            Opcode::ReadDir => Self::ReadDir { range: parse_range(reader)?, plus: false },
            Opcode::ReadDirPlus => Self::ReadDir { range: parse_range(reader)?, plus: true },
            Opcode::ReleaseDir => Self::ReleaseDir { handle: Handle(reader.u64()?) },
            Opcode::StatFs => Self::StatFs,
            Opcode::Interrupt | Opcode::NotifyReply => Self::Unanswered,
            _ => Self::Unsupported,
        })
    }
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

fn parse_range(reader: &mut Reader<'_>) -> Result<Range> {
    let (handle, offset) = (Handle(reader.u64()?), reader.u64()?);
    let size = reader.u32()?.min(abi::MAX_DATA);
    Ok(Range { handle, offset, size: size as usize })
}

fn parse_forgets<'a>(reader: &mut Reader<'a>) -> Result<Forgets<'a>> {
    let count = reader.u32()? as usize;
    reader.skip(4)?;
    let bytes = count.checked_mul(16).ok_or(Errno::EINVAL)?;
    Ok(Forgets(reader.bytes(bytes)?))
}
