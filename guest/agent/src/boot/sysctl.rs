//! Settings of the kernel, which programs that are not privileged cannot change back: `/proc/sys` is read-only.

use std::fs::OpenOptions;
use std::io::{self, Write};

use matchlock_proto::Level;

use super::mounts::EARLY_PROC;
use crate::console;

/// A file below `/proc/sys` and what is written to it.
type Setting = (&'static str, &'static str);

/// As with container engines: programs that are not root may send a ping and take a low port.
const FOR_USERS: [Setting; 2] =
    [("net/ipv4/ping_group_range", "0 2147483647"), ("net/ipv4/ip_unprivileged_port_start", "0")];

/// What distributions have, and the kernel has not by itself.
const AGAINST_PROGRAMS: [Setting; 10] = [
    ("fs/protected_fifos", "1"),
    ("fs/protected_hardlinks", "1"),
    ("fs/protected_regular", "2"),
    ("fs/protected_symlinks", "1"),
    ("kernel/dmesg_restrict", "1"),
    ("kernel/kptr_restrict", "2"),
    ("kernel/perf_event_paranoid", "2"),
    ("kernel/unprivileged_bpf_disabled", "2"),
    // Children, and who allows it. Our kernel does not have it, another one may.
    ("kernel/yama/ptrace_scope", "1"),
    ("vm/unprivileged_userfaultfd", "0"),
];

/// What a plain program does not miss.
const HARDENED: [Setting; 2] =
    [("kernel/io_uring_disabled", "2"), ("user/max_user_namespaces", "0")];

/// Makes the settings; must come before the early proc goes.
pub(super) fn set(level: Level) {
    let (users, programs, hardened) = match level {
        Level::Privileged => (&FOR_USERS[..], &[][..], &[][..]),
        Level::Default => (&FOR_USERS[..], &AGAINST_PROGRAMS[..], &[][..]),
        Level::Hardened => (&[][..], &AGAINST_PROGRAMS[..], &HARDENED[..]),
    };
    for (name, value) in [users, programs, hardened].concat() {
        let mut made = write(name, value);
        if made.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            // A kernel without it.
            made = Ok(());
        }
        console::optional(&format!("set {name}"), made);
    }
}

fn write(name: &str, value: &str) -> io::Result<()> {
    let path = format!("{EARLY_PROC}/sys/{name}");
    OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}
