//! A directory of the host, read-only.
//!
//! Symbolic links are given to the guest as text and resolved by it. Devices, FIFOs and sockets can be
//! seen, unless the [`Filter`] hides them, and are never opened.

mod filter;
mod handles;
mod list;
mod open;
mod table;

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, SeekFrom, fstatvfs, readlinkat, seek};

use crate::pool::Pool;
use crate::provider::{CachePolicy, Provider};
use crate::reply::DirBuffer;
use crate::request::{Name, Whence};
use crate::types::{
    Attr, Entry, Errno, FileKind, FsStats, Handle, IdSpace, Lookup, NodeId, Opened, Result,
};

pub use filter::{Filter, Masks};
use handles::Handles;
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
    /// Whether files are read without being opened (see [`Provider::stateless`]). A file that the host
    /// removes while the guest reads it may then be stale (`ESTALE`).
    pub stateless: bool,
}

/// A read-only directory of the host.
#[derive(Debug)]
pub struct HostDir {
    space: IdSpace,
    /// Tells our descriptors in the pool from others'.
    number: u32,
    root: Arc<OwnedFd>,
    opener: Opener,
    table: NodeTable,
    handles: Handles,
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
        Ok(Self {
            space,
            number: pool.register(),
            root: Arc::new(root),
            opener: Opener::new(options.cross_mounts)?,
            table: NodeTable::new(space, Arc::clone(pool)),
            handles: Handles::new(Arc::clone(pool)),
            options,
            pool: Arc::clone(pool),
        })
    }

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

    /// The descriptor to read from: the open file, or without one the node's own.
    fn reader(&self, node: NodeId, handle: Handle) -> Result<Arc<OwnedFd>> {
        if handle != Handle::NONE {
            return self.handles.get(handle);
        }
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
        Ok(self.entry(self.space.root(), &Status::of(&*self.root)?))
    }

    fn lookup(&self, parent: NodeId, name: Name<'_>) -> Result<Lookup> {
        let absent = Lookup::Absent(self.options.cache.negative);
        let directory = match self.directory(parent) {
            Err(Errno::EXDEV) => return Ok(absent),
            directory => directory?,
        };
        let filter = &self.options.filter;
        if filter.world_readable_only {
            filter.check_mode(Status::of(&*directory)?.mode, Mode::XOTH)?;
        }
        if self.masked_path(parent)?.is_some_and(|path| filter.masks(&path, name.as_bytes())) {
            return Ok(absent);
        }
        self.enter(parent, &*directory, name)
    }

    fn forget(&self, node: NodeId, count: u64) {
        if self.table.forget(node, count) {
            self.pool.fds.remove((self.number, node));
        }
    }

    fn reset(&self) {
        self.table.clear();
        self.handles.clear();
        self.pool.fds.remove_all(self.number);
    }

    fn getattr(&self, node: NodeId, _: Option<Handle>) -> Result<(Attr, Duration)> {
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

    fn readlink(&self, node: NodeId) -> Result<Vec<u8>> {
        let place = self.table.place(node)?;
        if place.identity.kind != FileKind::Symlink {
            return Err(Errno::EINVAL);
        }
        let link = self.opener.path_only(&*self.directory(place.parent)?, &place.name)?;
        verify(place.identity, Status::of(&link)?.identity)?;
        Ok(readlinkat(&link, c"", Vec::new())?.into_bytes())
    }

    fn stateless(&self) -> bool {
        self.options.stateless
    }

    fn open(&self, node: NodeId, flags: u32) -> Result<Opened> {
        if flags & WRITING != 0 {
            return Err(Errno::EROFS);
        }
        let handle = self.handles.insert(self.file(node)?)?;
        Ok(Opened { handle, keep_cache: self.options.cache.keep })
    }

    fn read(
        &self,
        node: NodeId,
        handle: Handle,
        offset: u64,
        size: usize,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let file = self.reader(node, handle)?;
        let start = out.len();
        out.resize(start + size, 0);
        let mut filled = start;
        // Fewer bytes than asked mean the end of the file to the client, so a short read goes on.
        let result = loop {
            let Some(at) = offset.checked_add((filled - start) as u64) else {
                break Ok(());
            };
            match rustix::io::pread(&*file, &mut out[filled..], at) {
                Ok(0) => break Ok(()),
                Ok(count) => filled += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => break Err(error.into()),
            }
        };
        out.truncate(filled);
        result
    }

    fn lseek(&self, node: NodeId, handle: Handle, offset: u64, whence: Whence) -> Result<u64> {
        let file = self.reader(node, handle)?;
        // The position of the descriptor moves, which nothing here uses.
        Ok(match whence {
            Whence::Data => seek(&*file, SeekFrom::Data(offset)),
            Whence::Hole => seek(&*file, SeekFrom::Hole(offset)),
        }?)
    }

    fn release(&self, _: NodeId, handle: Handle) {
        self.handles.remove(handle);
    }

    fn opendir(&self, node: NodeId) -> Result<Opened> {
        match self.directory(node) {
            Err(Errno::EXDEV) => {}
            directory => {
                let directory = directory?;
                self.options.filter.check_mode(Status::of(&*directory)?.mode, Mode::ROTH)?;
                self.opener.listing(&*directory)?;
            }
        }
        Ok(Opened { handle: Handle::NONE, keep_cache: self.options.cache.keep })
    }

    fn readdir(&self, node: NodeId, _: Handle, at: u64, out: &mut DirBuffer<'_>) -> Result<()> {
        self.list(node, at, out)
    }

    fn statfs(&self, _: NodeId) -> Result<FsStats> {
        let stats = fstatvfs(&*self.root)?;
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
