//! One execution: its processes, its streams and its end.
//!
//! ```text
//!             Started                 Exited              last process gone
//!  Starting ───────────► Running ───────────────► Ended ─────────────────────► dropped
//!      │ Refused            │ the kernel killed the first process
//!      └──────► Failed ─┐   └───────────────────────► Ended(SIGKILL)
//!                       └───────────────────────────────────────────────────► dropped
//! ```
//!
//! The program's end is reported as soon as all that it wrote was sent; what it left in the
//! background lives on, its output is read and dropped. A cancelled execution gets `SIGTERM`, and
//! everything in its control group is killed when the program has ended or [`GRACE`] has passed.

pub mod environment;
mod limits;
mod masks;
mod process;
mod program;
mod report;
mod stdio;
pub mod user;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use matchlock_proto::{
    AgentFrame, ExecFailure, ExecRequest, ExitStatus, FileRequest, Inquiry, Stdin, WindowSize,
};
use rustix::termios::{LocalModes, SpecialCodeIndex, tcgetattr, tcgetpgrp};

use crate::cgroup::Cgroup;
use crate::console;
use crate::export;
use crate::flow::{Output, Reading, StdinQueue, WindowExceeded};
use crate::poller::{EventFlags, Poller, Watched};
use crate::{Guest, inquiry, sys};
use stdio::AgentEnds;

/// Between `SIGTERM` and `SIGKILL` of a cancelled execution.
pub const GRACE: Duration = Duration::from_secs(5);

/// The tokens that the descriptors of an execution are watched under.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tokens {
    pub(crate) init: u64,
    pub(crate) report: u64,
    pub(crate) stdin: u64,
    /// With a terminal, its master in both directions.
    pub(crate) stdout: u64,
    pub(crate) stderr: u64,
}

