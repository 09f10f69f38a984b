//! Parts of `/proc` that programs do not see or cannot write to, the same as with container engines.

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_bind, mount_remount};

use super::process::PROC;

/// They tell of the machine, or of keys that are not the program's.
const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
];

/// They change the kernel of all programs.
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

const FLAGS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// Masks them in the `/proc` that was just mounted.
pub(super) fn hide() -> Result<(), Errno> {
    for path in MASKED {
        present(mask(path))?;
    }
    for path in READ_ONLY {
        present(mount_bind(path, path).and_then(|()| {
            mount_remount(path, FLAGS | MountFlags::BIND | MountFlags::RDONLY, c"")
        }))?;
    }
    Ok(())
}

/// Leaves a `/proc` without masks in the mount namespace, where no path leads to, and puts another one over it.
///
/// A process in a user namespace of its own may mount a proc only if the namespace has one already of which nothing is
/// covered (`mount_too_revealing` in the kernel's fs/namespace.c): without this, bubblewrap's `--proc` and
/// `unshare --mount-proc` fail.
pub(super) fn keep_whole() -> Result<(), Errno> {
    mount_bind(PROC, "/proc/fs")?;
    mount_bind(PROC, PROC)
}

fn mask(path: &str) -> Result<(), Errno> {
    match mount_bind("/dev/null", path) {
        Err(Errno::NOTDIR) => mount("tmpfs", path, "tmpfs", FLAGS | MountFlags::RDONLY, c"size=0"),
        result => result,
    }
}

/// Kernels have not all of them.
fn present(result: Result<(), Errno>) -> Result<(), Errno> {
    if result == Err(Errno::NOENT) { Ok(()) } else { result }
}
