//! A directory of the host, read-only.
//!
//! Symbolic links are given to the guest as text and resolved by it. Devices, FIFOs and sockets can be
//! seen, unless the [`Filter`] hides them, and are never opened.

mod file;
mod filter;
mod list;
mod open;
mod table;

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, fstatvfs, readlinkat};

use crate::abi::Opcode;
use crate::context::Context;
use crate::open::{Caching, OpenDir, OpenFile, OpenedDir, OpenedFile};
use crate::pool::{Pool, Share};
use crate::provider::{CachePolicy, Features, Lane, Provider};
use crate::request::Name;
use crate::types::{Attr, Entry, Errno, FileKind, FsStats, IdSpace, Lookup, NodeId, Result};

use file::HostFile;
pub use filter::{Filter, Masks};
use list::HostListing;
use open::{Opener, Status};
use table::{Identity, NodeTable};

/// Flags of open(2) that would change the file: write access, `O_CREAT`, `O_TRUNC`, `O_APPEND`.
const WRITING: u32 = 0o3 | 0o100 | 0o1000 | 0o2000;

/// How a directory is served.
#[derive(Debug, Clone)]
pub struct HostDirOptions {
    /// What the guest may remember.
    pub cache: CachePolicy,
    /// What it may see.
    pub filter: Filter,
    /// Whether mounts inside the directory belong to it; if not, they are empty directories, and
    /// files that something is mounted on are absent.
    pub cross_mounts: bool,
    /// Whether files are read without being opened (see [`Features::stateless`]). A file that the host
    /// removes while the guest reads it may then be stale (`ESTALE`).
    pub stateless: bool,
}

/// A read-only directory of the host.
#[derive(Debug)]
pub struct HostDir(Arc<Served>);

/// What the directory and all that is open in it share.
#[derive(Debug)]
struct Served {
    space: IdSpace,
    /// Tells our descriptors in the pool from others'.
    number: u32,
    root: Arc<OwnedFd>,
    opener: Opener,
    table: NodeTable,
    options: HostDirOptions,
    pool: Arc<Pool>,
}

impl HostDir {
    /// Serves the directory `path`, which is the trusted side's word and may have symbolic links in it.
    ///
    /// # Errors
    /// When it cannot be opened, is no directory, or `/proc` is missing.
    pub fn open(
        path: &Path,
        space: IdSpace,
        pool: &Arc<Pool>,
        options: HostDirOptions,
    ) -> std::io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())?;
        Self::new(root, space, pool, options)
    }

    /// Serves the directory that a descriptor stands for.
    ///
    /// # Errors
    /// When `/proc` is missing.
    pub fn new(
        root: OwnedFd,
        space: IdSpace,
        pool: &Arc<Pool>,
        options: HostDirOptions,
    ) -> std::io::Result<Self> {
        Ok(Self(Arc::new(Served {
            space,
            number: pool.register(),
            root: Arc::new(root),
            opener: Opener::new(options.cross_mounts)?,
            table: NodeTable::new(space, Arc::clone(pool)),
            options,
            pool: Arc::clone(pool),
        })))
    }
}

impl Served {
    /// An `O_PATH` descriptor of a directory node. `EXDEV` is a mount that does not belong to us.
    fn directory(&self, node: NodeId) -> Result<Arc<OwnedFd>> {
        if node == self.space.root() {
            return Ok(Arc::clone(&self.root));
        }
        // In the cache there may also be a file of that number, in which nothing is found (`ENOTDIR`).
        if let Some(fd) = self.pool.fds.get((self.number, node)) {
            return Ok(fd);
        }
        let place = self.table.place(node)?;
        if place.identity.kind != FileKind::Directory {
            return Err(Errno::ENOTDIR);
        }
        let fd = self.opener.directory(self.root.as_fd(), &self.table.path(node)?)?;
        verify(place.identity, Status::of(&fd)?.identity)?;
        let fd = Arc::new(fd);
        self.pool.fds.insert((self.number, node), Arc::clone(&fd));
        Ok(fd)
    }

