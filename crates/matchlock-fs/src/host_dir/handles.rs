//! Files that the guest has open.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use crate::pool::{Pool, lock};
use crate::types::{Errno, Handle, Result};

/// Open files by handle. A handle is never given out twice.
#[derive(Debug)]
pub(super) struct Handles {
    pool: Arc<Pool>,
    inner: Mutex<(u64, HashMap<Handle, Arc<OwnedFd>>)>,
}

impl Handles {
    pub(super) fn new(pool: Arc<Pool>) -> Self {
        Self { pool, inner: Mutex::default() }
    }

    pub(super) fn insert(&self, file: OwnedFd) -> Result<Handle> {
        self.pool.handles.take(Errno::ENFILE)?;
        let mut inner = lock(&self.inner);
        inner.0 += 1;
        let handle = Handle(inner.0);
        inner.1.insert(handle, Arc::new(file));
        Ok(handle)
    }

    pub(super) fn get(&self, handle: Handle) -> Result<Arc<OwnedFd>> {
        lock(&self.inner).1.get(&handle).map(Arc::clone).ok_or(Errno::EBADF)
    }

    pub(super) fn remove(&self, handle: Handle) {
        if lock(&self.inner).1.remove(&handle).is_some() {
            self.pool.handles.give_back(1);
        }
    }

    pub(super) fn clear(&self) {
        let files = std::mem::take(&mut lock(&self.inner).1);
        self.pool.handles.give_back(files.len());
    }
}

impl Drop for Handles {
    fn drop(&mut self) {
        self.clear();
    }
}