/// What an execution does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work<'a> {
    /// Runs a program.
    Program(&'a ExecRequest),
    /// Writes the writable layer to standard output.
    Export(&'a export::Layer),
    /// Reads or writes files.
    File(&'a FileRequest),
    /// Tells what the guest uses; with the number of tasks of all executions.
    Inquire(Inquiry, u64),
}

/// What an execution has to say to the host at its end.
pub(crate) type Outcome = Result<ExitStatus, ExecFailure>;

#[derive(Debug)]
enum Phase {
    Starting,
    Running(OwnedFd),
    Ended(ExitStatus),
    Failed(ExecFailure),
}

/// An output with its descriptor, which is dropped at the end of file.
#[derive(Debug)]
struct Source {
    fd: Option<Watched>,
    flow: Output,
}

/// One execution.
#[derive(Debug)]
pub(crate) struct Execution {
    phase: Phase,
    /// The first process of the PID namespace, until it has ended.
    init: Option<Watched>,
    report: Option<Watched>,
    is_terminal: bool,
    /// Until the program has ended: one that closes its streams before that must not get a SIGHUP.
    peer: Option<OwnedFd>,
    stdin: Option<Watched>,
    input: StdinQueue,
    stdout: Source,
    stderr: Source,
    /// When everything is killed.
    kill_at: Option<Instant>,
    /// Last: removed after the processes are gone.
    cgroup: Cgroup,
}

impl Execution {
    /// Starts one; how that went is told by its report channel.
    pub(crate) fn spawn(
        guest: &Guest,
        work: Work<'_>,
        poller: &Poller,
        tokens: Tokens,
        name: String,
    ) -> io::Result<Self> {
        let (agent, program) = match work {
            Work::Program(request) => stdio::make(request)?,
            Work::Export(layer) => stdio::reading(layer.directory()?)?,
            Work::Inquire(..) => stdio::reading(inquiry::directory()?)?,
            Work::File(request) if request.has_input() => stdio::pipes(Stdin::Pipe)?,
            Work::File(_) => stdio::pipes(Stdin::Null)?,
        };
        let (report, report_of_program) = report::channel()?;
        let cgroup = guest.cgroups.enter(name)?;
        let plan = process::Plan { guest, work, stdio: program, report: report_of_program };
        let group = Some(cgroup.as_fd());
        let child = sys::clone_process(sys::Clone::Namespaces, group, || process::init(&plan))?;
        let (peer, stdin, stdout, stderr) = match agent {
            AgentEnds::Terminal { master, peer } => (Some(peer), None, master, None),
            AgentEnds::Pipes { stdin, stdout, stderr } => (None, stdin, stdout, Some(stderr)),
        };
        let is_terminal = peer.is_some();
        let mut input = StdinQueue::default();
        if stdin.is_none() && !is_terminal {
            input.close();
        }
        let mut execution = Self {
            phase: Phase::Starting,
            init: Some(poller.watch(child.pidfd, tokens.init)),
            report: Some(poller.watch(report, tokens.report)),
            is_terminal,
            peer,
            stdin: stdin.map(|fd| poller.watch(fd, tokens.stdin)),
            input,
            stdout: Source::new(Some(poller.watch(stdout, tokens.stdout))),
            stderr: Source::new(stderr.map(|fd| poller.watch(fd, tokens.stderr))),
            kill_at: None,
            cgroup,
        };
        execution.arm(0)?;
        Ok(execution)
    }

    /// Its processes may live.
    pub(crate) fn is_alive(&self) -> bool {
        self.init.is_some()
    }

    /// The program runs or ran: what it wrote may be sent.
    pub(crate) fn is_started(&self) -> bool {
        matches!(self.phase, Phase::Running(_) | Phase::Ended(_))
    }

    /// What to tell the host, once everything before it was sent.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        match &self.phase {
            Phase::Starting | Phase::Running(_) => None,
            Phase::Failed(failure) => Some(Err(failure.clone())),
            Phase::Ended(status) => {
                let delivered = self.stdout.flow.is_delivered() && self.stderr.flow.is_delivered();
                delivered.then_some(Ok(*status))
            }
        }
    }

    /// Takes what its processes have reported.
    pub(crate) fn on_report(&mut self, now: Instant) {
        while let Some(channel) = &self.report {
            match report::receive(channel) {
                Ok(Some((frame, passed))) => self.reported(frame, passed, now),
                Ok(None) => self.report = None,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    console::line(format_args!("report of an execution: {error}"));
                    self.report = None;
                }
            }
        }
    }

    fn reported(&mut self, frame: AgentFrame, passed: Option<OwnedFd>, now: Instant) {
        match (&self.phase, frame, passed) {
            (Phase::Starting, AgentFrame::Started, Some(program)) => {
                self.phase = Phase::Running(program);
            }
            (Phase::Starting, AgentFrame::Refused(failure), _) => {
                self.phase = Phase::Failed(failure);
            }
            (Phase::Running(_), AgentFrame::Exited(status), _) => self.ended(status, now),
            // A program that was not executed is still cloned and ends: no news.
            _ => {}
        }
    }

    /// Its first process has ended: nothing of it runs any more.
    pub(crate) fn on_end(&mut self, now: Instant) {
        self.on_report(now);
        self.init = None;
        match self.phase {
            Phase::Starting => {
                let why = "its first process ended before the program was started";
                self.phase = Phase::Failed(ExecFailure::System(why.to_owned()));
            }
            // Only SIGKILL ends it before the program: ours, or that of the kernel out of memory.
            Phase::Running(_) => self.ended(ExitStatus::Signal(libc::SIGKILL as u8), now),
            Phase::Ended(_) | Phase::Failed(_) => {}
        }
    }

    fn ended(&mut self, status: ExitStatus, now: Instant) {
        self.phase = Phase::Ended(status);
        self.peer = None;
        for source in [&mut self.stdout, &mut self.stderr] {
            match &source.fd {
                None => source.flow.end_of_file(),
                Some(_) if self.is_terminal => source.flow.program_ended_on_terminal(now),
                Some(fd) => {
                    let in_pipe = rustix::io::ioctl_fionread(fd).unwrap_or_default();
                    source.flow.program_ended(usize::try_from(in_pipe).unwrap_or(usize::MAX));
                }
            }
        }
        if self.kill_at.is_some() {
            self.kill();
        }
    }

    /// Reads an output once, into the frame `encode` makes of it.
    pub(crate) fn on_output(
        &mut self,
        is_stderr: bool,
        room: usize,
        scratch: &mut [u8],
        now: Instant,
        mut encode: impl FnMut(&[u8]),
    ) {
        let source = if is_stderr { &mut self.stderr } else { &mut self.stdout };
        let Some(fd) = &source.fd else { return };
        let (limit, is_sent) = match source.flow.reading(room) {
            Reading::Wait => return,
            Reading::Send(limit) => (limit, true),
            Reading::Discard => (scratch.len(), false),
        };
        let buffer = scratch.get_mut(..limit).unwrap_or_default();
        match rustix::io::read(fd, &mut *buffer) {
            Ok(n) if n > 0 => {
                if is_sent {
                    encode(buffer.get(..n).unwrap_or_default());
                    source.flow.sent(n, now);
                }
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            // EIO is how a terminal says that its other end was closed.
            Ok(_) | Err(_) => {
                source.fd = None;
                source.flow.end_of_file();
            }
        }
    }

    /// Takes bytes for standard input.
    pub(crate) fn push_stdin(&mut self, data: &[u8]) -> Result<(), WindowExceeded> {
        self.input.push(data)
    }

    /// Standard input ends.
    pub(crate) fn push_stdin_eof(&mut self) {
        let trailer = if self.is_terminal { self.end_of_file_characters() } else { Vec::new() };
        self.input.push_eof(&trailer);
    }

    /// VEOF, twice behind an unfinished line: the first one only hands that line over (termios(3)).
    fn end_of_file_characters(&self) -> Vec<u8> {
        let settings = self.stdout.fd.as_ref().and_then(|master| tcgetattr(master).ok());
        let Some(settings) = settings else {
            return Vec::new();
        };
        let by_line = settings.local_modes.contains(LocalModes::ICANON);
        let in_line = self.input.last().is_some_and(|byte| byte != b'\n' && byte != b'\r');
        vec![settings.special_codes[SpecialCodeIndex::VEOF]; if by_line && in_line { 2 } else { 1 }]
    }

    /// Writes what standard input takes now.
    pub(crate) fn write_stdin(&mut self) {
        let fd = if self.is_terminal { &self.stdout.fd } else { &self.stdin };
        while let Some(fd) = fd
            && !self.input.front().is_empty()
        {
            match rustix::io::write(fd, self.input.front()) {
                Ok(written) => self.input.consume(written),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                Err(_nobody_reads) => self.input.close(),
            }
        }
        if fd.is_none() {
            self.input.close();
        }
        if self.input.is_finished() {
            self.stdin = None;
        }
    }

    /// Credit for standard input to give to the host.
    pub(crate) fn take_grant(&mut self) -> Option<u32> {
        self.input.take_grant()
    }

    /// The host has consumed bytes of an output.
    pub(crate) fn grant(&mut self, is_stderr: bool, bytes: u32) {
        let source = if is_stderr { &mut self.stderr } else { &mut self.stdout };
        source.flow.grant(bytes);
    }

    /// Gives the terminal another size; without one there is nothing to do.
    pub(crate) fn resize(&self, size: WindowSize) {
        if let (true, Some(master)) = (self.is_terminal, &self.stdout.fd) {
            console::optional("resize a terminal", stdio::resize(master, size));
        }
    }

    /// Signals the foreground of the terminal, or the program's process group.
    pub(crate) fn signal(&self, number: u8) {
        let number = i32::from(number);
        let foreground = self.stdout.fd.as_ref().filter(|_| self.is_terminal);
        let foreground = foreground.and_then(|master| tcgetpgrp(master).ok());
        let sent = match (foreground, &self.phase) {
            (Some(group), _) => sys::kill(-group.as_raw_pid(), number),
            (None, Phase::Running(program)) => sys::signal_group_of(program.as_fd(), number),
            (None, _) => return,
        };
        match sent {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => {
                console::line(format_args!("signal {number}: {error}"));
            }
            Ok(()) | Err(_) => {}
        }
    }

    /// The host wants no more of it.
    pub(crate) fn cancel(&mut self, now: Instant) {
        self.detach();
        let Phase::Running(program) = &self.phase else {
            self.kill();
            return;
        };
        let hang_up = self.is_terminal.then_some(libc::SIGHUP);
        for signal in hang_up.into_iter().chain([libc::SIGTERM, libc::SIGCONT]) {
            // It may have ended a moment ago.
            let _gone = sys::signal_group_of(program.as_fd(), signal);
            self.signal(signal as u8);
        }
        self.kill_at = Some(now + GRACE);
    }

    /// Asks every process of it to end, the background too.
    pub(crate) fn terminate(&self) {
        let processes = self.cgroup.processes();
        for pid in console::optional("list processes", processes).unwrap_or_default() {
            // The kernel ignores this one for the first process of a namespace.
            let _gone = sys::kill(pid, libc::SIGTERM);
        }
    }

    fn kill(&mut self) {
        self.kill_at = None;
        console::optional("kill an execution", self.cgroup.kill());
    }

    /// Nobody listens any more: output is dropped, input ends.
    pub(crate) fn detach(&mut self) {
        self.stdout.flow.abandon();
        self.stderr.flow.abandon();
        self.input.close();
        self.stdin = None;
    }

    /// When [`Self::on_time`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let drained = self.stdout.flow.deadline();
        [self.kill_at, drained].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(crate) fn on_time(&mut self, room: usize, now: Instant) {
        self.stdout.flow.on_time(room, now);
        if self.kill_at.is_some_and(|at| at <= now) {
            self.kill();
        }
    }

    /// Watches what there is something to do for, when `room` bytes may be queued to the host.
    pub(crate) fn arm(&mut self, room: usize) -> io::Result<()> {
        if let Some(init) = &mut self.init {
            init.want(EventFlags::IN)?;
        }
        if let Some(report) = &mut self.report {
            report.want(EventFlags::IN)?;
        }
        let has_input = !self.input.front().is_empty();
        let write = |wanted| {
            if wanted { EventFlags::OUT } else { EventFlags::empty() }
        };
        if let Some(stdin) = &mut self.stdin {
            stdin.want(write(has_input))?;
        }
        let is_started = self.is_started();
        let on_terminal = write(has_input && self.is_terminal);
        for (source, extra) in
            [(&mut self.stdout, on_terminal), (&mut self.stderr, EventFlags::empty())]
        {
            let reading = source.flow.reading(room);
            let is_read = match reading {
                Reading::Send(_) => is_started,
                Reading::Discard => true,
                Reading::Wait => false,
            };
            if let Some(fd) = &mut source.fd {
                fd.want(extra | if is_read { EventFlags::IN } else { EventFlags::empty() })?;
            }
        }
        Ok(())
    }
}

impl Source {
    fn new(fd: Option<Watched>) -> Self {
        let mut flow = Output::default();
        if fd.is_none() {
            flow.end_of_file();
        }
        Self { fd, flow }
    }
}