    /// Opens a regular file for reading.
    fn file(&self, node: NodeId) -> Result<OwnedFd> {
        if node == self.space.root() {
            return Err(Errno::EISDIR);
        }
        let place = self.table.place(node)?;
        match place.identity.kind {
            FileKind::Regular => {}
            FileKind::Directory => return Err(Errno::EISDIR),
            FileKind::Symlink => return Err(Errno::ELOOP),
            _ => return Err(Errno::EACCES),
        }
        let found = self.opener.path_only(&*self.directory(place.parent)?, &place.name)?;
        let status = Status::of(&found)?;
        verify(place.identity, status.identity)?;
        self.options.filter.check_mode(status.mode, Mode::ROTH)?;
        let file = self.opener.readable(&found)?;
        self.options.filter.check_content(&file)?;
        Ok(file)
    }

    /// The file of a node that the client did not open.
    fn unopened(&self, node: NodeId) -> Result<Arc<OwnedFd>> {
        if !self.options.stateless {
            return Err(Errno::EBADF);
        }
        let key = (self.number, node);
        // Directories are cached as well, by descriptors that cannot be read from (`EBADF`).
        if let Some(fd) = self.pool.fds.get(key) {
            return Ok(fd);
        }
        let file = Arc::new(self.file(node)?);
        self.pool.fds.insert(key, Arc::clone(&file));
        Ok(file)
    }

    fn attributes(&self, node: NodeId) -> Result<(Attr, Duration)> {
        let status = if node == self.space.root() {
            Status::of(&*self.root)?
        } else {
            let place = self.table.place(node)?;
            let parent = self.directory(place.parent)?;
            let found = self.child(&*parent, Name::new(&place.name)?)?.ok_or(Errno::ESTALE)?;
            verify(place.identity, found.identity)?;
            found
        };
        Ok((self.attr(&status), self.options.cache.attr))
    }

    fn caching(&self) -> Caching {
        if self.options.cache.keep { Caching::Keep } else { Caching::Renew }
    }

    /// The path of a directory, where there are masks to compare it with.
    fn masked_path(&self, node: NodeId) -> Result<Option<Vec<u8>>> {
        self.options.filter.has_masks().then(|| self.table.path(node)).transpose()
    }

    /// What a name is, if the guest may know of it.
    fn child(&self, directory: impl AsFd, name: Name<'_>) -> Result<Option<Status>> {
        let status = match Status::of_name(directory, name.as_c_str()) {
            Err(Errno::ENOENT) => return Ok(None),
            status => status?,
        };
        let foreign = status.mount_point && self.opener.stops_at_mounts();
        let absent = foreign && status.identity.kind != FileKind::Directory;
        Ok((!absent && !self.options.filter.hides_kind(status.identity.kind)).then_some(status))
    }

    /// Counts a reference to the node of a name that no mask covers.
    fn enter(&self, parent: NodeId, directory: impl AsFd, name: Name<'_>) -> Result<Lookup> {
        let Some(status) = self.child(directory, name)? else {
            return Ok(Lookup::Absent(self.options.cache.negative));
        };
        let node = self.table.enter(parent, name.as_c_str(), status.identity)?;
        Ok(Lookup::Found(self.entry(node, &status)))
    }

    fn entry(&self, node: NodeId, status: &Status) -> Entry {
        let CachePolicy { entry, attr, .. } = self.options.cache;
        Entry { node, attr: self.attr(status), entry_ttl: entry, attr_ttl: attr }
    }

    fn attr(&self, status: &Status) -> Attr {
        let Identity { device, ino, .. } = status.identity;
        status.attr(self.pool.inodes.number(device, ino))
    }
}

/// Stale unless what was found is what was meant.
fn verify(meant: Identity, found: Identity) -> Result<()> {
    if meant == found { Ok(()) } else { Err(Errno::ESTALE) }
}

