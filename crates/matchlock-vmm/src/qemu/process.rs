//! A QEMU process: spawned by a thread that stays, watched to its end.

use std::os::fd::OwnedFd;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use matchlock_sys::Jail;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::console::Tail;
use crate::error::VmmError;
use crate::qemu::QemuBinary;
use crate::qemu::args::Arguments;
use crate::qemu::jail;
use crate::{ConsoleSink, VmExit};

/// How long the output of a process that has ended may take to be read.
const DRAIN: Duration = Duration::from_secs(1);

/// A running or ended QEMU.
#[derive(Debug)]
pub(super) struct Process {
    pid: u32,
    pidfd: OwnedFd,
    console: Tail,
    errors: Tail,
    end: Arc<End>,
}

#[derive(Debug, Default)]
struct End {
    status: Mutex<Option<Option<ExitStatus>>>,
    changed: Condvar,
}

struct Spawned {
    pid: u32,
    pidfd: OwnedFd,
    console: Tail,
    errors: Tail,
}

impl Process {
    /// Starts QEMU. The spawning thread then waits for it: the process is bound to that thread's
    /// life (see [`matchlock_sys::spawn_jailed`]), which ends with ours at the latest.
    pub(super) fn start(
        binary: &QemuBinary,
        arguments: Arguments,
        sink: Option<ConsoleSink>,
    ) -> Result<Self, VmmError> {
        let jail = jail::jail(binary.path(), arguments.needs())
            .map_err(VmmError::host("prepare the jail of QEMU"))?;
        let (args, inherit) = arguments.finish();
        let mut command = Command::new(binary.path());
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Nothing of our environment is QEMU's business; secrets may be in it.
        command.env_clear().current_dir("/");
        let path = binary.path().to_owned();
        let end = Arc::new(End::default());
        let at_end = Arc::clone(&end);
        let (report, spawned) = mpsc::sync_channel(1);
        std::thread::Builder::new()
            .name("vmm".into())
            .spawn(move || own(command, inherit, jail, sink, &report, &at_end))
            .map_err(VmmError::host("start a thread for QEMU"))?;
        let Spawned { pid, pidfd, console, errors } = spawned
            .recv()
            .map_err(|_| VmmError::host("start QEMU")(std::io::ErrorKind::Other.into()))?
            .map_err(|source| VmmError::QemuUnusable { path, source })?;
        Ok(Self { pid, pidfd, console, errors, end })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn console(&self) -> &Tail {
        &self.console
    }

    /// Kills the process; harmless when it has ended, because a pidfd is never reused.
    pub(super) fn kill(&self) {
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Waits for the end of the process; `None` when it goes on after `timeout`.
    pub(super) fn wait(&self, timeout: Duration) -> Option<VmExit> {
        // A time beyond what the clock can say is no limit.
        let deadline = Instant::now().checked_add(timeout);
        let mut status = self.end.status.lock().unwrap_or_else(PoisonError::into_inner);
        while status.is_none() {
            let left =
                deadline.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return None;
            }
            let waited = self.end.changed.wait_timeout(status, left);
            status = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let clean = status.flatten().is_some_and(|status| status.success());
        drop(status);
        let drained = Instant::now() + DRAIN;
        self.console.wait_end(drained);
        self.errors.wait_end(drained);
        Some(VmExit { clean, diagnostics: self.errors.text() })
    }

    /// Whether the process has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.end.status.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

/// The thread that owns the process from its start to its end.
fn own(
    command: Command,
    inherit: Vec<OwnedFd>,
    jail: Jail,
    sink: Option<ConsoleSink>,
    report: &mpsc::SyncSender<std::io::Result<Spawned>>,
    end: &End,
) {
    let mut bound = match matchlock_sys::spawn_jailed(command, inherit, jail) {
        Ok(bound) => bound,
        Err(error) => return drop(report.send(Err(error))),
    };
    let child = bound.child();
    let pid = child.id();
    let opened = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(rustix::io::Errno::SRCH)
        .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()));
    let (Ok(pidfd), Some(stdout), Some(stderr)) =
        (opened, child.stdout.take(), child.stderr.take())
    else {
        drop(child.kill());
        drop(child.wait());
        return drop(report.send(Err(std::io::Error::other("cannot watch the process"))));
    };
    let console = Tail::follow(stdout, sink);
    let errors = Tail::follow(stderr, None);
    if report.send(Ok(Spawned { pid, pidfd, console, errors })).is_err() {
        drop(child.kill());
    }
    let status = child.wait().ok();
    *end.status.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
    end.changed.notify_all();
}
