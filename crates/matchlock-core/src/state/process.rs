//! Processes that can be recognised later.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use super::StateError;

/// A process. Its id alone would not do: ids are used again, start times are not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessRecord {
    pub(crate) pid: u32,
    /// Field 22 of proc_pid_stat(5), in clock ticks since boot.
    start_time: u64,
    /// The boot that the start time counts from.
    boot_id: String,
    /// The namespace that has this id, as `/proc/self/ns/pid` names it.
    pid_namespace: String,
}

/// Where this process stands, for comparisons.
#[derive(Debug, Clone)]
pub(crate) struct Here {
    boot_id: String,
    pid_namespace: String,
}

/// What is known of a process.
#[derive(Debug)]
pub(crate) enum Life {
    /// It lives, and this is it: its id cannot be taken over while the descriptor is open.
    Alive(OwnedFd),
    /// It cannot be seen from here: it is one of another container.
    Elsewhere,
    Dead,
}

impl ProcessRecord {
    /// This process.
    pub(crate) fn own() -> Result<Self, StateError> {
        let own = Here::read().record(std::process::id());
        own.map_err(StateError::file("read", "/proc/self/stat"))
    }
}

impl Here {
    pub(crate) fn read() -> Self {
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        let pid_namespace = namespace.to_string_lossy().into_owned();
        Self { boot_id: boot_id.trim().to_owned(), pid_namespace }
    }

    /// The process that has this id now.
    ///
    /// # Errors
    /// When it is gone, or `/proc` is not there.
    pub(crate) fn record(&self, pid: u32) -> io::Result<ProcessRecord> {
        let start_time = start_time(pid)?;
        let Self { boot_id, pid_namespace } = self.clone();
        Ok(ProcessRecord { pid, start_time, boot_id, pid_namespace })
    }

    /// Whether that very process lives.
    pub(crate) fn find(&self, process: &ProcessRecord) -> Life {
        if process.boot_id != self.boot_id {
            return Life::Dead;
        }
        if process.pid_namespace != self.pid_namespace {
            return Life::Elsewhere;
        }
        let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) else {
            return Life::Dead;
        };
        // The descriptor first: after it is open, the id cannot be taken over before it is used.
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) if start_time(process.pid).ok() == Some(process.start_time) => {
                Life::Alive(pidfd)
            }
            _ => Life::Dead,
        }
    }
}

/// Sends a signal to a process that was found.
pub(crate) fn send(pidfd: &OwnedFd, signal: Signal) -> io::Result<()> {
    match pidfd_send_signal(pidfd, signal) {
        Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Waits until a process has ended, for so long at most. Returns whether it has.
pub(crate) fn wait(pidfd: &OwnedFd, limit: Duration) -> io::Result<bool> {
    let limit = Timespec::try_from(limit).ok();
    let mut ended = [PollFd::new(pidfd, PollFlags::IN)];
    match poll(&mut ended, limit.as_ref()) {
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(errno) => Err(errno.into()),
        Ok(number) => Ok(number > 0),
    }
}

/// When a process has started. One that has ended and waits for its parent only (state Z) is gone.
fn start_time(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The command name may hold spaces and parentheses: fields count from the last one.
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let mut fields = after_name.split(' ');
    if matches!(fields.next(), Some("Z" | "X")) {
        return Err(io::ErrorKind::NotFound.into());
    }
    // Field 22 of the line is the 19th behind the state.
    let start = fields.nth(18).and_then(|field| field.parse().ok());
    start.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::sleeper;

    #[test]
    fn a_process_is_known_by_more_than_its_id() {
        let here = Here::read();
        let mut child = sleeper();
        let record = here.record(child.id()).expect("alive");
        let Life::Alive(pidfd) = here.find(&record) else { panic!("it lives") };
        let reused = ProcessRecord { start_time: record.start_time + 1, ..record.clone() };
        assert!(matches!(here.find(&reused), Life::Dead));
        let earlier = ProcessRecord { boot_id: "another".into(), ..record.clone() };
        assert!(matches!(here.find(&earlier), Life::Dead));
        let contained = ProcessRecord { pid_namespace: "another".into(), ..record.clone() };
        assert!(matches!(here.find(&contained), Life::Elsewhere));
        assert!(!wait(&pidfd, Duration::ZERO).expect("poll"));
        send(&pidfd, Signal::KILL).expect("send");
        assert!(wait(&pidfd, Duration::from_secs(60)).expect("poll"));
        // Its parent has not waited for it, and it is dead all the same.
        assert!(matches!(here.find(&record), Life::Dead));
        child.wait().expect("wait");
        assert!(matches!(here.find(&record), Life::Dead));
        send(&pidfd, Signal::KILL).expect("nothing is left to kill");
    }

    #[test]
    fn no_number_of_a_process_is_taken_for_one() {
        let here = Here::read();
        let own = here.record(std::process::id()).expect("alive");
        for pid in [0, u32::MAX, 1 << 31] {
            assert!(matches!(here.find(&ProcessRecord { pid, ..own.clone() }), Life::Dead));
        }
    }
}
