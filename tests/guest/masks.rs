//! What of the host nobody in the guest sees, its root included.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use matchlock_core::SandboxHandle;

use crate::lab::Lab;
use crate::run::{argv, python, sh};

cases![
    secrets_of_the_host_are_absent,
    no_file_that_is_closed_to_others_can_be_read,
    only_the_documented_directories_of_the_host_are_served,
    processes_devices_and_sockets_of_the_host_are_not_visible,
];

/// Ends of paths below `/etc` that must not be there, whatever the host has.
const SECRET: [&str; 20] = [
    "/shadow",
    "/shadow-",
    "/gshadow",
    "/gshadow-",
    "/security/opasswd",
    "/sudoers",
    "/sudoers.d",
    "/ssh/ssh_host_rsa_key",
    "/ssh/ssh_host_ecdsa_key",
    "/ssh/ssh_host_ed25519_key",
    "/ssl/private",
    "/machine-id",
    "/fstab",
    "/crypttab",
    "/mtab",
    "/subuid",
    "/subgid",
    "/cron.d",
    "/docker",
    "/apt/auth.conf",
];

/// Top-level names that are documented (docs/host-image.md).
const TOP: [&str; 24] = [
    "usr",
    "etc",
    "opt",
    "bin",
    "sbin",
    "lib",
    "lib32",
    "lib64",
    "libx32",
    "nix",
    "gnu",
    "proc",
    "sys",
    "dev",
    "run",
    "tmp",
    "root",
    "home",
    "mnt",
    "media",
    "srv",
    "boot",
    "var",
    "lost+found",
];

/// Names in `/var`, of which only `cache` and `lib` have anything of the host.
const VAR: [&str; 11] =
    ["backups", "cache", "lib", "local", "log", "mail", "opt", "spool", "tmp", "run", "lock"];

async fn names(sandbox: &SandboxHandle, directory: &str) -> BTreeSet<String> {
    let text = argv(["ls", "-A", directory]).text(sandbox).await;
    text.lines().map(str::to_owned).collect()
}

async fn secrets_of_the_host_are_absent(lab: &Lab) {
    for sandbox in [lab.plain().await, lab.privileged().await] {
        let script = "for path; do ls -Ad \"$path\" 2>/dev/null; done; :";
        let paths = SECRET.map(|end| format!("/etc{end}"));
        let words = ["sh", "-c", script, "sh"].into_iter().chain(paths.iter().map(String::as_str));
        assert_eq!(argv(words).text(sandbox).await, "", "of /etc");
        let keys = "find /etc \\( -name '*.key' -o -name '*.p12' -o -name '*.pfx' -o -name '*.jks' \
                    -o -name '*.keytab' -o -name 'ssh_host_*_key' \\) 2>/dev/null; :";
        assert_eq!(sh(keys).text(sandbox).await, "", "keys by name");
    }
}

/// Regular files below `directory` that others may not read, and files in directories that others
/// may not enter.
fn closed(directory: &Path, is_closed: bool, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        let mode = metadata.permissions().mode();
        if metadata.is_dir() {
            closed(&entry.path(), is_closed || mode & 0o001 == 0, found);
        } else if metadata.is_file() && metadata.len() > 0 && (is_closed || mode & 0o004 == 0) {
            found.push(entry.path());
        }
    }
}

async fn no_file_that_is_closed_to_others_can_be_read(lab: &Lab) {
    let mut paths = Vec::new();
    for directory in ["/etc", "/usr", "/opt", "/var/lib/dpkg", "/var/lib/apt"] {
        closed(Path::new(directory), false, &mut paths);
    }
    assert!(!paths.is_empty(), "a host has at least a shadow file");
    let list: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    let script = "
import os, sys
for path in sys.stdin.read().split('\\0'):
    try:
        with open(path, 'rb') as file:
            if file.read(1): print(path)
    except OSError:
        pass
";
    for sandbox in [lab.plain().await, lab.privileged().await] {
        let readable = python(script).input(list.join("\0")).on(sandbox).await;
        assert_eq!((&*readable.out(), &*readable.err()), ("", ""));
    }
}

async fn only_the_documented_directories_of_the_host_are_served(lab: &Lab) {
    let sandbox = lab.plain().await;
    for (directory, documented) in [("/", &TOP[..]), ("/var", &VAR[..])] {
        let seen = names(sandbox, directory).await;
        let others: Vec<&String> =
            seen.iter().filter(|name| !documented.contains(&name.as_str())).collect();
        assert!(others.is_empty(), "{directory}: {others:?}");
    }
    // Of the host there is nothing; a guest makes its own.
    let empty = ["/root", "/home", "/boot", "/srv", "/var/log", "/var/spool", "/var/mail", "/mnt"];
    for directory in empty {
        let on_host = fs::read_dir(directory).into_iter().flatten().flatten();
        let of_host: BTreeSet<String> =
            on_host.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        let seen = names(sandbox, directory).await;
        let common: Vec<&String> = of_host.intersection(&seen).collect();
        assert!(common.is_empty(), "{directory}: {common:?}");
    }
}

async fn processes_devices_and_sockets_of_the_host_are_not_visible(lab: &Lab) {
    let sandbox = lab.plain().await;
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("on the host");
    let of_guest = argv(["cat", "/proc/sys/kernel/random/boot_id"]).text(sandbox).await;
    assert_ne!(of_guest, boot_id.trim(), "a kernel of its own");
    // Whatever the host serves of device nodes, pipes and sockets, none of it is one in the guest.
    let script = "find /etc /opt /var -xdev \\( -type p -o -type s -o -type b -o -type c \\)";
    assert_eq!(sh(&format!("{script} 2>/dev/null; :")).text(sandbox).await, "");
    let sockets = sh("find /run -type s").text(sandbox).await;
    assert_eq!(sockets, "");
}
