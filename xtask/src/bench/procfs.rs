//! What the kernel says about a process (Linux, `Documentation/filesystems/proc.rst`).

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// Clock ticks of the times in `/proc/PID/stat` in a second (`USER_HZ`, fixed on x86_64).
const TICKS: f64 = 100.0;

/// A process by its id.
#[derive(Debug, Clone, Copy)]
pub(super) struct Process(pub(super) u32);

impl Process {
    /// The child that runs this program.
    pub(super) fn child(self, program: &str) -> Result<Self> {
        for entry in fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let process = Self(pid);
            let is_child = process.stat(1).is_some_and(|parent| parent == u64::from(self.0));
            let exe = process.executable().unwrap_or_default();
            if is_child && exe.file_name().is_some_and(|name| name == program) {
                return Ok(process);
            }
        }
        anyhow::bail!("process {} has no child {program}", self.0)
    }

    pub(super) fn executable(self) -> Result<PathBuf> {
        fs::read_link(self.path("exe")).context("cannot read the executable's path")
    }

    pub(super) fn arguments(self) -> Result<Vec<String>> {
        let bytes = fs::read(self.path("cmdline")).context("cannot read the arguments")?;
        let text = String::from_utf8(bytes).context("the arguments are not text")?;
        Ok(text.trim_end_matches('\0').split('\0').map(str::to_owned).collect())
    }

    /// User and system time so far, in seconds.
    pub(super) fn cpu_time(self) -> Option<f64> {
        let ticks = self.stat(11)? + self.stat(12)?;
        Some(f64::from(u32::try_from(ticks).ok()?) / TICKS)
    }

    /// Memory in KiB. What is shared with the guest (its RAM, a memory file) is apart: it is the
    /// guest's and not the supervisor's.
    pub(super) fn memory(self) -> Result<Value> {
        let status = fs::read_to_string(self.path("status")).context("cannot read the status")?;
        let rollup = fs::read_to_string(self.path("smaps_rollup")).unwrap_or_default();
        let anonymous = field(&status, "RssAnon").context("no RssAnon")?;
        let file = field(&status, "RssFile").context("no RssFile")?;
        Ok(json!({
            "own_rss": anonymous + file,
            "anonymous": anonymous,
            "file": file,
            "shared_memory_excluded": field(&status, "RssShmem"),
            "peak_rss_with_shared": field(&status, "VmHWM"),
            "pss": field(&rollup, "Pss"),
            "pss_anonymous": field(&rollup, "Pss_Anon"),
            "pss_file": field(&rollup, "Pss_File"),
            "pss_shared_memory": field(&rollup, "Pss_Shmem"),
        }))
    }

    /// Most resident memory so far, in KiB; `None` when the process has ended.
    pub(super) fn peak_memory(self) -> Option<u64> {
        field(&fs::read_to_string(self.path("status")).ok()?, "VmHWM")
    }

    /// A number of `/proc/PID/stat`, counted from the state, which is the first after the name.
    fn stat(self, index: usize) -> Option<u64> {
        let stat = fs::read_to_string(self.path("stat")).ok()?;
        // The name is in parentheses and may hold anything, parentheses too.
        let (_, after_name) = stat.rsplit_once(") ")?;
        after_name.split(' ').nth(index)?.parse().ok()
    }

    fn path(self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.0))
    }
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_described() -> Result<()> {
        let own = Process(std::process::id());
        assert!(own.memory()?["own_rss"].as_u64() > Some(0));
        assert!(own.cpu_time().is_some());
        assert!(own.peak_memory() > Some(0));
        assert_eq!(own.executable()?, std::env::current_exe()?);
        assert!(own.child("no-such-program").is_err());
        Ok(())
    }
}
