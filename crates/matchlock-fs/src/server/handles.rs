//! What the guest has open.
//!
//! ```text
//! insert ──► open ──remove──► closing: operations that began before still use it ──last ends──► released
//!              └───clear (the client began anew)──► dropped when the last operation ends
//! ```

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock};

use crate::context::Context;
use crate::open::{OpenDir, OpenFile};
use crate::pool::lock;
use crate::request::Release;
use crate::types::{Errno, Handle, NodeId, Result};

/// Files and directories that one client may have open. What they hold of the host is bounded by their
/// provider.
pub(super) const MAX_HANDLES: usize = 1 << 17;

/// Open files and directories by handle. A handle is never given out twice.
#[derive(Debug)]
pub(super) struct Handles {
    limit: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    open: HashMap<Handle, Arc<Open>>,
}

/// Something open, and the node that it is of.
#[derive(Debug)]
pub(super) struct Open {
    node: NodeId,
    object: Object,
    /// Set when the guest has closed it.
    closed: OnceLock<(Context, Release)>,
}

#[derive(Debug)]
enum Object {
    File(Arc<dyn OpenFile>),
    Directory(Arc<dyn OpenDir>),
}

/// An open file in use: it is not released while this is there.
#[derive(Debug)]
pub(super) struct FileRef {
    file: Arc<dyn OpenFile>,
    _open: Option<Arc<Open>>,
}

/// An open directory in use.
#[derive(Debug)]
pub(super) struct DirRef {
    directory: Arc<dyn OpenDir>,
    _open: Option<Arc<Open>>,
}

impl Handles {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, inner: Mutex::default() }
    }

    pub(super) fn insert_file(&self, node: NodeId, file: Arc<dyn OpenFile>) -> Result<Handle> {
        self.insert(node, Object::File(file))
    }

    pub(super) fn insert_directory(&self, node: NodeId, dir: Arc<dyn OpenDir>) -> Result<Handle> {
        self.insert(node, Object::Directory(dir))
    }

    fn insert(&self, node: NodeId, object: Object) -> Result<Handle> {
        let open = Arc::new(Open { node, object, closed: OnceLock::new() });
        let mut inner = lock(&self.inner);
        if inner.open.len() >= self.limit {
            drop(inner);
            return Err(Errno::ENFILE);
        }
        inner.last += 1;
        let handle = Handle(inner.last);
        inner.open.insert(handle, open);
        Ok(handle)
    }

    /// What is open under a handle, if it is of the node that the message names: where an operation runs
    /// was decided by the node.
    fn get(&self, node: NodeId, handle: Handle) -> Result<Arc<Open>> {
        let open = lock(&self.inner).open.get(&handle).map(Arc::clone).ok_or(Errno::EBADF)?;
        if open.node == node { Ok(open) } else { Err(Errno::EBADF) }
    }

    pub(super) fn file(&self, node: NodeId, handle: Handle) -> Result<FileRef> {
        let open = self.get(node, handle)?;
        let Object::File(file) = &open.object else {
            return Err(Errno::EBADF);
        };
        let file = Arc::clone(file);
        Ok(FileRef { file, _open: Some(open) })
    }

    pub(super) fn directory(&self, node: NodeId, handle: Handle) -> Result<DirRef> {
        let open = self.get(node, handle)?;
        let Object::Directory(directory) = &open.object else {
            return Err(Errno::EBADF);
        };
        let directory = Arc::clone(directory);
        Ok(DirRef { directory, _open: Some(open) })
    }

    /// Closes a handle. What is open is released when the last operation on it has ended, which for an honest
    /// client is now.
    pub(super) fn remove(
        &self,
        ctx: &Context,
        node: NodeId,
        handle: Handle,
        release: Release,
    ) -> Result<()> {
        let open = {
            let mut inner = lock(&self.inner);
            match inner.open.get(&handle) {
                Some(open) if open.node == node => inner.open.remove(&handle),
                _ => None,
            }
        };
        let open = open.ok_or(Errno::EBADF)?;
        let _ = open.closed.set((Context::new(ctx.caller, ctx.unique), release));
        Ok(())
    }

    pub(super) fn clear(&self) {
        // Dropped outside of the lock: to close a file of the host may take a while.
        let open = std::mem::take(&mut lock(&self.inner).open);
        drop(open);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let (Object::File(file), Some((ctx, release))) = (&self.object, self.closed.get()) {
            // A second panic, within a drop, would end the process. The panic hook has told of the first, and
            // nobody waits for an answer.
            let _ = catch_unwind(AssertUnwindSafe(|| file.release(ctx, release)));
        }
    }
}

impl FileRef {
    /// A file that the client did not open.
    pub(super) const fn of_node(file: Arc<dyn OpenFile>) -> Self {
        Self { file, _open: None }
    }
}

impl std::ops::Deref for FileRef {
    type Target = dyn OpenFile;

    fn deref(&self) -> &Self::Target {
        &*self.file
    }
}

impl DirRef {
    /// A directory that the client did not open.
    pub(super) const fn of_node(directory: Arc<dyn OpenDir>) -> Self {
        Self { directory, _open: None }
    }
}

impl std::ops::Deref for DirRef {
    type Target = dyn OpenDir;

    fn deref(&self) -> &Self::Target {
        &*self.directory
    }
}

#[cfg(test)]
mod tests;
