//! Child processes that cannot outlive us.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::process::{
    Pid, Resource, Signal, getpid, getppid, getrlimit, set_parent_process_death_signal,
};

use crate::jail::Jail;

/// First descriptor behind the three streams.
const FIRST: i32 = 3;

/// Descriptors that are looked at one by one, where the kernel (before 5.11) cannot do it at once.
const ONE_BY_ONE: u64 = 65_536;

/// A child that the kernel kills when the thread that spawned it ends.
#[derive(Debug)]
pub struct BoundChild {
    child: Child,
}

impl BoundChild {
    /// The child process. Its thread must outlive it: see [`spawn_bound`].
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }
}

/// Spawns `command` in a process group of its own, with `inherit` open under the same descriptor
/// numbers as here and no others behind the three streams, bound to the life of the *calling thread*
/// (prctl(2), `PR_SET_PDEATHSIG`): when the thread or the whole process ends, by whatever signal, the
/// child is killed.
///
/// `inherit` is consumed: after the call only the child holds these descriptors.
///
/// # Errors
/// What `fork` or `execve` report; `inherit` is closed then too.
pub fn spawn_bound(command: Command, inherit: Vec<OwnedFd>) -> io::Result<BoundChild> {
    spawn(command, inherit, None)
}

/// As [`spawn_bound`], in a jail that the program never leaves.
///
/// # Errors
/// Those, and what the kernel refuses of the jail.
pub fn spawn_jailed(command: Command, inherit: Vec<OwnedFd>, jail: Jail) -> io::Result<BoundChild> {
    spawn(command, inherit, Some(jail))
}

fn spawn(
    mut command: Command,
    inherit: Vec<OwnedFd>,
    jail: Option<Jail>,
) -> io::Result<BoundChild> {
    let parent: Pid = getpid();
    command.process_group(0);
    let hook = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have died between fork and prctl: then nobody would send the signal.
        if getppid() != Some(parent) {
            return Err(io::Error::from(Errno::SRCH));
        }
        close_all_on_exec()?;
        for fd in &inherit {
            fcntl_setfd(fd.as_fd(), FdFlags::empty())?;
        }
        jail.as_ref().map_or(Ok(()), Jail::enter)
    };
    // SAFETY: the hook runs between fork and exec in the child of a threaded process, so it may only
    // do what is async-signal-safe: it makes plain system calls, allocates nothing and takes no lock
    // (an `io::Error` from an errno holds no allocation).
    unsafe { command.pre_exec(hook) };
    let child = command.spawn()?;
    Ok(BoundChild { child })
}

/// Has `execve` close all but the three streams: whoever started us may have left us descriptors that
/// are not marked so.
fn close_all_on_exec() -> io::Result<()> {
    // SAFETY: the call marks descriptors of this process, which still has one thread, and closes none.
    let failed =
        unsafe { libc::syscall(libc::SYS_close_range, FIRST, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if failed == 0 {
        return Ok(());
    }
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(ONE_BY_ONE).min(ONE_BY_ONE);
    for fd in FIRST..i32::try_from(limit).unwrap_or(i32::MAX) {
        // SAFETY: nothing is done to memory; a number that is not open is an error, which is ignored.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsRawFd;
    use std::process::Stdio;

    #[test]
    fn descriptors_keep_their_numbers_and_others_are_closed() {
        let (reader, writer) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("pipe");
        let (_other_reader, other_writer) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("pipe");
        let script = format!(
            "echo through >&{}; if [ -e /proc/self/fd/{} ]; then echo leaked; fi",
            writer.as_raw_fd(),
            other_writer.as_raw_fd()
        );
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).stdout(Stdio::piped());
        let mut bound = spawn_bound(command, vec![writer]).expect("spawn");
        let mut received = String::new();
        std::fs::File::from(reader).read_to_string(&mut received).expect("read");
        assert_eq!(received, "through\n");
        let mut printed = String::new();
        let stdout = bound.child().stdout.as_mut().expect("piped");
        stdout.read_to_string(&mut printed).expect("read");
        assert_eq!(printed, "");
        assert!(bound.child().wait().expect("wait").success());
    }

    #[test]
    fn the_child_dies_with_the_thread_that_spawned_it() {
        let spawner = std::thread::spawn(|| {
            let mut command = Command::new("sleep");
            command.arg("600");
            spawn_bound(command, Vec::new()).expect("spawn")
        });
        let mut bound = spawner.join().expect("thread");
        let status = bound.child().wait().expect("wait");
        assert!(!status.success(), "killed, not ended by itself");
    }
}
