//! Descriptors kept for the next access, the least recently used closed first.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use super::lock;
use crate::types::NodeId;

/// Which descriptor: the host directory's number in the pool, and its node.
type Key = (u32, NodeId);

/// A bounded cache of descriptors. One that is in use outlives its place in the cache.
#[derive(Debug)]
pub(crate) struct FdCache {
    capacity: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    clock: u64,
    by_key: HashMap<Key, (u64, Arc<OwnedFd>)>,
    by_age: BTreeMap<u64, Key>,
}

impl FdCache {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, inner: Mutex::default() }
    }

    pub(crate) fn get(&self, key: Key) -> Option<Arc<OwnedFd>> {
        let mut inner = lock(&self.inner);
        inner.clock += 1;
        let now = inner.clock;
        let (used, fd) = inner.by_key.get_mut(&key)?;
        let (before, fd) = (std::mem::replace(used, now), Arc::clone(fd));
        inner.by_age.remove(&before);
        inner.by_age.insert(now, key);
        Some(fd)
    }

    pub(crate) fn insert(&self, key: Key, fd: Arc<OwnedFd>) {
        if self.capacity == 0 {
            return;
        }
        let mut inner = lock(&self.inner);
        inner.clock += 1;
        let now = inner.clock;
        if let Some((before, _)) = inner.by_key.insert(key, (now, fd)) {
            inner.by_age.remove(&before);
        }
        inner.by_age.insert(now, key);
        while inner.by_key.len() > self.capacity {
            let Some((_, oldest)) = inner.by_age.pop_first() else {
                break;
            };
            inner.by_key.remove(&oldest);
        }
    }

    pub(crate) fn remove(&self, key: Key) {
        let mut inner = lock(&self.inner);
        if let Some((used, _)) = inner.by_key.remove(&key) {
            inner.by_age.remove(&used);
        }
    }

    /// Closes every descriptor of one host directory.
    pub(crate) fn remove_all(&self, directory: u32) {
        let mut inner = lock(&self.inner);
        inner.by_key.retain(|(of, _), _| *of != directory);
        inner.by_age.retain(|_, (of, _)| *of != directory);
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
        let cache = FdCache::new(2);
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
