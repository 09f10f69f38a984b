//! What QEMU needs of the host beside the descriptors that it inherits: its program and what that is
//! loaded from.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use matchlock_sys::{Jail, Permits, landlock_version};

/// Where distributions keep shared libraries, QEMU's modules and its firmware. All of it is public.
const SYSTEM: [&str; 11] = [
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/share",
    "/usr/local/lib",
    "/usr/local/share",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/nix/store",
    "/gnu/store",
];

/// The same below the directory that QEMU was installed to.
const INSTALLED: [&str; 3] = ["lib", "lib64", "share"];

/// What a script that starts QEMU finds its commands in.
const COMMANDS: [&str; 4] = ["/bin", "/usr/bin", "/usr/local/bin", "/usr/libexec"];

const DEVICES: [&str; 3] = ["/dev/null", "/dev/urandom", "/dev/random"];

const KVM: &str = "/dev/kvm";

/// Descriptors of QEMU's own: events and timers of its queues, processors and threads.
const OWN_FILES: u64 = 1024;

/// What a machine has that its jail must let through.
#[derive(Debug, Clone, Copy)]
pub(super) struct Needs {
    /// Whether its accelerator is KVM.
    pub(super) kvm: bool,
    /// Number of descriptors that it inherits.
    pub(super) inherited: usize,
    /// Length of the largest file that it writes, its memory among them.
    pub(super) largest_file: u64,
}

/// The jail of a machine that runs `program`.
pub(super) fn jail(program: &Path, needs: Needs) -> io::Result<Jail> {
    if landlock_version().is_none() {
        tracing::warn!("this kernel has no Landlock; QEMU can open files of this user");
    }
    Jail::new(&permits(program, needs))
}

fn permits(program: &Path, needs: Needs) -> Permits {
    let mut read: Vec<PathBuf> = SYSTEM.iter().map(PathBuf::from).collect();
    // Rules are for files; a path that is a link may be one by which QEMU finds what belongs to it.
    let file = program.canonicalize().unwrap_or_else(|_| program.to_owned());
    for program in [program, &file] {
        let Some(directory) = program.parent().filter(|directory| directory.ends_with("bin"))
        else {
            continue;
        };
        let prefix = directory.parent().unwrap_or(directory);
        read.extend(INSTALLED.iter().map(|part| prefix.join(part)));
    }
    if is_script(&file) {
        read.extend(COMMANDS.iter().map(PathBuf::from));
    }
    read.push(file);
    let mut devices: Vec<PathBuf> = DEVICES.iter().map(PathBuf::from).collect();
    if needs.kvm {
        devices.push(KVM.into());
    }
    let inherited = u64::try_from(needs.inherited).unwrap_or(u64::MAX);
    let open_files = inherited.saturating_add(OWN_FILES);
    Permits { read, devices, open_files, file_size: needs.largest_file }
}

/// Whether it is a wrapper: text that names the program to interpret it.
fn is_script(program: &Path) -> bool {
    let mut start = [0; 2];
    let read = File::open(program).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && start == *b"#!"
}

#[cfg(test)]
mod tests;
