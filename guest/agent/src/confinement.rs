//! What keeps programs from the kernel: capabilities, the system call filter, `no_new_privs`.
//!
//! One place for every execution, whoever asked for it. What of `/proc` and `/sys` is masked is with the mounts.

use std::io;

use matchlock_proto::{Confinement, Level};
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs,
};

use crate::seccomp::{self, Instruction};
use crate::sys;

/// The confinement of a guest, made ready once.
#[derive(Debug)]
pub struct Confined {
    level: Level,
    capabilities: CapabilitySet,
    no_new_privs: bool,
    filter: Option<Vec<Instruction>>,
}

impl From<Confinement> for Confined {
    fn from(confinement: Confinement) -> Self {
        let filter = confinement.seccomp.then(|| seccomp::profile(&confinement));
        Self {
            level: confinement.level,
            capabilities: CapabilitySet::from_bits_retain(confinement.capabilities),
            no_new_privs: confinement.no_new_privs,
            filter: filter.map(|ranges| seccomp::assemble(&ranges)),
        }
    }
}

impl Confined {
    /// Beyond capabilities and the filter.
    pub(crate) fn level(&self) -> Level {
        self.level
    }

    /// Confines what the calling process executes. It is the agent's copy, not yet the program, and keeps its privileges
    /// until [`Self::drop_privileges`].
    ///
    /// The filter comes first: without `no_new_privs` it takes `CAP_SYS_ADMIN`, and it lets through what the
    /// process does until it executes the program.
    pub(crate) fn apply(&self) -> Result<(), (&'static str, io::Error)> {
        if self.no_new_privs {
            set_no_new_privs(true).map_err(|e| ("set no_new_privs", e.into()))?;
        }
        if let Some(filter) = &self.filter {
            sys::install_filter(filter).map_err(|e| ("install the filter", e))?;
        }
        bound(self.capabilities).map_err(|e| ("bound the capabilities", e.into()))
    }

    /// Leaves the calling process no more capabilities than the program may have: after the change of the user, which
    /// takes some that it may not have.
    pub(crate) fn drop_privileges(&self) -> Result<(), Errno> {
        let CapabilitySets { effective, permitted, .. } = capabilities(None)?;
        let (effective, permitted) = (effective & self.capabilities, permitted & self.capabilities);
        // An empty inheritable set empties the ambient one too (capabilities(7)).
        let inheritable = CapabilitySet::empty();
        set_capabilities(None, CapabilitySets { effective, permitted, inheritable })
    }
}

/// Nothing that is executed from here on gets more than `keep`, whatever its file says.
fn bound(keep: CapabilitySet) -> Result<(), Errno> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if keep.contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            // The kernel has no more of them.
            Err(Errno::INVAL) => break,
            result => result?,
        }
    }
    Ok(())
}
