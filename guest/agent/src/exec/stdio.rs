//! The descriptors between the agent and a program: pipes, or a pseudo-terminal.

use std::io;
use std::os::fd::OwnedFd;

use matchlock_proto::{ExecRequest, Stdin, WindowSize};
use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, open};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// Capacity of output pipes: more than the default, for fewer switches between program and agent.
const PIPE_SIZE: usize = 256 * 1024;

/// The agent's ends, all non-blocking.
#[derive(Debug)]
pub(crate) enum AgentEnds {
    Pipes {
        stdin: Option<OwnedFd>,
        stdout: OwnedFd,
        stderr: OwnedFd,
    },
    /// `peer` is a program's end that the agent holds: a terminal that nobody has open is hung up.
    Terminal {
        master: OwnedFd,
        peer: OwnedFd,
    },
}

/// The program's ends.
#[derive(Debug)]
pub(crate) struct ProgramEnds {
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// Makes what the request asks for.
pub(crate) fn make(request: &ExecRequest) -> io::Result<(AgentEnds, ProgramEnds)> {
    match request.tty {
        Some(size) => terminal(size),
        None => pipes(request.stdin),
    }
}

/// Gives a terminal another size.
pub(crate) fn resize(terminal: impl std::os::fd::AsFd, size: WindowSize) -> io::Result<()> {
    let WindowSize { rows, cols } = size;
    let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(terminal, size)?)
}

fn terminal(size: WindowSize) -> io::Result<(AgentEnds, ProgramEnds)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    unlockpt(&master)?;
    resize(&master, size)?;
    let stdin = ioctl_tiocgptpeer(&master, flags)?;
    let (stdout, stderr, peer) = (stdin.try_clone()?, stdin.try_clone()?, stdin.try_clone()?);
    nonblocking(&master)?;
    Ok((AgentEnds::Terminal { master, peer }, ProgramEnds { stdin, stdout, stderr }))
}

/// The same with this for standard input.
pub(crate) fn reading(stdin: OwnedFd) -> io::Result<(AgentEnds, ProgramEnds)> {
    with_outputs(stdin, None)
}

/// Pipes, but for a standard input that is not wanted.
pub(crate) fn pipes(stdin: Stdin) -> io::Result<(AgentEnds, ProgramEnds)> {
    let (program_stdin, stdin) = match stdin {
        Stdin::Null => (open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?, None),
        Stdin::Pipe => {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
            nonblocking(&write)?;
            (read, Some(write))
        }
    };
    with_outputs(program_stdin, stdin)
}

fn with_outputs(
    program_stdin: OwnedFd,
    stdin: Option<OwnedFd>,
) -> io::Result<(AgentEnds, ProgramEnds)> {
    let (stdout, program_stdout) = output()?;
    let (stderr, program_stderr) = output()?;
    let program =
        ProgramEnds { stdin: program_stdin, stdout: program_stdout, stderr: program_stderr };
    Ok((AgentEnds::Pipes { stdin, stdout, stderr }, program))
}

fn output() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    nonblocking(&read)?;
    // A larger pipe is an optimisation, and the kernel bounds it per user.
    let _default_is_fine = fcntl_setpipe_size(&read, PIPE_SIZE);
    Ok((read, write))
}

/// The two ends of a pipe have flags of their own: the program's stays blocking.
fn nonblocking(fd: &OwnedFd) -> io::Result<()> {
    Ok(fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?)
}
