//! Descriptors kept for the next access, the least recently used closed first.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use super::{Budget, lock};
use crate::types::{Errno, NodeId};

/// Which descriptor: the host directory's number in the pool, and its node.
type Key = (u32, NodeId);

/// A bounded cache of descriptors. One that is in use outlives its place in the cache.
#[derive(Debug)]
pub(crate) struct FdCache {
    capacity: usize,
    descriptors: Arc<Budget>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    clock: u64,
    by_key: HashMap<Key, Kept>,
    by_age: BTreeMap<u64, Key>,
}

/// A descriptor with when it was used last, and its place among those of the process.
#[derive(Debug)]
struct Kept {
    used: u64,
    fd: Arc<OwnedFd>,
    descriptors: Arc<Budget>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.descriptors.give_back(1);
    }
}

impl FdCache {
    pub(crate) fn new(capacity: usize, descriptors: Arc<Budget>) -> Self {
        Self { capacity, descriptors, inner: Mutex::default() }
    }

    pub(crate) fn get(&self, key: Key) -> Option<Arc<OwnedFd>> {
        let mut inner = lock(&self.inner);
        inner.clock += 1;
        let now = inner.clock;
        let kept = inner.by_key.get_mut(&key)?;
        let (before, fd) = (std::mem::replace(&mut kept.used, now), Arc::clone(&kept.fd));
        inner.by_age.remove(&before);
        inner.by_age.insert(now, key);
        Some(fd)
    }

    pub(crate) fn insert(&self, key: Key, fd: Arc<OwnedFd>) {
        if self.capacity == 0 {
            return;
        }
        let mut inner = lock(&self.inner);
        inner.remove(key);
        while inner.by_key.len() >= self.capacity {
            inner.remove_oldest();
        }
        // Where the process has no more, one of ours makes room, or nothing is kept.
        let take = || self.descriptors.take(Errno::ENFILE);
        if take().is_err() {
            inner.remove_oldest();
            if take().is_err() {
                return;
            }
        }
        inner.clock += 1;
        let used = inner.clock;
        let descriptors = Arc::clone(&self.descriptors);
        inner.by_key.insert(key, Kept { used, fd, descriptors });
        inner.by_age.insert(used, key);
    }

    pub(crate) fn remove(&self, key: Key) {
        lock(&self.inner).remove(key);
    }

    /// Closes every descriptor of one host directory.
    pub(crate) fn remove_all(&self, directory: u32) {
        let mut inner = lock(&self.inner);
        inner.by_key.retain(|(of, _), _| *of != directory);
        inner.by_age.retain(|_, (of, _)| *of != directory);
    }
}

impl Inner {
    fn remove(&mut self, key: Key) {
        if let Some(kept) = self.by_key.remove(&key) {
            self.by_age.remove(&kept.used);
        }
    }

    fn remove_oldest(&mut self) {
        if let Some((_, oldest)) = self.by_age.pop_first() {
            self.by_key.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fd() -> Arc<OwnedFd> {
        Arc::new(std::fs::File::open("/dev/null").expect("null device").into())
    }

    #[test]
    fn the_least_recently_used_is_closed() {
        let cache = FdCache::new(2, Arc::new(Budget::new(2)));
        cache.insert((0, NodeId(1)), fd());
        cache.insert((0, NodeId(2)), fd());
        assert!(cache.get((0, NodeId(1))).is_some());
        cache.insert((0, NodeId(3)), fd());
        assert!(cache.get((0, NodeId(2))).is_none());
        assert!(cache.get((0, NodeId(1))).is_some());
        cache.remove((0, NodeId(1)));
        assert!(cache.get((0, NodeId(1))).is_none());
        cache.remove_all(0);
        let inner = lock(&cache.inner);
        assert!(inner.by_key.is_empty() && inner.by_age.is_empty());
    }
}
