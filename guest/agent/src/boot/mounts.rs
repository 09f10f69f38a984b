//! The mounts that every guest has.

use std::ffi::{CStr, CString};

use matchlock_proto::{BootStep, Level};
use rustix::fs::{Mode, chmod, mkdir, symlink};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_remount};

use super::{Required, StepFailed};
use crate::console;

/// Everything that the start needs and the guest must not see is mounted beneath this directory of
/// the initramfs and goes with one unmount.
pub(super) const STAGE: &str = "/stage";
pub(super) const EARLY_PROC: &str = "/stage/proc";
pub(super) const EARLY_DEV: &str = "/stage/dev";

/// One file system of the guest's root.
#[derive(Debug)]
struct Entry {
    target: &'static str,
    kind: &'static str,
    flags: MountFlags,
    data: &'static CStr,
    is_required: bool,
}

/// Shared memory of POSIX.
const SHM: &str = "/dev/shm";

const SECURE: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// In order: a target may be in a file system mounted before.
///
/// No proc and no cgroup2: each execution mounts its own, and there is no other one to uncover.
const MOUNTS: [Entry; 5] = [
    entry("/dev", "devtmpfs", MountFlags::NOSUID, c"mode=755"),
    entry(
        "/dev/pts",
        "devpts",
        MountFlags::NOSUID.union(MountFlags::NOEXEC),
        c"gid=5,mode=620,ptmxmode=666",
    ),
    entry(SHM, "tmpfs", MountFlags::NOSUID.union(MountFlags::NODEV), c"mode=1777"),
    entry("/run", "tmpfs", MountFlags::NOSUID.union(MountFlags::NODEV), c"mode=755"),
    Entry { is_required: false, ..entry("/dev/mqueue", "mqueue", SECURE, c"") },
];

/// Before the others, which may be in it.
const SYS: Entry = entry("/sys", "sysfs", SECURE, c"");

const BPF: Entry = Entry { is_required: false, ..entry("/sys/fs/bpf", "bpf", SECURE, c"mode=700") };

/// Names that programs expect and devtmpfs does not have.
const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

const fn entry(
    target: &'static str,
    kind: &'static str,
    flags: MountFlags,
    data: &'static CStr,
) -> Entry {
    Entry { target, kind, flags, data, is_required: true }
}

/// Mounts what is needed to read the command line and to find disks.
///
/// # Errors
/// When the kernel cannot mount them: no machine to speak of.
pub fn early() -> std::io::Result<()> {
    directory(STAGE, 0o700)?;
    mount("tmpfs", STAGE, "tmpfs", SECURE, c"mode=700")?;
    for (kind, target) in [("proc", EARLY_PROC), ("devtmpfs", EARLY_DEV)] {
        directory(target, 0o755)?;
        mount(kind, target, kind, MountFlags::NOSUID | MountFlags::NOEXEC, c"")?;
    }
    Ok(())
}

/// Mounts the rest, in the guest's root.
pub(super) fn complete(level: Level, shm_size: Option<u64>) -> Result<(), StepFailed> {
    directory("/proc", 0o555).required(BootStep::Mounts, "create /proc")?;
    let (sys, more) = match level {
        Level::Privileged => (SYS, Some(&BPF)),
        // Its files change the kernel of all programs.
        Level::Default | Level::Hardened => {
            (Entry { flags: SECURE.union(MountFlags::RDONLY), ..SYS }, None)
        }
    };
    for entry in [&sys].into_iter().chain(&MOUNTS).chain(more) {
        let mounted = directory(entry.target, 0o755)
            .and_then(|()| mount(entry.kind, entry.target, entry.kind, entry.flags, entry.data));
        if entry.is_required {
            mounted.required(BootStep::Mounts, format_args!("mount {}", entry.target))?;
        } else {
            console::optional(&format!("mount {}", entry.target), mounted);
        }
    }
    if let Some(size) = shm_size {
        let size = CString::new(format!("size={size}")).required(BootStep::Mounts, "a size")?;
        mount_remount(SHM, MountFlags::NOSUID | MountFlags::NODEV, size.as_c_str())
            .required(BootStep::Mounts, format_args!("give {SHM} its size"))?;
    }
    for (target, link) in LINKS {
        console::optional(&format!("link {link}"), symlink(target, link).or_else(exists));
    }
    // On the root's disk: a temporary directory in memory would take the guest's (contract 10.4).
    temporary("/tmp").required(BootStep::Mounts, "create /tmp")
}

/// Creates a directory unless something of that name is there.
pub(super) fn directory(path: &str, mode: u32) -> Result<(), Errno> {
    mkdir(path, Mode::from_raw_mode(mode)).or_else(exists)
}

fn temporary(path: &str) -> Result<(), Errno> {
    const OPEN_TO_ALL: u32 = 0o1777;
    match mkdir(path, Mode::from_raw_mode(OPEN_TO_ALL)) {
        // The mode was subject to the umask.
        Ok(()) => chmod(path, Mode::from_raw_mode(OPEN_TO_ALL)),
        Err(errno) => exists(errno),
    }
}

fn exists(errno: Errno) -> Result<(), Errno> {
    if errno == Errno::EXIST { Ok(()) } else { Err(errno) }
}
