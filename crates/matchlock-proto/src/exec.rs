//! Executions: the request, the streams, the end.

use matchlock_wire::StreamId;
use serde::{Deserialize, Serialize};

use crate::boot::{BootConfig, BootReport, BootStep, Realtime};
use crate::files::FileRequest;
use crate::usage::Inquiry;

/// What a connection is for; the first frame that the host sends on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Set up the guest. Answered by [`AgentFrame::Booted`] or [`AgentFrame::Refused`], accepted
    /// once.
    Boot(Box<BootConfig>),
    /// Run a program. Answered by [`AgentFrame::Started`] or [`AgentFrame::Refused`], ended by
    /// [`AgentFrame::Exited`]. Closing the connection before that cancels the execution.
    Exec(ExecRequest),
    /// End every execution (`SIGTERM`, then `SIGKILL` after `grace_ms`), write file systems back.
    /// Answered by [`AgentFrame::Done`]; the host then ends the VM.
    Shutdown {
        /// Milliseconds between the signals.
        grace_ms: u32,
    },
    /// Answered by [`AgentFrame::Done`].
    Ping,
    /// Set the guest's clock to the host's, unless it is nearly that. Answered by [`AgentFrame::Done`].
    Clock(Realtime),
    /// Connect to a TCP port of the guest's loopback interface, 127.0.0.1 first and then `::1`.
    /// Answered by [`AgentFrame::Started`] or [`AgentFrame::Refused`]. After `Started` the connection
    /// carries no frames any more but the bytes of the TCP connection, both ways; the end of either
    /// direction is told by shutting it down.
    Forward {
        /// The port; not 0.
        port: u16,
    },
    /// Write what the writable layer holds as a layer of the OCI image spec (layer.md: a tar archive with
    /// whiteouts), beginning with the entry of the root. Answered as [`Request::Exec`]: the archive is
    /// standard output, standard error says what went wrong, and only status 0 makes the archive whole.
    /// Refused unless [`crate::RootConfig::export`] was set.
    Export,
    /// Read or write the guest's files.
    File(FileRequest),
    /// Tell what the guest uses, or what runs in it.
    Inquire(Inquiry),
}

/// One program to run in its own PID namespace, mount namespace and control group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// Program and arguments; the program is looked up in the `PATH` of the execution. Not empty.
    pub argv: Vec<Vec<u8>>,
    /// Environment on top of [`BootConfig::env`], later entries win.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// Working directory; `/` when absent.
    pub working_dir: Option<Vec<u8>>,
    /// `name`, `uid`, `uid:gid`, `name:group` and so on; root when absent.
    pub user: Option<String>,
    /// Where standard input comes from. Ignored with a terminal.
    pub stdin: Stdin,
    /// Run on a new pseudo-terminal of this size; standard error is merged into standard output.
    pub tty: Option<WindowSize>,
}

/// Standard input of an execution without a terminal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stdin {
    /// `/dev/null`.
    #[default]
    Null,
    /// A pipe, fed by [`HostFrame::Stdin`] and closed by [`HostFrame::StdinEof`].
    Pipe,
}

/// Size of a terminal in character cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub cols: u16,
}

/// A frame from the host to the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostFrame {
    /// The request; exactly once, first.
    Open(Box<Request>),
    /// Bytes for standard input, within the credit; at most [`crate::MAX_DATA`].
    Stdin(Vec<u8>),
    /// Standard input ends. On a terminal the agent sends the EOF character (VEOF).
    StdinEof,
    /// The terminal has another size.
    Resize(WindowSize),
    /// Send this signal to the program's process group.
    Signal(u8),
    /// The host has consumed this many more bytes of `Stdout` or `Stderr`.
    Credit(StreamId, u32),
}

/// A frame from the agent to the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentFrame {
    /// The guest is ready.
    Booted(BootReport),
    /// The program runs: `execve` has succeeded.
    Started,
    /// Bytes of standard output, within the credit; at most [`crate::MAX_DATA`].
    Stdout(Vec<u8>),
    /// Bytes of standard error, within the credit; at most [`crate::MAX_DATA`].
    Stderr(Vec<u8>),
    /// The guest has consumed this many more bytes of `Stdin`.
    Credit(StreamId, u32),
    /// The program has ended and all that it wrote was sent. The last frame of the connection.
    Exited(ExitStatus),
    /// The request was not carried out. The last frame of the connection.
    Refused(ExecFailure),
    /// A request without other results was carried out. The last frame of the connection.
    Done,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// It exited with this status.
    Code(u8),
    /// This signal ended it.
    Signal(u8),
}

impl ExitStatus {
    /// The status as a shell shows it: the code itself, or 128 plus the signal's number.
    #[must_use]
    pub fn shell_code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(number) => 128u8.saturating_add(number),
        }
    }
}

/// Why the agent did not do what it was asked.
///
/// The texts are the agent's own and hold names from the request; the host prints them with control
/// characters escaped, because a hostile guest can send any text here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ExecFailure {
    /// A step of the guest's start failed.
    #[error("guest start-up failed at step {step:?}: {message}")]
    Boot {
        /// Which step.
        step: BootStep,
        /// What happened.
        message: String,
    },
    /// The agent speaks another protocol version than the host.
    #[error("the guest agent speaks protocol {agent}, the host {host}")]
    Version {
        /// The agent's.
        agent: u32,
        /// The host's.
        host: u32,
    },
    /// The program was not found (shell convention: status 127).
    #[error("program not found in the guest: {0}")]
    NotFound(String),
    /// The program was found and cannot be executed (shell convention: status 126).
    #[error("program cannot be executed in the guest: {0}")]
    NotExecutable(String),
    /// The working directory does not exist or cannot be entered.
    #[error("working directory in the guest: {0}")]
    WorkingDirectory(String),
    /// No such user or group in the guest.
    #[error("user in the guest: {0}")]
    User(String),
    /// The request makes no sense now (an execution before the boot, a second boot, no argument).
    #[error("request refused by the guest agent: {0}")]
    BadRequest(String),
    /// Nothing in the guest takes the connection.
    #[error("port in the guest: {0}")]
    Port(String),
    /// An operation of the guest's kernel failed.
    #[error("the guest could not start the program: {0}")]
    System(String),
}
