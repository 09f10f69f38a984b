//! Finding QEMU and judging its version.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use matchlock_sys::{TscReading, spawn_bound};
use serde::{Deserialize, Serialize};

use crate::error::VmmError;

const PROGRAM: &str = "qemu-system-x86_64";
const OLDEST: (u32, u32) = (7, 2);

/// Bytes that are read of what a program says of its version.
const LONGEST_ANSWER: u64 = 4096;

/// A QEMU that was found and is new enough: only [`QemuBinary::locate`] makes one.
#[derive(Debug, Clone)]
pub struct QemuBinary {
    path: PathBuf,
    version: (u32, u32),
    identity: Identity,
    /// Taken early, so that the frequency is known without waiting when a machine starts.
    counter: Option<TscReading>,
}

/// What must be unchanged for an earlier version check to stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    path: PathBuf,
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

#[derive(Serialize, Deserialize)]
struct Remembered {
    identity: Identity,
    version: (u32, u32),
}

impl QemuBinary {
    /// Finds QEMU: `wanted` if given (the value of `MATCHLOCK_QEMU`), else the first on `search`
    /// (the value of `PATH`). Its version is asked once and remembered in `cache` (a directory)
    /// until the file changes, because asking costs as much as a tenth of a boot.
    ///
    /// # Errors
    /// [`VmmError::QemuMissing`], [`VmmError::QemuUnusable`], [`VmmError::NotQemu`] or
    /// [`VmmError::QemuTooOld`].
    pub fn locate(
        wanted: Option<&OsStr>,
        search: Option<&OsStr>,
        cache: Option<&Path>,
    ) -> Result<Self, VmmError> {
        let counter = TscReading::now();
        let path = match wanted {
            Some(path) if Path::new(path).components().count() > 1 => PathBuf::from(path),
            Some(name) => find(name, search).ok_or_else(|| VmmError::QemuUnusable {
                path: PathBuf::from(name),
                source: io::ErrorKind::NotFound.into(),
            })?,
            None => find(OsStr::new(PROGRAM), search).ok_or(VmmError::QemuMissing)?,
        };
        let identity = identify(&path)
            .map_err(|source| VmmError::QemuUnusable { path: path.clone(), source })?;
        let remembered = cache.map(|dir| dir.join("qemu.json"));
        let version = match remembered.as_deref().and_then(|file| recall(file, &identity)) {
            Some(version) => version,
            None => {
                let version = ask(&path)?;
                if let Some(file) = &remembered {
                    remember(file, &Remembered { identity: identity.clone(), version });
                }
                version
            }
        };
        if version < OLDEST {
            return Err(VmmError::QemuTooOld { path, major: version.0, minor: version.1 });
        }
        Ok(Self { path, version, identity, counter })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Major and minor version.
    #[must_use]
    pub fn version(&self) -> (u32, u32) {
        self.version
    }

    /// Frequency of the host's time stamp counter in kHz, where it is constant.
    pub(crate) fn tsc_khz(&self) -> Option<u64> {
        self.counter.and_then(TscReading::khz)
    }

    /// A text that changes when the program file does.
    pub(super) fn fingerprint(&self) -> String {
        let Identity { path, device, inode, size, modified } = &self.identity;
        format!("{} {device} {inode} {size} {modified:?}", path.display())
    }
}

fn find(name: &OsStr, search: Option<&OsStr>) -> Option<PathBuf> {
    std::env::split_paths(search?).map(|dir| dir.join(name)).find(|path| {
        path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    })
}

fn identify(path: &Path) -> io::Result<Identity> {
    let meta = path.metadata()?;
    Ok(Identity {
        path: path.to_owned(),
        device: meta.dev(),
        inode: meta.ino(),
        size: meta.size(),
        modified: (meta.mtime(), meta.mtime_nsec()),
    })
}

fn recall(file: &Path, identity: &Identity) -> Option<(u32, u32)> {
    let remembered: Remembered = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    (remembered.identity == *identity).then_some(remembered.version)
}

/// Best effort: without the file the next start asks again.
fn remember(file: &Path, value: &Remembered) {
    if let Ok(json) = serde_json::to_vec(value) {
        crate::cache::replace(file, &json);
    }
}

fn ask(path: &Path) -> Result<(u32, u32), VmmError> {
    let said =
        said_by(path).map_err(|source| VmmError::QemuUnusable { path: path.to_owned(), source })?;
    let said = String::from_utf8_lossy(&said);
    let first = said.lines().next().unwrap_or_default();
    parse_version(first).ok_or_else(|| VmmError::NotQemu {
        path: path.to_owned(),
        said: first.chars().take(100).collect(),
    })
}

/// What the program prints first. It ends with this process, however that ends.
fn said_by(path: &Path) -> io::Result<Vec<u8>> {
    let mut command = Command::new(path);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut asked = spawn_bound(command, Vec::new())?;
    let mut said = Vec::new();
    if let Some(stdout) = asked.child().stdout.take() {
        stdout.take(LONGEST_ANSWER).read_to_end(&mut said)?;
    }
    asked.child().wait()?;
    Ok(said)
}

/// `QEMU emulator version 7.2.22 (Debian …)` gives `(7, 2)`.
fn parse_version(line: &str) -> Option<(u32, u32)> {
    let rest = line.strip_prefix("QEMU emulator version ")?;
    let mut parts = rest.split(['.', ' ']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(dir: &Path, version_line: &str) -> PathBuf {
        let path = dir.join(PROGRAM);
        let text =
            format!("#!/bin/sh\necho asked >> {}/asked\necho '{version_line}'\n", dir.display());
        matchlock_testkit::write_program(&path, &text);
        path
    }

    #[test]
    fn version_lines_of_several_builds() {
        assert_eq!(parse_version("QEMU emulator version 7.2.22 (Debian 1:7.2)"), Some((7, 2)));
        assert_eq!(parse_version("QEMU emulator version 10.0.2"), Some((10, 0)));
        assert_eq!(parse_version("QEMU emulator version 9.1"), Some((9, 1)));
        assert_eq!(parse_version("GNU bash, version 5"), None);
    }

    #[test]
    fn absent_old_and_foreign_programs_are_told_apart() {
        let dir = tempfile::tempdir().expect("tempdir");
        let search = Some(dir.path().as_os_str());
        let missing = QemuBinary::locate(None, search, None).expect_err("empty PATH");
        assert!(matches!(missing, VmmError::QemuMissing));

        script(dir.path(), "QEMU emulator version 7.1.0");
        let old = QemuBinary::locate(None, search, None).expect_err("too old");
        assert!(matches!(old, VmmError::QemuTooOld { major: 7, minor: 1, .. }));

        script(dir.path(), "hello");
        let foreign = QemuBinary::locate(None, search, None).expect_err("not QEMU");
        assert!(matches!(foreign, VmmError::NotQemu { .. }));

        let nowhere = QemuBinary::locate(Some(OsStr::new("/nonexistent/qemu")), search, None);
        assert!(matches!(nowhere, Err(VmmError::QemuUnusable { .. })));
    }

    #[test]
    fn the_version_is_asked_once_until_the_file_changes() {
        let dir = tempfile::tempdir().expect("tempdir");
        let cache = dir.path().join("cache");
        let search = Some(dir.path().as_os_str());
        script(dir.path(), "QEMU emulator version 8.0.0");
        for _ in 0..2 {
            let found = QemuBinary::locate(None, search, Some(&cache)).expect("found");
            assert_eq!(found.version(), (8, 0));
        }
        script(dir.path(), "QEMU emulator version 10.0.0 longer");
        let found = QemuBinary::locate(None, search, Some(&cache)).expect("found");
        assert_eq!(found.version(), (10, 0));
        let asked = std::fs::read_to_string(dir.path().join("asked")).expect("read");
        assert_eq!(asked.lines().count(), 2);
    }
}
