//! What all host directories of one guest share, and the bounds of it.

mod fds;
mod inodes;

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

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
    /// A share of the soft limit of open files that leaves room for the other sandboxes of the process. What
    /// all of them hold together is bounded besides ([`Pool::new`]).
    #[must_use]
    pub fn for_this_process() -> Self {
        let files = open_files();
        Self { nodes: 1 << 20, handles: (files / 8).min(8192), cached_fds: (files / 16).min(512) }
    }
}

fn open_files() -> usize {
    let soft = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
    usize::try_from(soft).unwrap_or(usize::MAX)
}

/// Descriptors of all guests of this process. The limit of open files is the process's, and so is this: the
/// rest of it keeps a quarter.
fn descriptors() -> Arc<Budget> {
    static DESCRIPTORS: OnceLock<Arc<Budget>> = OnceLock::new();
    Arc::clone(DESCRIPTORS.get_or_init(|| Arc::new(Budget::new(open_files() / 4 * 3))))
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
    /// A pool with nothing in it. The descriptors of all pools of the process are at most three quarters of
    /// its limit: beyond, opens are refused and nothing is kept for the next access.
    #[must_use]
    pub fn new(limits: Limits) -> Arc<Self> {
        Self::within(limits, &descriptors())
    }

    fn within(limits: Limits, descriptors: &Arc<Budget>) -> Arc<Self> {
        Arc::new(Self {
            fds: FdCache::new(limits.cached_fds, Arc::clone(descriptors)),
            inodes: InodeNumbers::default(),
            nodes: Budget::new(limits.nodes),
            handles: Budget {
                within: Some(Arc::clone(descriptors)),
                ..Budget::new(limits.handles)
            },
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

/// A count with a bound, and what it counts may count in another as well.
#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicUsize,
    limit: usize,
    within: Option<Arc<Budget>>,
}

impl Budget {
    pub(crate) const fn new(limit: usize) -> Self {
        Self { used: AtomicUsize::new(0), limit, within: None }
    }

    /// Takes one, or says `full`.
    pub(crate) fn take(&self, full: Errno) -> Result<()> {
        self.take_many(1, full)
    }

    /// Takes as many, or says `full`.
    pub(crate) fn take_many(&self, count: usize, full: Errno) -> Result<()> {
        let more = |used: usize| used.checked_add(count).filter(|used| *used <= self.limit);
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.map_err(|_| full)?;
        let within = self.within.as_ref().map_or(Ok(()), |within| within.take_many(count, full));
        within.inspect_err(|_| {
            self.used.fetch_sub(count, Ordering::Relaxed);
        })
    }

    pub(crate) fn give_back(&self, count: usize) {
        self.used.fetch_sub(count, Ordering::Relaxed);
        if let Some(within) = &self.within {
            within.give_back(count);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::NodeId;

    #[test]
    fn sandboxes_share_the_descriptors_of_the_process() {
        let descriptors = Arc::new(Budget::new(3));
        let limits = Limits { nodes: 0, handles: 2, cached_fds: 2 };
        let pools = [(); 2].map(|()| Pool::within(limits, &descriptors));
        let fd = || Arc::new(std::fs::File::open("/dev/null").expect("null device").into());
        let open: Vec<_> =
            (0..2).map(|_| Share::of_handles(&pools[0]).expect("its share")).collect();
        assert_eq!(Share::of_handles(&pools[0]).err(), Some(Errno::ENFILE), "its own bound");
        pools[1].fds.insert((0, NodeId(1)), fd());
        // The process has no more: the other pool keeps its newest descriptor and opens nothing.
        pools[1].fds.insert((0, NodeId(2)), fd());
        assert!(pools[1].fds.get((0, NodeId(1))).is_none());
        assert!(pools[1].fds.get((0, NodeId(2))).is_some());
        assert_eq!(Share::of_handles(&pools[1]).err(), Some(Errno::ENFILE));
        assert_eq!(pools[1].handles.used(), 0);
        drop(open);
        assert!(Share::of_handles(&pools[1]).is_ok());
        drop(pools);
        assert_eq!(descriptors.used(), 0);
    }
}
