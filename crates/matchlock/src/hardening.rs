//! What this process gives up before it runs a machine, for itself and for every child.

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};
use rustix::thread::set_no_new_privs;

/// Gives it up. It is called while the process has one thread, which those to come inherit from.
pub(crate) fn give_up() {
    // The file server keeps descriptors of what the guest uses. With fewer it is slower, no worse.
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    let _ = setrlimit(Resource::Nofile, files);
    // A core file would put secrets and the guest's memory on the disk.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    // Secrets are in this memory: no other process of the same user may look into it, or trace it.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    // No program that we start, a helper for credentials or the monitor, gains a privilege.
    let _ = set_no_new_privs(true);
}
