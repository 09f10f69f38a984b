//! What a source of files is to the dispatcher.

use std::ffi::CStr;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use crate::abi::Opcode;
use crate::context::Context;
use crate::open::{Changed, OpenDir, OpenFile, OpenedDir, OpenedFile};
use crate::request::{Change, Name};
use crate::types::{Attr, Entry, Errno, FsStats, Lookup, NodeId, Result};

/// A source of files.
///
/// Methods are called from any number of threads at once. Node ids and offsets come from a guest that may
/// invent them: an unknown node is [`Errno::ESTALE`]. Names and sizes were checked by [`crate::request`],
/// handles by the server: what is open is an object that the provider made ([`OpenFile`], [`OpenDir`]), and
/// lives as long as it is open, whatever becomes of its node and its name.
///
/// [`Errno::ENOSYS`] has a meaning of its own: a Linux client that sees it once for an operation never
/// sends that operation again on this connection, for no file. Only the dispatcher answers it, for what
/// [`Provider::features`] has of no provider of a tree. [`Errno::ERESTARTSYS`] has one, too: see [`Context`].
pub trait Provider: Debug + Send + Sync {
    /// The root directory of this provider, which needs no reference.
    ///
    /// # Errors
    /// The host's, if the directory is gone.
    fn root(&self) -> Result<Entry>;

    /// What the client is to ask for at all. Does not change while a client is there.
    fn features(&self) -> Features {
        Features::default()
    }

    /// Where operations of a node run. The dispatcher itself sees to those that never wait
    /// ([`Provider::forget`], interrupts).
    fn lane(&self, node: NodeId, _: Opcode) -> Lane {
        Lane::Queue(node.space().0)
    }

    /// Finds `name` in `parent` and counts one reference to what it finds.
    ///
    /// # Errors
    /// As path_resolution(7); an absent name is [`Lookup::Absent`].
    fn lookup(&self, ctx: &Context, parent: NodeId, name: Name<'_>) -> Result<Lookup>;

    /// Takes back `count` references. More than were given is the same as all. Must not wait for anything:
    /// it runs on the thread that takes messages in.
    fn forget(&self, node: NodeId, count: u64);

    /// Forgets every reference: the client began anew.
    fn reset(&self);

    /// The attributes of a node that need not be open, and how long they hold.
    ///
    /// # Errors
    /// As stat(2).
    fn getattr(&self, ctx: &Context, node: NodeId) -> Result<(Attr, Duration)>;

    /// Whether the caller may do what `mask` says. Linux does not ask, because it compares modes itself
    /// (virtio-fs has `default_permissions`).
    ///
    /// # Errors
    /// As access(2).
    fn access(&self, _: &Context, _: NodeId, _mask: u32) -> Result<()> {
        Ok(())
    }

    /// The text of a symbolic link, for the guest to resolve.
    ///
    /// # Errors
    /// As readlink(2).
    fn readlink(&self, ctx: &Context, node: NodeId) -> Result<Vec<u8>>;

    /// Opens a regular file with the flags of open(2).
    ///
    /// # Errors
    /// As open(2).
    fn open(&self, ctx: &Context, node: NodeId, flags: u32) -> Result<OpenedFile>;

    /// Opens a directory.
    ///
    /// # Errors
    /// As open(2).
    fn opendir(&self, ctx: &Context, node: NodeId, flags: u32) -> Result<OpenedDir>;

    /// The file that a client reads which did not open it ([`Features::stateless`]).
    ///
    /// # Errors
    /// As open(2); [`Errno::EBADF`] if files have to be opened.
    fn file(&self, _: &Context, _: NodeId) -> Result<Arc<dyn OpenFile>> {
        Err(Errno::EBADF)
    }

    /// The directory that a client lists which did not open it.
    ///
    /// # Errors
    /// As open(2); [`Errno::EBADF`] if directories have to be opened.
    fn directory(&self, _: &Context, _: NodeId) -> Result<Arc<dyn OpenDir>> {
        Err(Errno::EBADF)
    }

    /// The value of an extended attribute.
    ///
    /// # Errors
    /// As getxattr(2); an absent one is `ENODATA`.
    fn getxattr(&self, _: &Context, _: NodeId, _: &CStr) -> Result<Vec<u8>> {
        Err(Errno::EOPNOTSUPP)
    }

    /// The names of all extended attributes, each with its NUL.
    ///
    /// # Errors
    /// As listxattr(2).
    fn listxattr(&self, _: &Context, _: NodeId) -> Result<Vec<u8>> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Figures of the file system that a node is on.
    ///
    /// # Errors
    /// As statvfs(3).
    fn statfs(&self, ctx: &Context, node: NodeId) -> Result<FsStats>;

    /// Waits until everything that was written is on the disk.
    ///
    /// # Errors
    /// As syncfs(2).
    fn syncfs(&self, _: &Context) -> Result<()> {
        Ok(())
    }

    /// Changes something. One method for all of them, so that a wrapper that refuses, audits or hooks
    /// changes has one place to do it and cannot miss a new kind. [`OpenFile::change`] is the same for what
    /// is open.
    ///
    /// # Errors
    /// As the call of the same name; what is read-only says [`Change::refusal`].
    fn change(&self, _: &Context, _: NodeId, change: &Change<'_>) -> Result<Changed> {
        Err(change.refusal())
    }
}

/// What a provider has that not all have. What none of a tree has, the client is told never to ask for:
/// that saves it a message each time, and is right because Linux then does what each says here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features {
    /// Files and directories can be read without opening them, and nothing is ever written. (OPEN, OPENDIR
    /// and their RELEASE: every open succeeds.)
    pub stateless: bool,
    /// Files can be changed. (Without: FLUSH, FSYNC and FSYNCDIR succeed, since there is nothing to write.)
    pub writes: bool,
    /// Extended attributes. (Without: `EOPNOTSUPP`.)
    pub xattrs: bool,
    /// Locks that others than this guest see. (Without: the guest's kernel keeps them itself.)
    pub locks: bool,
}

impl Features {
    /// Those of a tree that has both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            stateless: self.stateless && other.stateless,
            writes: self.writes || other.writes,
            xattrs: self.xattrs || other.xattrs,
            locks: self.locks || other.locks,
        }
    }
}

/// Where an operation runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// On the thread that takes messages in. For what ends soon, whatever anybody else does: all other
    /// messages of the client wait meanwhile.
    Inline,
    /// On a thread of a pool, with others of the same number. What waits there holds up no other lane.
    Queue(u16),
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
