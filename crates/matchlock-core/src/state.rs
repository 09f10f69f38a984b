//! What the host remembers of its sandboxes, and the sweep that cleans up after a killed one.
//!
//! Each sandbox has a directory `vms/<id>` with a `lock` that its supervisor holds for life. Sockets,
//! disks and kernels have no names in the file system, so a directory and a monitor process are all
//! that a `kill -9` can leave; the monitor dies with its supervisor by itself. Whoever starts the
//! next sandbox takes the lock of a dead one, ends what is recorded and removes the directory.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use matchlock_sys::{lock_file, locked_file, private_dir};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::error::CoreError;
use crate::id::SandboxId;

/// The directory of all sandboxes of a user.
#[derive(Debug, Clone)]
pub struct StateRoot {
    vms: PathBuf,
}

/// What a sweep found and removed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Swept {
    /// Ids of sandboxes whose supervisor had died without cleaning up.
    pub removed: Vec<String>,
}

/// The directory of one sandbox, ours while this value lives. Dropping it removes the directory.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    _lock: File,
}

/// A process that can be recognised later: ids are reused, start times are not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ProcessRecord {
    pid: u32,
    /// Field 22 of proc_pid_stat(5), in clock ticks since boot.
    start_time: u64,
    /// The boot that the start time counts from.
    boot_id: String,
}

impl StateRoot {
    /// State below `home`/.matchlock.
    #[must_use]
    pub fn in_home(home: &Path) -> Self {
        Self { vms: home.join(".matchlock").join("vms") }
    }

    /// Removes what supervisors left that no longer live.
    ///
    /// # Errors
    /// [`CoreError::File`] when the directory cannot be read; a sandbox that cannot be removed is
    /// left for the next sweep.
    pub fn sweep(&self) -> Result<Swept, CoreError> {
        let _guard = self.guard()?;
        let mut swept = Swept::default();
        let entries = fs::read_dir(&self.vms).map_err(CoreError::file("read", &self.vms))?;
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() && try_lock(&path).is_ok() {
                end_recorded_vmm(&path);
                if fs::remove_dir_all(&path).is_ok() {
                    swept.removed.push(entry.file_name().to_string_lossy().into_owned());
                }
            }
        }
        Ok(swept)
    }

    /// Makes the directory of a sandbox.
    pub(crate) fn create(&self, id: &SandboxId) -> Result<StateDir, CoreError> {
        let _guard = self.guard()?;
        let path = self.vms.join(id.as_str());
        DirBuilder::new().mode(0o700).create(&path).map_err(CoreError::file("create", &path))?;
        try_lock(&path).map(|lock| StateDir { path: path.clone(), _lock: lock }).map_err(|source| {
            drop(fs::remove_dir_all(&path));
            CoreError::file("lock", &path)(source)
        })
    }

    /// Serialises creation and sweeping: a directory that is made but not yet locked must not look
    /// abandoned.
    fn guard(&self) -> Result<File, CoreError> {
        private_dir(&self.vms).map_err(CoreError::file("create", &self.vms))?;
        let path = self.vms.join(".lock");
        locked_file(&path).map_err(CoreError::file("lock", path))
    }
}

impl StateDir {
    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Records the monitor, so that a sweep can end it should it outlive us.
    pub(crate) fn record_vmm(&self, pid: u32) -> Result<(), CoreError> {
        let path = self.path.join("vmm.json");
        let record = ProcessRecord::of(pid);
        let json = serde_json::to_vec(&record)
            .map_err(|error| CoreError::file("write", &path)(error.into()))?;
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(&json))
            .map_err(CoreError::file("write", path))
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.path));
    }
}

/// The lock of a sandbox's directory, unless somebody has it.
fn try_lock(directory: &Path) -> io::Result<File> {
    let file = lock_file(&directory.join("lock"))?;
    file.try_lock()?;
    Ok(file)
}

/// Kills the recorded monitor if it is still that very process.
fn end_recorded_vmm(path: &Path) {
    let Ok(json) = fs::read(path.join("vmm.json")) else {
        return;
    };
    let Ok(record) = serde_json::from_slice::<ProcessRecord>(&json) else {
        return;
    };
    let Some(pid) = i32::try_from(record.pid).ok().and_then(Pid::from_raw) else {
        return;
    };
    // The descriptor first: after it is open, the id cannot be taken over between check and signal.
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else {
        return;
    };
    if ProcessRecord::of(record.pid) == record {
        let _ = pidfd_send_signal(pidfd, Signal::KILL);
    }
}

impl ProcessRecord {
    fn of(pid: u32) -> Self {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The command name may hold spaces and parentheses: fields count from the last one.
        let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let start_time = after_name.split(' ').nth(19).and_then(|field| field.parse().ok());
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self { pid, start_time: start_time.unwrap_or_default(), boot_id: boot_id.trim().to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    fn root() -> (tempfile::TempDir, StateRoot) {
        let home = tempfile::tempdir().expect("tempdir");
        let root = StateRoot::in_home(home.path());
        (home, root)
    }

    fn sleeper() -> Child {
        let _started = crate::testing::forking();
        Command::new("sleep").arg("600").spawn().expect("spawn")
    }

    /// What a killed supervisor leaves: the directory without anybody holding its lock.
    fn abandon(dir: StateDir) -> PathBuf {
        let path = dir.path().to_owned();
        let copy = path.with_extension("copy");
        fs::create_dir(&copy).expect("mkdir");
        for entry in fs::read_dir(&path).expect("list").flatten() {
            fs::copy(entry.path(), copy.join(entry.file_name())).expect("copy");
        }
        drop(dir);
        fs::rename(&copy, &path).expect("rename");
        path
    }

    #[test]
    fn a_living_sandbox_is_not_swept_and_leaves_nothing_when_dropped() {
        let (_home, root) = root();
        let dir = root.create(&SandboxId::random().expect("id")).expect("create");
        assert_eq!(root.sweep().expect("sweep"), Swept::default());
        let path = dir.path().to_owned();
        assert!(path.is_dir());
        drop(dir);
        assert!(!path.exists());
    }

    #[test]
    fn a_dead_sandbox_is_removed_and_its_monitor_ended() {
        let (_home, root) = root();
        let id = SandboxId::random().expect("id");
        let dir = root.create(&id).expect("create");
        let mut monitor = sleeper();
        dir.record_vmm(monitor.id()).expect("record");
        let path = abandon(dir);
        assert_eq!(root.sweep().expect("sweep").removed, [id.to_string()]);
        assert!(!path.exists());
        assert!(!monitor.wait().expect("wait").success(), "killed");
    }

    #[test]
    fn a_process_that_reuses_the_recorded_id_is_spared() {
        let (_home, root) = root();
        let dir = root.create(&SandboxId::random().expect("id")).expect("create");
        let mut other = sleeper();
        dir.record_vmm(other.id()).expect("record");
        let path = abandon(dir);
        let json = fs::read_to_string(path.join("vmm.json")).expect("read");
        let mut record: ProcessRecord = serde_json::from_str(&json).expect("parse");
        record.start_time += 1;
        fs::write(path.join("vmm.json"), serde_json::to_vec(&record).expect("json"))
            .expect("write");
        root.sweep().expect("sweep");
        assert_eq!(other.try_wait().expect("wait"), None, "still alive");
        other.kill().expect("kill");
        other.wait().expect("wait");
    }
}