impl Provider for HostDir {
    fn root(&self) -> Result<Entry> {
        Ok(self.0.entry(self.0.space.root(), &Status::of(&*self.0.root)?))
    }

    fn features(&self) -> Features {
        Features { stateless: self.0.options.stateless, ..Features::default() }
    }

    /// Reading is mostly copying from the host's page cache, which is less than changing threads.
    fn lane(&self, _: NodeId, _: Opcode) -> Lane {
        Lane::Inline
    }

    fn lookup(&self, _: &Context, parent: NodeId, name: Name<'_>) -> Result<Lookup> {
        let served = &*self.0;
        let absent = Lookup::Absent(served.options.cache.negative);
        let directory = match served.directory(parent) {
            Err(Errno::EXDEV) => return Ok(absent),
            directory => directory?,
        };
        let filter = &served.options.filter;
        if filter.world_readable_only {
            filter.check_mode(Status::of(&*directory)?.mode, Mode::XOTH)?;
        }
        if served.masked_path(parent)?.is_some_and(|path| filter.masks(&path, name.as_bytes())) {
            return Ok(absent);
        }
        served.enter(parent, &*directory, name)
    }

    fn forget(&self, node: NodeId, count: u64) {
        if self.0.table.forget(node, count) {
            self.0.pool.fds.remove((self.0.number, node));
        }
    }

    fn reset(&self) {
        self.0.table.clear();
        self.0.pool.fds.remove_all(self.0.number);
    }

    fn getattr(&self, _: &Context, node: NodeId) -> Result<(Attr, Duration)> {
        self.0.attributes(node)
    }

    fn readlink(&self, _: &Context, node: NodeId) -> Result<Vec<u8>> {
        let place = self.0.table.place(node)?;
        if place.identity.kind != FileKind::Symlink {
            return Err(Errno::EINVAL);
        }
        let link = self.0.opener.path_only(&*self.0.directory(place.parent)?, &place.name)?;
        verify(place.identity, Status::of(&link)?.identity)?;
        Ok(readlinkat(&link, c"", Vec::new())?.into_bytes())
    }

    fn open(&self, _: &Context, node: NodeId, flags: u32) -> Result<OpenedFile> {
        if flags & WRITING != 0 {
            return Err(Errno::EROFS);
        }
        let share = Share::of_handles(&self.0.pool)?;
        let file = Arc::new(self.0.file(node)?);
        let file = HostFile::new(Arc::clone(&self.0), file, Some(share));
        Ok(OpenedFile { file: Arc::new(file), caching: self.0.caching() })
    }

    fn opendir(&self, _: &Context, node: NodeId, _: u32) -> Result<OpenedDir> {
        let share = Share::of_handles(&self.0.pool)?;
        let directory = Arc::new(HostListing::open(&self.0, node, Some(share))?);
        Ok(OpenedDir { directory, caching: self.0.caching() })
    }

    fn file(&self, _: &Context, node: NodeId) -> Result<Arc<dyn OpenFile>> {
        let file = self.0.unopened(node)?;
        Ok(Arc::new(HostFile::new(Arc::clone(&self.0), file, None)))
    }

    fn directory(&self, _: &Context, node: NodeId) -> Result<Arc<dyn OpenDir>> {
        if !self.0.options.stateless {
            return Err(Errno::EBADF);
        }
        Ok(Arc::new(HostListing::open(&self.0, node, None)?))
    }

    fn statfs(&self, _: &Context, _: NodeId) -> Result<FsStats> {
        let stats = fstatvfs(&*self.0.root)?;
        let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Ok(FsStats {
            blocks: stats.f_blocks,
            bfree: stats.f_bfree,
            bavail: stats.f_bavail,
            files: stats.f_files,
            ffree: stats.f_ffree,
            bsize: narrow(stats.f_bsize),
            namelen: narrow(stats.f_namemax),
            frsize: narrow(stats.f_frsize),
        })
    }
}
