//! What all host directories of one guest share, and the bounds of it.

mod fds;
mod inodes;

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Resource, getrlimit};

use crate::types::{Errno, Result};

pub(crate) use fds::FdCache;
pub(crate) use inodes::{InodeNumbers, SYNTHETIC_INODES};

/// What one guest may make the host hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Nodes that the guest refers to, about 150 bytes each. Beyond: `ENOMEM`.
    pub nodes: usize,
    /// Files that the guest has open. Beyond: `ENFILE`.
    pub handles: usize,
    /// Descriptors kept so that the next access need not walk. Beyond: the oldest is closed.
    pub cached_fds: usize,
}

impl Limits {
    /// As much as the soft limit of open files leaves when the rest of the process keeps a quarter.
    #[must_use]
    pub fn for_this_process() -> Self {
        let soft = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
        let files = usize::try_from(soft).unwrap_or(usize::MAX);
        Self { nodes: 1 << 20, handles: (files / 2).min(8192), cached_fds: (files / 4).min(512) }
    }
}

/// The budget of one guest. Each host directory of its tree draws on it.
#[derive(Debug)]
pub struct Pool {
    pub(crate) fds: FdCache,
    pub(crate) inodes: InodeNumbers,
    pub(crate) nodes: Budget,
    pub(crate) handles: Budget,
    directories: AtomicU32,
}

impl Pool {
    /// A pool with nothing in it.
    #[must_use]
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            fds: FdCache::new(limits.cached_fds),
            inodes: InodeNumbers::default(),
            nodes: Budget::new(limits.nodes),
            handles: Budget::new(limits.handles),
            directories: AtomicU32::new(0),
        })
    }

    /// A number that tells the descriptors of one host directory from those of another.
    pub(crate) fn register(&self) -> u32 {
        self.directories.fetch_add(1, Ordering::Relaxed)
    }
}

/// One open file or directory of the guest, with a descriptor of the host.
#[derive(Debug)]
pub(crate) struct Share(Arc<Pool>);

impl Share {
    /// # Errors
    /// [`Errno::ENFILE`]
    pub(crate) fn of_handles(pool: &Arc<Pool>) -> Result<Self> {
        pool.handles.take(Errno::ENFILE)?;
        Ok(Self(Arc::clone(pool)))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.handles.give_back(1);
    }
}

/// A count with a bound.
#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicUsize,
    limit: usize,
}

impl Budget {
    pub(crate) const fn new(limit: usize) -> Self {
        Self { used: AtomicUsize::new(0), limit }
    }

    /// Takes one, or says `full`.
    pub(crate) fn take(&self, full: Errno) -> Result<()> {
        self.take_many(1, full)
    }

    /// Takes as many, or says `full`.
    pub(crate) fn take_many(&self, count: usize, full: Errno) -> Result<()> {
        let more = |used: usize| used.checked_add(count).filter(|used| *used <= self.limit);
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.map(drop).map_err(|_| full)
    }

    pub(crate) fn give_back(&self, count: usize) {
        self.used.fetch_sub(count, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// Every table stays valid between two statements, so a panic elsewhere need not stop the others.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
