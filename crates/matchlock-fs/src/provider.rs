//! What a source of files is to the dispatcher.

use std::fmt::Debug;
use std::time::Duration;

use crate::reply::DirBuffer;
use crate::request::{Change, Changed, Name, Whence};
use crate::types::{Attr, Entry, Errno, FsStats, Handle, Lookup, NodeId, Opened, Result};

/// A source of files.
///
/// Methods are called from any number of threads. Node ids, handles and offsets come from a guest
/// that may invent them: an unknown node is [`Errno::ESTALE`], an unknown handle [`Errno::EBADF`].
/// Names and sizes were checked by [`crate::request`].
///
/// [`Errno::ENOSYS`] has a meaning of its own: a Linux client that sees it once for an operation never
/// sends that operation again on this connection, for no file. A provider that shares its tree with
/// others must answer it only for what none of them has.
pub trait Provider: Debug + Send + Sync {
    /// The root directory of this provider, which needs no reference.
    ///
    /// # Errors
    /// The host's, if the directory is gone.
    fn root(&self) -> Result<Entry>;

    /// Finds `name` in `parent` and counts one reference to what it finds.
    ///
    /// # Errors
    /// As path_resolution(7); an absent name is [`Lookup::Absent`].
    fn lookup(&self, parent: NodeId, name: Name<'_>) -> Result<Lookup>;

    /// Takes back `count` references. More than were given is the same as all.
    fn forget(&self, node: NodeId, count: u64);

    /// Forgets every reference and every open file: the client began anew.
    fn reset(&self);

    /// The attributes of a node, and how long they hold.
    ///
    /// # Errors
    /// As stat(2).
    fn getattr(&self, node: NodeId, handle: Option<Handle>) -> Result<(Attr, Duration)>;

    /// The text of a symbolic link, for the guest to resolve.
    ///
    /// # Errors
    /// As readlink(2).
    fn readlink(&self, node: NodeId) -> Result<Vec<u8>>;

    /// Whether every node can be read without opening it ([`Handle::NONE`]), and nothing is ever written.
    /// The dispatcher then spares the client all OPEN, RELEASE, OPENDIR and RELEASEDIR messages.
    fn stateless(&self) -> bool {
        false
    }

    /// Opens a regular file with the flags of open(2).
    ///
    /// # Errors
    /// As open(2).
    fn open(&self, node: NodeId, flags: u32) -> Result<Opened>;

    /// Appends at most `size` bytes from `offset` to `out`; fewer only at the end of the file.
    ///
    /// # Errors
    /// As pread(2).
    fn read(
        &self,
        node: NodeId,
        handle: Handle,
        offset: u64,
        size: usize,
        out: &mut Vec<u8>,
    ) -> Result<()>;

    /// The next data or hole at or after `offset`.
    ///
    /// # Errors
    /// As lseek(2).
    fn lseek(&self, _: NodeId, _: Handle, _offset: u64, _: Whence) -> Result<u64> {
        Err(Errno::ENOSYS)
    }

    /// Closes what [`Provider::open`] opened.
    fn release(&self, node: NodeId, handle: Handle);

    /// Opens a directory.
    ///
    /// # Errors
    /// As open(2).
    fn opendir(&self, node: NodeId) -> Result<Opened>;

    /// Puts the entries after the position `offset` (0: from the start) into `out` until it is full.
    ///
    /// # Errors
    /// As getdents(2).
    fn readdir(
        &self,
        node: NodeId,
        handle: Handle,
        offset: u64,
        out: &mut DirBuffer<'_>,
    ) -> Result<()>;

    /// Closes what [`Provider::opendir`] opened.
    fn releasedir(&self, _: NodeId, _: Handle) {}

    /// Figures of the file system that a node is on.
    ///
    /// # Errors
    /// As statvfs(3).
    fn statfs(&self, node: NodeId) -> Result<FsStats>;

    /// Changes something. One method for all of them, so that a wrapper that refuses, audits or hooks
    /// changes has one place to do it and cannot miss a new kind.
    ///
    /// # Errors
    /// As the call of the same name; what is read-only says [`Errno::EROFS`].
    fn change(&self, _: NodeId, _: &Change<'_>) -> Result<Changed> {
        Err(Errno::EROFS)
    }
}

/// How long a guest may believe what it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CachePolicy {
    /// Names that exist.
    pub entry: Duration,
    /// Names that do not.
    pub negative: Duration,
    /// Attributes.
    pub attr: Duration,
    /// Whether pages and listings survive the close of the file.
    pub keep: bool,
}

impl CachePolicy {
    /// System directories: start-up speed is the number of messages, and what a package manager of the
    /// host changes meanwhile may be seen an hour late.
    pub const SYSTEM: Self = Self {
        entry: Duration::from_secs(3600),
        negative: Duration::from_secs(3600),
        attr: Duration::from_secs(3600),
        keep: true,
    };

    /// Directories that people edit while the guest looks on.
    pub const LIVE: Self = Self {
        entry: Duration::from_secs(1),
        negative: Duration::ZERO,
        attr: Duration::from_secs(1),
        keep: false,
    };
}
