//! The words that the dispatcher and its providers share.

use std::time::Duration;

use crate::abi::ROOT_ID;

/// What a provider answers: a value, or an error number for the guest.
pub type Result<T, E = Errno> = std::result::Result<T, E>;

/// A Linux error number, as the guest will see it (on any host).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(i32);

#[expect(missing_docs, reason = "the names of errno(3)")]
impl Errno {
    pub const EPERM: Self = Self(1);
    pub const ENOENT: Self = Self(2);
    pub const EIO: Self = Self(5);
    pub const EINTR: Self = Self(4);
    pub const ENXIO: Self = Self(6);
    pub const EBADF: Self = Self(9);
    pub const EAGAIN: Self = Self(11);
    pub const ENOMEM: Self = Self(12);
    pub const EACCES: Self = Self(13);
    pub const EXDEV: Self = Self(18);
    pub const ENOTDIR: Self = Self(20);
    pub const EISDIR: Self = Self(21);
    pub const EINVAL: Self = Self(22);
    pub const ENFILE: Self = Self(23);
    pub const ENOTTY: Self = Self(25);
    pub const EROFS: Self = Self(30);
    pub const ERANGE: Self = Self(34);
    pub const ENAMETOOLONG: Self = Self(36);
    pub const ENOSYS: Self = Self(38);
    pub const ELOOP: Self = Self(40);
    pub const EPROTO: Self = Self(71);
    pub const EOPNOTSUPP: Self = Self(95);
    pub const ESTALE: Self = Self(116);
    /// As in the kernel, which keeps this number to itself as well: the operation has to wait for
    /// something. The server calls it again when [`crate::Context::waker`] was woken, and the guest is
    /// never told.
    pub const ERESTARTSYS: Self = Self(512);

    /// The positive number.
    #[must_use]
    pub const fn number(self) -> i32 {
        self.0
    }
}

impl From<rustix::io::Errno> for Errno {
    /// The numbers of a Linux host are those of its guest.
    fn from(error: rustix::io::Errno) -> Self {
        Self(error.raw_os_error())
    }
}

/// A node as the guest names it. The upper 16 bits say whose it is, so that a tree of providers
/// needs no table of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u64);

impl NodeId {
    /// The numbers that this node is of.
    #[must_use]
    pub const fn space(self) -> IdSpace {
        IdSpace((self.0 >> 48) as u16)
    }
}

/// The node numbers that one provider may hand out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IdSpace(pub u16);

impl IdSpace {
    /// The space whose root is `FUSE_ROOT_ID`.
    pub const ROOT: Self = Self(0);

    /// The root node of the provider that has this space.
    #[must_use]
    pub const fn root(self) -> NodeId {
        self.node(ROOT_ID)
    }

    /// The node with a number below 2^48 of this space.
    #[must_use]
    pub const fn node(self, number: u64) -> NodeId {
        NodeId((self.0 as u64) << 48 | (number & ((1 << 48) - 1)))
    }
}

/// An open file, as the guest names it. Zero is "none": the node alone says what to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Handle(pub u64);

impl Handle {
    /// No open file.
    pub const NONE: Self = Self(0);
}

/// What kind of file a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the kinds of inode(7)")]
pub enum FileKind {
    Fifo = 1,
    CharDevice = 2,
    Directory = 4,
    BlockDevice = 6,
    Regular = 8,
    Symlink = 10,
    Socket = 12,
}

impl FileKind {
    /// The kind in the `S_IFMT` bits of a mode; `None` for bits that mean nothing.
    #[must_use]
    pub const fn from_mode(mode: u32) -> Option<Self> {
        match (mode >> 12) & 0xf {
            1 => Some(Self::Fifo),
            2 => Some(Self::CharDevice),
            4 => Some(Self::Directory),
            6 => Some(Self::BlockDevice),
            8 => Some(Self::Regular),
            10 => Some(Self::Symlink),
            12 => Some(Self::Socket),
            _ => None,
        }
    }

    /// The `S_IFMT` bits of this kind; shifted right by 12 they are its `DT_*` number.
    #[must_use]
    pub const fn mode_bits(self) -> u32 {
        (self as u32) << 12
    }

    /// Whether the file has contents that a file server can serve.
    #[must_use]
    pub const fn is_special(self) -> bool {
        !matches!(self, Self::Directory | Self::Regular | Self::Symlink)
    }
}

/// A moment of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Time {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds below one second.
    pub nanos: u32,
}

/// `struct fuse_attr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names of inode(7)")]
pub struct Attr {
    pub ino: u64,
    pub size: u64,
    pub blocks: u64,
    pub atime: Time,
    pub mtime: Time,
    pub ctime: Time,
    /// When the inode was made, if the host knows.
    pub btime: Option<Time>,
    /// Kind and permission bits.
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u32,
    pub blksize: u32,
}

/// A node that the guest now refers to once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The node.
    pub node: NodeId,
    /// Its attributes now.
    pub attr: Attr,
    /// How long the guest may keep the name.
    pub entry_ttl: Duration,
    /// How long the guest may keep the attributes.
    pub attr_ttl: Duration,
}

/// What a name leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// A node, with one reference counted for the guest.
    Found(Entry),
    /// Nothing, and the guest may remember that for so long.
    Absent(Duration),
}

/// `struct fuse_kstatfs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names of statvfs(3)")]
pub struct FsStats {
    pub blocks: u64,
    pub bfree: u64,
    pub bavail: u64,
    pub files: u64,
    pub ffree: u64,
    pub bsize: u32,
    pub namelen: u32,
    pub frsize: u32,
}
