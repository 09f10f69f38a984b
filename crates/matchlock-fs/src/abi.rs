//! Numbers of the FUSE protocol, from `include/uapi/linux/fuse.h`, protocol 7.31 to 7.41.
//!
//! Only what the dispatcher uses is here. The layouts are in [`crate::request`], which reads them
//! field by field, and in [`crate::reply`], which writes them.

/// `FUSE_KERNEL_VERSION`: a client with another major version cannot be talked to.
pub(crate) const MAJOR: u32 = 7;
/// The newest minor version whose layouts we write.
pub(crate) const MINOR: u32 = 41;
/// The oldest client we accept: Linux 5.4, the first with virtio-fs.
pub(crate) const MIN_MINOR: u32 = 31;

/// `FUSE_ROOT_ID`, the node that exists without a lookup.
pub const ROOT_ID: u64 = 1;

/// `sizeof(struct fuse_in_header)`.
pub(crate) const IN_HEADER: usize = 40;
/// `sizeof(struct fuse_out_header)`.
pub(crate) const OUT_HEADER: usize = 16;
/// `FUSE_NAME_OFFSET`: a `struct fuse_dirent` without its name.
pub(crate) const DIRENT: usize = 24;
/// `sizeof(struct fuse_entry_out)`, which precedes each entry of READDIRPLUS.
pub(crate) const ENTRY_OUT: usize = 128;

/// Most bytes that one READ, WRITE or READDIR may carry; told to the client as `max_write` and
/// `max_pages`.
pub(crate) const MAX_DATA: u32 = 1024 * 1024;
/// `max_pages` of 4 KiB for [`MAX_DATA`]; the client rounds down to its own limit.
pub(crate) const MAX_PAGES: u16 = 256;

/// INIT flags (`FUSE_ASYNC_READ` …) that we know.
pub(crate) mod init {
    pub(crate) const ASYNC_READ: u64 = 1 << 0;
    pub(crate) const POSIX_LOCKS: u64 = 1 << 1;
    pub(crate) const FLOCK_LOCKS: u64 = 1 << 10;
    pub(crate) const AUTO_INVAL_DATA: u64 = 1 << 12;
    pub(crate) const DO_READDIRPLUS: u64 = 1 << 13;
    pub(crate) const READDIRPLUS_AUTO: u64 = 1 << 14;
    pub(crate) const NO_OPEN_SUPPORT: u64 = 1 << 17;
    pub(crate) const PARALLEL_DIROPS: u64 = 1 << 18;
    pub(crate) const MAX_PAGES: u64 = 1 << 22;
    pub(crate) const CACHE_SYMLINKS: u64 = 1 << 23;
    pub(crate) const NO_OPENDIR_SUPPORT: u64 = 1 << 24;
    pub(crate) const INIT_EXT: u64 = 1 << 30;
}

/// `FOPEN_DIRECT_IO`: the client keeps no pages of this open file.
pub(crate) const FOPEN_DIRECT_IO: u32 = 1 << 0;
/// `FOPEN_KEEP_CACHE`: pages read through an earlier open stay valid.
pub(crate) const FOPEN_KEEP_CACHE: u32 = 1 << 1;
/// `FOPEN_CACHE_DIR`: the client may keep the listing.
pub(crate) const FOPEN_CACHE_DIR: u32 = 1 << 3;
/// `FUSE_GETATTR_FH`: GETATTR names an open file.
pub(crate) const GETATTR_FH: u32 = 1 << 0;
/// `FUSE_RELEASE_FLOCK_UNLOCK`: the open file's flock(2) lock ends with it.
pub(crate) const RELEASE_FLOCK_UNLOCK: u32 = 1 << 1;
/// `FUSE_WRITE_LOCKOWNER`: WRITE names the owner of its locks.
pub(crate) const WRITE_LOCKOWNER: u32 = 1 << 1;
/// `FUSE_WRITE_CACHE`: the pages come from the client's cache; the header names the wrong caller.
pub(crate) const WRITE_CACHE: u32 = 1 << 0;
/// `FUSE_FSYNC_FDATASYNC`: contents, and only the metadata that is needed to read them.
pub(crate) const FSYNC_FDATASYNC: u32 = 1 << 0;
/// `FUSE_LK_FLOCK`: a lock of flock(2), not of fcntl(2).
pub(crate) const LK_FLOCK: u32 = 1 << 0;

macro_rules! opcodes {
    ($($name:ident = $value:literal,)*) => {
        /// `enum fuse_opcode`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the names of fuse.h")]
        pub enum Opcode { $($name = $value,)* }

        impl Opcode {
            /// Every operation that this dispatcher has a name for.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The operation of a request header.
            #[must_use]
            pub const fn from_number(number: u32) -> Option<Self> {
                match number {
                    $($value => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

opcodes! {
    Lookup = 1,
    Forget = 2,
    GetAttr = 3,
    SetAttr = 4,
    ReadLink = 5,
    Symlink = 6,
    MkNod = 8,
    MkDir = 9,
    Unlink = 10,
    RmDir = 11,
    Rename = 12,
    Link = 13,
    Open = 14,
    Read = 15,
    Write = 16,
    StatFs = 17,
    Release = 18,
    Fsync = 20,
    SetXattr = 21,
    GetXattr = 22,
    ListXattr = 23,
    RemoveXattr = 24,
    Flush = 25,
    Init = 26,
    OpenDir = 27,
    ReadDir = 28,
    ReleaseDir = 29,
    FsyncDir = 30,
    GetLk = 31,
    SetLk = 32,
    SetLkw = 33,
    Access = 34,
    Create = 35,
    Interrupt = 36,
    Bmap = 37,
    Destroy = 38,
    Ioctl = 39,
    Poll = 40,
    NotifyReply = 41,
    BatchForget = 42,
    Fallocate = 43,
    ReadDirPlus = 44,
    Rename2 = 45,
    Lseek = 46,
    CopyFileRange = 47,
    SetupMapping = 48,
    RemoveMapping = 49,
    SyncFs = 50,
    TmpFile = 51,
    Statx = 52,
}
