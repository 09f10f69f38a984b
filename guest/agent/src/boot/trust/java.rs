//! The trust stores of Java, of which a machine has as many as it has JVMs, or one that they share.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::identity;
use crate::authority::Authority;
use crate::console;

/// Stores of the distributions: Debian, Ubuntu and Alpine; Fedora and RHEL; SUSE; Arch.
const STORES: [&str; 4] = [
    "etc/ssl/certs/java/cacerts",
    "etc/pki/ca-trust/extracted/java/cacerts",
    "var/lib/ca-certificates/java-cacerts",
    "etc/ca-certificates/extracted/java-cacerts.jks",
];

/// Directories of which each directory may be a JVM: those of packages, of images and of version managers.
const HOMES: [&str; 8] = [
    "usr/lib/jvm",
    "usr/lib64/jvm",
    "usr/java",
    "usr/local",
    "opt",
    "opt/java",
    "root/.sdkman/candidates/java",
    "usr/local/sdkman/candidates/java",
];

/// Where a JVM has its store: since version 9, and before.
const IN_HOME: [&str; 2] = ["lib/security/cacerts", "jre/lib/security/cacerts"];

/// JVMs that are looked at in each directory.
const MAX_HOMES: usize = 64;

/// Longest store in bytes; one of all public authorities has 200 kB.
const MAX_STORE: u64 = 8 * 1024 * 1024;

/// Adds the authority to every store that is there. `home` is `JAVA_HOME` of the programs.
pub(super) fn install(root: &Path, authority: &Authority, home: Option<&[u8]>) {
    let mut done = Vec::new();
    for path in candidates(root, home) {
        let Some(id) = identity(&path) else { continue };
        if done.contains(&id) {
            continue;
        }
        console::optional("add the authority to a store of Java", add(&path, authority));
        // The copy in the upper layer is another inode than the one below it.
        done.extend(identity(&path).into_iter().chain([id]));
    }
}

fn candidates(root: &Path, home: Option<&[u8]>) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = STORES.iter().map(|store| root.join(store)).collect();
    let own = home.map(|home| OsStr::from_bytes(home.trim_ascii_start()));
    let own = own.and_then(|home| Path::new(home).strip_prefix("/").ok());
    let of_directory = |directory: &&str| {
        let entries = fs::read_dir(root.join(directory)).into_iter().flatten().flatten();
        entries.take(MAX_HOMES).map(|entry| entry.path())
    };
    let homes = own.map(|home| root.join(home)).into_iter();
    for home in homes.chain(HOMES.iter().flat_map(of_directory)) {
        found.extend(IN_HOME.iter().map(|store| home.join(store)));
    }
    found
}

fn add(path: &Path, authority: &Authority) -> io::Result<()> {
    if fs::metadata(path)?.len() > MAX_STORE {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let unknown = || io::Error::other("it has a password or an unknown format");
    let store = authority.added_to_java_store(&fs::read(path)?).ok_or_else(unknown)?;
    fs::write(path, store)
}
