//! What tests of several modules must agree on.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A process that is being started has copies of all our descriptors until it executes its program, and
/// with them holds the locks (flock(2)) of files that were closed meanwhile.
static FORKS: RwLock<()> = RwLock::new(());

/// While it lives a process may be started.
pub(crate) fn forking() -> RwLockWriteGuard<'static, ()> {
    FORKS.write().unwrap_or_else(PoisonError::into_inner)
}

/// While it lives a file that is closed is unlocked. One for each thread: a second one may never come.
pub(crate) fn unlocking() -> RwLockReadGuard<'static, ()> {
    FORKS.read().unwrap_or_else(PoisonError::into_inner)
}
