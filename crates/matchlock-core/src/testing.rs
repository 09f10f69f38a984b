//! What tests of several modules must agree on.

use std::process::{Child, Command};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::spec::{ConfinementSpec, ImageSpec, Lifetime, SandboxSpec};
use crate::values::{Cpus, DiskSize, MemorySize};

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

/// A process that lives until it is killed.
pub(crate) fn sleeper() -> Child {
    let _started = forking();
    Command::new("sleep").arg("600").spawn().expect("spawn")
}

/// A sandbox of no size in particular.
pub(crate) fn spec() -> SandboxSpec {
    SandboxSpec {
        name: None,
        image: ImageSpec::Host,
        cpus: Cpus::new(1.0, 1).expect("valid"),
        memory: MemorySize::new(64, 64).expect("valid"),
        disk: DiskSize::new(64).expect("valid"),
        disks: Vec::new(),
        export: false,
        hostname: None,
        confinement: ConfinementSpec::default(),
        limits: matchlock_proto::Limits::default(),
        env: Vec::new(),
        hosts: Vec::new(),
        network: None,
        audit_log: None,
        start: None,
        lifetime: Lifetime::default(),
    }
}
