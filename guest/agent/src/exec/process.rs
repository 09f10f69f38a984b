//! The first process of an execution's PID namespace: a small init.
//!
//! It reaps what becomes an orphan, and because of it the program is not PID 1 of its namespace, for
//! which the kernel ignores signals without a handler. It stays until the last process of the
//! namespace has ended.
//!
//! It and the program run in copies of the agent's memory. Whatever they read of the guest (accounts,
//! directories) is read there and not in the agent, which therefore never waits for a file.

use std::ffi::CStr;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use matchlock_proto::{AgentFrame, ExecFailure, ExitStatus, Level};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{DumpableBehavior, WaitOptions, set_dumpable_behavior, wait};

use super::Work;
use super::masks;
use super::program;
use super::report;
use super::stdio::ProgramEnds;
use crate::{Guest, files, inquiry, sys};

/// Everything that the processes need.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) guest: &'a Guest,
    pub(crate) work: Work<'a>,
    pub(crate) stdio: ProgramEnds,
    pub(crate) report: OwnedFd,
}

pub(super) const PROC: &str = "/proc";
const CGROUPS: &str = "/sys/fs/cgroup";

/// Runs as the first process of the namespace, to its end.
pub(crate) fn init(plan: &Plan<'_>) -> i32 {
    sys::reset_signals();
    if let Err(failure) = settle(plan) {
        return refuse(failure);
    }
    let program = match plan.work {
        Work::Program(request) => sys::clone_process(sys::Clone::UntilExec, None, || {
            refuse(program::execute(plan.guest, request))
        }),
        Work::Export(layer) => sys::clone_process(sys::Clone::Plain, None, || layer.export()),
        Work::Inquire(inquiry, tasks) => {
            sys::clone_process(sys::Clone::Plain, None, || inquiry::answer(inquiry, tasks))
        }
        Work::File(request) => {
            sys::clone_process(sys::Clone::Plain, None, || files::carry_out(request))
        }
    };
    let program = match program {
        Ok(child) => child,
        Err(error) => return refuse(system("clone the program", error)),
    };
    // When the program could not be executed its own report is before this one and counts.
    tell(&AgentFrame::Started, Some(program.pidfd.as_fd()));
    drop(program.pidfd);
    let _without_them_the_pipes_end_later = sys::close_range(0, 2);
    reap(program.pid)
}

/// Reports why the program does not run; returns the status to exit with.
fn refuse(failure: ExecFailure) -> i32 {
    tell(&AgentFrame::Refused(failure), None);
    127
}

/// The failure of an operation that has nothing to do with the request.
pub(crate) fn system(what: &str, error: impl fmt::Display) -> ExecFailure {
    ExecFailure::System(format!("{what}: {error}"))
}

/// Waits until nothing is left, and reports how the program ended when it does.
fn reap(program: i32) -> i32 {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_pid() == program => {
                let ended = match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => ExitStatus::Code(code as u8),
                    (None, signal) => ExitStatus::Signal(signal.unwrap_or_default() as u8),
                };
                tell(&AgentFrame::Exited(ended), None);
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(_no_children_left) => return 0,
        }
    }
}

/// Keeps nothing of the agent's descriptors and mounts what depends on the namespaces.
fn settle(plan: &Plan<'_>) -> Result<(), ExecFailure> {
    // Agent descriptors start above the report channel's: no copy overwrites the source of another.
    // Failing here leaves no way to say more; the agent sees the end of the channel.
    if sys::dup_to(plan.report.as_fd(), sys::REPORT_FD, true).is_err() {
        sys::exit(127);
    }
    let ProgramEnds { stdin, stdout, stderr } = &plan.stdio;
    for (fd, target) in [(stdin, 0), (stdout, 1), (stderr, 2)] {
        sys::dup_to(fd.as_fd(), target, false).map_err(|e| system("set up a stream", e))?;
    }
    let rest = sys::REPORT_FD as u32 + 1;
    sys::close_range(rest, u32::MAX).map_err(|e| system("close files", e))?;
    // Other processes of the namespace see this one, whose memory is a copy of the agent's.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|e| system("be opaque", e))?;
    sys::unshare_cgroup_namespace().map_err(|e| system("enter a cgroup namespace", e))?;
    mount_own("proc", PROC, c"")?;
    mount_own("cgroup2", CGROUPS, c"nsdelegate")?;
    let level = plan.guest.confinement.level();
    if level == Level::Privileged {
        return leave_root_group().map_err(|e| system("enter a leaf cgroup", e));
    }
    let whole = if level == Level::Default { masks::keep_whole() } else { Ok(()) };
    whole.and_then(|()| masks::hide()).map_err(|e| system("mask parts of /proc", e))
}

/// A group with processes cannot give its controllers to others. A container engine wants to do
/// that in the root that it sees, so that one has to be empty.
fn leave_root_group() -> std::io::Result<()> {
    let leaf = format!("{CGROUPS}/init");
    std::fs::create_dir(&leaf)?;
    std::fs::write(leaf + "/cgroup.procs", "0")
}

/// Mounts an instance that shows this namespace only, in place of what is there.
fn mount_own(kind: &str, target: &str, data: &CStr) -> Result<(), ExecFailure> {
    // The agent mounts neither in the guest; where it runs on a host the host's is there.
    let _usually_nothing = unmount(target, UnmountFlags::DETACH);
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount(kind, target, kind, flags, data).map_err(|e| system(&format!("mount {target}"), e))
}

fn tell(frame: &AgentFrame, passed: Option<BorrowedFd<'_>>) {
    // The agent outlives its executions; when it has gone the machine is going too.
    let _nobody_to_tell = report::send(sys::report_channel(), frame, passed);
}
